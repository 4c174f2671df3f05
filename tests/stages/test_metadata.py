from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakeprovider import FakeProvider
from killable import tiny_provider
from tinyarchive import of_archive
from tinyservice import TinyService, serving

from streetrecall import geo, tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.providers.base import FAILED, Coverage, Panorama
from streetrecall.stages import metadata
from streetrecall.store.ledger import Ledger

HERE = Path(__file__).parent


def grid(folder: Path, count: int) -> Path:
    """Pairs of points: the even one on its panorama, the odd one 11 m north of it."""
    frame = pd.DataFrame({"point_id": range(count)})
    frame["lat"] = (59.3 + (frame["point_id"] // 2) * 0.001 + 0.0001 * (frame["point_id"] % 2)).round(6)
    return tables.write(tables.GRID, frame.assign(lon=18.0), folder / "grid.parquet")


def reaching(params: Params, beyond_m: float) -> Params:
    return params.model_copy(update={"metadata": params.metadata.model_copy(update={"beyond_m": beyond_m})})


@pytest.fixture
def params(params: Params) -> Params:
    """Nothing beyond the grid is asked for, unless a test says so."""
    return reaching(params, 0.0)


def run(params: Params, provider: FakeProvider, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(metadata, "open_provider", lambda *_: provider)
    metadata.run(params, source, out / "panoramas.parquet", out / "no_coverage.parquet", out / "metrics.json")
    return json.loads((out / "metrics.json").read_text())


def test_each_panorama_once_with_its_nearest_point(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = FakeProvider()
    counts = run(params, provider, grid(tmp_path, 20), tmp_path, monkeypatch)
    found = tables.read(tables.PANORAMAS, tmp_path / "panoramas.parquet")
    gaps = tables.read(tables.NO_COVERAGE, tmp_path / "no_coverage.parquet")
    assert list(gaps["point_id"]) == [4, 9, 14, 19]
    assert set(gaps["status"]) == {"ZERO_RESULTS"}
    assert found["pano_id"].is_unique
    # Even points lie on their panorama, odd ones 11 m off; 4 and 14 found nothing, so 5 and 15 are nearest.
    assert sorted(found["point_id"]) == [0, 2, 5, 6, 8, 10, 12, 15, 16, 18]
    assert found.set_index("point_id").loc[5, "offset_m"] == pytest.approx(11.1, abs=0.1)
    assert found.set_index("point_id").loc[2, "offset_m"] == pytest.approx(0, abs=0.01)
    assert counts["panoramas"] == 10
    assert counts["points_with_panorama"] == 16
    assert counts["points_without_coverage"] == 4
    assert counts["points_never_asked"] == counts["points_failed"] == 0
    assert provider.closed


def test_a_second_run_asks_nothing_and_writes_the_same_bytes(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = grid(tmp_path, 20)
    run(params, FakeProvider(), source, tmp_path, monkeypatch)
    names = ("panoramas.parquet", "no_coverage.parquet", "metrics.json")
    before = [(tmp_path / name).read_bytes() for name in names]
    again = FakeProvider()
    run(params, again, source, tmp_path, monkeypatch)
    assert again.points.total() == 0
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_a_grown_grid_asks_the_new_points_alone(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(params, FakeProvider(), grid(tmp_path, 10), tmp_path, monkeypatch)
    again = FakeProvider()
    run(params, again, grid(tmp_path, 16), tmp_path, monkeypatch)
    assert sorted(again.points) == list(range(10, 16))
    wider = params.model_copy(update={"metadata": params.metadata.model_copy(update={"radius_m": 80.0})})
    all_over = FakeProvider()
    run(wider, all_over, grid(tmp_path, 16), tmp_path, monkeypatch)
    assert len(all_over.points) == 16


def test_a_new_snapshot_asks_every_point_again_and_keeps_the_old_answers(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(snapshot: str) -> Params:
        return params.model_copy(update={"metadata": params.metadata.model_copy(update={"snapshot": snapshot})})

    source = grid(tmp_path, 10)
    run(params, FakeProvider(), source, tmp_path, monkeypatch)
    next_year = FakeProvider()
    run(at("2027-11"), next_year, source, tmp_path, monkeypatch)
    assert next_year.points == dict.fromkeys(range(10), 1)
    for known in (at("2027-11"), params):
        run(known, next_year, source, tmp_path, monkeypatch)
    assert next_year.points.total() == 10
    with Ledger() as ledger:
        counts = {s.label: (s.points, s.points_with_panorama) for s in ledger.snapshots()}
    assert counts == {params.metadata.snapshot: (10, 8), "2027-11": (10, 8)}


class Flaky(FakeProvider):
    def coverage(self, points, radius_m):  # type: ignore[no-untyped-def]
        for answer in super().coverage(points, radius_m):
            yield Coverage(3, FAILED, None, "HTTP 500") if answer.point_id == 3 else answer


def test_a_point_without_answer_is_counted_and_asked_next_time(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = grid(tmp_path, 20)
    counts = run(params, Flaky(), source, tmp_path, monkeypatch)
    assert counts["points_failed"] == 1
    assert counts["points_without_coverage"] == 4
    assert "point 3: no answer: HTTP 500" in caplog.text
    again = FakeProvider()
    assert run(params, again, source, tmp_path, monkeypatch)["points_failed"] == 0
    assert again.points == {3: 1}


class Local(FakeProvider):
    """Like an archive: it has answers at some points only."""

    def coverage(self, points, radius_m):  # type: ignore[no-untyped-def]
        self.points.update(points["point_id"])
        yield Coverage(1, "OK", Panorama("a", 59.3005, 18.0, "", "", ""))
        yield Coverage(7, "NO_RESPONSE", None)


def test_a_local_provider_is_read_anew_and_leaves_points_unasked(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = grid(tmp_path, 20)
    for _ in range(2):
        counts = run(params, Local(network=False), source, tmp_path, monkeypatch)
        assert counts["points_never_asked"] == 18
        assert counts["panoramas_without_month"] == 1
    with Ledger() as ledger:
        assert ledger.answers("fake", params.metadata.snapshot, params.metadata.radius_m) == {}


class Street(FakeProvider):
    """A panorama every 10 m along a street from west to east, from 100 m west of the start to 100 m east of it."""

    def coverage(self, points, radius_m):  # type: ignore[no-untyped-def]
        (x0,), (y0,) = geo.project([59.3], [18.0], "EPSG:3006")
        x, y = geo.project(points["lat"], points["lon"], "EPSG:3006")
        for point_id, east, north in zip(points["point_id"], x - x0, y - y0, strict=True):
            self.points[point_id] += 1
            nearest = float(np.clip(round(east, -1), -100, 100)) + 0.0
            if np.hypot(east - nearest, north) > radius_m:
                yield Coverage(point_id, "ZERO_RESULTS", None)
                continue
            (lat,), (lon,) = geo.unproject([x0 + nearest], [y0], "EPSG:3006")
            yield Coverage(point_id, "OK", Panorama(f"pano{nearest:+.0f}", lat, lon, "", "", ""))


@pytest.mark.parametrize(("beyond_m", "reach"), [(0.0, 20), (36.0, 50), (66.0, 80)])
def test_panoramas_beyond_the_grid(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beyond_m: float, reach: int
) -> None:
    (x0,), (y0,) = geo.project([59.3], [18.0], "EPSG:3006")
    east, north = (10.0 * axis.ravel() for axis in np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)))
    lat, lon = geo.unproject(x0 + east, y0 + north, "EPSG:3006")
    points = pd.DataFrame({"point_id": range(25), "lat": lat, "lon": lon})
    source = tables.write(tables.GRID, points, tmp_path / "grid.parquet")
    provider = Street()
    counts = run(reaching(params, beyond_m), provider, source, tmp_path, monkeypatch)
    found = tables.read(tables.PANORAMAS, tmp_path / "panoramas.parquet").set_index("pano_id")
    assert set(found.index) == {f"pano{x:+.0f}" for x in range(-reach, reach + 1, 10)}
    assert sorted(found.index[~found["beyond"]]) == sorted(f"pano{x:+.0f}" for x in range(-20, 21, 10))
    assert counts["panoramas"] == 5 and counts["panoramas_beyond"] == len(found) - 5
    assert counts["points_beyond"] == provider.points.total() - 25
    assert found["offset_m"].max() == pytest.approx(max(0, reach - 20), abs=0.1)
    again = Street()
    run(reaching(params, beyond_m), again, source, tmp_path, monkeypatch)
    assert again.points.total() == 0


def test_points_far_beyond_a_fine_grid_are_those_of_one_pass(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    (x0,), (y0,) = geo.project([59.3], [18.0], "EPSG:3006")
    east, north = (10.0 * axis.ravel() for axis in np.meshgrid(np.arange(-6, 7), np.arange(-9, 10)))
    lat, lon = geo.unproject(x0 + east, y0 + north, "EPSG:3006")
    points = pd.DataFrame({"point_id": range(len(lat)), "lat": lat, "lon": lon})
    whole = metadata.points_beyond(points, reaching(params, 66.0))
    monkeypatch.setattr(metadata, "CANDIDATES_AT_ONCE", 500)
    pd.testing.assert_frame_equal(metadata.points_beyond(points, reaching(params, 66.0)), whole)


class Same(FakeProvider):
    """Ten points see each panorama; each answer is an object of its own, as read from JSON."""

    def coverage(self, points, radius_m):  # type: ignore[no-untyped-def]
        for point_id in points["point_id"].tolist():
            name = str(point_id // 10)
            panorama = Panorama(name * 8, 59.3, 18.0 + point_id // 10 / 1e4, "2023-" + "05", "licence" + name[:0], "")
            yield Coverage(point_id, "O" + "K", panorama)


@pytest.mark.parametrize("known", [False, True])
def test_memory_by_point_is_small(params: Params, known: bool) -> None:
    """Asked and read from the ledger alike. What is kept of a point: its answer, and a share of its panorama."""
    count = 20_000
    points = pd.DataFrame({"point_id": range(count), "lat": 59.3, "lon": 18.0 + np.arange(count) / 1e5})
    if known:
        metadata.ask(params, Same(), points)
    tracemalloc.start()
    answers = metadata.ask(params, Same(), points)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(answers) == count
    assert len({id(answer.panorama) for answer in answers}) == count / 10
    assert kept / count < 250
    assert peak / count < 700


class Nothing(FakeProvider):
    def coverage(self, points, radius_m):  # type: ignore[no-untyped-def]
        for point_id in points["point_id"]:
            yield Coverage(point_id, "ZERO_RESULTS", None)


def test_a_city_without_imagery_is_an_error(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Nothing()
    with pytest.raises(UserError, match="no panorama within"):
        run(params, nothing, grid(tmp_path, 5), tmp_path, monkeypatch)
    assert nothing.closed
    assert not (tmp_path / "panoramas.parquet").exists()


def test_a_run_killed_at_any_moment_goes_on_and_asks_little_twice(tmp_path: Path, params: Params) -> None:
    """With one thread nothing but the request under way at the kill can be asked twice; here there are eight."""
    source = grid(tmp_path, 200)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    with serving(TinyService()) as service:
        command = [
            sys.executable,
            str(HERE.parent / "killable.py"),
            "metadata",
            str(source),
            str(tmp_path),
            service.base,
        ]
        kills = 0
        for enough in (5, 80):
            child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
            while service.asked.total() < enough and child.poll() is None:
                service.release.wait(0.005)
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
        assert len(service.asked) == 200
        assert service.asked.total() <= 200 + kills * params.network.threads
        total = service.asked.total()
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
        assert service.asked.total() == total
    assert json.loads((tmp_path / "metrics.json").read_text())["points_with_panorama"] == 200


def test_no_key_in_anything_written(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(TinyService()) as service:
        run(params, tiny_provider(params, service.base), grid(tmp_path, 20), tmp_path, monkeypatch)  # type: ignore[arg-type]
        assert "AIzaTiny" in service.queries[0]
    written = [p for folder in (tmp_path, Path(os.environ["STREETRECALL_STORE"])) for p in folder.rglob("*")]
    assert any(p.name == "ledger.sqlite" for p in written)
    for path in written:
        assert not path.is_file() or b"AIzaTiny" not in path.read_bytes()


@pytest.mark.archive
def test_the_real_archive(tmp_path: Path, params: Params, archive: Path) -> None:
    from streetrecall.stages import grid as grid_stage

    real = of_archive(params, archive)
    source = tmp_path / "grid.parquet"
    grid_stage.run(real, HERE.parents[1] / "data" / "cities", source, tmp_path / "grid.png", tmp_path / "g.json")
    metadata.run(real, source, tmp_path / "p.parquet", tmp_path / "n.parquet", tmp_path / "m.json")
    counts = json.loads((tmp_path / "m.json").read_text())
    assert (counts["panoramas"], counts["points_without_coverage"]) == (6562, 15485)
    assert counts["points_never_asked"] == 287_367 - 6562 - 15_485
    assert counts["offset_m"] == {"median": 12.91, "p95": 42.76, "max": 208.59}
