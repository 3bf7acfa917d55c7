// The charts of the board of detectors.
(function () {
  "use strict";
  const { detection, root, whenSeen } = window.doorbench;

  async function charts() {
    const { boardData, shown, known } = await detection.lines();
    const areas = known.map(({ name, page, area, low, high }) => ({ name, area, low, high, href: `${root}defense/${page}.html` }));
    const grid = shown.flatMap(({ name, page, areas: by }) => boardData.attacks.filter((attack) => by[attack])
      .map((attack) => ({ name, attack, area: by[attack][0], href: `${root}defense/${page}.html` })));
    return [{ name: "areas", spec: "areas", content: { rows: areas } }, { name: "area-heat", spec: "area-heat", content: { rows: grid } }];
  }

  whenSeen(charts);
})();
