"""The index finds what exact search finds, before and after saving, with ScaNN or without."""

from __future__ import annotations

import logging
import platform
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Index, Params
from streetrecall.retrieval import exact as search
from streetrecall.retrieval import index as indexes
from streetrecall.retrieval import tuning

GALLERY, QUERIES = 1500, 60


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, pd.DataFrame]:
    """Descriptors in clusters, as pictures of places are, and their rows."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((100, 32))
    values = centres[rng.integers(0, 100, GALLERY + QUERIES)] + 0.4 * rng.standard_normal((GALLERY + QUERIES, 32))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    rows = pd.DataFrame({"image_id": np.arange(len(values)), "place": 0, "direction": 0, "month": "2020-01"})
    rows = rows.assign(split="test", subset="test_v1", lat=0.0, lon=0.0, x=0.0, y=0.0)
    rows["role"] = np.where(np.arange(len(values)) % 26 == 0, "query", "gallery")
    return values.astype(np.float16), rows


@pytest.mark.parametrize(
    ("lacks", "said"),
    [("avx2", "needs a processor with AVX2"), ("module", r"cannot be imported \(.*scann.*\)"), ("", None)],
)
def test_scann_is_used_if_it_can_run(
    lacks: str, said: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(indexes, "_has_avx2", lambda: lacks != "avx2")
    if lacks == "module":
        monkeypatch.setitem(sys.modules, "scann", None)
    with caplog.at_level(logging.INFO):
        module = indexes.scann_module()
    assert (module is None) == (said is not None)
    assert re.search(f"ScaNN {said}: using exact search" if said else "^$", caplog.text)


def settings(params: Params, kind: str) -> Index:
    return params.index.model_copy(update={"kind": kind})


def store(folder: Path, values: np.ndarray, rows: pd.DataFrame, chosen: Index) -> indexes.Index:
    gallery = np.flatnonzero(rows["role"] == "gallery")
    built = indexes.build(values[gallery], gallery, chosen, threads=2)
    folder.mkdir()
    np.save(folder / indexes.DESCRIPTORS, values)
    tables.write(tables.DESCRIPTORS, rows, folder / indexes.ROWS)
    indexes.save(built, folder)
    return built


@pytest.mark.parametrize("kind", ["exact", "ah", "tree"])
def test_it_finds_the_nearest_and_reloads_elsewhere_with_the_same_answers(
    kind: str, params: Params, data: tuple[np.ndarray, pd.DataFrame], tmp_path: Path
) -> None:
    values, rows = data
    chosen = settings(params, kind)
    built = store(tmp_path / "first", values, rows, chosen)
    queries = values[rows["role"] == "query"].astype(np.float32)
    found, similar = built.search(queries, 10)
    truth, _ = search.exact(queries, values[built.rows], 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)])
    assert recall >= 0.99
    exact = np.einsum("qd,qkd->qk", queries, values[built.rows].astype(np.float32)[found])
    assert np.allclose(similar, exact, atol=1e-3)
    shutil.move(tmp_path / "first", tmp_path / "second")
    again = indexes.load(tmp_path / "second")
    assert again.kind == built.kind
    assert np.array_equal(again.rows, built.rows)
    for old, new in zip((found, similar), again.search(queries, 10), strict=True):
        assert np.array_equal(old, new)


@pytest.mark.parametrize("kind", ["exact", "ah", "tree"])
def test_it_loads_in_less_than_a_second(kind: str, params: Params, tmp_path: Path) -> None:
    indexes.scann_module()  # its import does not count
    rng = np.random.default_rng(4)
    values = rng.standard_normal((20_000, 64)).astype(np.float32)
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)
    rows = pd.DataFrame({"image_id": np.arange(len(values)), "place": 0, "direction": 0, "month": "2020-01"})
    rows = rows.assign(split="test", subset="test_v1", lat=0.0, lon=0.0, x=0.0, y=0.0, role="gallery")
    effort = {"leaves": 100, "leaves_to_search": 10, "reorder": 50}
    store(tmp_path / "index", values, rows, settings(params, kind).model_copy(update=effort))
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert indexes.load(tmp_path / "index").kind == kind
        took.append(time.perf_counter() - began)
    assert min(took) < 1


def others_found(index: indexes.Index, gallery: np.ndarray, leaves: int, candidates: int) -> float:
    """Share of their 20 nearest others that all pictures find with that effort."""
    chosen = index.settings
    index.settings = chosen.model_copy(update={"leaves_to_search": leaves, "reorder": candidates})
    found = indexes.recall(index, gallery, gallery, search.exact(gallery, gallery, 21)[1])
    index.settings = chosen
    return (found * 21 - 1) / 20


@pytest.mark.parametrize("asked", [0.5, 0.9, 0.999])
def test_auto_becomes_the_least_work_that_reaches_the_recall(
    asked: float, params: Params, data: tuple[np.ndarray, pd.DataFrame], caplog: pytest.LogCaptureFixture
) -> None:
    """Fewer candidates in the same leaves do not reach it, nor does any effort of less work in fewer leaves."""
    values, rows = data
    gallery = values[rows["role"] == "gallery"][:1000]  # so that all of them ask
    chosen = settings(params, "tree").model_copy(update={"recall": asked})
    built = indexes.build(gallery, np.arange(1000), chosen, threads=1)
    leaves, searched, reorder = (int(getattr(built.settings, n)) for n in ("leaves", "leaves_to_search", "reorder"))
    assert leaves in (15, 31, 63)
    assert others_found(built, gallery, searched, reorder) >= asked
    assert reorder == 20 or others_found(built, gallery, searched, reorder - 1) < asked
    size = tuning.Gallery(1000, 32, built.settings.dimensions_per_block)
    spent = size.tree(leaves, searched) + size.reordering(reorder)
    for fewer in range(1, searched):
        affordable = int((spent - size.tree(leaves, fewer)) / size.reordering(1))
        assert others_found(built, gallery, fewer, affordable - 1) < asked
    assert not caplog.text


def test_a_recall_that_cannot_be_reached_is_reported(
    params: Params, data: tuple[np.ndarray, pd.DataFrame], caplog: pytest.LogCaptureFixture
) -> None:
    values, rows = data
    gallery = np.flatnonzero(rows["role"] == "gallery")
    poor = settings(params, "tree").model_copy(update={"leaves": 75, "leaves_to_search": 1, "recall": 0.99})
    assert indexes.build(values[gallery], gallery, poor, threads=1).settings.leaves_to_search == 1
    assert "index.recall asks for 99.00%" in caplog.text


@pytest.mark.parametrize(("kinds", "expected"), [(100, "tree"), (0, "ah")])
def test_auto_has_a_tree_only_where_it_saves_work(kinds: int, expected: str, params: Params) -> None:
    """Vectors without any order have neighbours in all leaves, so a tree saves nothing."""
    rng = np.random.default_rng(3)
    values = rng.standard_normal((1500, 64))
    if kinds:
        values = rng.standard_normal((kinds, 64))[rng.integers(0, kinds, 1500)] + 0.3 * values
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)
    auto = params.index.model_copy(update={"kind": "auto", "exact_up_to": 1000})
    assert indexes.build(values, np.arange(1500), auto, threads=1).kind == expected


@pytest.mark.parametrize("asked", [0.9, 0.999])
def test_leaves_that_do_not_raise_recall_are_not_searched(
    asked: float, params: Params, data: tuple[np.ndarray, pd.DataFrame]
) -> None:
    """With a number for ``reorder`` the recall may stay below what is asked, however many leaves are searched."""
    values, rows = data
    gallery = np.flatnonzero(rows["role"] == "gallery")
    chosen = settings(params, "tree").model_copy(update={"recall": asked, "reorder": 24, "leaves": 60})
    built = indexes.build(values[gallery], gallery, chosen, threads=1)

    def recall(leaves: int) -> float:
        index = indexes.build(
            values[gallery], gallery, chosen.model_copy(update={"leaves_to_search": leaves}), threads=1
        )
        nearest = search.exact(values[gallery], values[gallery], 21)[1]
        return (indexes.recall(index, values[gallery], values[gallery], nearest) * 21 - 1) / 20

    assert built.settings.leaves_to_search < 60
    assert recall(built.settings.leaves_to_search) > min(asked, recall(60)) - 0.005


@pytest.mark.parametrize("kind", ["exact", "ah", "tree"])
def test_without_queries_there_are_no_answers(kind: str, params: Params, data: tuple[np.ndarray, pd.DataFrame]) -> None:
    values, rows = data
    gallery = np.flatnonzero(rows["role"] == "gallery")
    found, similar = indexes.build(values[gallery], gallery, settings(params, kind), 1).search(values[:0], 5)
    assert found.shape == similar.shape == (0, 5)
    assert found.dtype == np.int64


def test_fixed_settings_are_kept(params: Params, data: tuple[np.ndarray, pd.DataFrame], tmp_path: Path) -> None:
    fixed = settings(params, "tree").model_copy(update={"leaves": 30, "leaves_to_search": 7, "reorder": 50})
    built = store(tmp_path / "index", *data, fixed)
    assert built.settings == indexes.load(tmp_path / "index").settings == fixed


@pytest.mark.parametrize("kind", ["exact", "ah", "tree"])
def test_two_builds_write_the_same_bytes(
    kind: str, params: Params, data: tuple[np.ndarray, pd.DataFrame], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        store(tmp_path / name, *data, settings(params, kind))
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file())
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_more_neighbours_than_pictures_are_padded_alike(params: Params) -> None:
    values = np.eye(4, dtype=np.float16)
    found, similar = indexes.build(values, np.arange(4), params.index, 1).search(values[:1], 10)
    assert found.shape == similar.shape == (1, 4)


def test_the_kind_follows_the_gallery(params: Params) -> None:
    auto = params.index.model_copy(update={"kind": "auto"})
    assert [indexes.choose(auto, n) for n in (100, 20_000, 20_001)] == ["exact", "exact", "tree"]
    assert indexes.choose(auto.model_copy(update={"leaves": 6000}), 20_001) == "ah"  # fewer than four pictures a leaf
    for few in (1, 10, 64, 255):  # too few for a quantiser to learn from
        for kind, leaves in (("ah", "auto"), ("tree", "auto"), ("tree", 1)):
            assert indexes.choose(auto.model_copy(update={"kind": kind, "leaves": leaves}), few) == "exact"
    assert indexes.choose(auto.model_copy(update={"kind": "tree"}), 256) == "tree"


def test_without_scann_the_search_is_exact(
    params: Params,
    data: tuple[np.ndarray, pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    values, rows = data
    with_scann = store(tmp_path / "index", values, rows, settings(params, "ah"))
    monkeypatch.setattr(sys, "platform", "darwin")
    with caplog.at_level(logging.INFO):
        without = indexes.load(tmp_path / "index")
    assert "using exact search" in caplog.text
    queries = values[rows["role"] == "query"]
    assert (without.search(queries, 1)[0] == with_scann.search(queries, 1)[0]).mean() > 0.98
    caplog.clear()
    with caplog.at_level(logging.INFO):
        built = store(tmp_path / "built", values, rows, settings(params, "tree"))
    assert built.kind == indexes.load(tmp_path / "built").kind == "exact"
    assert "using exact search" in caplog.text
    assert np.array_equal(built.search(queries, 5)[0], without.search(queries, 5)[0])


def test_damage_is_named(params: Params, data: tuple[np.ndarray, pd.DataFrame], tmp_path: Path) -> None:
    store(tmp_path / "index", *data, settings(params, "exact"))
    (tmp_path / "index" / indexes.DESCRIPTORS).unlink()
    with pytest.raises(UserError, match=r"descriptors\.npy"):
        indexes.load(tmp_path / "index")
    (tmp_path / "index" / indexes.FACTS).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        indexes.load(tmp_path / "index")
    with pytest.raises(UserError, match="no such file"):
        indexes.load(tmp_path / "none")
