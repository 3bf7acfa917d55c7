// The leaderboard: filters, details of a line, and the data that the charts share.
(function () {
  "use strict";
  const { comparablePlaces } = window.doorbenchRanking;
  const { cellsOf, el, enhance, load, number, positions, recordLink } = window.doorbench;
  const table = document.getElementById("leaderboard");
  const form = document.getElementById("filters");
  if (!table || !form) return;
  const summary = document.getElementById("summary");
  const column = positions(table);
  const board = enhance(table, { paging: false, searching: true, info: false, layout: { topStart: null, topEnd: null,
    bottomStart: null, bottomEnd: null } });
  const original = new Map();
  let data = null;

  async function cells() {
    if (!data) {
      const file = await load(`board-${form.dataset.board}`);
      data = { ...file, cells: cellsOf(file), byLine: file.lines.map(() => []) };
      for (const cell of data.cells) data.byLine[cell.line].push(cell);
    }
    return data;
  }

  function chosen() {
    const fields = new FormData(form);
    return {
      task: fields.get("task") || "",
      attack: fields.get("attack") || "",
      model: fields.get("model") || "",
      seeds: Number(fields.get("seeds") || 1),
      needs: new Set(fields.getAll("need")),
    };
  }

  const partial = (filter) => Boolean(filter.task || filter.attack || filter.model || filter.seeds > 1 ||
    form.querySelector("[name=need]:not(:checked)"));

  function placesOf(boardData, filter) {
    const wanted = (place) =>
      place.state === "implanted" && ["task", "attack", "model"].every((name) => !filter[name] || place[name] === filter[name]);
    const indices = boardData.places.map((place, i) => (wanted(place) ? i : -1)).filter((i) => i >= 0);
    const ranked = new Map(indices.map((i) => [i, []]));
    for (const cell of boardData.cells) if (cell.rank !== null) ranked.get(cell.place)?.push(cell.line);
    return new Set(comparablePlaces(ranked));
  }

  function mean(values) {
    const known = values.filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  function usable(boardData, line, places, filter) {
    return boardData.byLine[line].filter(
      (cell) => places.has(cell.place) && cell.status === "done" && cell.seeds >= filter.seeds,
    );
  }

  function means(boardData, line, places, filter) {
    const counted = usable(boardData, line, places, filter);
    const names = [...boardData.metrics.board.map((metric) => metric.name), ...boardData.metrics.matched];
    const over = Object.fromEntries(names.map((name) => [name, mean(counted.map((cell) => cell[name]))]));
    return { ...over, count: counted.length, cells: counted };
  }

  // The ranks of all lines that are finished at all places, by the mean of the metric that ranks; equals share theirs.
  function ranksOf(boardData, results, of, filter) {
    const { ranking } = boardData.metrics;
    const competes = ({ ranked, needs }) => ranked && needs.every((need) => filter.needs.has(need));
    const values = results.map((one, line) => (of && one.count === of && competes(boardData.lines[line]) ? one[ranking] : null));
    const rivals = values.filter((value) => value !== null);
    return values.map((value) => {
      if (value === null) return null;
      const above = rivals.filter((other) => other > value).length;
      return above + (rivals.filter((other) => other === value).length + 1) / 2;
    });
  }

  function results(boardData, places, filter) {
    const all = boardData.lines.map((_, line) => means(boardData, line, places, filter));
    const rank = ranksOf(boardData, all, places.size, filter);
    return all.map((one, line) => ({ ...one, rank: rank[line] }));
  }

  function set(cell, value, text) {
    cell.dataset.order = value === null ? "" : value;
    cell.textContent = text;
  }

  function write(boardData, row, result, of) {
    const cell = (name) => row.cells[column[name]];
    set(cell("rank"), result.rank, number(result.rank, 0));
    for (const name of boardData.metrics.matched) set(cell(name), result[name], number(result[name]));
    for (const { name, decimals } of boardData.metrics.board) {
      set(cell(name), result[name], number(result[name], decimals));
      if (name === boardData.metrics.left) cell(name).style.setProperty("--v", result[name] ?? 0);
    }
    set(cell("places"), result.count, `${result.count} of ${of}`);
    cell("places").classList.toggle("warn", result.count < of);
  }

  function remember(row) {
    if (original.has(row)) return;
    original.set(row, [...row.cells].map((cell) => [[...cell.childNodes], cell.dataset.order, cell.className,
      cell.style.cssText]));
  }

  function restore(row) {
    (original.get(row) || []).forEach(([nodes, order, name, style], i) => {
      const cell = row.cells[i];
      cell.replaceChildren(...nodes);
      if (order !== undefined) cell.dataset.order = order;
      cell.className = name;
      cell.style.cssText = style;
    });
  }

  async function apply() {
    const filter = chosen();
    const boardData = await cells();
    const places = placesOf(boardData, filter);
    const narrowed = partial(filter);
    const all = results(boardData, places, filter);
    let shown = 0;
    board.rows().every(function () {
      const row = this.node();
      const result = narrowed ? all[Number(row.dataset.line)] : null;
      remember(row);
      if (narrowed) write(boardData, row, result, places.size);
      else restore(row);
      const needs = row.dataset.needs.split(" ").filter(Boolean);
      row.dataset.hidden = !needs.every((need) => filter.needs.has(need)) || (narrowed && result.count === 0) ? "1" : "";
      shown += row.dataset.hidden ? 0 : 1;
      this.invalidate("dom");
    });
    board.order([[column.rank, "asc"]]).draw();
    table.tFoot.hidden = narrowed;
    summary.textContent = `${shown} of ${board.rows().count()} defenses over ${places.size} places.` +
      (narrowed ? " A filtered rank has no interval here; the pages of a task and of an attack have one." : "");
    document.dispatchEvent(new CustomEvent("doorbench:filter"));
  }

  // One line in detail: attacks down, tasks across, and the parameters.
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
    const row = board.row(node);
    if (row.child.isShown()) {
      row.child.hide();
      button.setAttribute("aria-expanded", "false");
      return;
    }
    const boardData = await cells();
    const line = Number(node.dataset.line);
    const inside = el("div", { class: "details" }, el("h3", {}, boardData.lines[line].name), el("div", { class: "inner", tabindex: "0", role: "region",
      "aria-label": `Cells of ${boardData.lines[line].name}` }, matrix(boardData, line)), el("h4", {}, "Parameters"), parameters(boardData.lines[line]));
    row.child(inside, "child").show();
    button.setAttribute("aria-expanded", "true");
  }

  board.search.fixed("filter", (text, content, index) => board.row(index).node().dataset.hidden !== "1");
  table.addEventListener("click", (event) => {
    const button = event.target.closest("button.expand");
    if (button) expand(button);
  });
  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  window.doorbench.board = { cells, chosen, partial, placesOf, usable, results, mean };
})();
