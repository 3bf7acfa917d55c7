// The charts: loaded when they come into view, filtered as the leaderboard is.
(function () {
  "use strict";
  const holder = document.getElementById("charts");
  const { root, load, receive, board } = window.doorbench;
  if (!holder || !board) return;
  const views = new Map();
  let started = false;

  function script(path) {
    return new Promise((resolve, reject) => {
      const made = document.createElement("script");
      made.src = root + path;
      made.onload = resolve;
      made.onerror = () => reject(new Error(`${made.src} is missing`));
      document.head.append(made);
    });
  }

  function lines(boardData, filter) {
    const places = board.placesOf(boardData, filter);
    const made = [];
    const all = board.results(boardData, places, filter);
    for (const row of document.querySelectorAll("#leaderboard tbody tr[data-line]")) {
      if (row.dataset.hidden === "1") continue;
      const line = Number(row.dataset.line);
      const result = all[line];
      if (result[boardData.metrics.left] === null) continue;
      made.push({ line, name: boardData.lines[line].name, ...result, group: boardData.lines[line].group,
        interval: boardData.lines[line].interval, href: `${root}defense/${boardData.lines[line].page}.html`, complete: result.count === places.size });
    }
    return { made: made.sort((a, b) => (a.rank ?? 1e9) - (b.rank ?? 1e9)), places };
  }

  function tradeoff(boardData, { made, places }) {
    const { left, accuracy, cost } = boardData.metrics;
    const over = (who, name) => board.mean([...places].map((i) => boardData.places[i][who][name]));
    const baseline = (who) => ({ name: boardData.baselines[who], [left]: over(who, left),
      [cost]: over("victim", accuracy) - over(who, accuracy) });
    const extra = ["victim", "floor"].map(baseline);
    return { rows: made.map((one) => ({ ...one, cells: null })), extra: extra.filter((one) => one[left] !== null) };
  }

  // Names beside the points, best first; one that would lie on another is left out, its tooltip has it.
  function labelled({ rows: points, extra }, { left, cost }) {
    const rows = [...extra, ...points];
    const plot = document.querySelector("#chart-tradeoff").clientWidth - 110;
    const drops = rows.map((row) => row[cost]);
    const [low, high] = [Math.min(...drops, 0), Math.max(...drops, 1)];
    const x = (drop) => ((drop - low) / (high - low)) * plot; // pixels, about
    const boxes = rows.map((row) => [x(row[cost]) - 6, x(row[cost]) + 6, row[left]]);
    const labels = rows.map((row, i) => {
      const name = row.name.length > 26 ? `${row.name.slice(0, 25)}…` : row.name;
      const side = x(row[cost]) > plot * 0.6 ? "right" : "left"; // of the text that touches the point
      const ends = [x(row[cost]) + 8, x(row[cost]) + 8 + name.length * 6.2];
      const box = side === "left" ? [...ends, row[left]] : [x(row[cost]) - 8 - name.length * 6.2, x(row[cost]) - 8, row[left]];
      const inside = box[0] >= -4 && box[1] <= plot + 10;
      const free = inside && boxes.every(([from, to, at], j) => j === i || Math.abs(at - row[left]) > 4.5 || to < box[0] || from > box[1]);
      if (free) boxes.push(box);
      return { ...row, side, label: free ? name : "" };
    });
    return { rows: labels.slice(extra.length), extra: labels.slice(0, extra.length) };
  }

  function ranks(boardData, { made }) {
    const { ranking } = boardData.metrics;
    const whole = !board.partial(board.chosen()); // intervals are those of the whole board
    const rows = made.filter((one) => one.rank !== null && one.complete).map((one) => {
      const [low, high] = whole && one.interval ? one.interval : [one[ranking], one[ranking]];
      return { name: one.name, [ranking]: one[ranking], rank: one.rank, low, high, href: one.href };
    });
    return { rows };
  }

  function heat(boardData, { made, places }) {
    const rows = [];
    for (const one of made) {
      const by = new Map();
      for (const cell of one.cells) {
        const attack = boardData.places[cell.place].attack;
        if (!by.has(attack)) by.set(attack, []);
        by.get(attack).push(cell);
      }
      const attacks = [...new Set([...places].map((i) => boardData.places[i].attack))];
      for (const attack of attacks.filter((name) => by.has(name))) {
        const counted = by.get(attack);
        const over = (name) => ({ [name]: board.mean(counted.map((cell) => cell[name])) });
        rows.push({ name: one.name, attack, ...over(boardData.metrics.left), ...over(boardData.metrics.cost), places: counted.length, href: one.href });
      }
    }
    return { rows };
  }

  function curve(kind) {
    return (boardData, lines_, filter) => {
      const by = new Map();
      for (const point of boardData.curves) {
        const wanted = point.kind === kind && ["task", "attack", "model"].every((name) => !filter[name] || point[name] === filter[name]);
        if (!wanted) continue;
        const key = JSON.stringify([point.curve, point.x]);
        if (!by.has(key)) by.set(key, []);
        by.get(key).push(point);
      }
      const over = (points, name) => ({ [name]: board.mean(points.map((point) => point[name])) });
      return { rows: [...by.values()].map((points) => ({ curve: points[0].curve, x: points[0].x, places: points.length,
        ...over(points, boardData.metrics.left), ...over(points, boardData.metrics.accuracy) })) };
    };
  }

  const makers = { tradeoff: [tradeoff, "tradeoff", labelled], ranks: [ranks, "ranks"], heat: [heat, "heat"],
    "curve-flip-ratio": [curve("ratio"), "curve-flip"], "curve-acc-ratio": [curve("ratio"), "curve-acc"],
    "curve-flip-size": [curve("size"), "curve-flip"], "curve-acc-size": [curve("size"), "curve-acc"] };

  function config() {
    const style = getComputedStyle(document.documentElement);
    const [ink, soft, rule] = ["--ink", "--soft", "--rule"].map((name) => style.getPropertyValue(name).trim());
    return {
      aria: false, background: "transparent", font: "system-ui, sans-serif",
      axis: { labelColor: ink, titleColor: ink, gridColor: rule, domainColor: soft, tickColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" },
      legend: { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, orient: "bottom", columns: 3, symbolLimit: 60, labelLimit: 260 },
      text: { color: ink }, view: { stroke: rule }, point: { strokeWidth: 1 },
    };
  }

  // To a screen reader a chart is one picture; its numbers are in the tables, with links.
  function describe(figure) {
    const picture = figure.querySelector(".plot > svg, .plot > canvas, .plot .marks");
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", figure.querySelector("figcaption").textContent.trim());
    for (const part of picture.children) part.setAttribute("aria-hidden", "true");
    const save = figure.querySelector("summary");
    if (save) save.setAttribute("aria-label", `Save the chart ${figure.querySelector("h3").textContent}`);
  }

  async function draw() {
    const specs = await load("specs");
    const boardData = await board.cells();
    const filter = board.chosen();
    const shared = lines(boardData, filter);
    const all = Object.entries(makers).map(([name, [make, spec, finish]]) => (
      { name, spec, finish, made: make(boardData, shared, filter), figure: document.getElementById(`chart-${name}`) }));
    for (const { figure, made } of all) figure.hidden = made.rows.length < 2; // which ones are there decides on their widths
    for (const { name, spec, finish, made: plain, figure } of all) {
      if (figure.hidden) continue;
      const content = finish ? finish(plain, boardData.metrics) : plain;
      if (views.has(name)) views.get(name).finalize();
      const data = { rows: content.rows, extra: content.extra || [] };
      const many = name === "heat" && content.rows.length > 400;
      const full = { ...specs[spec], datasets: data, config: config() };
      if (full.height.step) full.height = full.height.step * new Set(content.rows.map((row) => row.name)).size;
      if (many) full.layer = full.layer.slice(0, 1);
      const actions = { export: true, source: false, compiled: false, editor: false };
      const renderer = many ? "canvas" : "svg";
      const theme = window.doorbenchTheme.dark() ? "dark" : "light";
      const made = await window.vegaEmbed(figure.querySelector(".plot"), full, { actions, renderer, tooltip: { theme } });
      views.set(name, made);
      describe(figure);
      made.view.addEventListener("click", (event, item) => {
        if (item && item.datum && item.datum.href) location.href = item.datum.href;
      });
    }
    holder.dataset.ready = "1";
  }

  async function start() {
    if (started) return;
    started = true;
    await script("assets/vega.js");
    await draw();
    document.addEventListener("doorbench:filter", draw);
    document.addEventListener("doorbench:theme", draw);
  }

  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) start();
  }, { rootMargin: "400px" }).observe(holder);
})();
