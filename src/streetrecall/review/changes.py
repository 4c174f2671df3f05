"""Metrics of two sides compared: how each changed, whether the change is clear, and what `guard` forbids.

A change counts as clear when each side lies outside the other's 95% interval (``KEY_ci_low``, ``KEY_ci_high`` beside
``KEY``). Intervals are over places, and both sides are measured on the same places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from streetrecall.printing import Value, is_number, number
from streetrecall.review.metrics import HIGH, LOW, Better, better
from streetrecall.review.revisions import Results, interval

PHOTOS = ".photos."  # part of the names of metrics that only collections with photos have


@dataclass(frozen=True)
class Change:
    """A metric on both sides; None for a side that lacks it."""

    key: str
    base: Value
    head: Value
    base_interval: tuple[float, float] | None = None
    head_interval: tuple[float, float] | None = None

    @property
    def difference(self) -> float | None:
        if is_number(self.base) and is_number(self.head):
            return float(self.head) - float(self.base)  # type: ignore[arg-type]
        return None

    @property
    def gain(self) -> float | None:
        """By how much ``head`` is better (negative: worse); None if that cannot be said."""
        direction = better(self.key)
        if self.difference is None or direction is Better.NEITHER:
            return None
        return self.difference * direction.value

    @property
    def is_clear(self) -> bool:
        """Each side lies outside the other's interval; without intervals every change is clear."""
        if not self.difference:
            return False
        return not (_within(self.head, self.base_interval) or _within(self.base, self.head_interval))

    @property
    def verdict(self) -> str:
        """better, worse or within the interval; empty for a metric without an interval, or that is neither.

        >>> Change("recall", 0.80, 0.90, (0.78, 0.82), (0.88, 0.92)).verdict
        'better'
        >>> Change("recall", 0.80, 0.81, (0.78, 0.82), (0.79, 0.83)).verdict
        'within the interval'
        """
        if not self.gain or not (self.base_interval or self.head_interval):
            return ""
        if not self.is_clear:
            return "within the interval"
        return "better" if self.gain > 0 else "worse"


def _within(value: Value, bounds: tuple[float, float] | None) -> bool:
    return bounds is not None and bounds[0] <= float(value or 0) <= bounds[1]


def changes(base: Results, head: Results, keep: Callable[[str], bool] = lambda key: True) -> list[Change]:
    """Every metric of either side that ``keep`` accepts, without the ends of intervals."""
    ends = {
        key
        for metrics in (base.metrics, head.metrics)
        for key in metrics
        if key.endswith((LOW, HIGH)) and key.removesuffix(LOW).removesuffix(HIGH) in metrics
    }
    keys = sorted((base.metrics.keys() | head.metrics.keys()) - ends)
    return [
        Change(
            key, base.metrics.get(key), head.metrics.get(key), interval(base.metrics, key), interval(head.metrics, key)
        )
        for key in keys
        if keep(key)
    ]


def guard_failures(base: Results, head: Results) -> list[str]:
    """What ``params.yaml: guard`` forbids about the change from ``base`` to ``head``.

    Of the limits of the two sides, the stricter one counts: a pull request cannot loosen the guard that judges it.
    """
    by_key = {change.key: change for change in changes(base, head)}
    found = [_guarded(name, limit, by_key) for name, limit in sorted(_limits(base, head).items())]
    return [line for line in found if line]


def _limits(*sides: Results) -> dict[str, float]:
    """By how much each guarded metric may get worse."""
    limits: dict[str, float] = {}
    for side in sides:
        for key, limit in side.params.items():
            if key.startswith("guard.") and is_number(limit):
                name = key.removeprefix("guard.")
                limits[name] = min(float(limit), limits.get(name, float("inf")))  # type: ignore[arg-type]
    return limits


def _guarded(name: str, limit: float, by_key: dict[str, Change]) -> str:
    """What is wrong with the guarded metric ``name``; empty if nothing is, or if its file does not exist yet."""
    change = by_key.get(name)
    if change is None:
        if not any(key.startswith(name.split(".", 1)[0] + ".") for key in by_key):
            return ""
        if PHOTOS in name and not any(PHOTOS in key for key in by_key):
            return ""  # a collection without photos
        nearest = get_close_matches(name, by_key, n=1, cutoff=0.0)[0]
        return f"params.yaml: guard names '{name}', which is no metric; the nearest is '{nearest}'"
    if better(name) is Better.NEITHER:
        return f"params.yaml: guard names '{name}', for which neither a larger nor a smaller value is better"
    if not is_number(change.head):
        return f"the guarded metric {name} is gone; it was {number(change.base)}"
    if change.gain is None or -change.gain <= limit or not change.is_clear:
        return ""
    return (
        f"the guarded metric {name} went from {number(change.base)} to {number(change.head)}: "
        f"{number(-change.gain)} worse where {number(limit)} is allowed, and beyond its interval"
    )
