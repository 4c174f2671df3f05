"""What is known of a run so far: its curve, its best epoch, and how fast each epoch was trained."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict


class Speed(TypedDict):
    """How fast an epoch was trained. ``seconds`` include those ``waited`` for data, but not validation."""

    phase: int
    epoch: int
    images: int
    seconds: float
    waited: float


@dataclass
class Progress:
    """How far a run is. ``rows`` are those of the curve; only ``speeds``, one per trained epoch, differ between runs.

    ``phase`` counts from 0; ``best_phase``, and phases in ``rows`` and ``speeds``, from 1.
    """

    phase: int = 0
    epoch: int = 0  # finished epochs of this phase; 0: only its start is validated
    score: float = -1.0
    best_phase: int = 0
    best_epoch: int = 0
    since_best: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)

    def add_row(
        self, measured: tuple[float, float], learning_rate: float, recall: dict[str, float], spread: float
    ) -> None:
        """Add the current epoch to the curve; ``measured`` are loss and active share."""
        self.rows.append(
            {
                "phase": self.phase + 1,
                "epoch": self.epoch,
                "loss": round(measured[0], 6),
                "active_pairs": round(measured[1], 6),
                "learning_rate": float(f"{learning_rate:.6g}"),
                "validation_recall": round(recall["mean"], 6),
                **{f"validation_recall_{name}": round(value, 6) for name, value in recall.items() if name != "mean"},
                "spread": round(spread, 6),
            }
        )

    def add_speed(self, images: int, clock: Stopwatch) -> None:
        """Add the speed of the current epoch."""
        seconds = clock.seconds()
        self.speeds.append(
            {"phase": self.phase + 1, "epoch": self.epoch, "images": images, "seconds": seconds, "waited": clock.waited}
        )

    def is_best(self, recall: float) -> bool:
        """Count the current epoch; True if its validation recall is the best so far."""
        if recall > self.score:
            self.score, self.since_best = recall, 0
            self.best_phase, self.best_epoch = self.phase + 1, self.epoch
            return True
        if self.epoch:
            self.since_best += 1
        return False


class Stopwatch:
    """Measures an epoch, and how much of it was spent waiting for data."""

    def __init__(self) -> None:
        self._began, self.waited = time.perf_counter(), 0.0

    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def watch(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches; the time until each comes, and until there are no more, counts as waiting."""
        began = self._began
        for batch in batches:
            self.waited += time.perf_counter() - began
            yield batch
            began = time.perf_counter()
        self.waited += time.perf_counter() - began
