"""The grid: the original's points exactly, any polygon's points by definition, the same bytes each time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from functools import partial
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tinyarchive import of_archive

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.figures.grid import draw_grid
from streetrecall.geo import GEOD, distance_m
from streetrecall.params.schema import Params
from streetrecall.stages import grid

ROOT = Path(__file__).parents[2]
CITIES = ROOT / "data" / "cities"
LEVELS = "data_collection_process/create_ordered_locations_based_on_buffers/buffer_csvs"
GAPS = "data_collection_process/filter_for_actual_GSV_locations_using_google_api/csvs/no_response_locations.csv"


def city(params: Params, name: str, spacing_m: float = 10.0) -> Params:
    return params.model_copy(
        update={
            "city": params.city.model_copy(update={"name": name}),
            "grid": params.grid.model_copy(update={"spacing_m": spacing_m}),
        }
    )


def lay(params: Params, out: Path) -> pd.DataFrame:
    grid.run(params, CITIES, out / "grid.parquet", out / "grid.png", out / "grid.json")
    return tables.read(tables.GRID, out / "grid.parquet")


@pytest.mark.archive
def test_the_original_grid_exactly(params: Params, archive: Path, tmp_path: Path) -> None:
    points = lay(of_archive(params, archive), tmp_path)
    counts = json.loads((tmp_path / "grid.json").read_text())
    assert (counts["candidates"], counts["points"], len(points)) == (852_240, 287_367, 287_367)
    assert points["point_id"].tolist() == list(range(len(points)))
    recorded = pd.concat([pd.read_csv(f) for f in [archive / GAPS, *sorted((archive / LEVELS).glob("*.csv"))]])
    asked = recorded["Location"].str.split(", ", expand=True).astype(float).to_numpy()
    assert len(asked) == 15_485 + 6_562
    assert (points[["lat", "lon"]].to_numpy()[recorded["Location_idx"]] == asked).all()


@pytest.mark.archive
@pytest.mark.slow
def test_the_whole_process_is_fast_and_small(archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text().replace("provider: simulated", "provider: archive")
    own.write_text(text.replace("path: data/archive", f"path: {archive}"))
    command = [sys.executable, "-m", "streetrecall.cli", "grid", "--params", own, "--cities", CITIES]
    command += ["--grid", tmp_path / "g.parquet", "--plot", tmp_path / "g.png"]
    # By way of a small process: a child's peak memory begins with that of the process which forked it.
    launch = "import resource as r, subprocess as s, sys; s.run(sys.argv[1:], check=True); "
    launch += "u = r.getrusage(r.RUSAGE_CHILDREN); print(u.ru_utime + u.ru_stime, u.ru_maxrss)"

    def cost(*command: object) -> tuple[float, float]:
        """Seconds of processor time (the clock counts other work on the machine too); kilobytes of peak memory."""
        whole = [sys.executable, "-c", launch, *map(str, command)]
        done = subprocess.run(whole, check=True, capture_output=True, text=True)
        seconds, peak = map(float, done.stdout.split()[-2:])
        return seconds, peak

    # Loading the libraries takes most of the time; it is the measure of how fast this machine is.
    loading, _ = cost(sys.executable, "-c", "import streetrecall.stages.grid, matplotlib.pyplot")
    seconds, peak = cost(*command, "--metrics", tmp_path / "g.json")
    assert seconds < 2.5 * loading
    assert peak * (1 if sys.platform == "darwin" else 1024) < 1e9


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-300, 300), st.floats(-300, 300)), min_size=3, max_size=8),
    st.sampled_from([5.0, 10.0, 17.0]),
)
def test_every_candidate_inside_and_no_other(corners: list[tuple[float, float]], spacing: float) -> None:
    ring = [(18.07 + x / 57_000, 59.32 + y / 111_000) for x, y in corners]
    polygon = shapely.MultiPolygon([p]) if (p := shapely.Polygon(ring).convex_hull).area > 1e-8 else None
    if polygon is None:
        return
    columns, rows = grid.axes(polygon, spacing)
    points = grid.points_inside(polygon, columns, rows)
    naive = [(y, x) for x in columns for y in rows if polygon.contains(shapely.Point(x, y))]
    assert list(zip(points["lat"], points["lon"], strict=True)) == naive
    west, south, _, north = polygon.bounds
    if len(rows) > 1:
        assert distance_m(rows[0], west, rows[1], west) >= spacing * (1 - 1e-3)
        assert rows[0] == south and rows[-1] < north
    if len(columns) > 1:
        assert GEOD.inv(columns[0], north, columns[1], north)[2] >= spacing * (1 - 1e-3)


corner = st.tuples(st.integers(-30, 30), st.integers(-30, 30))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(corner, min_size=3, max_size=7), min_size=1, max_size=3), st.sampled_from([1, 7, 1024]))
def test_blocks_find_what_a_test_of_every_candidate_finds(rings: list[list[tuple[int, int]]], block: int) -> None:
    """Also for rings that cross, as rounding makes them: all that counts is which side of the outline a point lies."""
    polygon = shapely.MultiPolygon([shapely.Polygon([(18 + x * 1e-4, 59 + y * 1e-4) for x, y in r]) for r in rings])
    columns, rows = grid.axes(polygon, 10.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "_BLOCK", block)
        points = grid.points_inside(polygon, columns, rows)
    lon, lat = np.repeat(columns, len(rows)), np.tile(rows, len(columns))
    inside = shapely.contains_xy(polygon, lon, lat)
    assert points["lon"].tolist() == lon[inside].tolist()
    assert points["lat"].tolist() == lat[inside].tolist()


@pytest.mark.parametrize(
    "bounds",
    [(18, 59, 18.5, 60), (18, -35, 18.5, -34), (36, -0.3, 36.4, 0.2), (-30, 50, 40, 50.01), (170, -50, 240, -49.99)],
)
def test_columns_are_nowhere_nearer_than_the_spacing(bounds: tuple[float, float, float, float]) -> None:
    columns, _ = grid.axes(shapely.MultiPolygon([shapely.box(*bounds)]), 10.0)
    apart = [float(distance_m(lat, columns[0], lat, columns[1])) for lat in (bounds[1], bounds[3])]
    assert min(apart) == pytest.approx(10.0, rel=2e-3) and min(apart) > 9.999


def test_distances_that_are_not_even_are_named(
    params: Params, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    square = {"type": "Polygon", "coordinates": [[[18.06, 59.32], [18.07, 59.32], [18.07, 59.33], [18.06, 59.33]]]}
    tall = {"type": "Polygon", "coordinates": [[[18.06, 56], [18.08, 56], [18.08, 62], [18.06, 62]]]}
    path = tmp_path / "city.geojson"
    for content, crs, says in [
        (square, "EPSG:3006", ""),
        (square, "EPSG:3035", "EPSG:3035 changes distances in this city by up to 0.3 %"),
        (tall, "EPSG:3006", "latitude"),
    ]:
        caplog.clear()
        path.write_text(json.dumps(content))
        changed = city(params, "auto", spacing_m=100.0)
        grid.lay(changed.model_copy(update={"city": params.city.model_copy(update={"crs": crs})}), path)
        assert len(caplog.records) == bool(says)
        assert says in caplog.text


def test_a_picture_of_parts_that_lie_far_apart(tmp_path: Path) -> None:
    polygon = shapely.MultiPolygon([shapely.box(12, 1, 12.3, 1.01), shapely.box(16, 70, 16.3, 70.01)])
    points = grid.points_inside(polygon, *grid.axes(polygon, 10.0))
    tracemalloc.start()
    draw_grid(points, polygon, "EPSG:32633", 10.0, tmp_path / "grid.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(points) > 20_000  # so many are drawn as a density
    assert peak < 1e9


def test_chunks_change_nothing(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lay(city(params, "auto"), tmp_path)
    monkeypatch.setattr(grid, "_BLOCK", 7)
    pd.testing.assert_frame_equal(lay(city(params, "auto"), tmp_path), whole)


def test_geoparquet_that_others_read_and_same_bytes(params: Params, tmp_path: Path) -> None:
    points = lay(city(params, "stockholm-district"), tmp_path / "a")
    read = geopandas.read_parquet(tmp_path / "a" / "grid.parquet")
    assert read.crs.to_epsg() == 4326
    assert (read.geometry.x == points["lon"]).all() and (read.geometry.y == points["lat"]).all()
    district = geopandas.read_file(CITIES / "stockholm-district.geojson").geometry.iloc[0]
    assert read.within(district).all()
    lay(city(params, "auto"), tmp_path / "b")
    for name in ("grid.parquet", "grid.png", "grid.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(tmp_path / "a" / "grid.png") as picture:
        colours = picture.convert("RGBA").getcolors(maxcolors=2**20)
        assert picture.width >= 1000 and colours is not None
        assert {alpha for _, (*_, alpha) in colours} == {255}  # opaque: as readable on a dark page as on a light one
        assert len(colours) > 10


def test_shipped_cities_are_usable(params: Params, tmp_path: Path) -> None:
    names = sorted(p.stem for p in CITIES.glob("*.geojson"))
    assert {"stockholm", "stockholm-district"} <= set(names)
    for name in names:
        points = lay(city(params, name, spacing_m=100.0 if name == "stockholm" else 10.0), tmp_path)
        assert len(points) > 500
        assert np.isfinite(points[["lat", "lon"]]).all(axis=None)


def test_unknown_city_lists_those_there_are(params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'atlantis' has no polygon .*stockholm, stockholm-district"):
        lay(city(params, "atlantis"), tmp_path)


def test_archive_without_a_polygon(params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"archive\.path"):
        lay(of_archive(params, tmp_path), tmp_path)


@pytest.mark.slow
def test_no_shell_reads_the_path_of_the_archive(tmp_path: Path) -> None:
    """`dvc repro grid` with a folder whose name a shell would expand, or run."""
    from tinyarchive import TinyArchive

    project, home = tmp_path / "project", tmp_path / "home"
    collection = TinyArchive(tmp_path / 'it\'s $HOME "x" `touch ran` $(touch ran) & \\; *').root
    home.mkdir()
    for name in ("params.yaml", "dvc.yaml", "src", "data/cities", "data/sources"):
        target = project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    run = partial(subprocess.run, cwd=project, check=True, env={**os.environ, "HOME": str(home)})
    dvc = [sys.executable, "-m", "dvc"]
    run([*dvc, "init", "--no-scm", "--quiet"])
    set_path = ["provider=archive", f"archive.path={json.dumps(str(collection))}"]
    run([sys.executable, "-m", "streetrecall.cli", "set", *set_path])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run([*dvc, "repro", "--quiet", "grid"], env={**os.environ, "HOME": str(home), "PATH": path})
    west, south, east, north = geopandas.read_parquet(project / "data/grid.parquet").total_bounds
    assert 18.06 <= west < east <= 18.07 and 59.32 <= south < north <= 59.33  # the collection's own polygon
    assert not list(tmp_path.rglob("ran"))


def test_spacing_too_wide_or_too_fine(params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no point"):
        lay(city(params, "auto", spacing_m=5000.0), tmp_path)
    with pytest.raises(UserError, match="wider spacing"):
        lay(city(params, "stockholm", spacing_m=0.2), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_behind_a_link_is_refused(tmp_path: Path) -> None:
    """DVC would not notice its changes."""
    cities, elsewhere = tmp_path / "cities", tmp_path / "elsewhere"
    for folder in (cities, elsewhere):
        folder.mkdir()
    grid.require_own_files(cities)
    (cities / "streets").symlink_to(elsewhere)
    with pytest.raises(UserError, match="streets: is a link to a folder"):
        grid.require_own_files(cities)
    (tmp_path / "linked").symlink_to(elsewhere)
    with pytest.raises(UserError, match="linked: is a link to a folder"):
        grid.require_own_files(tmp_path / "linked")
