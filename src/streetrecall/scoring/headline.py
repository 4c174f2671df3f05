"""The most important metrics of a system: `dvc metrics diff metrics/headline.json` fits on a screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streetrecall.scoring.protocols import CALIBRATION, TEST
from streetrecall.tables import RIGHT_M

BOUNDS = ("", "_ci_low", "_ci_high")  # endings of the keys of a value and of its interval


def headlines(metrics: dict[str, Any], protocols: Iterable[str]) -> dict[str, float]:
    """Of the metrics of one system, by scope and protocol; ``protocols`` are those of the split test to name.

    What was not measured is left out.
    """
    tested, position = metrics[TEST], metrics[TEST]["position"]
    recalls = {f"test_{name}_r1": tested[name] for name in protocols}
    recalls["validation_newest_vs_older_r1"] = metrics[CALIBRATION]["newest_vs_older"]
    numbers = {
        f"{name}{end}": section.get(f"recall_at_1_{RIGHT_M}m{end}")
        for name, section in recalls.items()
        for end in BOUNDS
    }
    numbers["test_error_p90_m"] = tested["newest_vs_older"].get("error_p90_m")
    numbers["test_radius_coverage"] = position.get("coverage")
    numbers["test_radius_mean_m"] = position.get("radius_mean_m")
    numbers["test_aurc_margin"] = position.get("aurc_margin")
    return {name: number for name, number in numbers.items() if number is not None}


def photo_headlines(metrics: dict[tuple[str, str], dict[str, Any]]) -> dict[str, float]:
    """Of the metrics of photos, by split and protocol.

    >>> photo_headlines({("test", "photos"): {"recall_at_1_25m": 0.5, "queries": 4}})
    {'test_photos_r1': 0.5}
    """
    kept = {f"r1{end}": f"recall_at_1_{RIGHT_M}m{end}" for end in BOUNDS}
    kept |= {"r5": f"recall_at_5_{RIGHT_M}m", "far_withheld": "far_withheld"}
    return {
        f"{split}_{protocol}_{short}": numbers[name]
        for (split, protocol), numbers in metrics.items()
        for short, name in kept.items()
        if name in numbers
    }
