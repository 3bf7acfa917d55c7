// The leaderboard: filters, the choice of rows, and the data that the charts share.
(function () {
  "use strict";
  const { comparablePlaces } = window.doorbenchRanking;
  const { address, cellsOf, counted, load, number, positions, ratio } = window.doorbench;
  const table = document.getElementById("leaderboard");
  const form = document.getElementById("filters");
  if (!table || !form) return;
  const summary = document.getElementById("summary");
  const column = positions(table);
  const { board, rows: boxes } = address.choosable(table);
  const whole = new Map(); // what a part of the page said before a filter
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
      only: fields.has("only") && boxes.some(([, box]) => box.checked),
    };
  }

  const partial = (filter) => Boolean(filter.task || filter.attack || filter.model || filter.seeds > 1 ||
    form.querySelector("[name=need]:not(:checked)"));

  function placesOf(boardData, filter) {
    const wanted = (place) =>
      place.state === "implanted" && ["task", "attack", "model"].every((name) => !filter[name] || place[name] === filter[name]);
    const kept = boardData.places.map((place, i) => (wanted(place) ? i : -1)).filter((i) => i >= 0);
    const ranked = new Map(kept.map((i) => [i, []]));
    for (const cell of boardData.cells) if (cell.rank !== null) ranked.get(cell.place)?.push(cell.line);
    return new Set(comparablePlaces(ranked));
  }

  function mean(values) {
    const known = values.filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = sorted.length / 2;
    return sorted.length ? (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2 : null;
  }

  function usable(boardData, line, places, filter) {
    return boardData.byLine[line].filter(
      (cell) => places.has(cell.place) && cell.status === "done" && cell.seeds >= filter.seeds,
    );
  }

  function means(boardData, line, places, filter) {
    const cells = usable(boardData, line, places, filter);
    const names = [...boardData.metrics.board.map((metric) => metric.name), ...boardData.metrics.matched];
    const over = Object.fromEntries(names.map((name) => [name, mean(cells.map((cell) => cell[name]))]));
    const seeds = cells.length ? Math.min(...cells.map((cell) => cell.seeds)) : null;
    return { ...over, count: cells.length, time: median(cells.flatMap((cell) => cell.times)), seeds, cells };
  }

  // The means of the victims ("victim") or of the clean model ("floor") over the places.
  function baseline(boardData, who, places) {
    const names = Object.keys(boardData.places[0]?.[who] || {});
    return Object.fromEntries(names.map((name) => [name, mean([...places].map((i) => boardData.places[i][who][name]))]));
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
    if ("order" in cell.dataset || value === null) cell.dataset.order = value === null ? "" : value;
    cell.textContent = text;
  }

  function metrics(boardData, cell, values) {
    for (const { name, decimals } of boardData.metrics.board) {
      set(cell(name), values[name], number(values[name], decimals));
      if (name === boardData.metrics.left) cell(name).style.setProperty("--v", values[name] ?? 0);
    }
  }

  function write(boardData, row, result, of) {
    const cell = (name) => row.cells[column[name]];
    set(cell("rank"), result.rank, number(result.rank, 0));
    for (const name of boardData.metrics.matched) set(cell(name), result[name], number(result[name]));
    metrics(boardData, cell, result);
    set(cell("time"), result.time, ratio(result.time));
    set(cell("places"), result.count, `${result.count} of ${of}`);
    cell("places").classList.toggle("warn", result.count < of);
    set(cell("seeds"), result.seeds, result.seeds === null ? "–" : String(result.seeds));
  }

  // Everything beside the rows: tiles, floors and the caption.
  function around(boardData, places) {
    const over = { victim: baseline(boardData, "victim", places), floor: baseline(boardData, "floor", places) };
    for (const tile of document.querySelectorAll(".tiles dd[data-baseline]")) {
      tile.textContent = `${number(over[tile.dataset.baseline][tile.dataset.metric])} %`;
    }
    for (const row of table.tFoot.rows) {
      const cell = (name) => row.cells[column[name]];
      metrics(boardData, cell, over[row.dataset.baseline]);
      cell("places").textContent = String(places.size);
    }
    document.getElementById("span").textContent = `the ${counted(places.size, "place")} that the filters leave, where the attack implanted`;
  }

  const surroundings = () => [...document.querySelectorAll(".tiles dd[data-baseline]"), document.getElementById("span")];

  function remember(node) {
    if (whole.has(node)) return;
    const parts = node.cells ? [...node.cells] : [node];
    whole.set(node, parts.map((part) => [part, [...part.childNodes], part.dataset.order, part.className, part.style.cssText]));
  }

  function restore(node) {
    for (const [part, nodes, order, name, style] of whole.get(node) || []) {
      part.replaceChildren(...nodes);
      if (order !== undefined) part.dataset.order = order;
      part.className = name;
      part.style.cssText = style;
    }
  }

  function seen(row, filter, narrowed, result) {
    const needs = row.dataset.needs.split(" ").filter(Boolean);
    if (filter.only && !row.querySelector(".pick").checked) return false;
    return needs.every((need) => filter.needs.has(need)) && !(narrowed && result.count === 0);
  }

  async function apply() {
    const filter = chosen();
    const boardData = await cells();
    const places = placesOf(boardData, filter);
    const narrowed = partial(filter);
    const all = results(boardData, places, filter);
    const parts = [...surroundings(), ...table.tFoot.rows];
    let shown = 0;
    for (const part of parts) {
      remember(part);
      if (!narrowed) restore(part);
    }
    if (narrowed) around(boardData, places);
    board.rows().every(function () {
      const row = this.node();
      const result = narrowed ? all[Number(row.dataset.line)] : null;
      remember(row);
      if (narrowed) write(boardData, row, result, places.size);
      else restore(row);
      row.dataset.hidden = seen(row, filter, narrowed, result) ? "" : "1";
      shown += row.dataset.hidden ? 0 : 1;
      this.invalidate("dom");
    });
    board.order([[column.rank, "asc"]]).draw();
    summary.textContent = `${shown} of ${counted(board.rows().count(), "defense")} over ${counted(places.size, "place")}.` +
      (narrowed ? " Everything below follows the filters, but the sentence above is of the whole board. Under a filter a " +
        "rank is by the mean alone, without sign and interval; the pages of tasks, attacks and models have both." : "");
    address.keep(form, boxes);
    document.dispatchEvent(new CustomEvent("doorbench:filter"));
  }

  window.doorbench.board = { table, board, cells, chosen, partial, placesOf, usable, results, baseline, mean };
  address.follow(form, boxes, apply);
})();
