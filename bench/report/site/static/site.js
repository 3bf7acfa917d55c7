// What every page uses: data files, elements, numbers, plain tables, and the theme button.
(function () {
  "use strict";
  const root = document.documentElement.dataset.root;
  const waiting = new Map();

  // Data files are scripts that call receive(): a page opened from disk may not fetch.
  function load(name) {
    if (!waiting.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => {
        entry.resolve = resolve;
        const script = document.createElement("script");
        script.src = `${root}data/${name}.js`;
        script.onerror = () => reject(new Error(`${script.src} is missing`));
        document.head.append(script);
      });
      waiting.set(name, entry);
    }
    return waiting.get(name).promise;
  }

  function receive(name, content) {
    if (waiting.has(name)) waiting.get(name).resolve(content);
    else waiting.set(name, { promise: Promise.resolve(content) });
  }

  // The cells of a board file as objects: a cell is a list, and "fields" names what stands in it.
  function cellsOf(file) {
    return file.cells.map((cell) => Object.fromEntries(file.fields.map((name, i) => [name, cell[i]])));
  }

  // Elements are built from text, never from markup, so nothing that a plugin says can become a script.
  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function number(value, digits = 1) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  }

  // A name with places where a narrow column may break it, as parted() of bench/report/site/render.py.
  function parted(name) {
    const parts = name.match(/[^+,(/=\s]*[+,(/=\s]*/g).filter(Boolean);
    return parts.flatMap((part, i) => [...(i ? [el("wbr")] : []), part.length > 24 ? part : el("span", { class: "part" }, part)]);
  }

  // "1 place", "2 places".
  const counted = (many, word) => `${many} ${word}${many === 1 ? "" : "s"}`;

  // A ratio of seconds, as pages have it.
  function ratio(value) {
    return value === null ? "–" : `${number(value, value < 1 ? 2 : value < 10 ? 1 : 0)}×`;
  }

  function recordLink(tokens, text) {
    if (!tokens) return document.createTextNode(text);
    return el("a", { href: `${root}record.html#${tokens.replaceAll(" ", "_")}` }, text);
  }

  // Numbers in ascending or descending order, cells without one always last.
  function last(sign) {
    return (a, b) => {
      const [first, second] = [a, b].map((value) => (value === "" || value === null ? null : Number(value)));
      if (first === null || second === null) return first === second ? 0 : first === null ? 1 : -1;
      return sign * (first - second);
    };
  }

  function columns(table) {
    return [...table.tHead.rows[0].cells].map((cell) => ({
      name: cell.dataset.name || "",
      type: cell.classList.contains("num") ? "last" : "string",
      orderable: cell.dataset.orderable !== "false",
      orderSequence: ["asc", "desc"],
    }));
  }

  // Where each column stands, by the name in its heading.
  function positions(table) {
    return Object.fromEntries([...table.tHead.rows[0].cells].map((cell, i) => [cell.dataset.name, i]));
  }

  function enhance(table, options = {}) {
    const size = Number(table.dataset.enhance || 0);
    return new DataTable(table, {
      autoWidth: false,
      columns: columns(table),
      info: size > 0,
      order: [],
      pageLength: size || 10,
      paging: size > 0,
      lengthChange: false,
      layout: { topStart: size > 0 ? "search" : null, topEnd: null, bottomStart: size > 0 ? "info" : null,
        bottomEnd: size > 0 ? "paging" : null },
      searching: size > 0,
      ...options,
    });
  }

  function themeButton() {
    const button = document.getElementById("theme");
    const names = ["system", "light", "dark"];
    const show = () => {
      button.textContent = `Theme: ${window.doorbenchTheme.get()}`;
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      window.doorbenchTheme.set(names[(names.indexOf(window.doorbenchTheme.get()) + 1) % names.length]);
      show();
    });
    show();
  }

  window.doorbench = { root, load, receive, cellsOf, el, parted, number, counted, ratio, recordLink, columns, positions, enhance, last };
  if (window.DataTable) {
    DataTable.type("last", { order: { asc: last(1), desc: last(-1) }, className: "num" });
    for (const table of document.querySelectorAll("table[data-enhance]")) enhance(table);
  }
  themeButton();
})();
