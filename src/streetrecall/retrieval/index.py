"""The index over gallery descriptors: ScaNN if it can run here, else exact search, with one interface.

On disk: ``index.json`` (kind, number of gallery pictures, settings), ``descriptors.npy``, ``rows.parquet``
and, for ScaNN's kinds, ``scann/`` with relative paths. Exact search needs only the descriptors.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Callable
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.files import write_json
from streetrecall.params.schema import Index as Settings
from streetrecall.retrieval import exact as search
from streetrecall.retrieval import tuning

log = logging.getLogger(__name__)

DESCRIPTORS, ROWS, FACTS, SCANN = "descriptors.npy", "rows.parquet", "index.json", "scann"
VERSION = 3
TUNED_ON = 1000  # gallery pictures used as queries while the effort of a search is chosen
SAMPLE_PER_LEAF = 125  # gallery pictures that train each leaf of a tree; with far fewer its k-means gives poor leaves
QUERIES_AT_ONCE = 64  # queries that a thread searches together
Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class Index(Protocol):
    """Searches gallery descriptors.

    ``rows`` are the gallery's rows in descriptors.npy and rows.parquet. ``settings`` are those that the index was built
    with; for ScaNN's kinds every ``auto`` is replaced by the number that was chosen.
    """

    kind: str
    rows: NDArray[np.int64]
    settings: Settings

    def search(self, queries: NDArray, k: int) -> Found:
        """The ``k`` best gallery pictures for ``queries`` (q, d) of unit norm, or all of a smaller gallery.

        Returns positions in ``rows`` (q, k) int64 and similarities (q, k) float32, best first; -1 and minus infinity
        where fewer are found.
        """


class ExactIndex:
    """Exact search over all gallery descriptors."""

    kind = "exact"

    def __init__(self, descriptors: NDArray, rows: NDArray[np.int64], settings: Settings) -> None:
        self.rows, self.settings = rows, settings
        self._gallery = np.asarray(descriptors, np.float32)

    def search(self, queries: NDArray, k: int) -> Found:
        return search.exact(queries, self._gallery, k)


class ScannIndex:
    """ScaNN's searcher (Guo et al. 2020, "Accelerating large-scale inference with anisotropic vector quantization").

    It uses up to ``threads`` threads. Its answers do not depend on their number.
    """

    def __init__(self, searcher: Any, kind: str, rows: NDArray[np.int64], settings: Settings, threads: int) -> None:
        self.kind, self.rows, self.settings, self._searcher = kind, rows, settings, searcher
        searcher.set_num_threads(threads)

    def search(self, queries: NDArray, k: int) -> Found:
        wanted = min(k, len(self.rows))
        if not len(queries):  # an error in ScaNN
            return np.empty((0, wanted), np.int64), np.empty((0, wanted), np.float32)
        found, similar = self._searcher.search_batched_parallel(
            np.ascontiguousarray(queries, np.float32),
            final_num_neighbors=wanted,
            pre_reorder_num_neighbors=max(int(self.settings.reorder), wanted),
            leaves_to_search=int(self.settings.leaves_to_search) if self.kind == "tree" else None,
            batch_size=QUERIES_AT_ONCE,
        )
        similar = np.asarray(similar, np.float32)
        missing = ~np.isfinite(similar)
        indices = np.where(missing, -1, np.asarray(found, np.int64))
        return indices, np.where(missing, -np.inf, similar).astype(np.float32)


def scann_module() -> Any | None:
    """ScaNN, or None and a line in the log if it has no wheel (macOS, Windows) or the processor has no AVX2."""
    if sys.platform != "linux":
        log.info("ScaNN has no wheel for %s: using exact search", platform.system())
        return None
    if platform.machine() == "x86_64" and not _has_avx2():
        log.info("ScaNN needs a processor with AVX2: using exact search")
        return None
    try:
        import scann
    except ImportError as error:
        log.info("ScaNN cannot be imported (%s): using exact search", error)
        return None
    return scann


def choose(settings: Settings, gallery: int) -> str:
    """The kind of index for so many gallery pictures: exact, ah or tree.

    A quantiser needs at least 16 pictures a block for its training, and a tree needs more pictures than leaves. So a
    gallery of fewer than 256 pictures is searched exactly, and one of fewer than four a leaf has no tree, whatever the
    settings say. Where ``kind`` is ``auto``, `build` may still leave the tree out.
    """
    kind = settings.kind
    if kind == "auto":
        kind = "exact" if gallery <= settings.exact_up_to else "tree"
    if kind == "tree" and settings.leaves != "auto" and gallery < 4 * settings.leaves:
        kind = "ah"
    return "exact" if gallery < 256 else kind


def build(gallery: NDArray, rows: NDArray[np.int64], settings: Settings, threads: int) -> Index:
    """An index over ``gallery`` (g, d), of unit norm; ``rows`` (g,) are its rows in descriptors.npy.

    Settings that are ``auto`` become the effort with the least work with which gallery pictures find
    ``settings.recall`` of their ``settings.neighbours`` nearest others. If no effort reaches it, a line in the log
    says so.
    """
    kind = choose(settings, len(gallery))
    scann = scann_module() if kind != "exact" else None
    if scann is None:
        return ExactIndex(gallery, rows, settings)
    maker = _Maker(scann, np.ascontiguousarray(gallery, np.float32), rows, settings, threads)
    leaves = maker.leaves() if kind == "tree" else None
    return maker.tuned("ah" if leaves is None else "tree", leaves)


class _Maker:
    """Makes the index of a ``gallery`` (g, d) float32, and tries other ones on the way."""

    def __init__(
        self, scann: Any, gallery: NDArray[np.float32], rows: NDArray[np.int64], settings: Settings, threads: int
    ) -> None:
        self._scann, self._gallery, self._rows = scann, gallery, rows
        self._settings, self._threads = settings, threads
        self._size = tuning.Gallery(len(gallery), gallery.shape[1], settings.dimensions_per_block)
        self._others = min(settings.neighbours, len(gallery) - 1)
        wanted = min(20 * settings.neighbours, len(gallery))
        self._reorder = (self._others, wanted) if settings.reorder == "auto" else (settings.reorder, settings.reorder)

    def leaves(self) -> int | None:
        """The number of leaves with which a search has the least work; None if it has less without a tree.

        For each number the vectors themselves are compared in the least leaves that hold the neighbours. Trees of few
        leaves are quick to make, so they come first, until one has more work than the one before.
        """
        fixed = self._settings.leaves
        if fixed != "auto" and (self._settings.kind == "tree" or self._settings.leaves_to_search != "auto"):
            return fixed
        aim = (1 + self._settings.recall) / 2  # re-ordering will lose some
        chosen, least = None, self._size.codes if self._settings.kind == "auto" else float("inf")
        for leaves in self._size.leaves if fixed == "auto" else [fixed]:
            if chosen is not None and self._size.tree(leaves, 1) >= least:
                break
            index = self._index("tree", leaves, coded=False)
            searched = self._settings.leaves_to_search
            if searched == "auto":
                searched = tuning.least(partial(self._measured(index), candidates=1), 1, leaves, aim) or leaves
            work = self._size.tree(leaves, min(searched, leaves))
            if work >= least:
                if chosen is not None:
                    break
                continue
            chosen, least = leaves, work
        return chosen

    def tuned(self, kind: str, leaves: int | None) -> ScannIndex:
        """The index, with numbers in place of every ``auto`` of its settings."""
        index = self._index(kind, leaves or 1, coded=True)
        searched = self._settings.leaves_to_search
        tries = (1, leaves or 1) if searched == "auto" else (searched, searched)
        if tries[0] == tries[1] and self._reorder[0] == self._reorder[1]:
            return index

        def work(count: int, candidates: int) -> float:
            read = self._size.tree(leaves, count) if leaves else self._size.codes
            return read + self._size.reordering(candidates)

        aim = self._settings.recall
        effort = tuning.least_effort(self._measured(index), work, tries, self._reorder, aim)
        index.settings = index.settings.model_copy(
            update={"leaves_to_search": effort.leaves_to_search, "reorder": effort.reorder}
        )
        if effort.recall < aim:
            log.warning(
                "the index finds %.2f%% of the nearest neighbours at its largest effort; index.recall asks for "
                "%.2f%%. Lower index.dimensions_per_block, or set index.reorder or index.leaves_to_search to a larger "
                "number",
                100 * effort.recall,
                100 * aim,
            )
        return index

    def _index(self, kind: str, leaves: int, coded: bool) -> ScannIndex:
        """An index with the largest effort; if it is not ``coded``, it compares the vectors themselves."""
        searched = leaves if self._settings.leaves_to_search == "auto" else self._settings.leaves_to_search
        most = {"leaves": leaves, "leaves_to_search": searched, "reorder": self._reorder[1]}
        settings = self._settings.model_copy(update=most)
        builder = self._scann.scann_ops_pybind.builder(
            self._gallery, min(settings.neighbours, len(self._gallery)), "dot_product"
        ).set_n_training_threads(1)  # with more, two builds differ in their bytes
        if kind == "tree":
            builder = builder.tree(
                num_leaves=leaves,
                num_leaves_to_search=searched,
                training_sample_size=min(len(self._gallery), SAMPLE_PER_LEAF * leaves),
                min_partition_size=10,
                spherical=True,  # centres are compared by inner product: shorter ones would be searched too late
                random_init=False,  # k-means++, which has a fixed seed; random starts have none
            )
        if coded:
            builder = builder.score_ah(settings.dimensions_per_block, anisotropic_quantization_threshold=0.2)
            builder = builder.reorder(self._reorder[1])
        else:
            builder = builder.score_brute_force()
        return ScannIndex(builder.build(), kind, self._rows, settings, self._threads)

    @cached_property
    def _asking(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gallery pictures (n, d) that ask, and the similarities (n, k + 1) of themselves and their nearest others."""
        count = min(TUNED_ON, len(self._gallery))
        asking = self._gallery[np.linspace(0, len(self._gallery) - 1, count).astype(int)]
        return asking, search.exact(asking, self._gallery, self._others + 1)[1]

    def _measured(self, index: ScannIndex) -> Callable[..., float]:
        """The recall of ``index`` with so many leaves and candidates. Every picture finds itself, which is no merit."""
        asking, nearest = self._asking

        known: dict[tuple[int, int], float] = {}

        def measured(leaves: int, candidates: int) -> float:
            effort = leaves, candidates
            if effort not in known:
                tried = copy(index)
                tried.settings = index.settings.model_copy(update={"leaves_to_search": leaves, "reorder": candidates})
                found = recall(tried, asking, self._gallery, nearest)
                known[effort] = (found * (self._others + 1) - 1) / self._others
            return known[effort]

        return measured


