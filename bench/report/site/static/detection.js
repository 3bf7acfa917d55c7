// The board of detectors: AUROC against all attacks or against one, and the choice of rows.
(function () {
  "use strict";
  const { address, counted, el, load, number, positions } = window.doorbench;
  const table = document.getElementById("detectors");
  const form = document.getElementById("filters");
  const column = positions(table);
  const summary = document.getElementById("summary");
  const span = document.getElementById("span");
  const ALL = "all attacks";
  const { board, rows: boxes } = address.choosable(table);
  const whole = new Map([...table.tBodies[0].rows].map((row) => [row, [...row.cells[column.area].childNodes]]));

  const file = () => load(`board-${form.dataset.board}`);

  function chosen() {
    const fields = new FormData(form);
    return { attack: fields.get("attack") || ALL, needs: new Set(fields.getAll("need")),
      only: fields.has("only") && boxes.some(([, box]) => box.checked) };
  }

  // The detectors that are shown, with their AUROC and interval against the chosen attack, highest first.
  async function lines() {
    const boardData = await file();
    const { attack } = chosen();
    const shown = [...whole.keys()].filter((row) => row.dataset.hidden !== "1").map((row) => boardData.lines[Number(row.dataset.line)]);
    const known = shown.filter((line) => line.areas[attack]).map((line) => {
      const [area, low, high] = line.areas[attack];
      return { ...line, area, low, high };
    });
    return { boardData, shown, known: known.sort((a, b) => b.area - a.area) };
  }

  function write(cell, area) {
    cell.dataset.order = area ? area[0] : "";
    if (!area) cell.textContent = "–";
    else cell.replaceChildren(`${number(area[0])} `, el("span", { class: "span" }, `[${number(area[1], 0)}, ${number(area[2], 0)}]`));
  }

  async function apply() {
    const boardData = await file();
    const filter = chosen();
    let shown = 0;
    board.rows().every(function () {
      const row = this.node();
      const cell = row.cells[column.area];
      const areas = boardData.lines[Number(row.dataset.line)].areas;
      write(cell, areas[filter.attack]);
      if (filter.attack === ALL) cell.replaceChildren(...whole.get(row));
      const needs = row.dataset.needs.split(" ").filter(Boolean);
      const seen = needs.every((need) => filter.needs.has(need)) && !(filter.only && !row.querySelector(".pick").checked);
      row.dataset.hidden = seen ? "" : "1";
      shown += seen ? 1 : 0;
      this.invalidate("dom");
    });
    board.order([[column.area, "desc"]]).draw();
    span.textContent = filter.attack;
    summary.textContent = `${shown} of ${counted(board.rows().count(), "detector")}.` +
      (filter.attack === ALL ? "" : " AUROC and charts are of the chosen attack; the sentence above, the numbers of models and the signs are of all attacks.");
    address.keep(form, boxes);
    document.dispatchEvent(new CustomEvent("doorbench:filter"));
  }

  window.doorbench.detection = { lines, ALL };
  address.follow(form, boxes, apply);
})();
