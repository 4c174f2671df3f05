"""Command `scrape-status`: what the store holds of each provider's pictures, and how the run under way is doing."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter

from streetrecall.store.ledger import Ledger, Run

REASON_WIDTH = 60


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="let the next run (dvc repro --force scrape) try again what failed for good, or was gone",
    )


def main(args: argparse.Namespace) -> None:
    with Ledger() as ledger:
        runs = ledger.last_runs()
        if args.retry_failed:
            for run in runs:
                with ledger.hold(run.namespace, "scrape"):
                    dropped = ledger.forget_failed(run.namespace)
                print(f"{run.namespace}: {dropped} pictures are to be tried again; run dvc repro --force scrape")
        reports = [report(ledger, run, time.time()) for run in runs]
        if args.json:
            print(json.dumps(reports, indent=2))
        elif not reports:
            print(f"{ledger.folder}: no picture has been asked for yet")
        else:
            print(f"Store: {ledger.folder}\n")
            print("\n\n".join(table(r) for r in reports))


def report(ledger: Ledger, run: Run, now: float) -> dict[str, object]:
    """The state of one namespace: counts, failures by reason, tries to come, rate (pictures a second), seconds left."""
    entries = list(ledger.entries(run.namespace).values())
    final = [e for e in entries if e.next_try is None]
    waiting = [e for e in entries if e.next_try is not None]
    running = run.ended_at is None and ledger.is_held(run.namespace, "scrape")
    rate = ledger.rate(run.namespace)
    left = max(0, run.planned - len(final))
    return {
        "namespace": run.namespace,
        "state": f"running, process {run.pid}" if running else "interrupted" if run.ended_at is None else "not running",
        "planned": run.planned,
        "by_status": dict(Counter(e.status for e in final)),
        "by_reason": dict(Counter(f"{e.status}: {e.reason}" for e in final if e.status != "ok").most_common()),
        "waiting": dict(Counter(e.reason for e in waiting).most_common()),
        "next_tries_in_s": sorted(round(max(0.0, (e.next_try or now) - now), 1) for e in waiting)[:5],
        "left": left,
        "rate": None if rate is None else round(rate, 2),
        "seconds_left": round(left / rate) if running and rate else None,
        "elapsed_s": round((run.ended_at or now) - run.started_at) if running or run.ended_at else None,
    }


def table(r: dict[str, object]) -> str:
    """The report as lines for a person."""
    by_status: dict[str, int] = r["by_status"]  # type: ignore[assignment]
    rows = [("planned", r["planned"]), ("done (ok)", by_status.get("ok", 0))]
    rows += [(f"{reason[:REASON_WIDTH]}", n) for reason, n in r["by_reason"].items()]  # type: ignore[attr-defined]
    rows += [(f"to be tried again: {why[:REASON_WIDTH]}", n) for why, n in r["waiting"].items()]  # type: ignore[attr-defined]
    rows.append(("left", r["left"]))
    width = max(len(name) for name, _ in rows)
    lines = [f"{r['namespace']} ({r['state']})", *(f"  {name:<{width}}  {value:>8}" for name, value in rows)]
    if r["next_tries_in_s"]:
        lines.append(f"  next tries in {', '.join(str(s) for s in r['next_tries_in_s'])} s")  # type: ignore[attr-defined]
    if r["rate"] is not None:
        lines.append(
            f"  {r['rate']} pictures a second" + (f", about {r['seconds_left']} s left" if r["seconds_left"] else "")
        )
    return "\n".join(lines)
