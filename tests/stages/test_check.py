"""The stage check: report, marker, exit code and message; and the Data Docs of its reports."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tinyarchive import of_archive

from streetrecall import cli, geo, tables
from streetrecall.errors import UserError
from streetrecall.expectations.common import NAMES, suite_of
from streetrecall.params.schema import load
from streetrecall.stages import check

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, the working one, that holds 30 places of three splits and their panoramas."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    params = load("params.yaml")
    levels = params.order.levels
    start_lat, start_lon = params.order.start
    (x0,), (y0,) = geo.project([start_lat], [start_lon], params.city.crs)
    steps = np.arange(30)
    lat, lon = geo.unproject(x0 + 150 * (steps % 6), y0 + 150 * (steps // 6), params.city.crs)
    places = pd.DataFrame({"lat": lat, "lon": lon, "level": steps // 10, "month": "2020-05"})
    places["x"], places["y"] = geo.project(lat, lon, params.city.crs)
    places["start_distance_m"] = geo.distance_m(lat, lon, start_lat, start_lon)
    places["level"] = places["level"].map({0: 0, 1: 1, 2: 3})
    places = places.sort_values(["level", "start_distance_m"], ignore_index=True)
    places["place"] = places["rank"] = steps
    places["pano_id"] = [f"pano{i:02d}" for i in steps]
    places["radius_m"] = [levels[i].radius_m for i in places["level"]]
    places["split"] = [levels[i].split for i in places["level"]]
    panoramas = places.drop(columns="split").assign(
        point_id=0, offset_m=1.0, beyond=False, provider="simulated", licence="CC0-1.0", attribution="nobody"
    )
    tables.write(tables.LOCATIONS, places, "data/locations.parquet")
    tables.write(tables.PANORAMAS, panoramas, "data/panoramas.parquet")
    return tmp_path


def break_locations() -> None:
    """Picture a place one metre from where its degrees are."""
    places = tables.read(tables.LOCATIONS, "data/locations.parquet")
    places.loc[4, "x"] += 1.0
    tables.write(tables.LOCATIONS, places, "data/locations.parquet")


def test_a_good_table_passes(folder: Path) -> None:
    assert cli.main(["check", "locations"]) == 0
    report = json.loads(Path("metrics/validation/locations.json").read_text())
    assert report["success"] and report["failed"] == 0 and report["expectations"] == len(report["results"]) > 10
    assert report["rows"] == {"locations": 30} and report["figures"] == {"places": 30}
    name, kind, digest = Path("data/checks/locations.ok").read_text().split()
    assert (name, kind, digest) == ("locations", "sha256", check.fingerprint(Path("data/locations.parquet")))


def test_a_bad_table_fails_with_advice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "locations"]) == 0
    break_locations()
    assert cli.main(["check", "locations"]) == 1
    assert not Path("data/checks/locations.ok").exists(), "the marker of the run before is gone"
    text = capsys.readouterr().err
    assert re.search(r"^check locations: FAILED, 1 of \d\d expectations$", text, re.M)
    assert "expect_positions_to_agree (lat, lon, x, y)" in text
    assert "1 of 30 rows do not meet it" in text
    assert "place=4 pano_id=pano04" in text
    assert "`city.crs` has changed since: `dvc repro order`" in text
    report = json.loads(Path("metrics/validation/locations.json").read_text())
    assert not report["success"] and report["failed"] == 1
    (failed,) = [r for r in report["results"] if not r["success"]]
    assert failed["unexpected_count"] == 1 and failed["first_ids"][0]["place"] == 4


def test_a_table_that_cannot_be_read_leaves_no_marker(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "locations"]) == 0
    Path("data/locations.parquet").write_bytes(b"no table")
    assert cli.main(["check", "locations"]) == 2
    assert "not a readable Parquet file" in capsys.readouterr().err
    assert not Path("data/checks/locations.ok").exists()


def test_a_missing_column_is_named(folder: Path) -> None:
    table = pq.read_table("data/locations.parquet").drop_columns(["split"])
    pq.write_table(table, "data/locations.parquet")
    with pytest.raises(UserError, match="lacks the columns split"):
        run("locations")


def test_a_column_of_another_type_is_reported_with_its_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = tables.read(tables.LOCATIONS, "data/locations.parquet").assign(radius_m="wide")
    pq.write_table(pa.Table.from_pandas(places, preserve_index=False), "data/locations.parquet")
    assert cli.main(["check", "locations"]) == 1
    assert "the expectation could not be evaluated: could not convert string to float" in capsys.readouterr().err


def test_reports_and_markers_are_the_same_each_time_and_everywhere(folder: Path) -> None:
    """Two processes, two folders: same bytes."""
    first = outputs(folder)
    elsewhere = folder / "some" / "other"
    shutil.copytree(folder / "data", elsewhere / "data", ignore=shutil.ignore_patterns("checks"))
    shutil.copy(folder / "params.yaml", elsewhere)
    assert outputs(elsewhere) == first
    assert str(folder).encode() not in b"".join(first)


def outputs(folder: Path) -> list[bytes]:
    command = [sys.executable, "-m", "streetrecall.cli", "check", "locations"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"check locations: passed, \d+ expectations \(30 rows\)\n", done.stderr)
    return [(folder / path).read_bytes() for path in ("metrics/validation/locations.json", "data/checks/locations.ok")]


def run(name: str, **inputs: Path) -> int:
    every = {**suite_of(name).INPUTS, **inputs}
    return check.run(load("params.yaml"), name, every, Path("report.json"), Path("x.ok"))


def test_tables_by_name_and_by_default() -> None:
    assert check.inputs_of("panoramas", ["a.parquet"])["panoramas"] == Path("a.parquet")
    assert check.inputs_of("panoramas", ["grid=g.parquet"])["grid"] == Path("g.parquet")
    assert check.inputs_of("panoramas", []) == suite_of("panoramas").INPUTS
    with pytest.raises(UserError, match="reads panoramas, no_coverage, grid, not 'gird'"):
        check.inputs_of("panoramas", ["gird=g.parquet"])


def test_the_command_line_does_not_import_great_expectations() -> None:
    """It takes seconds, and only a check and the Data Docs need it."""
    seen = (
        "from streetrecall.cli import build_parser; build_parser('check'); build_parser('report'); import sys; "
        "assert 'great_expectations' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", seen], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_markers_hash_files_that_the_check_reads(name: str) -> None:
    module = suite_of(name)
    for part in (*module.VALIDATED, *(part for parts in getattr(module, "MARKERS", {}).values() for part in parts)):
        assert check.locate(module.INPUTS, part).suffix in (".parquet", ".npy")


def test_validation_meets_its_budget(folder: Path) -> None:
    """28,702 pictures, read from their shard, in less than 5 s of processor time."""
    params = load("params.yaml")
    rng = np.random.default_rng(1)
    count = 28_702
    row = np.arange(count)
    images = pd.DataFrame({name: "x" if kind == "str" else 0 for name, kind in tables.IMAGES.columns.items()}, row)
    images["image_id"], images["place"], images["direction"] = row, row // 32, row % 4
    images["month"] = [f"20{10 + i // 4 % 8:02d}-05" for i in row]
    images["split"] = np.array(["train", "validation", "test"])[images["place"] % 3]
    images["pano_id"] = [f"{p}-{m}" for p, m in zip(images["place"], images["month"], strict=True)]
    images["x"], images["y"] = 674_000 + 50.0 * (images["place"] % 30), 6_580_000 + 50.0 * (images["place"] // 30)
    images["lat"], images["lon"] = geo.unproject(images["x"], images["y"], params.city.crs)
    images["phash"] = [f"{v:016x}" for v in rng.integers(0, 2**64, count, dtype=np.uint64)]
    images["luminance_mean"], images["luminance_std"], images["quarantine"] = 90.0, 40.0, ""
    encoded = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((224, 224)).save(encoded, "JPEG")
    head, end = encoded.getvalue()[:-2], encoded.getvalue()[-2:]
    pictures = [head + b"%08d" % i + end for i in row]
    images["shard"], images["size"] = "all.tar", len(pictures[0])
    images["offset"] = row * len(pictures[0])
    images["sha256"] = [hashlib.sha256(data).hexdigest() for data in pictures]
    captures = pd.DataFrame({name: images.get(name, 0) for name in tables.CAPTURES.columns}).assign(status="ok")
    tables.write(tables.IMAGES, images, "crops/images.parquet")
    tables.write(tables.CAPTURES, captures.astype(tables.CAPTURES.columns), "captures.parquet")
    Path("crops/all.tar").write_bytes(b"".join(pictures))
    inputs = {"crops": Path("crops"), "captures": Path("captures.parquet")}
    suite_of("crops")  # the import is not counted

    started = time.process_time()
    assert check.run(params, "crops", inputs, Path("report.json"), Path("crops.ok")) == 0
    assert time.process_time() - started < 5


def test_data_docs_load_nothing(folder: Path) -> None:
    break_locations()
    assert cli.main(["check", "locations"]) == 1
    assert cli.main(["docs"]) == 0
    pages = {page.name: page.read_text(encoding="utf-8") for page in Path("site").iterdir()}
    assert set(pages) == {"index.html", "locations.locations.html"}
    for name, text in pages.items():
        assert not re.search(r"https?://|//[a-z]|<script|<link|<img|@import|url\(", text), name
        for target in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert target in pages
    page = pages["locations.locations.html"]
    assert "must agree in" in page
    assert "`city.crs` has changed since: `dvc repro order`" in page and "place 4" in page
    assert "✗ failed" in pages["index.html"]


def test_data_docs_show_empty_strings(folder: Path) -> None:
    assert cli.main(["docs", "--reports", str(ROOT / "metrics/validation")]) == 0
    page = Path("site/crops.images.html").read_text(encoding="utf-8")
    assert "quarantine == ''" in page
    assert not re.search("[!=]= (<| AND)", page)


def test_data_docs_are_the_same_each_time(folder: Path) -> None:
    assert cli.main(["check", "locations"]) == 0
    before = []
    for _ in range(2):
        assert cli.main(["docs"]) == 0
        before.append({page.name: page.read_bytes() for page in Path("site").iterdir()})
    assert before[0] == before[1]


def test_data_docs_without_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["docs"]) == 2
    assert "holds no report of a check; run one first" in capsys.readouterr().err


def test_data_docs_of_a_foreign_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("metrics/validation").mkdir(parents=True)
    Path("metrics/validation/grid.json").write_text('{"success": true}')
    assert cli.main(["docs"]) == 2
    assert "not a report of this version; write it again: streetrecall check grid" in capsys.readouterr().err


@pytest.mark.browser
def test_data_docs_in_a_browser_send_no_request(folder: Path) -> None:
    """Chromium, set to use a proxy for everything, shows both pages and sends no request."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no Chromium")
    break_locations()
    assert cli.main(["check", "locations"]) == 1
    assert cli.main(["docs"]) == 0
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(502)

        do_CONNECT = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name, wanted in {"index.html": "✗ failed", "locations.locations.html": "must agree in"}.items():
            done = subprocess.run(
                [
                    chromium,
                    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-component-update", "--no-first-run"),
                    *("--disable-background-networking", "--disable-sync", f"--user-data-dir={folder / 'profile'}"),
                    *(f"--proxy-server=127.0.0.1:{server.server_port}", "--proxy-bypass-list=<-loopback>"),
                    *("--dump-dom", (folder / "site" / name).as_uri()),
                ],
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            assert wanted in done.stdout
    finally:
        server.shutdown()
        server.server_close()
    own = [path for path in asked if not re.search(r"google|gstatic|gvt1", path)]  # the browser's own, not the page's
    assert own == []


def test_checking_reaches_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert cli.main(["check", "locations"]) == 0
    assert cli.main(["docs"]) == 0


@pytest.mark.archive
@pytest.mark.slow
def test_the_archives_tables_pass(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of grid, panoramas and locations, over the original collection's own polygon, panoramas and levels."""
    from streetrecall.stages import grid, metadata, order

    monkeypatch.chdir(tmp_path)
    params = of_archive(load(ROOT / "params.yaml"), archive)
    data, cities = tmp_path / "data", ROOT / "data/cities"
    grid.run(params, cities, data / "grid.parquet", data / "grid.png", data / "grid.json")
    metadata.run(
        params,
        data / "grid.parquet",
        data / "panoramas.parquet",
        data / "no_coverage.parquet",
        data / "metadata.json",
    )
    order.run(params, data / "panoramas.parquet", data / "locations.parquet", data / "order.json")
    figures: dict[str, Any] = {}
    for name in ("grid", "panoramas", "locations"):
        inputs = {**suite_of(name).INPUTS, **({"cities": cities} if name == "grid" else {})}
        assert check.run(params, name, inputs, Path(f"{name}.json"), Path(f"{name}.ok")) == 0
        figures |= json.loads(Path(f"{name}.json").read_text())["figures"]
    assert figures["points"] == 287_367
    assert figures["panoramas"] == figures["places"] == 6_562
    assert figures["uncovered"]["none"] == 15_485
    assert figures["offset_median_m"] == pytest.approx(12.9, abs=0.05)
    assert figures["offset_max_m"] == pytest.approx(208.6, abs=0.05)


@pytest.mark.archive
@pytest.mark.slow
def test_what_is_wrong_in_the_archive_is_found(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the places of the collection that have a black frame, or a file that another place has too.

    If all of them are used, the check finds both faults; if they are kept out, it finds that they are too many.
    """
    from streetrecall.params.schema import parse
    from streetrecall.stages import crop, order, scrape

    monkeypatch.chdir(tmp_path)
    pictures = {
        p: hashlib.sha256(p.read_bytes()).hexdigest() for p in (archive / "data/images").glob("Cropped_*/*/*.jpg")
    }
    places: dict[str, set[str]] = {}
    for path, digest in pictures.items():
        places.setdefault(digest, set()).add(path.name.split("_")[0])
    black = {path.name.split("_")[0] for path in pictures if path.stat().st_size < 1_500}
    doubled = {place for shared in places.values() if len(shared) > 1 for place in shared}
    assert black and doubled, "the collection at hand has neither fault"
    for path in pictures:
        if path.name.split("_")[0] in black | doubled:
            link = Path("archive") / path.relative_to(archive)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    Path("archive/data_collection_process").symlink_to(archive / "data_collection_process")

    document = load(ROOT / "params.yaml").model_dump()
    document |= {"provider": "archive", "archive": {"path": "archive"}}
    params = parse(document)
    levels = (archive / "data_collection_process").rglob("new_order_buffer_*.csv")
    found = pd.concat([pd.read_csv(path) for path in levels]).drop_duplicates("PanoID")
    located = pd.DataFrame({"pano_id": found["PanoID"], "lat": found["Latitude"], "lon": found["Longitude"]})
    located = located.assign(
        month="2020-05", point_id=0, offset_m=1.0, beyond=False, provider="archive", licence="x", attribution="x"
    )
    tables.write(tables.LOCATIONS, order.order(located, params), "locations.parquet")
    scrape.run(params, Path("locations.parquet"), Path("captures"), Path("scrape.json"))

    def failures(reasons: list[str]) -> tuple[set[tuple[str, str]], dict[str, Any]]:
        document["crop"]["quarantine"]["reasons"] = reasons
        policy = parse(document)
        crop.run(policy, Path("captures"), Path("locations.parquet"), Path("crops"), Path("crop.json"))
        inputs = {"crops": Path("crops"), "captures": Path("captures/captures.parquet")}
        assert check.run(policy, "crops", inputs, Path("crops.json"), Path("crops.ok")) == 1
        assert not Path("crops.ok").exists()
        report = json.loads(Path("crops.json").read_text())
        return {(r["expectation"], r["column"]) for r in report["results"] if not r["success"]}, report["figures"]

    wrong, figures = failures([])
    assert ("expect_column_a_values_not_to_be_shared_across_column_b", "sha256, place") in wrong
    assert ("expect_column_values_to_be_between", "luminance_mean") in wrong
    assert figures["quarantined"] == {"share": 0.0}

    wrong, figures = failures(["blank", "duplicate_across_splits", "duplicate_across_places", "duplicate_within_place"])
    assert ("expect_column_a_values_not_to_be_shared_across_column_b", "sha256, place") not in wrong
    assert ("expect_column_values_to_be_between", "luminance_mean") not in wrong
    assert ("expect_column_share_of_other_values_to_be_at_most", "quarantine") in wrong
    images = tables.read(tables.IMAGES, "crops/images.parquet")
    assert set(images.loc[images["size"] < 1_500, "quarantine"]) == {"blank"}
    assert figures["quarantined"]["blank"] == (images["quarantine"] == "blank").sum()
    assert figures["quarantined"]["duplicate_across_splits"] > 0
    assert "pictures in quarantine by reason" in capsys.readouterr().err
