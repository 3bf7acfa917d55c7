// What the scripts compute as Python does; tests/browser runs both on the same data.
(function () {
  "use strict";

  // As bench/report/ranking/comparable.py: the places that give the most numbers, places times lines finished at all of them.
  // "lines" maps each place to the lines that are finished there.
  function comparablePlaces(lines) {
    const most = Math.max(0, ...[...lines.values()].map((finished) => finished.length));
    let kept = [...lines.keys()].filter((place) => 2 * lines.get(place).length >= most);
    let best = kept;
    let numbers = 0;
    while (kept.length * most > numbers) { // as many as are possible with them
      const counts = new Map();
      for (const place of kept) for (const line of lines.get(place)) counts.set(line, (counts.get(line) || 0) + 1);
      const common = [...counts.values()].filter((count) => count === kept.length).length;
      if (kept.length * common > numbers) [best, numbers] = [kept, kept.length * common];
      const shared = kept.map((place) => lines.get(place).reduce((sum, line) => sum + counts.get(line), 0));
      const least = shared.indexOf(Math.min(...shared));
      kept = kept.filter((_, i) => i !== least);
    }
    return best;
  }

  window.doorbenchRanking = { comparablePlaces };
})();
