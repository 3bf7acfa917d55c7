"""The leaderboard as a static site: files that open from disk, without a server and without network.

    build([Source("sst2-first", rows, gate)], folder=Path("site"))

Pages carry the aggregates; what belongs to single cells and records is loaded from data files when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.contracts import Kind
from bench.errors import RequestError
from bench.report.rows.bulk import bulk
from bench.report.site import host
from bench.report.site.merge import Source, merged, strictest
from bench.store import outputs

if TYPE_CHECKING:
    from bench.report.site.views import BoardView

__all__ = ["Source", "build"]
MARKER = ".doorbench-site"  # says that a folder is a site, and may be replaced by a newer one


def build(sources: Sequence[Source], *, folder: Path, address: str = "") -> Path:
    """Write the site of one or several suites; a site that is there already is replaced.

    Args:
        sources: the suites. An attack counts as implanted where the strictest of their gates lets it pass.
        folder: of the site.
        address: where a host will show it, such as ``https://me.github.io/doorbench/``. With it there is a sitemap, and
            previews and the page for wrong addresses work wherever the site lies.

    Returns:
        The first page.

    Raises:
        RequestError: the folder holds something else, the address is none, or a library of the extra ``site`` is
            missing.
    """
    address = host.checked(address)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file; name a folder with --out DIR.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise RequestError(f"{folder} holds other files; name a new or empty folder with --out DIR.")
    with outputs.folder_beside(folder) as made:
        _write(sources, made, address)
    return folder / "index.html"


@bulk()
def _write(sources: Sequence[Source], folder: Path, address: str) -> None:
    from bench.report.ranking import boards
    from bench.report.site import assets, bibtex, charts, data
    from bench.report.site.pages import Site
    from bench.report.site.views import BoardView, Budgets

    rows, gate = merged(sources), strictest(source.gate for source in sources)
    families = {
        (kind, threat): Budgets(part, gate)
        for kind in Kind
        for threat, part in boards.by_threat(row for row in rows if row.kind == kind).items()
    }
    views = [
        BoardView(name, part, gate, family=families[name.kind, name.threat])
        for name, part in boards.split(rows).items()
    ]
    described = {name: facts for source in sources for name, facts in source.tasks.items()}
    site = Site(views, rows, [source.name for source in sources], gate, address, described)
    assets.write(folder / "assets")
    (folder / "assets" / "specs.js").write_text(data.script("specs", charts.specifications()), encoding="ascii")
    paths = []
    for path, text in site.pages():
        _put(folder / path, text)
        paths.append(path)
    host.write(folder, paths, site, address)
    for view in views:
        content = data.detection_file(view) if view.detects else data.board_file(view)
        _put(folder / "data" / f"board-{view.slug}.js", data.script(f"board-{view.slug}", content))
        _downloads(view, folder / "download")
    examples = {key: texts for source in sources for key, texts in source.examples.items()}
    data.write_records(rows, folder / "data" / "records", examples)
    _put(folder / "download" / "doorbench.bib", bibtex.bibliography(site.citations))
    (folder / MARKER).touch()


def _downloads(view: BoardView, folder: Path) -> None:
    from bench.report import export
    from bench.report.ranking import detection
    from bench.report.tables import summary
    from bench.report.tables.markup import comma_separated

    folder.mkdir(parents=True, exist_ok=True)
    export(view.results.frame, format="csv", path=folder / f"{view.slug}-cells.csv")
    table = detection.build(view.results) if view.detects else summary.build(view.results, leaderboard=view.leaderboard)
    _put(folder / f"{view.slug}-leaderboard.csv", comma_separated([table]))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
