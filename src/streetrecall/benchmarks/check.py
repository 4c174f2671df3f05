"""Benchmark `check`: the small benchmarks once more, beside the ratios of the committed table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from streetrecall.benchmarks import table
from streetrecall.benchmarks.rows import Row, highest
from streetrecall.errors import UserError
from streetrecall.printing import plain_table

OPTIONS = [("tries", 3, "most measurements; the best ratio of each row counts")]
FALL = 1 / 3  # of a ratio, at most


def run(args: argparse.Namespace) -> list[Row]:
    """Print the ratios of the small benchmarks and those of docs/benchmarks.json.

    Raises:
        UserError: there is no committed table, or a ratio fell by more than a third in every try.
    """
    committed = committed_ratios(table.DATA)
    best: dict[str, Row] = {}
    for _ in range(args.tries):
        found = highest([list(best.values()), table.measure(table.SMALL, args.params)])
        best = {row.name: row for row in found}
        if not fallen(best, committed):
            break
    lines = [
        (name, f"{ratio:.2g}", f"{best[name].ratio or 0:.2g}" if name in best else "-")
        for name, ratio in committed.items()
    ]
    print(plain_table(("task", "ratio in docs/benchmarks.json", "ratio here"), lines, ruled=True))
    worse = fallen(best, committed)
    if worse:
        raise UserError(
            f"slower than docs/benchmarks.json says, by more than a third: {'; '.join(worse)}. Find what made it "
            "slower, or, if that is meant, measure the table again: make bench"
        )
    return list(best.values())


def committed_ratios(path: Path) -> dict[str, float]:
    """The ratios of the small benchmarks in ``path``, by the names of their rows.

    Raises:
        UserError: there is no such table.
    """
    try:
        rows = table.rows_of(json.loads(path.read_text(encoding="utf-8"))["small"])
        return {row.name: row.ratio for row in rows if row.ratio is not None}
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; `make bench` writes it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is no table of benchmarks ({error}); `make bench` writes it anew") from error


def fallen(found: dict[str, Row], committed: dict[str, float]) -> list[str]:
    """The committed rows, by name, whose ratio is smaller by more than a third, or which were not measured.

    >>> rows = {"a": Row("a", "point", 3.0, "peer", 1.0), "b": Row("b", "point", 1.9, "peer", 1.0)}
    >>> fallen(rows, {"a": 4.0, "b": 3.0, "c": 1.0})
    ['b (1.9, was 3)', 'c (not measured)']
    """
    worse = []
    for name, ratio in committed.items():
        if name not in found:
            worse.append(f"{name} (not measured)")
        elif (found[name].ratio or 0) < (1 - FALL) * ratio:
            worse.append(f"{name} ({found[name].ratio or 0:.2g}, was {ratio:.2g})")
    return worse
