"""The benchmarks run on very small inputs and print what they promise."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from streetrecall import tables
from streetrecall.benchmarks import check, command, growth, index, page, table
from streetrecall.benchmarks.rows import Row
from streetrecall.errors import UserError
from streetrecall.geo import project, unproject
from streetrecall.params.edit import override
from streetrecall.params.schema import Level, load
from streetrecall.providers.browser.chromium import find_browser
from streetrecall.stages.order import order

ROOT = Path(__file__).parents[2]


def bench_of(name: str, **sizes: object) -> str:
    """What a benchmark prints, in a process of its own."""
    command = [sys.executable, "-m", "streetrecall.cli", "bench", name, *[f"--{k}={v}" for k, v in sizes.items()]]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.slow
def test_describing_is_timed_beside_other_libraries(tmp_path: Path) -> None:
    said = bench_of("embed", images=8, batch=4, rows=tmp_path / "rows.json")
    rows = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert all(row.ratio and row.ratio > 0 and row.task in said for row in rows)
    peers = ["TensorFlow, 2 threads, batches of 4", "LiteRT, 2 threads, loop"]
    if find_spec("tf2onnx"):
        peers.append("ONNX Runtime, 2 threads, loop")
    else:
        assert "no row for ONNX Runtime: it needs the packages onnxruntime and tf2onnx" in said
    assert [row.peer for row in rows] == peers


@pytest.mark.slow
@pytest.mark.parametrize("gallery", [4000, 200])  # 200 are searched exactly: there is no tree to tune
def test_all_indexes_are_timed_at_the_recall_that_is_requested(gallery: int, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("hnswlib")
    bench_of("index", gallery=gallery, dimensions=16, queries=50, rows=tmp_path / "rows.json")
    rows = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert [row.peer for row in rows] == ["exact, NumPy", "faiss Flat", "faiss IVF", "faiss HNSW32", "hnswlib, M 32"]
    for row in rows:
        recalls = [float(text) for text in re.findall(r"\d\.\d{3}", row.note)]
        assert row.ratio and row.ratio > 0 and len(recalls) == 2 and min(recalls) >= 0.97


def test_descriptors_that_are_used_again_are_near_the_ones_they_come_from() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((30, 256))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    made = index.replicated(base.astype(np.float16), 70)
    assert made.shape == (70, 256) and np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert ((made @ base.T).argmax(axis=1) == np.arange(70) % 30).all()
    assert len(np.unique(made, axis=0)) == 70


def test_real_descriptors_are_those_of_the_last_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "REAL", tmp_path)
    asked = argparse.Namespace(real=1, gallery=25, dimensions=8, queries=3)
    with pytest.raises(UserError, match="has no descriptors of views and photos"):
        index.vectors(asked)
    unit = np.eye(10, dtype=np.float16)
    np.save(tmp_path / "views.npy", unit)
    np.save(tmp_path / "photos.npy", unit[:0])
    assert index.described() is None  # a collection without photos
    np.save(tmp_path / "photos.npy", unit[:4])
    gallery, queries, kind = index.vectors(asked)
    assert gallery.shape == (25, 10) and np.array_equal(queries, unit[:4]) and kind.startswith("descriptors (10,")


def test_of_several_indexes_the_fastest_that_reaches_the_recall_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index is searched with rising effort only until it reaches the recall."""
    truth, queries = np.arange(50).reshape(5, 10), np.zeros((5, 2), np.float32)
    took: dict[object, float] = {}
    asked: list[str] = []

    def search(name: str, right: int, seconds: float) -> tuple[str, index.Search]:
        def found(_: np.ndarray) -> np.ndarray:
            asked.append(name)
            return np.where(np.arange(10) < right, truth, -1)

        took[found] = seconds
        return name, found

    monkeypatch.setattr(index, "best_of", lambda _, work: took[work.func])
    slow = [search("poor", 5, 1.0), search("slow", 10, 9.0), search("never", 10, 0.0)]
    assert index._fastest([slow, [search("fast", 10, 2.0)]], queries, truth)[0] == "fast"
    assert index._fastest([slow, [search("missing", 9, 0.0)]], queries, truth)[0] == "slow"
    assert index._fastest([[search("some", 3, 0.0), search("most", 8, 0.0)]], queries, truth)[0] == "most"
    assert "never" not in asked


@pytest.mark.slow
def test_a_push_of_shards_is_timed_beside_one_of_loose_files(tmp_path: Path) -> None:
    said = bench_of("push", pictures=20, size=200, rows=tmp_path / "rows.json")
    (row,) = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert row.peer == "dvc push of loose files" and row.ratio and row.ratio > 0 and row.task in said


