"""What a static host wants beside the pages: a sitemap, a picture for previews, and no ideas of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from bench.errors import RequestError

if TYPE_CHECKING:
    from bench.report.site.pages import Site

PREVIEW = "assets/preview.png"
WIDTH, HEIGHT, DPI = 1200, 630, 100  # pixels that hosts of previews ask for
_ADDRESS = re.compile(r"https?://[^\s\"'<>?#]+")


def checked(address: str) -> str:
    """Return an address with ``/`` at its end; an empty one as it is.

    Raises:
        RequestError: it is no address of a site.
    """
    if address and not _ADDRESS.fullmatch(address):
        raise RequestError(f"{address!r} is no address of a site; write it like https://me.github.io/doorbench/.")
    return address and address.rstrip("/") + "/"


def write(folder: Path, paths: Sequence[str], site: Site, address: str) -> None:
    """Write them; the sitemap needs to know the address.

    Args:
        folder: of the site.
        paths: of its pages.
        site: what the picture shows.
        address: of the site, or nothing.
    """
    _preview(folder / PREVIEW, site)
    (folder / ".nojekyll").touch()  # GitHub Pages would leave out what starts with an underscore
    if address:
        urls = "".join(f"<url><loc>{escape(address + path)}</loc></url>\n" for path in paths if path != "404.html")
        namespace = "http://www.sitemaps.org/schemas/sitemap/0.9"
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{namespace}">\n{urls}</urlset>\n'
        (folder / "sitemap.xml").write_text(text, encoding="utf-8")
        (folder / "robots.txt").write_text(
            f"User-agent: *\nAllow: /\nSitemap: {address}sitemap.xml\n", encoding="ascii"
        )


def _preview(path: Path, site: Site) -> None:
    """Draw the first board that ranks: its best defenses by the measure that ranks."""
    from matplotlib.figure import Figure

    from bench.experiment.metrics import RANKING
    from bench.report.figures import style

    family = next((one for one in site.families if not one.main.detects and one.main.standings), None)
    ranked = [] if family is None else [one for one in family.main.standings if one.rating is not None][:6]
    with style.applied():
        figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
        figure.text(0.05, 0.86, "DoorBench", fontsize=40, fontweight="bold", color=style.INK)
        figure.text(0.05, 0.77, "Backdoor defenses for language models, compared", fontsize=22, color=style.GREY)
        if family is not None and ranked:
            axes = figure.add_axes((0.33, 0.14, 0.62, 0.48))
            names = [family.main.label(one.line) for one in ranked]
            axes.barh(range(len(ranked)), [one.means[RANKING.name] for one in ranked], color=style.COLOURS[0])
            axes.set_yticks(range(len(ranked)), [name[:30] for name in names], fontsize=15)
            axes.tick_params(axis="x", labelsize=13)
            axes.set_xlim(0, 100)
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
            axes.set_title(f"{family.main.name}: {RANKING.axis}", fontsize=15, loc="left")
        figure.savefig(path, dpi=DPI, metadata={"Software": "DoorBench"})
