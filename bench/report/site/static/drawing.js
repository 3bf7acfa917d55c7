// How charts are drawn: loaded after the page, in the colours of the page.
(function () {
  "use strict";
  const { root, load } = window.doorbench;
  const holder = document.getElementById("charts");
  if (!holder) return;
  const UNSEEN = 3000; // milliseconds until charts are drawn that nobody has scrolled to
  const views = new Map();

  function script(path) {
    return new Promise((resolve, reject) => {
      const made = document.createElement("script");
      made.src = root + path;
      made.onload = resolve;
      made.onerror = () => reject(new Error(`${made.src} is missing`));
      document.head.append(made);
    });
  }

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

  async function one(specs, { name, spec, content }) {
    const figure = document.getElementById(`chart-${name}`);
    if (views.has(name)) views.get(name).finalize();
    const data = { rows: content.rows, extra: content.extra || [] };
    const many = spec.endsWith("heat") && content.rows.length > 400;
    const full = { ...specs[spec], datasets: data, config: config() };
    if (full.height.step) full.height = full.height.step * new Set(content.rows.map((row) => row.name)).size;
    if (many) full.layer = full.layer.slice(0, 1);
    const actions = { export: true, source: false, compiled: false, editor: false };
    const theme = window.doorbenchTheme.dark() ? "dark" : "light";
    const made = await window.vegaEmbed(figure.querySelector(".plot"), full, { actions, renderer: many ? "canvas" : "svg", tooltip: { theme } });
    views.set(name, made);
    figure.classList.toggle("night", theme === "dark"); // for paper, which is never dark
    describe(figure);
    made.view.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.href) location.href = item.datum.href;
    });
  }

  // "charts" returns the content of every chart; one with fewer than two rows is hidden. "finish" may need its width.
  async function draw(charts) {
    const specs = await load("specs");
    const all = await charts();
    for (const { name, content } of all) document.getElementById(`chart-${name}`).hidden = content.rows.length < 2;
    holder.parentElement.hidden = all.every(({ content }) => content.rows.length < 2);
    for (const chart of all) {
      if (chart.content.rows.length < 2) continue;
      await one(specs, chart.finish ? { ...chart, content: chart.finish(chart.content) } : chart);
    }
    holder.dataset.ready = "1";
  }

  // Charts are drawn as soon as they come near the view, or else when the page has had its time: paper shows all of it.
  function whenSeen(charts) {
    let started = false;
    async function start() {
      if (started) return;
      started = true;
      await script("assets/vega.js");
      await draw(charts);
      for (const event of ["filter", "theme"]) document.addEventListener(`doorbench:${event}`, () => draw(charts));
    }
    const near = (entries) => entries.some((entry) => entry.isIntersecting) && start();
    new IntersectionObserver(near, { rootMargin: "400px" }).observe(holder);
    setTimeout(start, UNSEEN);
  }

  window.doorbench.whenSeen = whenSeen;
})();
