"""The index over gallery descriptors: ScaNN where it has a wheel, exact search elsewhere, one interface.

On disk: ``index.json`` (kind, number of gallery pictures, settings), ``descriptors.npy``, ``rows.parquet``
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
from streetrecall.files import write_json
from streetrecall.params.schema import Index as Settings
from streetrecall.retrieval import exact as search

log = logging.getLogger(__name__)

DESCRIPTORS, ROWS, FACTS, SCANN = "descriptors.npy", "rows.parquet", "index.json", "scann"
VERSION = 2
TUNED_ON = 1000  # gallery pictures that ask while the effort of a search is chosen
SAMPLE_PER_LEAF = 125  # gallery pictures that a tree learns from; with many fewer its k-means goes wrong
QUERIES_AT_ONCE = 64  # that one thread takes
Found = tuple[NDArray[np.int64], NDArray[np.float32]]


class Index(Protocol):
    """Searches gallery descriptors.

    ``rows`` are the gallery's rows of descriptors.npy and rows.parquet, ``settings`` what the index was built with; in
    those of ScaNN's kinds numbers are in place of ``auto``.
    """

    kind: str
    rows: NDArray[np.int64]
    settings: Settings

    def search(self, queries: NDArray, k: int) -> Found:
        """Positions in ``rows`` (q, k) int64 and similarities (q, k) float32, best first; -1 and minus infinity where
        fewer are found. ``queries`` (q, d), of unit norm; ``k`` counts as the gallery's size if it is greater."""


class ExactIndex:
    """Exact search over all gallery descriptors."""

    kind = "exact"

    def __init__(self, descriptors: NDArray, rows: NDArray[np.int64], settings: Settings) -> None:
        self.rows, self.settings = rows, settings
        self._gallery = np.asarray(descriptors, np.float32)

    def search(self, queries: NDArray, k: int) -> Found:
        return search.exact(queries, self._gallery, k)


class ScannIndex:
    """ScaNN's searcher (Guo et al. 2020, "Accelerating large-scale inference with anisotropic vector quantization"),
    on as many ``threads`` as it may have. Its answers do not depend on them."""

    def __init__(self, searcher: Any, kind: str, rows: NDArray[np.int64], settings: Settings, threads: int) -> None:
        self.kind, self.rows, self.settings, self._searcher = kind, rows, settings, searcher
        searcher.set_num_threads(threads)

    def search(self, queries: NDArray, k: int) -> Found:
        wanted = min(k, len(self.rows))
        if not len(queries):  # of which ScaNN makes an error
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
    if kind == "tree" and gallery < 4 * _leaves(settings, gallery):
        kind = "ah"
    return "exact" if gallery < 256 else kind


def build(gallery: NDArray, rows: NDArray[np.int64], settings: Settings, threads: int) -> Index:
    """An index over ``gallery`` (g, d), of unit norm, whose rows in descriptors.npy are ``rows``.

    Settings that are ``auto`` become the least effort by which gallery pictures find ``settings.recall`` of their
    ``settings.neighbours`` nearest others; a line in the log says so where no effort does.
    """
    kind = choose(settings, len(gallery))
    scann = scann_module() if kind != "exact" else None
    if scann is None:
        return ExactIndex(gallery, rows, settings)
    leaves = _leaves(settings, len(gallery))
    most = settings.model_copy(
        update={
            "leaves": leaves,
            "leaves_to_search": leaves if settings.leaves_to_search == "auto" else settings.leaves_to_search,
            "reorder": min(20 * settings.neighbours, len(gallery)) if settings.reorder == "auto" else settings.reorder,
        }
    )
    builder = scann.scann_ops_pybind.builder(
        np.ascontiguousarray(gallery, np.float32), min(settings.neighbours, len(gallery)), "dot_product"
    ).set_n_training_threads(1)  # with more of them, two builds are not the same bytes
    if kind == "tree":
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=most.leaves_to_search,
            training_sample_size=min(len(gallery), SAMPLE_PER_LEAF * leaves),
            min_partition_size=10,
            spherical=True,  # a leaf's centre is compared by inner product: a shorter one would be asked too late
            random_init=False,  # k-means++, which has a fixed seed; random starts have none
        )
    builder = builder.score_ah(settings.dimensions_per_block, anisotropic_quantization_threshold=0.2)
    built = ScannIndex(builder.reorder(most.reorder).build(), kind, rows, most, threads)
    _tune(built, gallery, settings)
    return built


