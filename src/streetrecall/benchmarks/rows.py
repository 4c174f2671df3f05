"""What every benchmark gives: rows of this project's speed beside a peer's, measured in the same run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from streetrecall.parallel import available_cores
from streetrecall.printing import plain_table


@dataclass(frozen=True)
class Row:
    """One comparison: ``unit`` a second of this project and of the ``peer``; None if there is no peer.

    ``note`` says what the two speeds do not, for example the recall of a search.
    """

    task: str
    unit: str
    speed: float
    peer: str = ""
    peer_speed: float | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """What tells it from other rows: one task may have several peers."""
        return f"{self.task}, beside {self.peer}"

    @property
    def ratio(self) -> float | None:
        """How many times faster than the peer."""
        return self.speed / self.peer_speed if self.peer_speed else None


HEAD = ("task", "unit", "streetrecall", "peer", "its speed", "ratio", "note")


def cells(row: Row) -> tuple[str, ...]:
    """The row as texts, in the order of `HEAD`."""
    peer = "" if row.peer_speed is None else _number(row.peer_speed)
    ratio = "" if row.ratio is None else f"{row.ratio:.2g}" if row.ratio < 100 else f"{row.ratio:.0f}"
    return row.task, f"{row.unit} a second", _number(row.speed), row.peer, peer, ratio, row.note


def show(rows: Sequence[Row]) -> str:
    """The rows as a table for a terminal."""
    return plain_table(HEAD, [cells(row) for row in rows], ruled=True)


def lowest(runs: Iterable[Sequence[Row]]) -> list[Row]:
    """Of the rows of one name in several runs the one with the smallest ratio.

    >>> lowest([[Row("a", "point", 3.0, "peer", 1.0)], [Row("a", "point", 2.0, "peer", 1.0)]])[0].ratio
    2.0
    """
    return _merged(runs, min)


def highest(runs: Iterable[Sequence[Row]]) -> list[Row]:
    """Of the rows of one name in several runs the one with the largest ratio."""
    return _merged(runs, max)


def _merged(runs: Iterable[Sequence[Row]], choose: Callable[..., Row]) -> list[Row]:
    by_name: dict[str, list[Row]] = {}
    for row in chain.from_iterable(runs):
        by_name.setdefault(row.name, []).append(row)
    return [choose(rows, key=lambda row: row.ratio or 0.0) for rows in by_name.values()]


def best_of(times: int, work: Callable[[], Any]) -> float:
    """The shortest time that ``work`` took, seconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def machine() -> dict[str, Any]:
    """Facts about this machine that decide speeds."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model n")]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model,
        "cores": available_cores(),
        "memory_gib": round(memory),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2f}"
