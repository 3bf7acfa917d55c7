// Records side by side, one column for each that the address names.
(function () {
  "use strict";
  const { el, load, number } = window.doorbench;
  const holder = document.getElementById("records");
  const digits = Number(holder.dataset.digits);

  function words(value) {
    if (value === null || value === undefined) return "–";
    return typeof value === "object" ? JSON.stringify(value, null, 1) : String(value);
  }

  function lines(record, victim) {
    const fields = [
      ["Status", record.error ? `${record.status}: ${record.error}` : record.status],
      ["Seed", record.seed],
      ["Defense", record.defense],
      ["Board", record.board],
      ["Attack", victim.attack],
      ["Task", victim.task],
      ["Model", victim.model],
      ["Target label", victim.target],
    ];
    for (const [title, value] of record.metrics) if (value !== null) fields.push([title, number(value, 2)]);
    if (record.suspicion !== null) fields.push(["Suspicion", String(record.suspicion)]);
    fields.push(["Needs", record.needs]);
    fields.push(["Labels", record.labels]);
    for (const [name, value] of Object.entries(record.parameters)) fields.push([`defense.${name}`, value]);
    for (const [name, value] of Object.entries(victim.parameters)) fields.push([`attack.${name}`, value]);
    for (const [name, value] of Object.entries(record.notes)) fields.push([`note: ${name}`, value]);
    for (const [name, value] of Object.entries(record.seconds)) fields.push([`seconds: ${name}`, value === null ? null : number(value, 2)]);
    for (const [name, value] of Object.entries(victim.recipe)) fields.push([`victim: ${name}`, value]);
    for (const [name, value] of Object.entries(record.environment)) fields.push([`made with: ${name}`, value]);
    fields.push(["Key of the victim", victim.key], ["Key of the record", record.key]);
    return fields;
  }

  function tableOf(records) {
    const columns = records.map(([record, victim]) => new Map(lines(record, victim)));
    const names = [...new Set(columns.flatMap((column) => [...column.keys()]))];
    const head = el("tr", {}, el("th", { scope: "col", class: "name" }, "Field"),
      ...records.map(([record]) => el("th", { scope: "col" }, `seed ${record.seed}`)));
    const body = names.map((name) => {
      const cells = columns.map((column) => words(column.get(name)));
      const long = cells.some((cell) => cell.length > 60);
      return el("tr", {}, el("th", { scope: "row", class: "name" }, name),
        ...cells.map((cell) => el("td", { class: long ? "long" : null }, cell)));
    });
    return el("div", { class: "scroll", role: "region", "aria-label": "Records", tabindex: "0" },
      el("table", { class: "record" }, el("thead", {}, head), el("tbody", {}, ...body)));
  }

  async function show() {
    const tokens = decodeURIComponent(location.hash.slice(1)).split("_").filter((token) => /^[0-9a-f]{14}$/.test(token));
    if (!tokens.length) return;
    try {
      const files = await Promise.all(tokens.map((token) => load(`records/${token.slice(0, digits)}`)));
      const matches = tokens.map((token, i) => [files[i].records[token], files[i]]).filter(([record]) => record);
      if (!matches.length) throw new Error("this site has no such record");
      const pairs = matches.map(([record, file]) => [record, file.victims[record.victim]]);
      const [record, victim] = pairs[0];
      document.title = `${record.defense} against ${victim.attack} · DoorBench`;
      const heading = el("h2", {}, `${record.defense} against ${victim.attack} on ${victim.task}`);
      const page = record.page ? el("p", {}, el("a", { href: `defense/${record.page}.html` }, `All results of ${record.defense}`)) : null;
      holder.replaceChildren(...[heading, page, tableOf(pairs)].filter(Boolean));
    } catch (error) {
      holder.replaceChildren(el("p", { class: "note" }, `Nothing to show: ${error.message}.`));
    }
  }

  window.addEventListener("hashchange", show);
  show();
})();
