"""Command `bench`: measures this project on this machine, beside what a user would write without it.

A benchmark is a module with ``OPTIONS`` (name, default, help) and ``run(args)``, which prints and returns rows,
and a line in `BENCHMARKS`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from streetrecall.benchmarks import check, embed, growth, index, locate, page, prepare, push, scale, scrape, table
from streetrecall.files import write_json

BENCHMARKS = {
    "table": (table, "most of the others, written to docs/benchmarks.md and docs/benchmarks.json"),
    "check": (check, "the small ones again, beside the ratios of docs/benchmarks.json"),
    "prepare": (prepare, "grid, order and crop, beside geopandas, scikit-learn, shapely and Pillow"),
    "scale": (scale, "the order of a million panoramas, and the memory that it takes"),
    "scrape": (scrape, "pictures per second by browsers, beside a plain Selenium loop"),
    "embed": (embed, "pictures per second from JPEG bytes to descriptors, beside TensorFlow, LiteRT, ONNX Runtime"),
    "push": (push, "dvc push of pictures in shards, beside loose files"),
    "growth": (growth, "what more places or no change cost, beside a run from nothing (takes longer than that)"),
    "locate": (locate, "milliseconds of an answer from models/bundle, and where they go"),
    "page": (page, "first paint and frames of the page in headless Chromium, of a project of any size"),
    "index": (index, "queries per second at a recall@10 of 0.99, beside faiss and hnswlib"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, (module, text) in BENCHMARKS.items():
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--rows", type=Path, help="JSON of the rows to write as well")
        sub.add_argument("--params", default=argparse.SUPPRESS, help="parameter file (params.yaml)")
        for option, default, help_text in module.OPTIONS:
            sub.add_argument(f"--{option}", type=int, default=default, help=f"{help_text} (%(default)s)")


def main(args: argparse.Namespace) -> None:
    rows = BENCHMARKS[args.benchmark][0].run(args)
    if args.rows:
        write_json(args.rows, [asdict(row) for row in rows])
