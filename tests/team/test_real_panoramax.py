"""The provider panoramax against a real Panoramax server: dated pictures at known places, from upload to crop.

`make test-panoramax` installs the server (GeoVisio, PostgreSQL with PostGIS) and runs this.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from collecting import collect
from PIL import Image
from tinyfolder import ORIGIN, at, photo

from streetrecall.errors import UserError
from streetrecall.geo import distance_m
from streetrecall.params.schema import Params
from streetrecall.providers.http import Client
from streetrecall.providers.panoramax import PanoramaxProvider

pytestmark = [pytest.mark.panoramax, pytest.mark.timeout(590)]

ROOT = Path(__file__).parents[2]
GEOVISIO = ROOT / ".geovisio/bin"
LICENCE = "etalab-2.0"
PATIENCE_S = 120.0
YEARS = (2023, 2019, 2014)
PLACES = 9
SPACING_M = 60.0
HEADINGS = (3.0, 92.0, 178.0, 271.0)
SPHERE_HEADING = 30.0  # this server takes it from GPSImgDirection, and not from GPano


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def as_postgres(*command: str) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else list(command)


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with a database that has PostGIS; yields its URL."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries or not GEOVISIO.exists():
        pytest.skip("there is no GeoVisio: make test-panoramax installs it")
    folder.mkdir()
    folder.chmod(0o777)
    port, data, bin_ = free_port(), folder / "data", binaries[-1]
    run = {"check": True, "capture_output": True, "cwd": "/"}
    subprocess.run(as_postgres(str(bin_ / "initdb"), "-D", str(data), "-A", "trust", "-U", "geo"), **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    # Its output goes to a file: a pipe would stay open as long as the server runs.
    start = as_postgres(str(bin_ / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        for base, order in (
            ("postgres", "CREATE DATABASE geovisio"),
            ("geovisio", "CREATE EXTENSION postgis"),
            ("geovisio", "ALTER DATABASE geovisio SET timezone TO 'UTC'"),
        ):
            command = [str(bin_ / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "geo", "-qc", order, base]
            subprocess.run(command, **run)
        yield f"postgres://geo@127.0.0.1:{port}/geovisio"
    finally:
        subprocess.run(as_postgres(str(bin_ / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"), **run)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A Panoramax server without pictures; yields its address."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"streetrecall-panoramax-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with database(folder) as url:
            port = free_port()
            environment = {
                **os.environ, "DB_URL": url, "FS_URL": str(folder / "pictures"),
                "API_PICTURES_LICENSE_SPDX_ID": LICENCE, "FLASK_SECRET_KEY": "0" * 32,
                "PICTURE_PROCESS_DERIVATES_STRATEGY": "PREPROCESS",
                "API_PICTURES_LICENSE_URL": "https://example.org/licence", "PICTURE_PROCESS_THREADS_LIMIT": "1",
            }  # fmt: skip
            (folder / "pictures").mkdir()
            flask = [str(GEOVISIO / "flask"), "--app", "geovisio"]
            quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
            subprocess.run([*flask, "db", "upgrade"], check=True, **quiet)
            running = [
                subprocess.Popen([*flask, *command], start_new_session=True, **quiet)
                for command in (["run", "--port", str(port)], ["picture-worker"])
            ]
            try:
                wait_for(lambda: answers(f"http://127.0.0.1:{port}/api"), "the server answers")
                yield f"http://127.0.0.1:{port}"
            finally:
                for process in running:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def wait_for(condition: object, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.2)


def upload(base: str) -> int:
    """A sequence for each year; at each even place a sphere that faces 30 degrees, at each other four flat pictures."""
    count = 0
    for year in YEARS:
        sequence = requests.post(f"{base}/api/collections", json={"title": str(year)}, timeout=30).json()["id"]
        for place in range(PLACES):
            for k, heading in enumerate(HEADINGS if place % 2 else (SPHERE_HEADING,)):
                where = at(SPACING_M * (place % 3) + 0.3 * k, SPACING_M * (place // 3) + 0.5 * (year % 3))
                seed = year * 100 + place * 10 + k
                data = photo(seed, where, f"{year}:06:0{1 + place} 10:15:00", heading, None if place % 2 else heading)
                count += 1
                answer = requests.post(
                    f"{base}/api/collections/{sequence}/items",
                    data={
                        "position": str(count), "override_latitude": f"{where[0]:.8f}",
                        "override_longitude": f"{where[1]:.8f}",
                        "override_capture_time": f"{year}-06-15T10:00:{k:02d}Z",
                    },
                    files={"picture": (f"{seed}.jpg", enlarged(data), "image/jpeg")},
                    timeout=60,
                )  # fmt: skip
                assert answer.status_code == 202, answer.text
    box = {"bbox": "17.9,59.2,18.2,59.4", "limit": "1000"}
    wait_for(
        lambda: len(requests.get(f"{base}/api/search", box, timeout=30).json()["features"]) == count,
        f"the server has processed {count} pictures",
    )
    return count


def enlarged(data: bytes) -> bytes:
    """The same photo with more pixels: the server scales small pictures up."""
    with Image.open(io.BytesIO(data)) as image:
        out = io.BytesIO()
        big = image.resize((image.width * 4, image.height * 4), Image.Resampling.NEAREST)
        big.save(out, "JPEG", exif=image.getexif(), xmp=image.info.get("xmp", b""))
        return out.getvalue()


def test_pictures_are_collected_from_upload_to_crop(
    server: str, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = upload(server)
    monkeypatch.setenv("STREETRECALL_PANORAMAX", server)
    cities = tmp_path / "cities"
    cities.mkdir()
    (south, west), (north, east) = at(-40, -40), at(SPACING_M * 2 + 40, SPACING_M * 2 + 40)
    (cities / "small.geojson").write_text(
        f'{{"type": "Polygon", "coordinates": [[[{west}, {south}], [{east}, {south}], [{east}, {north}], '
        f"[{west}, {north}], [{west}, {south}]]]}}"
    )
    mine = params.model_copy(
        update={
            "provider": "panoramax",
            "city": params.city.model_copy(update={"name": "small"}),
            "order": params.order.model_copy(update={"start": list(ORIGIN)}),
            "panoramax": params.panoramax.model_copy(update={"limit": 20}),  # boxes are divided
        }
    )
    made = collect(mine, tmp_path / "out", checked=False, cities=cities)
    captures = made.captures
    assert len(made.locations) == PLACES
    assert set(captures["status"]) == {"ok"} and (captures["reason"] == "").all()
    assert set(captures["licence"]) == {LICENCE} and captures["attribution"].str.len().gt(0).all()
    assert set(captures["month"]) == {f"{year}-06" for year in YEARS}
    assert len(captures) == PLACES * len(YEARS) * 4 and captures["pano_id"].nunique() == count
    places = {place: at(SPACING_M * (place % 3), SPACING_M * (place // 3)) for place in range(PLACES)}
    for _, rows in captures.groupby("place"):
        lat, lon = rows["lat"].mean(), rows["lon"].mean()
        metres = {p: float(distance_m(lat, lon, *where)) for p, where in places.items()}
        home = min(metres, key=lambda p: metres[p])
        assert metres[home] < 2.0
        assert sorted(rows["date_index"].unique()) == [0, 1, 2]
        assert rows.drop_duplicates("date_index").sort_values("date_index")["month"].str[:4].tolist() == [
            str(year) for year in YEARS
        ]
        for _, date in rows.groupby("month"):
            assert sorted(date["direction"]) == [0, 1, 2, 3]
            if home % 2:
                assert date.sort_values("direction")["heading_deg"].tolist() == pytest.approx(list(HEADINGS), abs=1)
                assert date["pano_id"].nunique() == 4 and date["fov_deg"].isna().all()
            else:
                assert date["pano_id"].nunique() == 1 and set(date["fov_deg"]) == {120.0}
                assert sorted(date["heading_deg"]) == params.scrape.headings_deg
    images = made.images
    assert len(images) == len(captures) and (images["width"] == 224).all()
    assert set(images["licence"]) == {LICENCE} and set(images["provider"]) == {"panoramax"}
    views = made.views
    assert set(views["place"]) <= set(captures.loc[captures["fov_deg"].notna(), "place"]) and len(views)


def test_links_to_other_years_and_refusals(server: str, params: Params, tmp_path: Path) -> None:
    client = Client(params.network, environment=False)
    related = params.model_copy(update={"panoramax": params.panoramax.model_copy(update={"dates": "related"})})
    provider = PanoramaxProvider(related, server, client)
    from streetrecall.providers.boxes import box_of, tile_of

    box = box_of(tile_of(*ORIGIN, 0.005), 0.005, 60.0)
    page = provider._search(box)
    assert not page.full and not page.dropped and len(page.shots) > 30
    spheres = [s for s in page.shots if s.sphere and math.isclose(s.heading_deg, SPHERE_HEADING, abs_tol=1.0)]
    assert len(spheres) == 5 * len(YEARS)
    newest = [s for s in spheres if s.month == "2023-06"][:1]
    dates = provider._same_places(newest)
    assert dates is not None
    months = {s.month for s in page.shots if s.shot_id in dates[newest[0].shot_id]}
    assert months == {f"{year}-06" for year in YEARS}
    provider._limit = 20_000
    with pytest.raises(UserError, match="the server rejects the search"):
        provider._find([box])
    client.close()
