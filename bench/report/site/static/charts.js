// The charts of a leaderboard, filtered as its table is.
(function () {
  "use strict";
  const { root, board, whenSeen } = window.doorbench;
  if (!board) return;

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
    const { left, cost } = boardData.metrics;
    const extra = ["victim", "floor"].map((who) => {
      const over = board.baseline(boardData, who, places);
      return { name: boardData.baselines[who], [left]: over[left], [cost]: over[cost] };
    });
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
        const cells = by.get(attack);
        const over = (name) => ({ [name]: board.mean(cells.map((cell) => cell[name])) });
        rows.push({ name: one.name, attack, ...over(boardData.metrics.left), ...over(boardData.metrics.cost), places: cells.length, href: one.href });
      }
    }
    return { rows };
  }

  function curve(kind) {
    return (boardData, lines_, filter) => {
      const by = new Map();
      for (const point of boardData.curves) {
        const wanted = point.kind === kind && ["task", "attack", "model"].every((name) => !filter[name] || point[name] === filter[name]) &&
          point.seeds >= filter.seeds && point.needs.every((need) => filter.needs.has(need));
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

  const makers = [
    ["tradeoff", "tradeoff", tradeoff, labelled],
    ["ranks", "ranks", ranks],
    ["heat", "heat", heat],
    ["curve-flip-ratio", "curve-flip", curve("ratio")],
    ["curve-acc-ratio", "curve-acc", curve("ratio")],
    ["curve-flip-size", "curve-flip", curve("size")],
    ["curve-acc-size", "curve-acc", curve("size")],
  ];

  async function charts() {
    const boardData = await board.cells();
    const filter = board.chosen();
    const shared = lines(boardData, filter);
    return makers.map(([name, spec, make, finish]) => ({ name, spec, content: make(boardData, shared, filter),
      finish: finish && ((content) => finish(content, boardData.metrics)) }));
  }

  whenSeen(charts);
})();
