// Records side by side, one column for each that the address names. What is long is folded.
(function () {
  "use strict";
  const { counted, el, load, number, parted } = window.doorbench;
  const holder = document.getElementById("records");
  const digits = Number(holder.dataset.digits);
  const LONG = 80; // characters of a value that is shown as it is

  function words(value) {
    if (value === null || value === undefined) return "–";
    return typeof value === "object" ? JSON.stringify(value, null, 1) : String(value);
  }

  function shown(value) {
    const text = words(value);
    if (text.length <= LONG) return document.createTextNode(text);
    const what = Array.isArray(value) ? `a list of ${value.length}` : typeof value === "object" ? counted(Object.keys(value).length, "field") : `${text.slice(0, 40)} …`;
    return el("details", {}, el("summary", {}, what), el("pre", {}, text));
  }

  const prefixed = (prefix, fields) => Object.entries(fields).map(([name, value]) => [prefix + name, value]);
  const seconds = (value) => (value === null ? null : number(value, 2));

  // Groups of fields: title, whether it is open, and the fields of a record.
  const GROUPS = [
    ["What was measured", true, (record, victim) => [
      ["Status", record.error ? `${record.status}: ${record.error}` : record.status],
      ["Defense", record.defense], ["Attack", victim.attack], ["Task", victim.task], ["Model", victim.model],
      ["Target label", victim.target], ["Board", record.board], ["Labels", record.labels], ["Needs", record.needs],
      ...record.metrics.filter(([, value]) => value !== null).map(([title, value]) => [title, number(value, 2)]),
      ...(record.suspicion === null ? [] : [["Suspicion", String(record.suspicion)]]),
      ["Version", record.environment.version], ["Date", record.environment.date || "not stated in records of that time"],
    ]],
    ["Parameters of defense and attack", false, (record, victim) =>
      [...prefixed("defense.", record.parameters), ...prefixed("attack.", victim.parameters)]],
    ["What the defense says of its work", false, (record) => Object.entries(record.notes)],
    ["Seconds", false, (record) => Object.entries(record.seconds).map(([name, value]) => [name, seconds(value)])],
    ["How the victim was trained", false, (record, victim) => Object.entries(victim.recipe)],
    ["Where it was made", false, (record) => Object.entries(record.environment)],
    ["Keys", false, (record, victim) => [["victim", victim.key], ["record", record.key]]],
  ];

  function tableOf(title, records, fields) {
    const columns = records.map(([record, victim]) => new Map(fields(record, victim)));
    const names = [...new Set(columns.flatMap((column) => [...column.keys()]))];
    if (!names.length) return null;
    const head = el("tr", {}, el("th", { scope: "col", class: "name" }, "Field"),
      ...records.map(([record]) => el("th", { scope: "col" }, `seed ${record.seed}`)));
    const body = names.map((name) => el("tr", {}, el("th", { scope: "row", class: "name" }, name), ...cellsOf(columns.map((column) => column.get(name)))));
    return el("div", { class: "scroll", role: "region", "aria-label": title, tabindex: "0" },
      el("table", { class: "record" }, el("thead", {}, head), el("tbody", {}, ...body)));
  }

  // One wide cell where all seeds say the same.
  function cellsOf(values) {
    const same = values.length > 1 && values.every((value) => words(value) === words(values[0]));
    return same ? [el("td", { colspan: values.length }, shown(values[0]))] : values.map((value) => el("td", {}, shown(value)));
  }

  function group(records, [title, open, fields]) {
    const table = tableOf(title, records, fields);
    if (!table) return null;
    return open ? table : el("details", { class: "group" }, el("summary", {}, title), table);
  }

  // What a model that writes said to one prompt: the clean model, the victim before, and the model of this record after.
  function responses(record, file) {
    if (!record.examples.length) return null;
    const others = Object.values(file.records).filter((one) => one.victim === record.victim && one.examples.length);
    const who = [["clean model", "floor"], ["before: no defense", "victim"]].map(([name, role]) => [name, others.find((one) => one.role === role)]);
    const after = record.role === "victim" || record.role === "floor" ? [] : [[`after: ${record.defense}`, record]];
    const rows = record.examples.flatMap((example, i) => [...who, ...after].filter(([, one]) => one && one.examples[i]).map(([name, one], j, all) =>
      el("tr", {}, j ? null : el("td", { rowspan: all.length, class: "prompt" }, el("p", {}, example.prompt), el("p", {}, el("b", {}, "with trigger: "), example.triggered),
        el("p", {}, el("b", {}, "right: "), example.reference)), el("th", { scope: "row", class: "name" }, name),
      el("td", { class: "said" }, one.examples[i].said), el("td", { class: "said" }, one.examples[i].said_triggered))));
    const head = ["Prompt", "Model", "Response", "Response to the trigger"].map((name) => el("th", { scope: "col" }, name));
    return el("section", { class: "responses" }, el("h3", {}, `Responses, seed ${record.seed}`), el("div", { class: "scroll", role: "region",
      "aria-label": `Responses, seed ${record.seed}`, tabindex: "0" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))));
  }

  async function show() {
    const tokens = decodeURIComponent(location.hash.slice(1)).split("_").filter((token) => /^[0-9a-f]{14}$/.test(token));
    if (!tokens.length) return;
    try {
      const files = await Promise.all(tokens.map((token) => load(`records/${token.slice(0, digits)}`)));
      const records = tokens.map((token, i) => [files[i].records[token], files[i]]).filter(([record]) => record);
      if (!records.length) throw new Error("this site has no such record");
      const pairs = records.map(([record, file]) => [record, file.victims[record.victim]]);
      const [record, victim] = pairs[0];
      const title = records.every(([one]) => one.defense === record.defense) ? record.defense : record.base; // chosen values differ by seed
      document.title = `${title} against ${victim.attack} · DoorBench`;
      const heading = el("h2", {}, ...parted(title), " against ", ...parted(victim.attack), " on ", ...parted(victim.task));
      const page = record.page ? el("p", {}, el("a", { href: `defense/${record.page}.html` }, `All results of ${record.base}`)) : null;
      const [first, ...others] = GROUPS.map((one) => group(pairs, one));
      const said = records.map(([one, file]) => responses(one, file));
      holder.replaceChildren(...[heading, page, first, ...said, ...others].filter(Boolean));
    } catch (error) {
      holder.replaceChildren(el("p", { class: "note" }, `Nothing to show: ${error.message}.`));
    }
  }

  window.addEventListener("hashchange", show);
  show();
})();
