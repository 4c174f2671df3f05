"""Benchmark `locate`: how long an answer takes, first and further ones, and where the time goes."""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from streetrecall.benchmarks.rows import Row
from streetrecall.bundle import layout
from streetrecall.bundle.answer import Bundle
from streetrecall.errors import UserError
from streetrecall.pictures.photo import read_photo
from streetrecall.retrieval.photo_descriptors import describe_photo

OPTIONS = [
    ("photos", 40, "number of photos to ask with"),
    ("cold", 5, "number of processes that each answer one photo"),
    ("gallery", 0, "also a gallery of so many pictures, made from the bundle's; 0: none"),
    ("threads", 1, "threads to use"),
]
_SPREAD = 0.02  # standard deviation of what is added to each number of a made descriptor
_ROW_M = 4_000.0  # length of the rows in which the places of a made gallery lie


def run(args: argparse.Namespace) -> list[Row]:
    """Print and return the times, milliseconds. The photos are the gallery's small pictures, or noise."""
    source = Path(os.environ.get("STREETRECALL_BUNDLE") or "models/bundle")
    manifest = layout.read_manifest(source)
    photos = asked(source, args.photos)
    rows = measure(source, photos, args, f"{manifest['gallery']['pictures']:,} pictures")
    if args.gallery:
        with tempfile.TemporaryDirectory(dir=os.environ.get("STREETRECALL_BENCH_FOLDER")) as home:
            folder = Path(home) / "bundle"
            resize_gallery(source, folder, args.gallery)
            rows += measure(folder, photos, args, f"{args.gallery:,} pictures")
    return rows


def measure(folder: Path, photos: list[bytes], args: argparse.Namespace, name: str) -> list[Row]:
    rows = []
    for label, times in timings(folder, photos, args.threads, args.cold):
        p50, p95 = np.percentile(times, [50, 95])
        print(f"{name}, {args.threads} threads, {label}: p50 {p50:.0f} ms, p95 {p95:.0f} ms")
        note = f"{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms"
        rows.append(Row(f"locate, {label}", "photo", round(1000 / float(p50), 2), note=note))
    return rows


def timings(folder: Path, photos: list[bytes], threads: int, cold: int) -> Iterator[tuple[str, list[float]]]:
    """What is measured, and its times, milliseconds."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "photo.jpg"
        path.write_bytes(photos[0])
        command = [
            *(sys.executable, "-m", "streetrecall.cli", "locate", str(path), "--json"),
            *("--bundle", str(folder.resolve()), "--threads", str(threads)),
        ]
        for label, more in (("first answer, with the start of the program", []), ("... without points", ["--quick"])):
            yield label, [_milliseconds(lambda c=[*command, *more]: _call(c)) for _ in range(cold)]
    bundle = Bundle(folder, threads)
    bundle.answer(photos[:1])
    yield "further answers", [_milliseconds(lambda p=p: bundle.answer([p])) for p in photos]
    if bundle.compares:
        yield (
            "... without points",
            [_milliseconds(lambda p=p: bundle.answer([p], compare=False)) for p in photos],
        )
    read = [read_photo(p) for p in photos]
    yield "... of it: reading the file", [_milliseconds(lambda p=p: read_photo(p)) for p in photos]
    network = partial(describe_photo, bundle.embedder)
    yield "... of it: the network", [_milliseconds(lambda p=p: network(p.pixels)) for p in read]
    if bundle.compares:
        yield (
            "... of it: points of the photo",
            [_milliseconds(lambda p=p: bundle.points_of(p.pixels)) for p in read],
        )


def asked(folder: Path, count: int) -> list[bytes]:
    """``count`` photos of 640 x 480 pixels."""
    bundle = Bundle(folder)
    rng = np.random.default_rng(0)
    photos = []
    for row in rng.integers(0, len(bundle.gallery), count).tolist():
        data = bundle.gallery.thumbnail(row)
        small = Image.open(io.BytesIO(data)) if data else Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
        file = io.BytesIO()
        small.convert("RGB").resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    return photos


def resize_gallery(source: Path, target: Path, pictures: int) -> None:
    """A bundle like the one in ``source`` with so many pictures: its first ones, or its places again and again, each
    elsewhere and with descriptors that differ a little.

    Raises:
        UserError: ``pictures`` is below one.
    """
    from streetrecall.params.schema import Index
    from streetrecall.retrieval import index as indexes

    if pictures < 1:
        raise UserError(f"--gallery {pictures}: a gallery has at least one picture")
    bundle = Bundle(source)
    gallery = bundle.gallery
    times = -(-pictures // len(gallery))
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(layout.INDEX, layout.DESCRIPTORS))
    rng = np.random.default_rng(1)
    dimensions = gallery.descriptors.shape[1]
    made = np.lib.format.open_memmap(target / layout.DESCRIPTORS, "w+", np.float16, (pictures, dimensions))
    base = gallery.descriptors[:].astype(np.float32)
    for copy in range(times):
        part = base + rng.normal(0, _SPREAD * (copy > 0), base.shape).astype(np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
        made[copy * len(base) : (copy + 1) * len(base)] = part[: pictures - copy * len(base)]
    columns = {name: np.tile(values, times)[:pictures] for name, values in gallery.columns.items()}
    copy_of_row = np.arange(pictures) // len(gallery)
    columns["place"] = columns["place"] + copy_of_row * (int(gallery.places.max()) + 1)
    columns["panorama"] = columns["panorama"] + copy_of_row * (int(gallery.columns["panorama"].max()) + 1)
    width, height = np.ptp(gallery.xy, axis=0) + 100.0
    across = max(int(_ROW_M // width), 1)
    steps = np.column_stack([np.arange(times) % across * width, np.arange(times) // across * height])
    where = np.tile(np.asarray(np.load(source / layout.PLACES)), (times, 1))
    where[:, 0:2] += np.repeat(steps, len(gallery.places), axis=0)
    np.save(target / layout.PLACES, where[: len(np.unique(columns["place"]))])
    stored: dict[str, Any] = {}
    for name, kind in layout.COLUMNS.items():
        if kind == "str":
            texts, codes = np.unique(columns[name], return_inverse=True)
            stored[name + layout.TEXTS], stored[name + layout.CODES] = texts, codes.astype(np.int32)
        else:
            stored[name] = columns[name]
    np.savez(target / layout.GALLERY, **stored)
    manifest = bundle.manifest
    settings = Index.model_validate(json.loads((source / layout.PARAMS).read_text(encoding="utf-8"))["index"])
    began = time.perf_counter()
    index = indexes.build(made, np.arange(len(made)), settings, bundle.threads)
    print(f"index of {len(made):,} pictures ({index.kind}): built in {time.perf_counter() - began:.0f} s")
    if isinstance(index, indexes.ScannIndex):
        indexes.save(index, target)
    manifest["index"] = {"kind": index.kind, "settings": index.settings.model_dump()}
    manifest["gallery"]["pictures"] = len(made)
    (target / layout.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode not in (0, 3):
        raise UserError(f"locate failed: {done.stderr.decode(errors='replace').strip()}")


def _milliseconds(function: Any) -> float:
    began = time.perf_counter()
    function()
    return (time.perf_counter() - began) * 1000
