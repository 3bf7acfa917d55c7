// One line of the leaderboard in detail: attacks down, tasks across, and the parameters.
(function () {
  "use strict";
  const { board: shared, el, number, recordLink } = window.doorbench;
  if (!shared) return;

  function matrix(boardData, line) {
    const all = boardData.byLine[line];
    const titles = Object.fromEntries([...boardData.metrics.board, ...boardData.metrics.cells].map((metric) => [metric.name, metric.title]));
    const { left, cost } = boardData.metrics;
    const several = new Set(boardData.places.map((one) => one.model)).size > 1;
    const across = (place) => (several ? `${place.task} · ${place.model}` : place.task);
    const place = (cell) => boardData.places[cell.place];
    const attacks = [...new Set(all.map((cell) => place(cell).attack))];
    const tasks = [...new Set(all.map((cell) => across(place(cell))))];
    const by = new Map(all.map((cell) => [JSON.stringify([place(cell).attack, across(place(cell))]), cell]));
    const head = el("tr", {}, el("th", { scope: "col", class: "name" }, "Attack"),
      ...tasks.map((task) => el("th", { scope: "col", class: "num" }, task)));
    const rows = attacks.map((attack) => el("tr", {}, el("th", { scope: "row", class: "name" }, attack),
      ...tasks.map((task) => detail(boardData, by.get(JSON.stringify([attack, task])), titles))));
    const caption = `${titles[left]}, and ${titles[cost]} in brackets; each leads to its records`;
    return el("table", { class: "matrix" }, el("caption", {}, el("span", {}, caption)), el("thead", {}, head), el("tbody", {}, ...rows));
  }

  function detail(boardData, cell, titles) {
    if (!cell) return el("td", { class: "num" }, "–");
    const { left, accuracy, cost } = boardData.metrics;
    if (cell[accuracy] === null) return el("td", { class: "num" }, el("span", { class: "state", title: cell.status }, recordLink(cell.records, cell.status.split(":")[0])));
    const trigger = cell[left] !== null;
    const text = trigger ? `${number(cell[left])} (${number(cell[cost])})` : `${titles[accuracy]} ${number(cell[accuracy])}`;
    const grey = boardData.places[cell.place].state === "not implanted" ? " grey" : "";
    const style = trigger && !grey ? `--v:${cell[left]}` : null;
    const remark = grey ? el("span", { class: "unseen" }, " did not implant") : null;
    return el("td", { class: `num${trigger && !grey ? " bar" : ""}${grey}`, style }, recordLink(cell.records, text), remark);
  }

  function parameters(line) {
    const entries = Object.entries(line.parameters);
    if (!entries.length) return el("p", {}, "No parameters.");
    return el("dl", { class: "parameters" }, ...entries.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, typeof value === "object" && value !== null ? JSON.stringify(value) : String(value)))));
  }

  async function expand(button) {
    const node = button.closest("tr");
    const row = shared.board.row(node);
    if (row.child.isShown()) {
      row.child.hide();
      button.setAttribute("aria-expanded", "false");
      return;
    }
    const boardData = await shared.cells();
    const line = Number(node.dataset.line);
    const inside = el("div", { class: "details" }, el("h3", {}, boardData.lines[line].name), el("div", { class: "inner", tabindex: "0", role: "region",
      "aria-label": `Cells of ${boardData.lines[line].name}` }, matrix(boardData, line)), el("h4", {}, "Parameters"), parameters(boardData.lines[line]));
    row.child(inside, "child").show();
    button.setAttribute("aria-expanded", "true");
  }

  shared.table.addEventListener("click", (event) => {
    const button = event.target.closest("button.expand");
    if (button) expand(button);
  });
})();