def recall(index: Index, queries: NDArray, gallery: NDArray, nearest: NDArray[np.float32]) -> float:
    """Share of the exact nearest neighbours that ``index`` finds.

    Args:
        queries: (q, d).
        gallery: (g, d), the gallery of the index.
        nearest: (q, k), similarities of the exact nearest neighbours, best first. Every picture that is as similar as
            the last of them counts as a neighbour.
    """
    found, _ = index.search(queries, nearest.shape[1])
    hits = 0
    for start in range(0, len(queries), 512):
        rows = slice(start, start + 512)
        near = gallery[np.maximum(found[rows], 0)].astype(np.float32)
        similar = np.einsum("qd,qkd->qk", queries[rows].astype(np.float32), near)
        hits += int(((similar >= nearest[rows, -1:] - 1e-5) & (found[rows] >= 0)).sum())
    return hits / nearest.size


def save(index: Index, folder: str | Path) -> None:
    """Write ``index.json`` to ``folder``, beside the descriptors, and ``scann/`` unless the index is exact."""
    folder = Path(folder)
    if isinstance(index, ScannIndex):
        home = folder / SCANN
        home.mkdir(parents=True, exist_ok=True)
        index._searcher.serialize(os.fspath(home), relative_path=True)
    facts = {
        "version": VERSION,
        "kind": index.kind,
        "gallery": len(index.rows),
        "settings": index.settings.model_dump(),
    }
    write_json(folder / FACTS, facts)


