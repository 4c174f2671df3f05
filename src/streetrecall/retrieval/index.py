"""The index over gallery descriptors: ScaNN where it has a wheel, exact search elsewhere, one interface.

On disk: ``index.json`` (kind, rows of descriptors.npy that it holds, settings), ``descriptors.npy``, ``rows.parquet``
and, for ScaNN's kinds, ``scann/`` with relative paths. Exact search needs nothing but the descriptors.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.params import Index as Settings
from streetrecall.retrieval import search

log = logging.getLogger(__name__)

DESCRIPTORS, ROWS, FACTS, SCANN = "descriptors.npy", "rows.parquet", "index.json", "scann"
VERSION = 1
Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class Index(Protocol):
    """Searches gallery descriptors. ``rows`` are the gallery's rows of descriptors.npy and rows.parquet."""

    kind: str
    rows: NDArray[np.int64]

    def search(self, queries: NDArray, k: int) -> Found:
        """Positions in ``rows`` (q, k) int64 and similarities (q, k) float32, best first; -1 and minus infinity where
        there are fewer than ``k``. ``queries`` (q, d), of unit norm."""


class ExactIndex:
    """Exact search over all gallery descriptors."""

    kind = "exact"

    def __init__(self, descriptors: NDArray, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self._gallery = np.asarray(descriptors, np.float32)

    def search(self, queries: NDArray, k: int) -> Found:
        return search.exact(queries, self._gallery, k)


class ScannIndex:
    """ScaNN's searcher (Guo et al. 2020, "Accelerating large-scale inference with anisotropic vector quantization")."""

    def __init__(self, searcher: Any, kind: str, rows: NDArray[np.int64], settings: Settings) -> None:
        self.kind, self.rows, self._searcher, self._settings = kind, rows, searcher, settings

    def search(self, queries: NDArray, k: int) -> Found:
        wanted = min(k, len(self.rows))
        reorder = max(self._settings.reorder, wanted) if self.kind != "exact" else None
        leaves = {"leaves_to_search": self._settings.leaves_to_search} if self.kind == "tree" else {}
        found, similar = self._searcher.search_batched(
            np.ascontiguousarray(queries, np.float32),
            final_num_neighbors=wanted,
            pre_reorder_num_neighbors=reorder,
            **leaves,
        )
        similar = np.asarray(similar, np.float32)
        missing = ~np.isfinite(similar)
        indices = np.where(missing, -1, np.asarray(found, np.int64))
        return indices, np.where(missing, -np.inf, similar).astype(np.float32)


def scann_module() -> Any | None:
    """ScaNN, or None with a log line where it has no wheel (macOS, Windows) or the processor lacks what it needs."""
    if sys.platform != "linux":
        log.info("ScaNN has no wheel for %s: exact search takes its place", platform.system())
        return None
    if platform.machine() == "x86_64" and not _has_avx2():
        log.info("ScaNN needs a processor with AVX2: exact search takes its place")
        return None
    try:
        import scann
    except ImportError as error:
        log.info("ScaNN cannot be imported (%s): exact search takes its place", error)
        return None
    return scann


def choose(settings: Settings, gallery: int) -> str:
    """The kind of index for so many gallery pictures.

    A quantiser needs at least 16 pictures a block to learn from, and a tree more pictures than leaves: smaller
    galleries are searched exactly whatever the settings say.
    """
    kind = settings.kind
    if kind == "auto":
        kind = "exact" if gallery <= settings.exact_up_to else "ah" if gallery <= settings.ah_up_to else "tree"
    if kind == "tree" and gallery < 4 * settings.leaves:
        kind = "ah"
    if kind == "ah" and gallery < 256:
        kind = "exact"
    return kind


def build(gallery: NDArray, rows: NDArray[np.int64], settings: Settings, threads: int) -> Index:
    """An index over ``gallery`` (g, d), of unit norm, whose rows in descriptors.npy are ``rows``."""
    kind = choose(settings, len(gallery))
    scann = scann_module() if kind != "exact" else None
    if scann is None:
        return ExactIndex(gallery, rows)
    builder = scann.scann_ops_pybind.builder(
        np.ascontiguousarray(gallery, np.float32), min(settings.neighbours, len(gallery)), "dot_product"
    ).set_n_training_threads(threads)
    if kind == "tree":
        builder = builder.tree(
            num_leaves=settings.leaves,
            num_leaves_to_search=settings.leaves_to_search,
            training_sample_size=min(len(gallery), 250_000),
        )
    builder = builder.score_ah(settings.dimensions_per_block, anisotropic_quantization_threshold=0.2)
    return ScannIndex(builder.reorder(max(settings.reorder, settings.neighbours)).build(), kind, rows, settings)


def save(index: Index, folder: str | Path, settings: Settings) -> None:
    """Write ``index.json`` and, unless it is exact, ``scann/`` below ``folder``, beside the descriptors."""
    folder = Path(folder)
    if isinstance(index, ScannIndex):
        home = folder / SCANN
        home.mkdir(parents=True, exist_ok=True)
        index._searcher.serialize(os.fspath(home), relative_path=True)
    facts = {
        "version": VERSION,
        "kind": index.kind,
        "gallery": len(index.rows),
        "settings": settings.model_dump(),
    }
    partial = folder / f".{FACTS}"
    partial.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(folder / FACTS)


def load(folder: str | Path) -> Index:
    """The index that `save` wrote, ready to search.

    Raises:
        UserError: a file is missing or damaged, or of another version.
    """
    from streetrecall import tables

    folder = Path(folder)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        settings = Settings.model_validate(facts["settings"])
    except FileNotFoundError as error:
        raise UserError(f"{folder / FACTS}: there is no such file; the stage index writes it (dvc repro)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FACTS}: damaged ({error}); run the stage index again") from error
    if facts["version"] != VERSION:
        raise UserError(f"{folder / FACTS}: version {facts['version']}, this program reads {VERSION}; index again")
    table = tables.read(tables.DESCRIPTORS, folder / ROWS)
    rows = np.flatnonzero(table["role"] == "gallery")
    if len(rows) != facts["gallery"]:
        raise UserError(f"{folder}: rows.parquet and index.json are of different runs; run the stage index again")
    scann = scann_module() if facts["kind"] != "exact" else None
    if scann is not None:
        try:
            searcher = scann.scann_ops_pybind.load_searcher(os.fspath(folder / SCANN))
        except Exception as error:  # ScaNN raises whatever its C++ side raised
            raise UserError(f"{folder / SCANN}: ScaNN cannot read it ({error}); run the stage index again") from error
        return ScannIndex(searcher, facts["kind"], rows, settings)
    try:
        descriptors = np.load(folder / DESCRIPTORS, mmap_mode="r")
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTORS}: missing or damaged; run the stage index again") from error
    return ExactIndex(descriptors[rows], rows)


def _has_avx2() -> bool:
    try:
        return " avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
