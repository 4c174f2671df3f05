"""Command `scrape-status`: what the store holds of each provider, and the progress of the scrape that runs now."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from streetrecall.store.ledger import Ledger, Run, Snapshot
from streetrecall.tables import CaptureStatus

REASON_WIDTH = 60


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="let the next run (dvc repro --force scrape) ask again for pictures that failed or were gone",
    )


def main(args: argparse.Namespace) -> None:
    with Ledger() as ledger:
        runs = ledger.last_runs()
        if args.retry_failed:
            for run in runs:
                with ledger.hold(run.namespace, "scrape"):
                    dropped = ledger.forget_failed(run.namespace)
                print(f"{run.namespace}: {dropped} pictures are to be tried again; run dvc repro --force scrape")
        snapshots = ledger.snapshots()
        reports = [report(ledger, run, snapshots, time.time()) for run in runs]
        unused = [s for s in snapshots if s.namespace not in {run.provider for run in runs}]
        if args.json:
            print(json.dumps(reports + [{"namespace": s.namespace, "snapshots": [_row(s)]} for s in unused], indent=2))
            return
        if not reports:
            print(f"{ledger.folder}: no picture has been asked for yet")
        else:
            print(f"Store: {ledger.folder}\n")
            print("\n\n".join(table(r) for r in reports))
        if snapshots:
            print(f"\nAnswers about coverage and dates, by snapshot (metadata.snapshot):\n{snapshot_table(snapshots)}")


def report(ledger: Ledger, run: Run, snapshots: Sequence[Snapshot], now: float) -> dict[str, Any]:
    """The state of one namespace: counts, failures by reason, tries to come, rate (pictures a second), seconds left.

    All counts but ``of_other_plans`` are of the pictures that the last run planned: the ledger also holds those of
    earlier plans and of other cities. A run of an older version recorded no plan; then they are of all pictures, and
    ``left`` is None.
    """
    entries = ledger.entries(run.namespace)
    plan = ledger.plan(run.namespace)
    of_plan = [e for key, e in entries.items() if key in plan or not plan]
    final = [e for e in of_plan if e.next_try is None]
    waiting = [e for e in of_plan if e.next_try is not None]
    running = run.ended_at is None and ledger.is_held(run.namespace, "scrape")
    rate = ledger.rate(run.namespace)
    left = len(plan) - len(final) if plan else None
    return {
        "namespace": run.namespace,
        "state": f"running, process {run.pid}" if running else "interrupted" if run.ended_at is None else "not running",
        "planned": run.planned,
        "by_status": dict(Counter(e.status for e in final)),
        "by_reason": dict(
            Counter(f"{e.status}: {e.reason}" for e in final if e.status != CaptureStatus.OK).most_common()
        ),
        "waiting": dict(Counter(e.reason for e in waiting).most_common()),
        "next_tries_in_s": sorted(round(max(0.0, (e.next_try or now) - now), 1) for e in waiting)[:5],
        "left": left,
        "of_other_plans": len(entries) - len(of_plan),
        "rate": None if rate is None else round(rate, 2),
        "seconds_left": round(left / rate) if running and rate and left is not None else None,
        "elapsed_s": round((run.ended_at or now) - run.started_at) if running or run.ended_at else None,
        "snapshots": [_row(s) for s in snapshots if s.namespace == run.provider],
    }


def table(r: Mapping[str, Any]) -> str:
    """The report as lines of text."""
    rows = [("planned", r["planned"]), ("done (ok)", r["by_status"].get(CaptureStatus.OK, 0))]
    rows += [(reason[:REASON_WIDTH], count) for reason, count in r["by_reason"].items()]
    rows += [(f"to be tried again: {reason[:REASON_WIDTH]}", count) for reason, count in r["waiting"].items()]
    rows.append(("left", "unknown until the next run" if r["left"] is None else r["left"]))
    if r["of_other_plans"]:
        rows.append(("stored for other plans", r["of_other_plans"]))
    lines = [f"{r['namespace']} ({r['state']})", tabulate(rows, tablefmt="plain", disable_numparse=True)]
    if r["next_tries_in_s"]:
        lines.append(f"next tries in {', '.join(str(s) for s in r['next_tries_in_s'])} s")
    if r["rate"] is not None:
        lines.append(
            f"{r['rate']} pictures a second" + (f", about {r['seconds_left']} s left" if r["seconds_left"] else "")
        )
    return "\n  ".join("\n".join(lines).splitlines())


def snapshot_table(snapshots: Sequence[Snapshot]) -> str:
    """The snapshots as lines of text; dates are UTC."""
    rows = [
        (s.namespace, s.label, s.points, s.points_with_panorama, s.notes, _day(s.first_at), _day(s.last_at))
        for s in snapshots
    ]
    headers = ("provider", "snapshot", "points", "with a panorama", "places with dates", "from", "to")
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True)


def _row(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "snapshot": snapshot.label,
        "points": snapshot.points,
        "points_with_panorama": snapshot.points_with_panorama,
        "places_with_dates": snapshot.notes,
        "from": _day(snapshot.first_at),
        "to": _day(snapshot.last_at),
    }


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