def load(folder: str | Path) -> Index:
    """The index that `save` wrote, ready to search on all threads of the machine.

    Raises:
        UserError: a file is missing or damaged, or of another version.
    """
    from streetrecall import tables

    folder = Path(folder)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["version"] != VERSION:
            raise UserError(
                f"{folder / FACTS}: version {facts['version']}, this program reads {VERSION}; run the stage index again"
            )
        settings = Settings.model_validate(facts["settings"])
    except FileNotFoundError as error:
        raise UserError(f"{folder / FACTS}: there is no such file; the stage index writes it (dvc repro)") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FACTS}: damaged ({error}); run the stage index again") from error
    table = tables.read(tables.DESCRIPTORS, folder / ROWS)
    rows = np.flatnonzero(table["role"] == "gallery")
    if len(rows) != facts["gallery"]:
        raise UserError(f"{folder}: rows.parquet and index.json are of different runs; run the stage index again")
    scann = scann_module() if facts["kind"] != "exact" else None
    if scann is not None:
        try:
            searcher = scann.scann_ops_pybind.load_searcher(os.fspath(folder / SCANN))
        except Exception as error:  # ScaNN raises many kinds
            raise UserError(f"{folder / SCANN}: ScaNN cannot read it ({error}); run the stage index again") from error
        return ScannIndex(searcher, facts["kind"], rows, settings, os.cpu_count() or 1)
    try:
        descriptors = np.load(folder / DESCRIPTORS, mmap_mode="r")
    except (FileNotFoundError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTORS}: missing or damaged; run the stage index again") from error
    return ExactIndex(descriptors[rows], rows, settings)


def _has_avx2() -> bool:
    try:
        return " avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
