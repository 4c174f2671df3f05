"""One HTML page of results that needs no server, no script and no network."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from html import escape
from typing import Any

from streetrecall.figures.summary import SYSTEMS, legend, shown, summary_rows

STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --soft: #5c6673; --ground: #fbfaf7; --line: #d9d6ce; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e5df; --soft: #a3a9b2; --ground: #14171c; --line: #343a43; } }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--ground); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.05rem; margin: 0 0 .6rem; font-weight: 600; }
p { color: var(--soft); max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line); }
td:last-child { color: var(--soft); }
.plots { display: grid; gap: 2rem; margin: 2rem 0; grid-auto-flow: dense;
         grid-template-columns: repeat(auto-fit, minmax(min(34rem, 100%), 1fr)); }
figure { margin: 0; } figure.whole { grid-column: 1 / -1; }
figure svg, figure img { max-width: 100%; height: auto; }
"""
WIDE = 660  # pixels: a wider curve gets its own row


@dataclass(frozen=True)
class Figure:
    """A plot: a file-like name, a title, its kind (svg, png, jpeg) and its bytes."""

    name: str
    title: str
    kind: str
    data: bytes


def page(metrics: dict[str, Any], figures: list[Figure]) -> str:
    """The page: the rows of the summary of ``metrics`` as a table, then the figures, all of it inline.

    >>> measured = {"test": {"city": {"recall_at_1_25m": 0.912}}}
    >>> html = page({"model": measured, "baseline": measured}, [Figure("map", "The map", "png", b"...")])
    >>> "The map" in html and "<td>91.2</td>" in html and "https://" not in html
    True
    """
    header = "".join(f"<th>{escape(cell)}</th>" for cell in ("", *(SYSTEMS[name] for name in shown(metrics)), ""))
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in summary_rows(metrics)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>streetrecall: evaluation</title>
<style>{STYLE}</style>
</head>
<body>
<h1>What the model finds, and how certain that is</h1>
<p>{legend(metrics)} Bands and whiskers in the plots are the same intervals.</p>
<div class="wide"><table>
<tr>{header}</tr>
{body}
</table></div>
<div class="plots">
{"".join(_figure(f) for f in figures)}</div>
</body>
</html>
"""


def _figure(figure: Figure) -> str:
    title = escape(figure.title)
    if figure.kind == "svg":
        svg = re.sub(r"^<\?xml[^>]*>\s*", "", figure.data.decode())
        # Each drawing numbers its clip paths from zero; a prefix makes them unique on the page.
        prefix = re.sub(r"\W+", "_", figure.name) + "-"
        svg = re.sub(r'(id="|url\(#)', lambda m: m[0] + prefix, svg)
        size = re.search(r' width="([\d.]+)" height="[\d.]+"', svg)
        width = float(size[1]) if size else 0.0
        if size:
            svg = svg.replace(size[0], f' style="width:{width:g}px"', 1)
        span = ' class="whole"' if width > WIDE else ""
        return f"<figure{span}><h2>{title}</h2>{svg}</figure>\n"
    encoded = base64.b64encode(figure.data).decode()
    image = f'<img alt="{title}" src="data:image/{escape(figure.kind)};base64,{encoded}">'
    return f'<figure class="whole"><h2>{title}</h2>{image}</figure>\n'
