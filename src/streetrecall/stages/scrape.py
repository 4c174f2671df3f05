"""Stage `scrape`: capture every date in four directions at every place.

Pictures are put in the store first, each with its row in the ledger (`streetrecall.store.ledger`). The shards are then
a pure function of the plan and the store (`streetrecall.stages.materialise`). So a killed run continues where it was, a
second run makes no request, and a run that was killed at any moment ends with the same bytes as an undisturbed one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import require_in_project, write_json
from streetrecall.params.schema import Params, load
from streetrecall.pictures.inspect import inspect
from streetrecall.pictures.structure import NotAPictureError
from streetrecall.progress import progress
from streetrecall.providers import open_provider
from streetrecall.providers.base import Capture, CaptureRequest, Provider, without_old_training
from streetrecall.providers.pacing import backoff
from streetrecall.stages.materialise import LostPicturesError, materialise
from streetrecall.store.ledger import Entry, Key, Ledger
from streetrecall.tables import WITH_PICTURE, CaptureStatus

log = logging.getLogger(__name__)

BATCH = 2048  # a local provider's pictures are stored in batches of this many, or of this many bytes
BATCH_BYTES = 1 << 26
FIRST_GUESS = 3.0  # pictures a second and browser, for the estimate before a first run
LISTED = 20  # pictures that are listed in the log


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--locations", type=Path, required=True, help="LOCATIONS table to read")
    parser.add_argument("--captures", type=Path, required=True, help="folder to write: captures.parquet, shared, local")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")
    parser.add_argument("--retry-failed", action="store_true", help="ask again for pictures that failed or were gone")


def main(args: argparse.Namespace) -> None:
    require_in_project(args.captures / "shared", args.captures / "local")
    run(load(args.params), args.locations, args.captures, args.metrics, args.retry_failed)


def run(params: Params, locations: Path, captures: Path, metrics: Path, retry_failed: bool = False) -> None:
    """Capture what the store lacks, then write the shards, the table CAPTURES and the counts.

    Raises:
        UserError: the provider cannot be used or kept refusing, or another process does the same work.
    """
    places = tables.read(tables.LOCATIONS, locations)
    provider = open_provider(params)
    namespace = capture_namespace(params, provider)
    try:
        with Ledger() as ledger, ledger.hold(namespace, "scrape"):
            provider.notes = ledger.notes(provider.namespace, params.metadata.snapshot)
            plan = without_old_training(provider.plan(places), places, params.scrape.training_dates)
            if not plan:
                write_json(metrics, measure(pd.DataFrame(columns=list(tables.CAPTURES.columns)), provider.unplanned))
                raise UserError(
                    f"{locations}: the provider '{provider.name}' has no picture of any of its places"
                    + _left_out(provider.unplanned, metrics)
                )
            if retry_failed:
                ledger.forget_failed(namespace)
            for last_try in (False, True):
                fetch(params, provider, ledger, namespace, plan)
                try:
                    table = materialise(ledger, namespace, plan, places, provider, captures)
                    break
                except LostPicturesError as lost:
                    if last_try:
                        raise UserError(
                            f"{ledger.folder}: the store loses pictures that were just written to it; check its disk, "
                            "or set STREETRECALL_STORE to another folder"
                        ) from lost
                    log.warning("the store has lost or damaged %d pictures; they are captured again", len(lost.keys))
                    ledger.forget(namespace, lost.keys)
    finally:
        provider.close()
    write_json(metrics, measure(table, provider.unplanned))
    log_problems(table, provider.unplanned)


def capture_namespace(params: Params, provider: Provider) -> str:
    """The ledger's key of a provider's pictures: another frame size or quality makes other pictures."""
    if not provider.network:
        return provider.namespace
    s = params.scrape
    return f"{provider.namespace} {s.width}x{s.height} q{s.quality} blank{s.blank_luminance:g}"


def fetch(params: Params, provider: Provider, ledger: Ledger, namespace: str, plan: Sequence[CaptureRequest]) -> None:
    """Capture until the ledger has a final answer to each request of ``plan``.

    A network provider is asked only for what the ledger lacks; a local one reads all its pictures again.
    """
    known = ledger.entries(namespace)
    requests = {request.key: request for request in plan}
    stored = sum(request.key in known and known[request.key].next_try is None for request in plan)
    if provider.network:
        requests = {k: r for k, r in requests.items() if k not in known or known[k].next_try is not None}
    estimate = _estimate(params, provider, ledger, namespace, len(requests))
    log.info(
        "%s: %d pictures planned, %d in the store, %d to capture%s",
        *(provider.name, len(plan), stored, len(requests), estimate),
    )
    run_id = ledger.start_run(namespace, (request.key for request in plan), len(requests), provider.namespace)
    writer = _Writer(ledger, namespace, run_id, at_once=provider.network)
    try:
        counts = _capture(params, provider, requests, known, writer)
        writer.flush()
    finally:
        ledger.update_run(run_id, writer.attempts, ended=True)
    if requests:
        log.info("captured: %s", _text(counts))


def _capture(
    params: Params,
    provider: Provider,
    requests: Mapping[Key, CaptureRequest],
    known: Mapping[Key, Entry],
    writer: _Writer,
) -> Counter[str]:
    """Capture ``requests``, temporary failures again when their next try is due; returns the count of each status."""
    counts: Counter[str] = Counter()
    # Each run of a local provider reads the files again, whatever failed before.
    tries = {key: known[key].tries if key in known and provider.network else 0 for key in requests}
    due = {key: (known[key].next_try or 0.0) if key in known else 0.0 for key in requests}
    with progress(len(requests), "scrape", "picture", smoothing=0.05) as bar:
        while due:
            now = time.time()
            ready = [requests[key] for key, when in due.items() if when <= now]
            if not ready:
                bar.set_postfix_str(f"{len(due)} wait for another try", refresh=sys.stderr.isatty())
                time.sleep(max(0.0, min(due.values()) - now))
                continue
            for capture in provider.capture(ready):
                key = capture.request.key
                entry = judge(params, capture, tries[key], provider.network)
                tries[key] = entry.tries
                writer.add(entry)
                if entry.next_try is not None:
                    due[key] = entry.next_try
                    continue
                del due[key]
                counts[entry.status] += 1
                bar.set_postfix_str(_text(counts), refresh=False)
                bar.update()
            writer.flush()
    return counts


class _Writer:
    """Writes entries to the ledger: ``at_once``, or in batches that wait for the disk together."""

    def __init__(self, ledger: Ledger, namespace: str, run_id: int, at_once: bool) -> None:
        self._ledger, self._namespace, self._run_id, self._at_once = ledger, namespace, run_id, at_once
        self._batch: list[Entry] = []
        self._bytes = 0
        self.attempts = 0

    def add(self, entry: Entry) -> None:
        self._batch.append(entry)
        self._bytes += len(entry.data)
        self.attempts += 1
        if self._at_once or len(self._batch) >= BATCH or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._batch:
            self._ledger.record(self._namespace, self._batch)
            self._batch.clear()
            self._bytes = 0
            self._ledger.update_run(self._run_id, self.attempts)


def judge(params: Params, capture: Capture, tries_before: int, network: bool) -> Entry:
    """The ledger's entry of a capture: its status, and the time of the next try where another one may succeed."""
    status, reason, data, temporary = capture.status, capture.reason, capture.data, capture.temporary
    width = height = 0
    kind = ""
    if status in WITH_PICTURE:
        try:
            picture = inspect(data)
        except NotAPictureError as error:
            status, reason, data, temporary = CaptureStatus.FAILED, f"not a picture: {error}", b"", network
        else:
            width, height, kind = picture.width, picture.height, picture.format
            if picture.luminance <= params.scrape.blank_luminance:
                status, reason, temporary = CaptureStatus.BLANK, reason or "near-black", network
    tries = tries_before + 1
    next_try = None
    if temporary and tries < params.network.tries:
        next_try = time.time() + backoff(params.network, tries, capture.retry_after_s)
    return Entry(*capture.request.key, status, reason, tries, next_try, "", 0, width, height, kind, data)


