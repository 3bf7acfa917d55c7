"""What the pages load: the table component, the chart library, and the site's own style and script.

All of it lies beside the pages, as plain scripts: a page that is opened from disk may neither load modules nor fetch.
"""

from __future__ import annotations

import re
import shutil
from importlib.resources import files
from pathlib import Path

from bench.errors import RequestError

STATIC = Path(__file__).parent / "static"
CHARTS = "window.vegaEmbed = vegaEmbed;"  # the one name of the chart library that the pages use
_EXPORT = re.compile(r"export\{([^}]*)\};?")


def write(folder: Path) -> None:
    """Write every asset into a folder.

    Raises:
        RequestError: the libraries of the extra ``site`` are not installed, or their bundles are not as expected.
    """
    try:
        import vl_convert

        html = files("itables") / "html"
        table, style = (html / name for name in ("dt_bundle.js", "dt_bundle.css"))
        script, look = table.read_text(encoding="utf-8"), style.read_text(encoding="utf-8")
    except ImportError as error:
        raise RequestError(f'{error.name} is missing; install it with: pip install "doorbench[site]".') from None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "datatables.js").write_text(classic_script(script), encoding="utf-8")
    (folder / "datatables.css").write_text(look, encoding="utf-8")
    (folder / "vega.js").write_text(_wrapped(vl_convert.javascript_bundle(CHARTS)), encoding="utf-8")
    for path in sorted(STATIC.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


def classic_script(module: str) -> str:
    """Return the table component's module as a plain script that sets ``window.DataTable``.

    Raises:
        RequestError: the module does not end in the one export statement that is known.
    """
    exports = list(_EXPORT.finditer(module))
    names = dict(part.strip().partition(" as ")[::2] for part in exports[-1][1].split(",")) if exports else {}
    default = next((own for own, outer in names.items() if outer == "default"), None)
    if len(exports) != 1 or default is None:
        raise RequestError("this version of itables has a table component of an unknown form; see constraints.txt.")
    start, end = exports[0].span()
    return _wrapped(f"{module[:start]}window.DataTable={default};{module[end:]}")


def _wrapped(script: str) -> str:
    return f'(function(){{"use strict";\n{script}\n}})();\n'
