"""Benchmark `table`: all benchmarks at their default sizes, written as one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from streetrecall.benchmarks.rows import HEAD, Row, cells, machine
from streetrecall.errors import UserError
from streetrecall.files import write_json, write_text
from streetrecall.printing import markdown_table

OPTIONS: list[tuple[str, int, str]] = []
PARTS: dict[str, list[str]] = {"prepare": [], "scrape": [], "embed": [], "index": ["--gallery=200000", "--lists=900"]}
PAGE, DATA = Path("docs/benchmarks.md"), Path("docs/benchmarks.json")
TEXT = """# Benchmarks

How fast this project is beside what a user would write without it. `make bench` measures all of it in one run and
writes this page and [benchmarks.json](benchmarks.json); `make bench BENCH=NAME` runs one part. A ratio above 1 means
that streetrecall is faster. Ratios carry over to other machines better than speeds do.

"""


def run(args: argparse.Namespace) -> list[Row]:
    """Run each benchmark in a process of its own, and write the table as Markdown and JSON.

    Raises:
        UserError: a benchmark failed.
    """
    rows: list[Row] = []
    for name, options in PARTS.items():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.json"
            command = [
                sys.executable,
                "-m",
                "streetrecall.cli",
                "bench",
                name,
                *options,
                f"--rows={out}",
                f"--params={args.params}",
            ]
            if subprocess.run(command, check=False).returncode:
                raise UserError(f"the benchmark {name} failed; nothing was written")
            rows += [Row(**row) for row in json.loads(out.read_text(encoding="utf-8"))]
    facts = machine()
    write_json(DATA, {"machine": facts, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]})
    write_text(PAGE, page(rows, facts))
    return rows


def page(rows: list[Row], facts: dict[str, object]) -> str:
    """The Markdown page of the table."""
    table = markdown_table(HEAD, map(cells, rows))
    measured = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    return f"{TEXT}{table}\n\nMeasured on: {measured}.\n"
