"""The rows of the summary: the metrics to read first, model beside baselines. A table and a page show them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError
from streetrecall.tables import RIGHT_M

Row = tuple[str, ...]  # what, the number of each system, remark
Section = dict[str, Any]

SYSTEMS = {"model": "model", "baseline": "baseline", "sift_vlad": "SIFT-VLAD"}  # titles of the columns
LEGEND = {
    "baseline": "Baseline: HOG descriptors, no training, same queries and gallery.",
    "sift_vlad": "SIFT-VLAD: the same with SIFT points, which also answer photos.",
}

NEAR = f"{RIGHT_M}m"
POSITION = "position"  # the section of predicted positions, beside those of the protocols
PLACES_ANSWER = "gallery_places"  # only protocols of photos have this metric
TITLES = {
    "photos": "photos",
    "photos_three": "all photos of a spot together",
    "newest_vs_older": "newest against older",
    "newest_vs_oldest": "newest against oldest",
    "newest_vs_before": "newest against before",
    "city": "gallery of the whole city",
    "leave_one_date_out": "leave one date out",
    "perturbed": "changed pictures, whole city",
    "perturbed_zoomed": "... enlarged 1.33 times",
    "perturbed_right": "... their right 65% alone",
    "perturbed_rolled": "... rolled by 10 degrees",
    "perturbed_darkened": "... darkened",
    "perturbed_blurred": "... blurred",
    "perturbed_covered": "... a fifth covered",
    "given": "queries and database as given",
}

KS_SHOWN = {("test", "newest_vs_older"): (1, 5), ("test", "given"): (1, 5, 10, 20)}


def read_metrics(path: Path) -> dict[str, Any]:
    """What the stage evaluate measured.

    Raises:
        UserError: there is no such file, or it is not what the stage writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run the stage evaluate (dvc repro evaluate)") from error
    except ValueError as error:
        raise UserError(
            f"{path}: not valid JSON ({error}); run the stage evaluate again (dvc repro evaluate)"
        ) from error
    if not isinstance(content, dict) or not {"model", "baseline"} <= content.keys():
        raise UserError(f"{path}: another version wrote it; run the stage evaluate again (dvc repro evaluate)")
    return content


def shown(metrics: dict[str, Any]) -> list[str]:
    """The systems with a column, in order: the model and the baselines that were measured."""
    return [name for name in SYSTEMS if name in metrics]


def legend(metrics: dict[str, Any]) -> str:
    """What the numbers and the columns are, one sentence each."""
    about = [LEGEND[name] for name in shown(metrics) if name in LEGEND]
    return " ".join(["Percent; intervals over places in brackets.", *about])


def summary_rows(metrics: dict[str, Any]) -> list[Row]:
    """Recall of photos, recall at 1 of every other scope and protocol, then errors and positions on test."""
    systems = [metrics[name] for name in shown(metrics)]
    return [*_photos(systems), *_recalls(systems), *_positions(systems)]


def _photos(systems: list[Section]) -> Iterator[Row]:
    """What a user gets, so the first rows. HOG does not answer photos."""
    for scope in ("test", "validation"):
        for name, section in systems[0].get(scope, {}).items():
            if PLACES_ANSWER not in section:
                continue
            of, title = [system.get(scope, {}).get(name, {}) for system in systems], protocol_title(name)
            for k in (1, 5) if scope == "test" else (1,):
                recalls = [percent(s, f"recall_at_{k}_{NEAR}") for s in of]
                yield f"R@{k}, {scope}, {title}", *recalls, _spots(section) if k == 1 else ""
            if scope == "test" and "far_withheld" in section:
                yield f"{title}: without a place, withheld", *(percent(s, "far_withheld") for s in of), ""
                yield f"{title}: with a place, answered", *(percent(s, "near_answered") for s in of), ""


def _spots(section: Section) -> str:
    return f"{section['queries']} queries of {section['places']} spots, {section[PLACES_ANSWER]} places answer"


