"""`streetrecall summary`: the last evaluation on one screen, model beside baseline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from streetrecall.errors import UserError

PROTOCOLS = {
    "newest_vs_older": "newest against older",
    "newest_vs_oldest": "newest against oldest",
    "newest_vs_before": "newest against before",
    "city": "gallery of the whole city",
    "leave_one_date_out": "leave one date out",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics", type=Path, default=Path("metrics/evaluate.json"), help="(%(default)s)")
    parser.add_argument("--plots", type=Path, default=Path("metrics/plots"), help="folder of the curves (%(default)s)")


def main(args: argparse.Namespace) -> None:
    print(summary(read_metrics(args.metrics), args.plots))


def read_metrics(path: Path) -> dict[str, Any]:
    """What the stage evaluate measured."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run the stage evaluate (dvc repro evaluate)") from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not valid JSON ({error}); run the stage evaluate again (dvc repro evaluate)"
        ) from error


def protocol_title(name: str) -> str:
    """A protocol's name in words.

    >>> protocol_title("newest_vs_before_2015")
    'newest against before 2015'
    """
    stem, _, year = name.rpartition("_")
    return f"{PROTOCOLS[stem]} {year}" if stem in PROTOCOLS and year.isdigit() else PROTOCOLS.get(name, name)


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


def lines_of(metrics: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The summary's rows: what, model, baseline, and the denominator."""
    model, baseline = metrics["model"], metrics["baseline"]
    rows = []
    for scope in [*(s for s in sorted(model) if s.startswith("test")), "validation"]:
        names = [n for n in model[scope] if n != "position"] if scope == "test" else ["newest_vs_older"]
        for name in sorted(names, key=lambda n: list(PROTOCOLS).index(n.rpartition("_")[0] if n[-1].isdigit() else n)):
            m, f = model[scope][name], baseline[scope][name]
            counts = f"{m['queries']} queries of {m['places']} places, {m['gallery']} in the gallery"
            rows.append(
                (
                    f"R@1, {scope}, {protocol_title(name)}",
                    percent(m, "recall_at_1_25m"),
                    percent(f, "recall_at_1_25m"),
                    counts,
                )
            )
            if (scope, name) == ("test", "newest_vs_older"):
                rows.append(
                    (
                        f"R@5, {scope}, {protocol_title(name)}",
                        percent(m, "recall_at_5_25m"),
                        percent(f, "recall_at_5_25m"),
                        "",
                    )
                )
    m, f = model["test"]["newest_vs_older"], baseline["test"]["newest_vs_older"]
    rows.append(
        ("error of 90% of first answers below", number(m, "error_p90_m", " m"), number(f, "error_p90_m", " m"), "")
    )
    m, f = model["test"]["position"], baseline["test"]["position"]
    stated = f"{100 * m['coverage_stated']:g}% stated" if "coverage_stated" in m else "too few validation queries"
    rows += [
        ("predicted radius holds", percent(m, "coverage"), percent(f, "coverage"), stated),
        ("mean predicted radius", number(m, "radius_mean_m", " m"), number(f, "radius_mean_m", " m"), ""),
        ("share answered", percent(m, "answered"), percent(f, "answered"), "where the neighbours agree"),
        ("... and right within 25 m", percent(m, "answered_right_25m"), percent(f, "answered_right_25m"), ""),
    ]
    return rows


def summary(metrics: dict[str, Any], plots: Path) -> str:
    """The table, where the pictures are, and what to try next."""
    head = ("", "model", "baseline", "")
    rows = [head, *lines_of(metrics)]
    width = [max(len(row[i]) for row in rows) for i in range(4)]
    body = ["  ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)).rstrip() for row in rows]
    body.insert(1, "-" * max(len(line) for line in body))
    index = metrics.get("index", {}).get("test", {})
    if "recall_at_10" in index:
        lost = index.get("recall_at_1_25m_lost", 0)
        body.append(
            f"\nThe index finds {100 * index['recall_at_10']:.1f}% of the ten true neighbours; R@1 lost to it: "
            f"{100 * lost:.1f} points."
        )
    body.append(
        "Percent; in brackets intervals over places. Baseline: HOG descriptors, no training, same queries and gallery."
        "\n\n"
        f"Curves and map: {plots}/ (make plots draws them into dvc_plots/index.html).\n"
        "Next: streetrecall compare            is the workspace better than the last commit?\n"
        "      dvc exp run -S 'KEY=VALUE'      try another value of params.yaml\n"
        "      dvc metrics diff metrics/headline.json"
    )
    return "\n".join(body)