def recall(index: Index, queries: NDArray, gallery: NDArray, nearest: NDArray[np.float32]) -> float:
    """Share of the exact nearest neighbours that ``index`` gives back.

    Args:
        queries: (q, d).
        gallery: (g, d), what the index was built over.
        nearest: (q, k), similarities of the exact nearest ones, best first; pictures as near as the last count as it.
    """
    found, _ = index.search(queries, nearest.shape[1])
    hits = 0
    for start in range(0, len(queries), 512):
        rows = slice(start, start + 512)
        near = gallery[np.maximum(found[rows], 0)].astype(np.float32)
        similar = np.einsum("qd,qkd->qk", queries[rows].astype(np.float32), near)
        hits += int(((similar >= nearest[rows, -1:] - 1e-5) & (found[rows] >= 0)).sum())
    return hits / nearest.size


def _leaves(settings: Settings, gallery: int) -> int:
    return max(int(2 * gallery**0.5), 1) if settings.leaves == "auto" else settings.leaves


def _tune(index: ScannIndex, gallery: NDArray, settings: Settings) -> None:
    """Put numbers in place of what ``settings`` leave ``auto``: first leaves, with room for what re-ordering loses."""
    leaves = index.kind == "tree" and settings.leaves_to_search == "auto"
    reorder = settings.reorder == "auto"
    if not (leaves or reorder):
        return
    asking = gallery[np.linspace(0, len(gallery) - 1, min(TUNED_ON, len(gallery))).astype(int)]
    others = min(settings.neighbours, len(gallery) - 1)
    nearest = search.exact(asking, gallery, others + 1)[1]

    def least(name: str, first: int, aim: float) -> float:
        """Set the least effort that reaches ``aim``, or as far as any; recall of the others: a picture finds itself."""
        best, chosen = -1.0, index.settings
        for effort in _rising(first, int(getattr(index.settings, name))):
            index.settings = index.settings.model_copy(update={name: effort})
            found = (recall(index, asking, gallery, nearest) * (others + 1) - 1) / others
            if found > best:
                best, chosen = found, index.settings
            if found >= aim:
                break
        index.settings = chosen
        return best

    aim = (1 + settings.recall) / 2 if reorder else settings.recall
    found = least("leaves_to_search", 1, aim) if leaves else 0.0
    if reorder:
        found = least("reorder", others, settings.recall)
    if found < settings.recall:
        log.warning(
            "the index finds %.2f%% of the nearest neighbours at its greatest effort; index.recall asks for %.2f%%. "
            "Lower index.dimensions_per_block, or give index.reorder or index.leaves_to_search a greater number",
            100 * found,
            100 * settings.recall,
        )


def _rising(first: int, last: int) -> list[int]:
    """Numbers from ``first`` to ``last``, each about a third more than the one before.

    >>> _rising(1, 10)
    [1, 2, 3, 4, 6, 8, 10]
    """
    numbers = [first]
    while numbers[-1] < last:
        numbers.append(min(max(numbers[-1] + 1, round(numbers[-1] * 4 / 3 + 0.2)), last))
    return numbers


def save(index: Index, folder: str | Path) -> None:
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
        "settings": index.settings.model_dump(),
    }
    write_json(folder / FACTS, facts)


def load(folder: str | Path) -> Index:
    """The index that `save` wrote, ready to search, on all of the machine's threads.

    Raises:
        UserError: a file is missing or damaged, or of another version.
    """
    from streetrecall import tables

    folder = Path(folder)
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["version"] != VERSION:
            raise UserError(f"{folder / FACTS}: version {facts['version']}, this program reads {VERSION}; index again")
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
        except Exception as error:  # ScaNN raises whatever its C++ side raised
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
