// Every cell of a board as one table.
(function () {
  "use strict";
  const { address, cellsOf, columns, load, number, parted, recordLink, root, el } = window.doorbench;
  const table = document.getElementById("cells");
  const form = document.getElementById("filters");

  function rowsOf(boardData) {
    return cellsOf(boardData).map((cell) => ({ ...cell, defense: boardData.lines[cell.line], at: boardData.places[cell.place] }));
  }

  // What stands in a column, by the name in its heading; "victim.x" and "floor.x" are metrics of the place.
  function value(row, name) {
    if (name === "defense") return row.defense.name;
    const [who, metric] = name.split(".");
    if (metric) return row.at[who][metric];
    return name in row ? row[name] : row.at[name];
  }

  function shown(row, name, metric) {
    const content = value(row, name);
    if (name === "defense") return el("a", { href: `${root}defense/${row.defense.page}.html` }, ...parted(content));
    if (name === "seeds") return recordLink(row.records, String(content));
    if (content === null) return document.createTextNode("–");
    if (["task", "model", "attack"].includes(name)) return el("span", {}, ...parted(content));
    if (typeof content !== "number") return document.createTextNode(content);
    const text = number(content, metric ? metric.decimals : 1);
    if (!metric || !metric.spread) return document.createTextNode(text);
    const deviation = row[`${name}_sd`];
    return recordLink(row.records, text + (deviation === null ? "" : ` ± ${number(deviation, metric.decimals)}`));
  }

  // A column by its name: what it sorts by, and what it shows.
  function column(metrics) {
    return (made) => ({ ...made, data: null, render: (unused, kind, row) =>
      (kind === "display" ? shown(row, made.name, metrics[made.name]) : value(row, made.name) ?? "") });
  }

  load(`board-${form.dataset.board}`).then((boardData) => {
    const metrics = Object.fromEntries(boardData.metrics.cells.map((metric) => [metric.name, metric]));
    const cells = new DataTable(table, {
      autoWidth: false,
      columns: columns(table).map(column(metrics)),
      data: rowsOf(boardData),
      deferRender: true,
      order: [],
      pageLength: 50,
      lengthChange: false,
      layout: { topStart: "search", topEnd: null, bottomStart: "info", bottomEnd: "paging" },
      createdRow: (node, row) => node.classList.toggle("grey", row.at.state === "not implanted"),
    });
    const wanted = () => Object.fromEntries(new FormData(form).entries());
    let filter = wanted();
    cells.search.fixed("filter", (text, row) =>
      ["task", "attack", "model"].every((name) => !filter[name] || row.at[name] === filter[name]) &&
      row.seeds >= Number(filter.seeds || 0));
    const apply = () => {
      filter = wanted();
      address.keep(form, []);
      cells.draw();
    };
    cells.draw();
    address.follow(form, [], apply);
  });
})();
