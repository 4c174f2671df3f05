"""Benchmark `table`: all benchmarks at their default sizes, written as one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streetrecall.benchmarks import index
from streetrecall.benchmarks.rows import HEAD, Row, cells, lowest, machine
from streetrecall.errors import UserError
from streetrecall.files import write_json, write_text
from streetrecall.printing import markdown_table

OPTIONS: list[tuple[str, int, str]] = []
# Sizes at which ratios are steady and all of it takes some minutes. Larger ones: `streetrecall bench NAME --help`.
PARTS: dict[str, list[str]] = {
    "prepare": [],
    "scrape": ["--views=48"],
    "embed": ["--images=512"],
    "index": ["--gallery=50000"],
    "push": [],
    "growth": ["--spots=8", "--steps=40", "--snapshot=0", "--quick=1"],
}
ON_REAL = ["--gallery=25000", "--real=1"]  # of `index`, where the pipeline has run
# What `streetrecall bench check` measures again: quick, and with ratios that hold on other machines. How LiteRT and
# TensorFlow, or ScaNN and faiss, compare depends on the kind of processor.
SMALL: dict[str, list[str]] = {"prepare": ["--candidates=200000", "--panoramas=3000", "--frames=150"]}
SMALL_TIMES = 3
PAGE, DATA = Path("docs/benchmarks.md"), Path("docs/benchmarks.json")
TEXT = """# Benchmarks

How fast this project is beside what a user would write without it. `make bench` measures all of it in one run and
writes this page and [benchmarks.json](benchmarks.json); `make bench BENCH=NAME` runs one part. A ratio above 1 means
that streetrecall is faster. Ratios carry over to other machines better than speeds do.

Some ratios are below 1. `describe` has one thread for each process and one picture at a time, so that a descriptor does
not depend on the number of cores. The ball tree has all pairs of near panoramas in memory at once, and `order` few of
them. `crop` starts processes first, which takes seconds and counts where there are few frames. The last rows are of a
very small city with a short training.

"""
SMALL_TEXT = """## Small sizes

Continuous integration measures these again (`make bench BENCH=check`), up to three times, and fails if the best ratio
of a row is smaller by more than a third. Here is the smallest ratio of three measurements, because small sizes vary.

"""


def run(args: argparse.Namespace) -> list[Row]:
    """Run each benchmark in a process of its own, and write the table as Markdown and JSON.

    Raises:
        UserError: a benchmark failed.
    """
    parts = dict(PARTS)
    if index.described():
        parts["index"] = ON_REAL
    else:
        print(f"the search is measured on made vectors: {index.REAL} has no descriptors of photos")
    rows, small = measure(parts, args.params), lowest(measure(SMALL, args.params) for _ in range(SMALL_TIMES))
    facts = machine()
    content = {
        name: [asdict(row) | {"ratio": row.ratio} for row in part] for name, part in (("rows", rows), ("small", small))
    }
    write_json(DATA, {"machine": facts} | content)
    write_text(PAGE, page(rows, small, facts))
    return rows


def measure(parts: dict[str, list[str]], params: str | Path) -> list[Row]:
    """The rows of benchmarks, by name, with the options given, each run in a process of its own.

    Raises:
        UserError: a benchmark failed.
    """
    rows: list[Row] = []
    for name, options in parts.items():
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.json"
            command = [sys.executable, "-m", "streetrecall.cli", "bench", name]
            if subprocess.run([*command, *options, f"--rows={out}", f"--params={params}"], check=False).returncode:
                raise UserError(f"the benchmark {name} failed; nothing was written")
            rows += rows_of(json.loads(out.read_text(encoding="utf-8")))
        print(f"{name} took {time.perf_counter() - began:.0f} s\n", flush=True)
    return rows


def rows_of(written: list[dict[str, Any]]) -> list[Row]:
    """Rows as JSON holds them; a ratio beside them is left out, for it follows from the speeds."""
    return [Row(**{name: value for name, value in row.items() if name != "ratio"}) for row in written]


def page(rows: list[Row], small: list[Row], facts: dict[str, object]) -> str:
    """The Markdown page of the tables."""
    measured = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    tables = [markdown_table(HEAD, map(cells, part)) for part in (rows, small)]
    return f"{TEXT}{tables[0]}\n\nMeasured on: {measured}.\n\n{SMALL_TEXT}{tables[1]}\n"
