// What is chosen on a page stands in its address, behind the #, so that a view can be sent to somebody.
(function () {
  "use strict";

  // A page may also be opened at a heading (#charts): only what has a "=" is a choice.
  function read() {
    const text = decodeURIComponent(location.hash.slice(1));
    return new URLSearchParams(text.includes("=") ? location.hash.slice(1) : "");
  }

  // Set a form, and the chosen rows of a table, from the address.
  function open(form, rows) {
    const stated = read();
    for (const field of form.elements) {
      if (!field.name) continue;
      if (field.type !== "checkbox") {
        if (stated.has(field.name)) field.value = stated.get(field.name);
        if (field.tagName === "SELECT" && field.selectedIndex < 0) field.value = "";
      } else if (field.name === "need") field.checked = !stated.has("without") || !stated.getAll("without").includes(field.value);
      else field.checked = stated.has(field.name);
    }
    const names = new Set(stated.getAll("row"));
    for (const [name, box] of rows) box.checked = names.has(name);
    return [...stated.keys()].length > 0;
  }

  // Write them there; what is as it was at first is left out.
  function keep(form, rows) {
    const stated = new URLSearchParams();
    for (const field of form.elements) {
      if (!field.name) continue;
      if (field.type === "checkbox") {
        if (field.name === "need" && !field.checked) stated.append("without", field.value);
        if (field.name !== "need" && field.checked) stated.append(field.name, field.value);
      } else if (field.value && field.value !== field.defaultValue) stated.append(field.name, field.value);
    }
    for (const [name, box] of rows) if (box.checked) stated.append("row", name);
    const text = stated.toString();
    if (text || [...read().keys()].length) history.replaceState(null, "", text ? `#${text}` : "#");
  }

  // Let a table follow its form and its chosen rows: "apply" runs after every change, and at once where the address has a choice.
  function follow(form, rows, apply) {
    const filtering = form.closest("details");
    if (filtering) {
      filtering.hidden = false;
      filtering.open = window.matchMedia("(min-width: 48.01rem)").matches;
    }
    form.addEventListener("change", apply);
    form.addEventListener("reset", () => setTimeout(() => {
      for (const [, box] of rows) box.checked = false;
      apply();
    }));
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const [, box] of rows) {
      box.addEventListener("change", () => (form.elements.only.checked ? apply() : keep(form, rows)));
    }
    window.addEventListener("hashchange", () => open(form, rows) && apply());
    if (open(form, rows)) apply();
  }

  // A table whose rows can be chosen and hidden: the table component, and the box of each row by its name.
  function choosable(table) {
    const board = window.doorbench.enhance(table, { paging: false, searching: true, info: false,
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null } });
    board.search.fixed("filter", (text, content, index) => board.row(index).node().dataset.hidden !== "1");
    const rows = [...table.querySelectorAll(".pick")].map((box) => [box.closest("tr").querySelector("th.name").textContent, box]);
    return { board, rows };
  }

  window.doorbench.address = { read, keep, follow, choosable };
})();
