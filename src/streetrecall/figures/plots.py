"""`streetrecall plots`: every plot of dvc.yaml as SVG and PNG, contact sheets, and one page that loads nothing.

The curves are those of DVC: `dvc plots show` fills the templates of .dvc/plots, and vl-convert draws them without a
browser or a network. The sheets show pictures, which may not be published, so they are drawn outside the pipeline, into
a folder that git and DVC ignore.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.external import dvc
from streetrecall.figures.page import Figure, page
from streetrecall.figures.sheets import sheets
from streetrecall.figures.summary import read_metrics

log = logging.getLogger(__name__)

VEGA_LITE = "5.20"
ORDER = (
    "train",
    "recall_at_k",
    "error_cdf",
    "recall_by_gap",
    "recall_by_gallery",
    "risk",
    "radius",
    "recall_by",
    "map",
)

TITLES = {
    "map": "Right and wrong queries, with a line from each wrong query to its answer",
    "grid": "The grid over the city's polygon",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("dvc_plots"), help="where to draw (%(default)s)")
    parser.add_argument("--metrics", type=Path, default=Path("metrics/evaluate.json"), help="(%(default)s)")
    parser.add_argument("--results", type=Path, default=Path("data/results"), help="(%(default)s)")
    parser.add_argument("--crops", type=Path, default=Path("data/crops"), help="(%(default)s)")
    parser.add_argument("--queries", type=int, default=12, help="rows of a contact sheet (%(default)s)")


def main(args: argparse.Namespace) -> None:
    print(run(args.out, args.metrics, args.results, args.crops, args.queries).resolve().as_uri())


def run(out: Path, metrics: Path, results: Path, crops: Path, queries: int) -> Path:
    """Draw everything below ``out``; returns the page.

    Raises:
        UserError: nothing has been evaluated yet, or DVC cannot read the plots.
    """
    measured = read_metrics(metrics)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        figures = sorted(curves(out, scratch), key=_position)
    figures += contact_sheets(out, results, crops, queries)
    target = out / "index.html"
    target.write_text(page(measured, figures), encoding="utf-8")
    return target


def _position(figure: Figure) -> tuple[int, str]:
    first = next((i for i, prefix in enumerate(ORDER) if figure.name.startswith(prefix)), len(ORDER))
    return first, figure.name


def curves(out: Path, scratch: str, root: Path = Path(), base: str | None = None) -> list[Figure]:
    """Draw the plots of dvc.yaml: vector graphics of curves, copies of pictures. DVC writes files into ``scratch``."""
    figures = []
    for name, variants in _filled_plots(scratch, root, base).items():
        stem = Path(name).stem
        for variant in variants:
            if variant["type"] == "image":
                figures.append(_picture(out, stem, variant, single=len(variants) == 1))
            elif variant["content"]:
                figures.append(_curve(out, stem, variant))
            else:
                log.info("%s: holds no rows, so there is nothing to draw", name)
    return figures


def _picture(out: Path, stem: str, variant: dict[str, Any], single: bool) -> Figure:
    """Copy a picture that a stage drew; without ``single``, its name gets that of the revision."""
    url = variant["url"]
    source = Path(unquote(urlparse(url).path)) if "://" in url else Path(url)
    side = "" if single else "_" + re.sub(r"\W+", "_", str(variant["revisions"][0]))[:12]
    data = source.read_bytes()
    (out / f"{stem}{side}{source.suffix}").write_bytes(data)
    return Figure(stem + side, TITLES.get(stem, stem.replace("_", " ")), source.suffix[1:], data)


def _curve(out: Path, stem: str, variant: dict[str, Any]) -> Figure:
    """Draw a curve as SVG, and as PNG on white."""
    import vl_convert

    spec = variant["content"]
    spec = json.loads(spec) if isinstance(spec, str) else spec
    title = _without_title(spec)
    if len(variant.get("revisions", [])) < 2:
        _without_revision(spec)
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    (out / f"{stem}.svg").write_text(svg, encoding="utf-8")
    spec.setdefault("config", {})["background"] = "#ffffff"
    (out / f"{stem}.png").write_bytes(vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=1.5))
    return Figure(stem, title or stem.replace("_", " "), "svg", svg.encode())


def draw(root: Path, out: Path, base: str | None = None) -> list[Path]:
    """Draw the curves of the project at ``root``, beside those of revision ``base``; returns the files, sorted."""
    (root / out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        figures = curves(root / out, scratch, root, base)
    return sorted(root / out / f"{figure.name}.{figure.kind}" for figure in figures)


def _filled_plots(scratch: str, root: Path = Path(), base: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """What `dvc plots` would draw, by plot: the templates filled with the data of the workspace (and of ``base``)."""
    what = ["diff", base] if base else ["show"]
    content = json.loads(dvc(root, "plots", *what, "--json", "--out", scratch))
    for problem in content.get("errors", []):
        if problem.get("type") == "FileNotFoundError":
            if problem["rev"] != base:
                log.info("%s: left out, because its stage has not run in this folder", problem["name"])
        elif "name" in problem:
            log.info("%s: left out: %s", problem.get("source", problem["name"]), problem["msg"])
        elif problem.get("rev") != base:
            raise UserError(f"DVC cannot read the plots of this folder: {problem['msg']}")
        else:
            log.info("%s: no plots to draw beside: %s", base, problem["msg"])
    return {name: variants for name, variants in content.get("data", {}).items() if variants}


def _without_title(spec: dict[str, Any]) -> str:
    """Remove the title from a specification and return it; the page shows it as text, which can wrap."""
    title = spec.pop("title", "")
    return str(title.get("text", "") if isinstance(title, dict) else title)


def _without_revision(node: Any) -> None:
    """Remove the stroke, the facet and the legend of the revision, which a single revision does not need."""
    if isinstance(node, dict):
        for key in ("strokeDash", "column", "row", "color", "detail"):
            if isinstance(node.get(key), dict) and node[key].get("field") == "rev":
                node[key] = {k: v for k, v in node[key].items() if k != "title"} | (
                    {"header": None, "title": None} if key in ("column", "row") else {"legend": None}
                )
                if key == "detail":
                    del node[key]["legend"]
        for value in node.values():
            _without_revision(value)
    elif isinstance(node, list):
        for value in node:
            _without_revision(value)


def contact_sheets(out: Path, results: Path, crops: Path, queries: int) -> list[Figure]:
    """Draw the sheets; if the pictures are not on this machine, log that and draw none."""
    try:
        drawn = sheets(
            tables.read(tables.PREDICTIONS, results / "queries.parquet"),
            tables.read(tables.NEIGHBOURS, results / "neighbours.parquet"),
            tables.read(tables.IMAGES, crops / "images.parquet"),
            crops,
            queries,
        )
    except UserError as error:
        log.info("no contact sheets: %s", error)
        return []
    figures = []
    for sheet in drawn:
        buffer = io.BytesIO()
        sheet.image.save(buffer, "jpeg", quality=85)
        (out / f"sheet_{sheet.name}.jpg").write_bytes(buffer.getvalue())
        figures.append(Figure(f"sheet_{sheet.name}", sheet.title, "jpeg", buffer.getvalue()))
    return figures
