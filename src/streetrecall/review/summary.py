"""`streetrecall summary`: the last evaluation on one screen, model beside baselines."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from streetrecall.figures.summary import (
    NEAR,
    SYSTEMS,
    legend,
    percent,
    protocol_title,
    protocols,
    read_metrics,
    shown,
    summary_rows,
)
from streetrecall.printing import plain_table


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics", type=Path, default=Path("metrics/evaluate.json"), help="(%(default)s)")
    parser.add_argument("--plots", type=Path, default=Path("metrics/plots"), help="folder of the curves (%(default)s)")


def main(args: argparse.Namespace) -> None:
    print(summary(read_metrics(args.metrics), args.plots))


def summary(metrics: dict[str, Any], plots: Path) -> str:
    """The table, where the pictures are, and what to try next."""
    header = ("", *(SYSTEMS[name] for name in shown(metrics)), "")
    lines = [plain_table(header, summary_rows(metrics), ruled=True)]
    for name in sorted(metrics.keys() - SYSTEMS.keys() - {"index"}):
        lines.append(f"\n{name} (baseline.networks), R@1 of test: " + ", ".join(others_recalls(metrics[name])))
        lines.append(f"streetrecall compare --against {name}   is the model better than it?")
    index = metrics.get("index", {}).get("test", {})
    if "recall_at_10" in index:
        lost = index.get(f"recall_at_1_{NEAR}_lost", 0)
        lines.append(
            f"\nThe index finds {100 * index['recall_at_10']:.1f}% of the ten true neighbours; R@1 lost to it: "
            f"{100 * lost:.1f} points."
        )
    lines.append(
        f"{legend(metrics)}\n\n"
        f"Curves and map: {plots}/ (make plots draws them into dvc_plots/index.html).\n"
        "Next: streetrecall compare            is the workspace better than the last commit?\n"
        "      dvc exp run -S 'KEY=VALUE'      try another value of params.yaml\n"
        "      dvc metrics diff metrics/headline.json"
    )
    return "\n".join(lines)


def others_recalls(system: dict[str, Any]) -> list[str]:
    """Recall at 1 of a system on test, by protocol.

    >>> others_recalls({"test": {"city": {"recall_at_1_25m": 0.5}}})
    ['gallery of the whole city 50.0']
    """
    test = system.get("test", {})
    key = f"recall_at_1_{NEAR}"
    return [f"{protocol_title(name)} {percent(test[name], key)}" for name in protocols(test) if key in test[name]]
