"""Tables and numbers for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from tabulate import tabulate

Value = float | int | str | bool | None


def plain_table(header: Sequence[str], rows: Iterable[Sequence[str]], ruled: bool = False) -> str:
    """A table for a terminal; ``ruled``: with a line below the header.

    >>> print(plain_table(("", "model"), [("R@1", "0.9")]))
         model
    R@1  0.9
    """
    style = "simple" if ruled else "plain"
    return tabulate(list(rows), headers=list(header), tablefmt=style, disable_numparse=True)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. Cells are Markdown; texts that come from data go through `text` or `code` first.

    >>> print(markdown_table(("a", "b"), [("1", "x|y")]))
    | a | b |
    |-----|-------|
    | 1 | x\\\\|y |
    """
    cells = [[" ".join(cell.split()).replace("|", "\\\\|") for cell in row] for row in (header, *rows)]
    return tabulate(cells[1:], headers=cells[0], tablefmt="github", disable_numparse=True, stralign=None)


def text(value: object) -> str:
    """A value as text of a Markdown document, in which no part of it is an element of HTML.

    >>> text("<b> & co")
    '&lt;b&gt; &amp; co'
    """
    return escape(str(value), quote=False)


def code(value: object) -> str:
    """A value as code in a Markdown document."""
    return "`" + str(value).replace("`", "'") + "`"


def number(value: Value) -> str:
    """A value as a cell of a table: four decimals at most; a dash for none.

    >>> number(0.5), number(1984), number(None), number(True)
    ('0.5', '1,984', '–', 'true')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else text(value)


def signed(difference: float | None) -> str:
    """A difference with its sign; nothing for none."""
    if difference is None:
        return ""
    shown = number(int(difference) if float(difference).is_integer() else difference)
    return f"+{shown}" if difference > 0 else shown


def bounds(interval: tuple[float, float] | None) -> str:
    """An interval as a cell of a table; nothing for none."""
    return f"{number(interval[0])} to {number(interval[1])}" if interval else ""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
