"""Stage `scrape`: capture every date in four directions at every place.

Pictures land in the store first, each with its row in the ledger (`streetrecall.store.ledger`); the shards are then a
pure function of the plan and the store. So a killed run goes on where it was, a second run asks the provider for
nothing, and one that was killed at any moment ends with the same bytes as an undisturbed one.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.files import write_json
from streetrecall.params.schema import Params, load
from streetrecall.pictures import shards
from streetrecall.pictures.inspect import NotAPictureError, inspect
from streetrecall.providers import open_provider
from streetrecall.providers.base import Capture, Provider, View
from streetrecall.store.ledger import WITH_PICTURE, Entry, Ledger

log = logging.getLogger(__name__)

BATCH = 2048  # pictures of a local provider that share their waits for the disk, or so many bytes of them
BATCH_BYTES = 1 << 26
FIRST_GUESS = 3.0  # pictures a second and browser, for the estimate before a first run
SUFFIX = {"JPEG": "jpg", "PNG": "png"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--locations", type=Path, required=True, help="table of places")
    parser.add_argument("--archive", type=Path, required=True, help="folder of the provider 'archive'")
    parser.add_argument("--captures", type=Path, required=True, help="folder to write: captures.parquet, shared, local")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed for good, or was gone")


def main(args: argparse.Namespace) -> None:
    run(load(args.params), args.locations, args.archive, args.captures, args.metrics, args.retry_failed)


def run(
    params: Params, locations: Path, archive: Path, captures: Path, metrics: Path, retry_failed: bool = False
) -> None:
    """Capture what the store lacks, then write shards, the table CAPTURES and the counts.

    Raises:
        UserError: the provider cannot be used or refused to go on, or another run is at the same work.
    """
    places = tables.read(tables.LOCATIONS, locations)
    provider = open_provider(params, archive)
    namespace = capture_namespace(params, provider)
    try:
        with Ledger() as ledger, ledger.hold(namespace, "scrape"):
            provider.notes = ledger.notes(provider.namespace)
            plan = list(provider.views(places))
            if not plan:
                raise UserError(f"{locations}: the provider '{provider.name}' has no picture of any of its places")
            if retry_failed:
                ledger.forget_failed(namespace)
            fetch(params, provider, ledger, namespace, plan)
            lost = materialise(ledger, namespace, plan, places, provider, captures, metrics)
            if lost:
                log.warning("the store has lost or damaged %d pictures; they are captured again", len(lost))
                ledger.forget(namespace, lost)
                fetch(params, provider, ledger, namespace, plan)
                if materialise(ledger, namespace, plan, places, provider, captures, metrics):
                    raise UserError(
                        f"{ledger.folder}: the store does not keep what is written to it; check its disk, "
                        "or set STREETRECALL_STORE to another folder"
                    )
    finally:
        provider.close()


def capture_namespace(params: Params, provider: Provider) -> str:
    """The ledger's key of a provider's pictures: another frame size or quality makes other pictures."""
    if not provider.network:
        return provider.namespace
    s = params.scrape
    return f"{provider.namespace} {s.width}x{s.height} q{s.quality} blank{s.blank_luminance:g}"


def ledger_key(view: View) -> tuple[str, str]:
    """What identifies a view's picture in the ledger: the panorama and the heading.

    Pictures that were found, not taken, have no known heading; their source tells them apart.
    """
    if math.isnan(view.heading_deg):
        return view.panorama.pano_id, view.source or f"direction {view.direction}"
    return view.panorama.pano_id, f"{view.heading_deg:.2f}"


def fetch(params: Params, provider: Provider, ledger: Ledger, namespace: str, plan: Sequence[View]) -> None:
    """Bring the ledger to a final answer on each view of ``plan``."""
    known = ledger.entries(namespace)
    wanted = {ledger_key(view): view for view in plan}
    if provider.network:
        wanted = {k: v for k, v in wanted.items() if k not in known or known[k].next_try is not None}
    log.info(
        "%s: %d pictures planned, %d in the store, %d to capture%s",
        provider.name,
        len(plan),
        len(plan) - len(wanted) if provider.network else sum(ledger_key(v) in known for v in plan),
        len(wanted),
        _estimate(params, provider, ledger, namespace, len(wanted)),
    )
    if not wanted:
        return
    run_id = ledger.start_run(namespace, len(plan), len(wanted))
    attempts = held = 0
    counts: Counter[str] = Counter()
    batch: list[Entry] = []

    def record() -> None:
        ledger.record(namespace, batch)
        batch.clear()

    pause = 0.2 if sys.stderr.isatty() else 10.0  # seconds between two lines of a log
    due = {key: known[key].next_try or 0.0 if key in known else 0.0 for key in wanted}
    try:
        with tqdm(total=len(wanted), desc="scrape", unit="picture", smoothing=0.05, mininterval=pause) as bar:
            while due:
                now = time.time()
                ready = [wanted[key] for key, when in due.items() if when <= now]
                if not ready:
                    bar.set_postfix_str(f"{len(due)} wait for another try", refresh=True)
                    time.sleep(max(0.0, min(due.values()) - now))
                    continue
                for capture in provider.capture(ready):
                    key = ledger_key(capture.view)
                    before = known.get(key)
                    # What a local provider reads anew each run has no history of tries.
                    entry = judge(params, capture, before.tries if before and provider.network else 0, provider.network)
                    known[key] = Entry(*key, entry.status, entry.reason, entry.tries, entry.next_try)
                    batch.append(entry)
                    held += len(entry.data)
                    attempts += 1
                    if provider.network or len(batch) >= BATCH or held >= BATCH_BYTES:
                        record()
                        held = 0
                        ledger.update_run(run_id, attempts)
                    if entry.next_try is None:
                        del due[key]
                        counts[entry.status] += 1
                        bar.update()
                        bar.set_postfix_str(_counts(counts), refresh=False)
                    else:
                        due[key] = entry.next_try
                record()
    finally:
        ledger.update_run(run_id, attempts, ended=True)
    log.info("captured: %s", _counts(counts))


def judge(params: Params, capture: Capture, tries_before: int, network: bool) -> Entry:
    """What the ledger is to say of a capture: its status, and when to try again, if that may help."""
    key = ledger_key(capture.view)
    status, reason, data, temporary = capture.status, capture.reason, capture.data, capture.temporary
    width = height = 0
    kind = ""
    if status in WITH_PICTURE:
        try:
            picture = inspect(data)
        except NotAPictureError as error:
            status, reason, data, temporary = "failed", f"not a picture: {error}", b"", network
        else:
            width, height, kind = picture.width, picture.height, picture.format
            if picture.luminance <= params.scrape.blank_luminance:
                status, reason, temporary = "blank", reason or "near-black", network
    tries = tries_before + 1
    next_try = None
    if temporary and tries < params.network.tries:
        wait = min(params.network.backoff_s * 2 ** (tries - 1), params.network.backoff_limit_s)
        next_try = time.time() + max(wait * random.uniform(0.5, 1.5), capture.retry_after_s)
    return Entry(*key, status, reason, tries, next_try, "", 0, width, height, kind, data)


def materialise(
    ledger: Ledger,
    namespace: str,
    plan: Sequence[View],
    places: pd.DataFrame,
    provider: Provider,
    captures: Path,
    metrics: Path,
) -> list[tuple[str, str]]:
    """Write the shards, the table and the counts from plan and store alone; whole or not at all.

    Returns the keys of pictures that the store should hold and does not: then nothing was written.
    """
    entries = ledger.entries(namespace)
    below = "shared" if provider.shareable else "local"
    levels = places["level"].to_numpy()
    in_level = places.sort_values("place").groupby("level").cumcount().reindex(places.index)
    where = {int(p): (int(level), int(i)) for p, level, i in zip(places["place"], levels, in_level, strict=True)}
    rows: list[dict[str, Any]] = []
    content: dict[str, list[int]] = {}
    for view in plan:
        entry = entries[ledger_key(view)]
        shard = ""
        if entry.status in WITH_PICTURE:
            shard = f"{below}/{view.split}/{shards.shard_name(view.subset, *where[view.place])}"
            content.setdefault(shard, []).append(len(rows))
        p = view.panorama
        rows.append({
            "place": view.place, "direction": view.direction, "heading_deg": view.heading_deg,
            "date_index": view.date_index,
            "month": p.month, "pano_id": p.pano_id, "split": view.split, "subset": view.subset, "lat": p.lat,
            "lon": p.lon, "status": entry.status, "reason": entry.reason, "shard": shard, "offset": -1,
            "size": entry.size, "sha256": entry.sha256, "width": entry.width, "height": entry.height,
            "format": entry.format, "provider": provider.name, "licence": p.licence, "attribution": p.attribution,
            "source": view.source,
        })  # fmt: skip
    captures.mkdir(parents=True, exist_ok=True)
    for leftover in captures.glob(".new-*"):
        shutil.rmtree(leftover)
    fresh = captures / f".new-{os.getpid()}"
    lost = []
    for part in ("shared", "local"):
        shards.make_folder(fresh / part, part)
    for shard, members in sorted(content.items()):
        files = {}
        for i in members:
            data = ledger.read(rows[i]["sha256"])
            if data is None:
                ledger.discard(rows[i]["sha256"])
                lost.append(ledger_key(plan[i]))
            else:
                files[member_name(plan[i], rows[i]["format"])] = data, i
        placed = shards.write_shard(fresh / shard, [(name, data) for name, (data, _) in files.items()])
        for member in placed:
            rows[files[member.name][1]]["offset"] = member.offset
    if lost:
        shutil.rmtree(fresh)
        return lost
    table = tables.conform(tables.CAPTURES, pd.DataFrame(rows))
    for part in ("shared", "local"):
        if (captures / part).exists():
            shutil.rmtree(captures / part)
        (fresh / part).replace(captures / part)
    fresh.rmdir()
    tables.write(tables.CAPTURES, table, captures / "captures.parquet")
    write_json(metrics, measure(table, len(content), provider.unplanned))
    for source, reason in provider.unplanned[:20]:
        log.warning("left out: %s: %s", source, reason)
    bad = table[~table["status"].isin(["ok"])]
    for row in bad.head(20).itertuples():
        log.warning(
            "%s: place %d, direction %d, %s, panorama %s: %s",
            row.status,
            row.place,
            row.direction,
            row.month or "undated",
            row.pano_id,
            row.reason,
        )
    log.info(
        "%d shards, %d pictures of %d places", len(content), int((table["offset"] >= 0).sum()), table["place"].nunique()
    )
    return []


def member_name(view: View, kind: str) -> str:
    """A picture's name in its shard: unique within the plan, short enough for a tar, readable.

    >>> from streetrecall.providers.base import Panorama
    >>> member_name(View(7, 2, 180.0, 0, Panorama("abc", 59.3, 18.0, "2019-04", "", ""), "test", "test_v1"), "JPEG")
    '000007_2_2019-04_abc.jpg'
    """
    pano = view.panorama.pano_id
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", pano):
        pano = blake2b(pano.encode(), digest_size=12).hexdigest()
    return f"{view.place:06d}_{view.direction}_{view.panorama.month or 'undated'}_{pano}.{SUFFIX[kind]}"


def measure(table: pd.DataFrame, shard_count: int, unplanned: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Counts by status, split and reason, and what the provider could not plan."""
    bad = table[table["status"] != "ok"]
    return {
        "planned": len(table),
        "places": int(table["place"].nunique()),
        "panoramas": int(table["pano_id"].nunique()),
        "shards": shard_count,
        "bytes": int(table.loc[table["offset"] >= 0, "size"].sum()),
        "by_status": {s: int((table["status"] == s).sum()) for s in ("ok", "blank", "gone", "failed")},
        "by_split": {str(k): int(v) for k, v in table.groupby("split").size().items()},
        "by_reason": {str(k): int(v) for k, v in bad.groupby("reason").size().items()},
        "left_out": [{"source": source, "reason": reason} for source, reason in sorted(unplanned)],
    }


def _estimate(params: Params, provider: Provider, ledger: Ledger, namespace: str, count: int) -> str:
    if not count or not provider.network:
        return ""
    rate = ledger.rate(namespace)
    known = "at the last run's pace" if rate else "at a guess, as this is the first run"
    seconds = count / (rate or FIRST_GUESS * params.network.browsers)
    return f"; about {seconds / 60:.1f} minutes {known}"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[s]} {s}" for s in ("ok", "blank", "gone", "failed") if counts[s] or s == "ok")
