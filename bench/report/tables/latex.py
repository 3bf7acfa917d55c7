r"""Tables as LaTeX with booktabs: a fragment for ``\input``, or a document that compiles alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.report.tables.layout import MOST_LEAVES, Cell, Number, Table, letter
from bench.report.tables.markup import legend

PACKAGES = ("booktabs", "graphicx", "xcolor")
MOST_ROWS = 36  # of one float: the page has room for them, their headings and the notes
_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "×": r"$\times$", "−": r"$-$", "–": "--",
    "·": r"$\cdot$", "√": r"$\surd$", "…": r"\ldots{}", "†": r"$\dagger$", "‡": r"$\ddagger$", "→": r"$\to$",
    "≈": r"$\approx$", "≥": r"$\geq$", "≤": r"$\leq$",
}  # fmt: skip
_LATIN = re.compile("[À-ž]")


def escape(text: str) -> str:
    """Return text that LaTeX prints as it stands; a character no font is sure to have becomes its code point."""
    return "".join(_escaped(character) for character in " ".join(text.split()))


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if (character.isascii() and character.isprintable()) or _LATIN.fullmatch(character):
        return character
    return f"\\texttt{{U+{ord(character):04X}}}"


def latex(tables: Sequence[Table], *, standalone: bool = False) -> str:
    """Return tables as LaTeX.

    Args:
        tables: one ``table*`` each, split by the outer heading where there are more than ``MOST_LEAVES`` leaves, and
            continued on the next page where the parts have more than ``MOST_ROWS`` rows together.
        standalone: a whole document instead of a fragment.
    """
    needs = "% needs " + ", ".join(f"\\usepackage{{{package}}}" for package in PACKAGES)
    body = "\n\n".join(_float(table) for table in tables)
    if not standalone:
        return f"{needs}\n{body}\n"
    head = [
        r"\documentclass[10pt]{article}  % with \usepackage{standalone} a paper can \input this file as it is",
        r"\usepackage[a4paper,landscape,margin=1.5cm]{geometry}",
        r"\usepackage[utf8]{inputenc}",
        r"\usepackage[T1]{fontenc}",
        r"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}",
        *(f"\\usepackage{{{package}}}" for package in PACKAGES),
        r"\begin{document}",
    ]
    return "\n".join([*head, body, r"\end{document}"]) + "\n"


def _float(table: Table) -> str:
    parts = [table]
    if table.leaves > MOST_LEAVES and table.columns[0].headings:
        parts = [table.part(members) for _, members in table.spans(0)]
    page = max(1, MOST_ROWS // max(1, len(table.lines)))
    pages = [parts[start : start + page] for start in range(0, len(parts), page)]
    notes = [f"$^{{{letter(i)}}}$\\,{escape(note)}." for i, note in enumerate(table.notes)]
    footer = [escape(text) for text in (*table.footer, *legend(table, best="Bold", equal="underlined", grey="grey"))]
    lines = []
    for number, members in enumerate(pages):
        lines += [r"\begin{table*}[t]", r"\centering\small"]
        lines += [r"\addtocounter{table}{-1}"] if number else []
        lines.append(f"\\caption{{{escape(table.title)}{', continued' if number else ''}.}}")
        lines.append("\n\\par\\medskip\n".join(_fitted(_tabular(part)) for part in members))
        if members is pages[-1]:
            lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright", *notes, *footer]
            lines.append(r"\end{minipage}")
        lines.append(r"\end{table*}")
    return "\n".join(lines)


def _fitted(tabular: str) -> str:
    return "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n" + tabular + "}"


def _tabular(table: Table) -> str:
    widths = [len(column.leaves) for column in table.columns]
    lines = [f"\\begin{{tabular}}{{@{{}}l{''.join('r' * width for width in widths)}@{{}}}}", r"\toprule"]
    lines += _headings(table, widths)
    lines.append(r"\midrule")
    reference = False
    for line in table.lines:
        if reference and not line.reference:
            lines.append(r"\midrule")
        reference = line.reference
        cells = [_cell(cell, width) for cell, width in zip(line.cells, widths, strict=True)]
        lines.append(" & ".join([escape(line.label) + _markers(line.notes), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _headings(table: Table, widths: Sequence[int]) -> list[str]:
    lines = []
    for level in range(table.levels):
        cells, rules, at = [""], [], 2
        for text, members in table.spans(level):
            width = sum(widths[i] for i in members)
            notes = table.columns[members[0]].notes if level == table.levels - 1 else ()
            cells.append(f"\\multicolumn{{{width}}}{{c}}{{{escape(text)}{_markers(notes)}}}")
            rules.append(f"\\cmidrule(lr){{{at}-{at + width - 1}}}")
            at += width
        lines += [" & ".join(cells) + r" \\", " ".join(rules)]
    leaves = [escape(leaf) for column in table.columns for leaf in column.leaves]
    return [*lines, " & ".join([escape(table.corner), *leaves]) + r" \\"]


def _markers(notes: Sequence[int]) -> str:
    return f"$^{{{','.join(letter(note) for note in notes)}}}$" if notes else ""


def _cell(cell: Cell, width: int) -> str:
    if cell.words or not cell.numbers:
        text = _styled(escape(cell.words), cell) + _markers(cell.notes)
        return f"\\multicolumn{{{width}}}{{c}}{{{text}}}" if width > 1 else text
    texts = [_styled(_number(number), cell) for number in cell.numbers]
    return " & ".join([*texts[:-1], texts[-1] + _markers(cell.notes)])


def _number(number: Number | None) -> str:
    if number is None:
        return "--"
    value, sign, spread = number.text(plus_minus="±").partition("±")
    return escape(value) + (f"\\,{{\\scriptsize$\\pm$\\,{spread}}}" if sign else "")


def _styled(text: str, cell: Cell) -> str:
    if text and cell.mark:
        text = f"\\textbf{{{text}}}" if cell.mark == "best" else f"\\underline{{{text}}}"
    return f"\\textcolor{{gray}}{{{text}}}" if text and cell.grey else text
