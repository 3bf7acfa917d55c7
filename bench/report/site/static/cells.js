// Every cell of a board as one table.
(function () {
  "use strict";
  const { columns, load, number, recordLink, root, el } = window.doorbench;
  const table = document.getElementById("cells");
  const form = document.getElementById("filters");

  function spread(value, deviation) {
    return number(value) + (deviation === null || value === null ? "" : ` ± ${number(deviation)}`);
  }

  function linked(row, metric) {
    const text = spread(row.one(metric), row.one(`${metric}_sd`));
    return row.one(metric) === null ? document.createTextNode(text) : recordLink(row.one("records"), text);
  }

  function rowsOf(found) {
    const at = Object.fromEntries(found.fields.map((name, i) => [name, i]));
    return found.cells.map((cell) => {
      const [line, place] = [found.lines[cell[at.line]], found.places[cell[at.place]]];
      const one = (name) => cell[at[name]];
      return { line, place, one, values: [line.name, place.task, place.model, place.attack, one("asr"), place.victim[1], place.floor[1],
        one("acc"), one("drop"), one("ra"), one("effectiveness"), one("rank"), one("seeds"), one("status")] };
    });
  }

  // A column by its position: what it sorts by, and what it shows.
  function column(made, i) {
    const show = {
      0: (row) => el("a", { href: `${root}defense/${row.line.page}.html` }, row.line.name),
      4: (row) => linked(row, "asr"),
      7: (row) => linked(row, "acc"),
      12: (row) => recordLink(row.one("records"), String(row.one("seeds"))),
    };
    const render = (unused, kind, row) => {
      const value = row.values[i];
      if (kind !== "display") return value === null ? "" : value;
      if (show[i]) return show[i](row);
      return document.createTextNode(typeof value === "number" ? number(value) : value === null ? "–" : value);
    };
    return { ...made, data: null, render };
  }

  load(`board-${form.dataset.board}`).then((found) => {
    const rows = rowsOf(found);
    const cells = new DataTable(table, {
      autoWidth: false,
      columns: columns(table).map(column),
      data: rows,
      deferRender: true,
      order: [],
      pageLength: 50,
      lengthChange: false,
      layout: { topStart: "search", topEnd: null, bottomStart: "info", bottomEnd: "paging" },
      createdRow: (node, row) => node.classList.toggle("grey", row.place.state === "not implanted"),
    });
    const wanted = () => Object.fromEntries(new FormData(form).entries());
    let filter = wanted();
    cells.search.fixed("filter", (text, row) =>
      ["task", "attack", "model"].every((name) => !filter[name] || row.place[name] === filter[name]) &&
      row.one("seeds") >= Number(filter.seeds || 0));
    const apply = () => {
      filter = wanted();
      cells.draw();
    };
    form.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
  });
})();