def test_the_share_of_waiting_is_that_of_the_time_and_not_of_the_epochs() -> None:
    """A slow epoch counts for more: 1 s of the 10 s of an epoch, and 1 s of the 2 s of another."""
    row = growth.training_row(pd.DataFrame({"images_per_second": [10.0, 50.0], "waiting": [0.1, 0.5]}))
    assert row.note == "waits 16.7% of its time for data"
    assert row.ratio == pytest.approx(10 / 12)
    with pytest.raises(UserError, match="no epoch is trained"):
        growth.training_row(pd.DataFrame({"images_per_second": [], "waiting": []}))


def test_a_quick_run_has_valid_parameters_of_less_work(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    before = load(ROOT / "params.yaml")
    assert growth.shortened(before, 0, False) == {}
    override(tmp_path / "params.yaml", growth.shortened(before, 7, True))
    after = load(tmp_path / "params.yaml")
    assert [(p.steps, p.epochs) for p in after.train.views.phases] == [
        (7, min(p.epochs, 2)) for p in before.train.views.phases
    ]
    assert after.train.head.dimensions < before.train.head.dimensions
    assert after.views.directions < before.views.directions
    override(tmp_path / "params.yaml", growth.shortened(before, 9, False))
    assert {p.steps for p in load(tmp_path / "params.yaml").train.views.phases} == {9}


def test_every_part_of_the_table_takes_its_options() -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    for name, options in [*table.PARTS.items(), *table.SMALL.items(), ("index", table.ON_REAL)]:
        assert parser.parse_args([name, *options]).benchmark == name


def test_the_times_of_stages_are_read_from_what_dvc_says() -> None:
    """A stage ends where DVC says something of the next one, whether that one runs or not."""
    said = [
        "'data/sources/dvc.yaml' didn't change, skipping\n",
        "Stage 'grid' didn't change, skipping\n",
        "Running stage 'order':\n",
        "> streetrecall order\n",
        "Stage 'check_locations' is cached - skipping run, checking out outputs\n",
        "Running stage 'index':\n",
        "25 views: 2 described\n",
    ]
    now = iter((0.0, 1.0, 3.0, 10.0, 12.0, 20.0))  # the start, each line about a stage, the end
    assert growth.timed(said, lambda: next(now)) == growth.Run(20.0, {"order": 7.0, "index": 8.0})


def test_the_radius_is_the_one_that_leaves_the_share_of_places_to_add() -> None:
    params = load(ROOT / "params.yaml")
    rng = np.random.default_rng(2)
    (x,), (y,) = project([params.order.start[0]], [params.order.start[1]], params.city.crs)
    lat, lon = unproject(x + rng.uniform(-110, 110, 270), y + rng.uniform(-110, 110, 270), params.city.crs)
    panoramas = pd.DataFrame({"pano_id": [f"p{i}" for i in range(270)], "lat": lat, "lon": lon, "month": "2020-01"})
    panoramas["beyond"] = False
    fewer, more = growth.levels(panoramas, params, 0.1)
    assert more[:-1] == fewer and more[-1]["radius_m"] == 5.0 < fewer[-1]["radius_m"]
    count = []
    for levels in (fewer, more):
        settings = params.order.model_copy(update={"levels": [Level(**level) for level in levels]})
        found = order(panoramas, params.model_copy(update={"order": settings}))
        count.append((found["split"] == "gallery").sum())
    assert count[1] / count[0] == pytest.approx(1.1, abs=0.03)


def test_the_rectangle_has_the_size_that_is_asked_for() -> None:
    params = load(ROOT / "params.yaml")
    ring = np.array(growth.rectangle(params, 260, 220)["coordinates"][0])
    xy = np.column_stack(project(ring[:, 1], ring[:, 0], params.city.crs))
    assert np.ptp(xy, axis=0) == pytest.approx([260, 220], abs=0.3)
    assert xy[:4].mean(axis=0) == pytest.approx(
        np.ravel(project([params.order.start[0]], [params.order.start[1]], params.city.crs)), abs=0.3
    )


def test_vectors_are_as_near_as_the_benchmark_says() -> None:
    vectors = index.clustered(4000, 256, 0)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similar = np.sort(vectors[:50] @ vectors.T, axis=1)[:, ::-1]
    assert similar[:, 1].mean() == pytest.approx(0.7, abs=0.06)


@pytest.mark.slow
def test_grid_order_and_crop_are_timed_beside_their_peers(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    said = bench_of("prepare", candidates=10_000, panoramas=200, frames=4, rows=tmp_path / "rows.json")
    rows = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert [row.task.split()[0] for row in rows] == ["grid", "order", "order", "crop"]
    assert all(row.ratio and row.ratio > 0 and row.task in said for row in rows)


@pytest.mark.slow
@pytest.mark.browser
def test_captures_are_timed_beside_a_plain_loop(tmp_path: Path) -> None:
    if find_browser() is None:
        pytest.skip("Chromium is not installed")
    said = bench_of("scrape", views=4, rows=tmp_path / "rows.json")
    rows = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert rows and all(row.ratio and row.ratio > 0 and row.note in said for row in rows)
    assert {row.peer for row in rows} == {"plain Selenium loop"}


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_is_painted_and_its_map_moves(tmp_path: Path) -> None:
    if find_browser() is None:
        pytest.skip("there is no Chromium on PATH")
    said = bench_of("page", places=30, pictures=120, loads=1, rows=tmp_path / "rows.json")
    rows = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert [row.task for row in rows] == [f"page, {view}, 30 places, 120 pictures" for view in ("results", "time")]
    assert all(row.speed > 0 for row in rows) and "first paint" in said


def test_a_project_of_any_size_is_made_whole(tmp_path: Path) -> None:
    folder = page.make_project(tmp_path / "made", places=7, pictures=30)
    images = tables.read(tables.IMAGES, folder / "data/crops/images.parquet")
    queries = tables.read(tables.PREDICTIONS, folder / "data/results/queries.parquet")
    assert (len(images), images["place"].nunique(), len(queries)) == (30, 7, 30)
    assert images.groupby("place")[["date_index", "direction"]].apply(lambda rows: not rows.duplicated().any()).all()
    with pytest.raises(UserError, match="at least one for each of the 31 places"):
        page.make_project(tmp_path / "few", places=31, pictures=30)


@pytest.mark.slow
def test_the_order_of_many_panoramas_is_timed_with_its_memory(tmp_path: Path) -> None:
    said = bench_of("scale", panoramas=2500, rows=tmp_path / "rows.json")
    (row,) = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert row.task == "order of 2,500 panoramas" and row.task in said
    assert re.fullmatch(r"2,\d{3} places; peak memory 0\.\d GB, 0\.\d GB of it for the table", row.note)


def test_the_page_is_the_table_in_the_json() -> None:
    """Both are written by one run of `make bench`."""
    if not (ROOT / table.DATA).exists():
        pytest.skip(f"{table.DATA} is missing: make bench writes it")
    content = json.loads((ROOT / table.DATA).read_text())
    rows, small = table.rows_of(content["rows"]), table.rows_of(content["small"])
    assert (ROOT / table.PAGE).read_text() == table.page(rows, small, content["machine"])
    assert {row.task.split()[0] for row in rows} >= {
        "grid",
        "order",
        "crop",
        "scrape",
        "train",
        "describe",
        "search",
        "dvc",
    }
    assert {row.task.split()[0] for row in small} == {"grid", "order", "crop"}


def table_with(folder: Path, **ratios: float) -> Path:
    path = folder / "benchmarks.json"
    rows = [asdict(Row(task, "point", ratio, "peer", 1.0)) | {"ratio": ratio} for task, ratio in ratios.items()]
    path.write_text(json.dumps({"small": rows}))
    return path


def test_a_ratio_that_fell_by_more_than_a_third_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "DATA", table_with(tmp_path, a=3.0, b=4.0))
    measured = iter([[1.0, 9.0], [2.1, 1.0], [1.9, 1.0], [1.8, 8.0]])

    def measure(parts: object, params: object) -> list[Row]:
        return [Row(name, "point", speed, "peer", 1.0) for name, speed in zip("ab", next(measured), strict=True)]

    monkeypatch.setattr(table, "measure", measure)
    check.run(argparse.Namespace(tries=3, params="params.yaml"))  # the best of each counts, and two tries do
    assert "2.1" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"more than a third: a, beside peer \(1\.9, was 3\)\."):
        check.run(argparse.Namespace(tries=2, params="params.yaml"))


def test_without_a_committed_table_the_check_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make bench"):
        check.committed_ratios(tmp_path / "benchmarks.json")
    (tmp_path / "benchmarks.json").write_text("{}")
    with pytest.raises(UserError, match=r"no table of benchmarks.*make bench"):
        check.committed_ratios(tmp_path / "benchmarks.json")
