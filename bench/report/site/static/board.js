// The leaderboard: filters, details of a line, and the data that the charts share.
(function () {
  "use strict";
  const { el, enhance, load, number, recordLink } = window.doorbench;
  const table = document.getElementById("leaderboard");
  const form = document.getElementById("filters");
  if (!table || !form) return;
  const told = document.getElementById("told");
  const FIRST = 2; // the columns before the mean rank: toggle, name
  const board = enhance(table, { paging: false, searching: true, info: false, layout: { topStart: null, topEnd: null,
    bottomStart: null, bottomEnd: null } });
  const original = new Map();
  let data = null;

  async function cells() {
    if (!data) {
      const found = await load(`board-${form.dataset.board}`);
      const at = Object.fromEntries(found.fields.map((name, i) => [name, i]));
      data = { ...found, at, byLine: found.lines.map(() => []) };
      for (const cell of found.cells) data.byLine[cell[at.line]].push(cell);
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

  const partial = (filter) => Boolean(filter.task || filter.attack || filter.model || filter.seeds > 1);

  function placesOf(found, filter) {
    const wanted = (place) =>
      place.state === "implanted" && ["task", "attack", "model"].every((name) => !filter[name] || place[name] === filter[name]);
    const there = found.places.map((place, i) => (wanted(place) ? i : -1)).filter((i) => i >= 0);
    return new Set(widest(found, there));
  }

  // As bench/report/crossing.py: the places that give the most numbers, places times lines ranked at all of them.
  function widest(found, there) {
    const { at } = found;
    const lines = new Map(there.map((i) => [i, []]));
    for (const cell of found.cells) if (cell[at.rank] !== null) lines.get(cell[at.place])?.push(cell[at.line]);
    const most = Math.max(...there.map((i) => lines.get(i).length));
    let kept = there.filter((i) => 2 * lines.get(i).length >= most);
    let best = kept;
    let numbers = 0;
    while (kept.length * most > numbers) { // as many as are possible with them
      const counts = new Map();
      for (const i of kept) for (const line of lines.get(i)) counts.set(line, (counts.get(line) || 0) + 1);
      const common = [...counts.values()].filter((count) => count === kept.length).length;
      if (kept.length * common > numbers) [best, numbers] = [kept, kept.length * common];
      const shared = kept.map((i) => lines.get(i).reduce((sum, line) => sum + counts.get(line), 0));
      const least = shared.indexOf(Math.min(...shared));
      kept = kept.filter((_, i) => i !== least);
    }
    return best;
  }

  function mean(values) {
    const known = values.filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  function usable(found, line, places, filter) {
    const { at } = found;
    return found.byLine[line].filter(
      (cell) => places.has(cell[at.place]) && cell[at.status] === "done" && cell[at.seeds] >= filter.seeds,
    );
  }

  function means(found, line, places, filter) {
    const there = usable(found, line, places, filter);
    const over = (name) => mean(there.map((cell) => cell[found.at[name]]));
    return { rank: over("rank"), asr: over("asr"), drop: over("drop"), ra: over("ra"), effectiveness: over("effectiveness"),
      score: over("score"), count: there.length, cells: there };
  }

  function set(cell, value, text) {
    cell.dataset.order = value === null ? "" : value;
    cell.textContent = text;
  }

  function write(row, result, of) {
    const values = [result.rank, result.asr, result.drop, result.ra, result.effectiveness, result.score];
    values.forEach((value, i) => set(row.cells[FIRST + i], value, number(value)));
    row.cells[FIRST + 1].style.setProperty("--v", result.asr ?? 0);
    const count = row.cells[FIRST + 9];
    set(count, result.count, `${result.count} of ${of}`);
    count.classList.toggle("warn", result.count < of);
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
    const found = await cells();
    const places = placesOf(found, filter);
    const narrowed = partial(filter);
    let shown = 0;
    board.rows().every(function () {
      const row = this.node();
      const result = narrowed ? means(found, Number(row.dataset.line), places, filter) : null;
      remember(row);
      if (narrowed) write(row, result, places.size);
      else restore(row);
      const needs = row.dataset.needs.split(" ").filter(Boolean);
      row.dataset.hidden = !needs.every((need) => filter.needs.has(need)) || (narrowed && result.count === 0) ? "1" : "";
      shown += row.dataset.hidden ? 0 : 1;
      this.invalidate("dom");
    });
    board.order([[FIRST, "asc"]]).draw();
    table.tFoot.hidden = narrowed;
    told.textContent = `${shown} of ${board.rows().count()} defenses over ${places.size} places.` +
      (narrowed ? " A filtered mean rank has no interval here; the pages of a task and of an attack have one." : "");
    document.dispatchEvent(new CustomEvent("doorbench:filter"));
  }

  // One line in detail: attacks down, tasks across, and the parameters.
  function matrix(found, line, filter) {
    const { at } = found;
    const all = found.byLine[line];
    const column = (place) => (new Set(found.places.map((one) => one.model)).size > 1 ? `${place.task} · ${place.model}` : place.task);
    const attacks = [...new Set(all.map((cell) => found.places[cell[at.place]].attack))];
    const tasks = [...new Set(all.map((cell) => column(found.places[cell[at.place]])))];
    const by = new Map(all.map((cell) => [JSON.stringify([found.places[cell[at.place]].attack, column(found.places[cell[at.place]])]), cell]));
    const head = el("tr", {}, el("th", { scope: "col", class: "name" }, "Attack"),
      ...tasks.map((task) => el("th", { scope: "col", class: "num" }, task)));
    const rows = attacks.map((attack) => el("tr", {}, el("th", { scope: "row", class: "name" }, attack),
      ...tasks.map((task) => detail(found, by.get(JSON.stringify([attack, task]))))));
    return el("table", { class: "matrix" }, el("caption", {}, el("span", {}, "ASR, and ACC drop in brackets; each leads to its records")),
      el("thead", {}, head), el("tbody", {}, ...rows));
  }

  function detail(found, cell) {
    if (!cell) return el("td", { class: "num" }, "–");
    const { at } = found;
    const place = found.places[cell[at.place]];
    const told = cell[at.status];
    if (cell[at.acc] === null) return el("td", { class: "num" }, el("span", { class: "state", title: told }, recordLink(cell[at.records], told.split(":")[0])));
    const trigger = cell[at.asr] !== null;
    const text = trigger ? `${number(cell[at.asr])} (${number(cell[at.drop])})` : `ACC ${number(cell[at.acc])}`;
    const grey = place.state === "not implanted" ? " grey" : "";
    const style = trigger && !grey ? `--v:${cell[at.asr]}` : null;
    const remark = grey ? el("span", { class: "unseen" }, " did not implant") : null;
    return el("td", { class: `num${trigger && !grey ? " bar" : ""}${grey}`, style }, recordLink(cell[at.records], text), remark);
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
    const found = await cells();
    const line = Number(node.dataset.line);
    const inside = el("div", { class: "details" }, el("h3", {}, found.lines[line].name), el("div", { class: "inner", tabindex: "0", role: "region",
      "aria-label": `Cells of ${found.lines[line].name}` }, matrix(found, line)), el("h4", {}, "Parameters"), parameters(found.lines[line]));
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
  window.doorbench.board = { cells, chosen, partial, placesOf, usable, means, mean };
})();