def measure(table: pd.DataFrame, unplanned: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Counts by status, split and reason, and what the provider left out of its plan."""
    bad = table[table["status"] != CaptureStatus.OK]
    return {
        "planned": len(table),
        "places": int(table["place"].nunique()),
        "panoramas": int(table["pano_id"].nunique()),
        "shards": int(table.loc[table["shard"] != "", "shard"].nunique()),
        "bytes": int(table.loc[table["offset"] >= 0, "size"].sum()),
        "by_status": {str(s): int((table["status"] == s).sum()) for s in CaptureStatus},
        "by_split": {str(k): int(v) for k, v in table.groupby("split").size().items()},
        "by_reason": {str(k): int(v) for k, v in bad.groupby("reason").size().items()},
        "left_out": [{"source": source, "reason": reason} for source, reason in sorted(unplanned)],
        "left_out_by_reason": dict(sorted(Counter(_kind(reason) for _, reason in unplanned).items())),
    }


def log_problems(table: pd.DataFrame, unplanned: Sequence[tuple[str, str]]) -> None:
    """Log what was left out and the captures that are not ok, the first of each, and the totals."""
    for source, reason in unplanned[:LISTED]:
        log.warning("left out: %s: %s", source, reason)
    if len(unplanned) > LISTED:
        log.warning("left out: %d in all; the metrics of the stage list them", len(unplanned))
    for row in table[table["status"] != CaptureStatus.OK].head(LISTED).itertuples():
        log.warning(
            "%s: place %d, direction %d, %s, panorama %s: %s",
            *(row.status, row.place, row.direction, row.month or "undated", row.pano_id, row.reason),
        )
    with_picture = table[table["offset"] >= 0]
    log.info(
        "%d shards, %d pictures of %d places",
        *(with_picture["shard"].nunique(), len(with_picture), table["place"].nunique()),
    )


def _kind(reason: str) -> str:
    """What a reason has in common with others; what concerns one file alone follows a semicolon."""
    return reason.partition(";")[0]


def _left_out(unplanned: Sequence[tuple[str, str]], metrics: Path) -> str:
    """How many files were left out for each reason, with an example of each; empty if there are none."""
    if not unplanned:
        return ""
    examples = {_kind(reason): (source, reason) for source, reason in sorted(unplanned, reverse=True)}
    counts = Counter(_kind(reason) for _, reason in unplanned).most_common()
    lines = [f"  {number} like {examples[kind][0]}: {examples[kind][1]}" for kind, number in counts]
    return "\n".join([f". It has {len(unplanned)} files that are not used:", *lines, f"{metrics} lists them all"])


def _estimate(params: Params, provider: Provider, ledger: Ledger, namespace: str, count: int) -> str:
    if not count or not provider.network:
        return ""
    rate = ledger.rate(namespace)
    basis = "at the last run's pace" if rate else "at a guess, as this is the first run"
    seconds = count / (rate or FIRST_GUESS * params.network.browsers)
    return f"; about {seconds / 60:.1f} minutes {basis}"


def _text(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[s]} {s}" for s in CaptureStatus if counts[s] or s == CaptureStatus.OK)