def _recalls(systems: list[Section]) -> Iterator[Row]:
    model = systems[0]
    for scope in [*sorted(s for s in model if s.startswith("test")), "validation"]:
        names = protocols(model.get(scope, {})) if scope == "test" else ["newest_vs_older"]
        for name in names:
            of = [system.get(scope, {}).get(name, {}) for system in systems]
            if PLACES_ANSWER in of[0]:
                continue  # a protocol of photos, see _photos
            for k in KS_SHOWN.get((scope, name), (1,)):
                recalls = [percent(s, f"recall_at_{k}_{NEAR}") for s in of]
                yield f"R@{k}, {scope}, {protocol_title(name)}", *recalls, _counts(of[0]) if k == 1 else ""


def _positions(systems: list[Section]) -> Iterator[Row]:
    older, of = ([s.get("test", {}).get(name, {}) for s in systems] for name in ("newest_vs_older", POSITION))
    yield "error of 90% of first answers below", *(number(s, "error_p90_m", " m") for s in older), ""
    stated = f"{100 * of[0]['coverage_stated']:g}% stated" if "coverage_stated" in of[0] else ""
    yield "predicted radius holds", *(percent(s, "coverage") for s in of), stated or "too few validation queries"
    yield "mean predicted radius", *(number(s, "radius_mean_m", " m") for s in of), ""
    yield "share answered", *(percent(s, "answered") for s in of), "where the neighbours agree"
    yield f"... and right within {RIGHT_M} m", *(percent(s, f"answered_right_{NEAR}") for s in of), ""


def protocols(scope: dict[str, Any]) -> list[str]:
    """The protocols of a scope: those with a title in that order, then others by name.

    >>> protocols({"photos": {}, "city": {}, "newest_vs_before_2015": {}, POSITION: {}})
    ['photos', 'newest_vs_before_2015', 'city']
    """
    known = list(TITLES)

    def place(name: str) -> tuple[int, str]:
        stem = _stem(name)
        return (known.index(stem) if stem in TITLES else len(known)), name

    return sorted((name for name in scope if name != POSITION), key=place)


def protocol_title(name: str) -> str:
    """The name of a protocol in words.

    >>> protocol_title("newest_vs_before_2015"), protocol_title("several_photos")
    ('newest against before 2015', 'several photos')
    """
    stem = _stem(name)
    return TITLES[stem] + name.removeprefix(stem).replace("_", " ") if stem in TITLES else name.replace("_", " ")


def _stem(name: str) -> str:
    """The name without the year at its end, if it has one."""
    stem, _, year = name.rpartition("_")
    return stem if year.isdigit() else name


def _counts(section: dict[str, Any]) -> str:
    known = all(key in section for key in ("queries", "places", "gallery"))
    if not known:
        return ""
    return f"{section['queries']} queries of {section['places']} places, {section['gallery']} in the gallery"


def percent(section: dict[str, Any], name: str) -> str:
    """A share with its interval, in percent.

    >>> percent({"recall": 0.9123, "recall_ci_low": 0.88, "recall_ci_high": 0.94}, "recall")
    '91.2 (88.0-94.0)'
    >>> percent({"recall": 0.9123}, "recall"), percent({}, "recall")
    ('91.2', '-')
    """
    if name not in section:
        return "-"
    low, high = section.get(f"{name}_ci_low"), section.get(f"{name}_ci_high")
    value = f"{100 * section[name]:.1f}"
    return value if low is None or high is None else f"{value} ({100 * low:.1f}-{100 * high:.1f})"


def number(section: dict[str, Any], name: str, unit: str = "") -> str:
    """A number with its unit, or a dash where it is missing.

    >>> number({"error_p90_m": 1420.4}, "error_p90_m", " m"), number({}, "aurc_margin")
    ('1,420 m', '-')
    """
    if name not in section:
        return "-"
    value = section[name]
    return (f"{value:,.0f}" if abs(value) >= 10 else f"{value:.4g}") + unit
