"""`streetrecall plots`: DVC's plots as SVG files and one HTML page, drawn here; nothing is loaded from other hosts."""

from __future__ import annotations

import argparse
import base64
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("dvc_plots"), help="folder to draw into (%(default)s)")
    parser.add_argument("--base", help="revision to draw beside the working tree")


def main(args: argparse.Namespace) -> None:
    drawn = draw(Path.cwd(), args.output, args.base)
    print(f"{len(drawn)} plots; open {args.output / 'index.html'}" if drawn else "There are no plots yet: dvc repro")


def draw(root: Path, folder: Path, base: str | None = None) -> list[Path]:
    """Draw every plot of dvc.yaml that has data, beside that of ``base`` when given; return the files, sorted.

    Vega plots become ``NAME.svg``, pictures are copied as they are, and ``index.html`` shows all of them.

    Raises:
        UserError: DVC cannot read the plots, or ``folder`` holds something else.
    """
    folder = root / folder
    if folder.exists() and any(folder.iterdir()) and not (folder / "index.html").is_file():
        raise UserError(f"{folder}: holds something else than plots; name another folder")
    with tempfile.TemporaryDirectory() as scratch:
        command = ["plots", "diff", base] if base else ["plots", "show"]
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *command, "--json", "--out", scratch],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise UserError(f"dvc {' '.join(command)}: {done.stderr.strip()}")
        found = json.loads(done.stdout or "{}").get("data", {})
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        drawn = [path for name, entries in sorted(found.items()) for path in _draw_one(name, entries, folder)]
    (folder / "index.html").write_text(_page(drawn), encoding="utf-8")
    return drawn


def _draw_one(name: str, entries: list[dict[str, Any]], folder: Path) -> list[Path]:
    drawn = []
    stem = re.sub(
        r"[^A-Za-z0-9_.-]+", "_", re.sub(r"\.(csv|json|png|jpe?g|svg)$", "", name.removeprefix("metrics/plots/"))
    )
    for entry in entries:
        if entry["type"] == "vega":
            import vl_convert  # a browser's worth of code

            content = entry["content"]
            spec = json.loads(content) if isinstance(content, str) else content
            path = folder / f"{stem}.svg"
            path.write_text(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]), encoding="utf-8")
            drawn.append(path)
        elif Path(entry["url"]).is_file():
            source = Path(entry["url"])
            side = "" if len(entries) == 1 else "." + re.sub(r"[^A-Za-z0-9]+", "_", entry["revisions"][0])[:12]
            path = folder / f"{stem}{side}{source.suffix}"
            shutil.copyfile(source, path)
            drawn.append(path)
    return drawn


def _page(drawn: list[Path]) -> str:
    figures = []
    for path in drawn:
        if path.suffix == ".svg":
            kind = "image/svg+xml"
        else:
            kind = f"image/{path.suffix.removeprefix('.').replace('jpg', 'jpeg')}"
        data = base64.b64encode(path.read_bytes()).decode()
        figures.append(
            f'<figure><figcaption>{html.escape(path.stem)}</figcaption><img alt="{html.escape(path.stem)}" '
            f'src="data:{kind};base64,{data}"></figure>'
        )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>streetrecall: plots</title>'
        "<style>body{font-family:sans-serif;margin:2rem}figure{margin:0 0 2rem}img{max-width:100%}</style>"
        f"<h1>Plots</h1>{''.join(figures) or '<p>There are no plots yet.</p>'}</html>\n"
    )
