"""The stage crop: pictures kept or made, reasons of quarantine, the same output from any number of cores."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
import pytest
from capturing import write_captures
from daskcluster import scheduler
from PIL import Image
from tinyarchive import picture

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.geo import project
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Params
from streetrecall.pictures import cropping, shards
from streetrecall.pictures.cropping import crop_picture
from streetrecall.providers.archive import Archive
from streetrecall.providers.base import Capture, CaptureRequest, Panorama
from streetrecall.stages import crop
from streetrecall.stages.order import order

__all__ = ["scheduler"]  # a fixture

FRAME = (1512, 810)
BLACK = io.BytesIO()
Image.new("RGB", (224, 224)).save(BLACK, "JPEG")


def locations(n: int = 12) -> pd.DataFrame:
    """Places of 100 m apart: three levels of four, one split each."""
    place = np.arange(n)
    frame = pd.DataFrame({"place": place, "rank": place, "pano_id": [f"p{i}" for i in place]})
    frame = frame.assign(lat=59.32 + place * 1e-3, lon=18.06, month="2023-03", start_distance_m=place * 100.0)
    frame["x"], frame["y"] = project(frame["lat"], frame["lon"], "EPSG:3006")
    frame["level"] = place // 4
    frame["radius_m"] = np.array([100.0, 75.0, 60.0])[frame["level"]]
    frame["split"] = np.array(["train", "test", "validation"])[frame["level"]]
    return frame


def shot(place: int, direction: int, month: str, data: bytes, status: str = "ok", date_index: int = 0) -> Capture:
    split = ["train", "test", "validation"][place // 4]
    panorama = Panorama(f"p{place}-{month}-{date_index}", 59.32 + place * 1e-3, 18.06, month, "CC0", "nobody")
    request = CaptureRequest(
        place, direction, float("nan"), date_index, panorama, split, f"{split}_v1", f"{place}/{direction}/{month}"
    )
    return Capture(request, status, "" if status == "ok" else status, data)


class Cropped:
    def __init__(self, folder: Path, params: Params, taken: list[Capture], provider: str = "archive") -> None:
        self.folder, self.params = folder, params
        tables.write(tables.LOCATIONS, locations(), folder / "locations.parquet")
        write_captures(taken, locations(), folder / "captures", provider)
        self.again("crops")

    def again(self, name: str) -> None:
        crop.run(
            self.params,
            self.folder / "captures",
            self.folder / "locations.parquet",
            self.folder / name,
            self.folder / f"{name}.json",
        )
        self.images = tables.read(tables.IMAGES, self.folder / name / "images.parquet")
        self.metrics = json.loads((self.folder / f"{name}.json").read_text())

    def data(self, image_id: int) -> bytes:
        row = self.images.loc[image_id]
        with shards.ShardReader(self.folder / "crops") as reader:
            return reader.read(str(row["shard"]), int(row["offset"]), int(row["size"]))

    def reasons(self) -> dict[tuple[int, int, str], str]:
        columns = [self.images[c] for c in ("place", "direction", "month", "quarantine")]
        return {(p, s, m): q for p, s, m, q in zip(*columns, strict=True)}


def again_as_jpeg(data: bytes, quality: int) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def test_spheres_and_places_that_only_answer_are_left_to_the_views(tmp_path: Path, params: Params) -> None:
    one, two, three = (shot(place, 0, "2023-03", picture(place)) for place in range(3))
    sphere = replace(two, request=replace(two.request, projection=tables.Projection.EQUIRECTANGULAR))
    answering = replace(three, request=replace(three.request, split="gallery"))
    done = Cropped(tmp_path, params, [one, sphere, answering])
    assert done.images["place"].tolist() == [0]


def test_pictures_of_the_right_size_keep_their_bytes_and_rows_are_complete(tmp_path: Path, params: Params) -> None:
    taken = [
        shot(p, s, m, picture(100 * p + 10 * s + int(m[3])))
        for p in (0, 5)
        for s in (0, 1)
        for m in ("2011-05", "2023-03")
    ]
    done = Cropped(tmp_path, params, taken[::-1])
    images = done.images
    assert images["image_id"].tolist() == list(range(8))
    assert list(zip(images["split"], images["place"], images["direction"], images["month"], strict=True)) == sorted(
        ((c.request.split, c.request.place, c.request.direction, c.request.panorama.month) for c in taken),
        key=lambda k: (*k[:3], -int(k[3][:4])),
    )
    by_key = {(c.request.place, c.request.direction, c.request.panorama.month): c for c in taken}
    for row in images.to_dict("records"):
        capture = by_key[row["place"], row["direction"], row["month"]]
        assert done.data(row["image_id"]) == capture.data
        assert row["sha256"] == hashlib.sha256(capture.data).hexdigest()
        grey = Image.open(io.BytesIO(capture.data)).convert("L")
        assert row["phash"] == str(imagehash.phash(grey))
        assert row["luminance_mean"] == pytest.approx(np.asarray(grey).mean(), abs=1e-3)
        assert row["luminance_std"] == pytest.approx(np.asarray(grey, float).std(), abs=1e-3)
        assert (row["width"], row["height"], row["quarantine"]) == (224, 224, "")
        assert (row["licence"], row["attribution"], row["source"]) == ("CC0", "nobody", capture.request.source)
        assert (row["x"], row["y"]) == pytest.approx([float(v) for v in project(row["lat"], row["lon"], "EPSG:3006")])
    level = {0: "train_v1-level0", 5: "test_v1-level1"}
    assert set(images["shard"]) == {f"local/{level[p].split('_')[0]}/{level[p]}-00000.tar" for p in level}
    assert done.metrics["passed_unchanged"] == done.metrics["kept"] == 8
    assert done.metrics["quarantined"] == {}
    for folder in ("shared", "local"):
        assert sorted(p.name for p in (tmp_path / "crops" / folder).iterdir()) == ["test", "train", "validation"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_raw_frames_are_cut_and_resized(kind: str, tmp_path: Path, params: Params) -> None:
    frame = picture(1, FRAME, kind)
    done = Cropped(tmp_path, params, [shot(0, 0, "2020-05", frame)], provider="google")
    made = Image.open(io.BytesIO(done.data(0)))
    assert (made.format, made.size, made.mode) == ("JPEG", (224, 224), "RGB")
    box = (591, 0, 1261, 670)
    expected = Image.open(io.BytesIO(frame)).convert("RGB").crop(box).resize((224, 224), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(made, int) - np.asarray(expected, int)).mean() < 3
    assert done.images["shard"].tolist() == ["shared/train/train_v1-level0-00000.tar"]
    assert done.metrics["passed_unchanged"] == 0


def test_pictures_of_other_shapes_and_broken_ones_are_in_quarantine(tmp_path: Path, params: Params) -> None:
    whole = picture(7)
    taken = [
        shot(0, 0, "2020-05", picture(1, (640, 640))),  # smaller than the box: resized as a whole
        shot(0, 1, "2020-05", picture(2, (224, 224), "PNG")),
        shot(0, 2, "2020-05", picture(3, (640, 400))),
        shot(0, 3, "2020-05", picture(4, (100, 100))),
        shot(1, 0, "2020-05", whole[: len(whole) // 2]),
        shot(1, 1, "2020-05", picture(5, FRAME, "PNG")[:5000]),
        shot(1, 2, "2020-05", whole),
    ]
    done = Cropped(tmp_path, params, taken)
    assert list(done.reasons().values()) == ["", "", "wrong_shape", "wrong_shape", "undecodable", "undecodable", ""]
    assert done.data(4) == taken[4].data
    assert done.images["width"].tolist() == [224, 224, 224, 224, 0, 0, 224]
    assert done.metrics["quarantined"] == {"undecodable": 2, "wrong_shape": 2}


def test_reasons_of_quarantine(tmp_path: Path, params: Params) -> None:
    a, b, c, d = (picture(seed) for seed in (1, 2, 3, 4))
    assert again_as_jpeg(d, 85) != d
    taken = [
        shot(0, 0, "2020-05", BLACK.getvalue()),
        shot(4, 0, "2020-05", BLACK.getvalue()),  # both are blank, not duplicates of each other
        shot(0, 1, "2020-05", picture(9), status="blank"),
        shot(0, 2, "2020-05", a),
        shot(1, 2, "2011-05", a),
        shot(1, 3, "2020-05", b),
        shot(1, 2, "2020-05", b),
        shot(5, 3, "2020-05", b),
        shot(2, 0, "2020-05", c),
        shot(2, 1, "2020-05", c),
        shot(2, 0, "2023-05", c),
        shot(3, 0, "2020-05", d),
        shot(8, 0, "2020-05", again_as_jpeg(d, 85)),  # the same frame encoded anew
        shot(9, 0, "2011-05", again_as_jpeg(d, 80)),  # just as similar, but of another month
        shot(6, 0, "2020-05", picture(10)),
    ]
    done = Cropped(tmp_path, params, taken)
    reasons = done.reasons()
    assert reasons == {
        (0, 0, "2020-05"): "blank",
        (4, 0, "2020-05"): "blank",
        (0, 1, "2020-05"): "blank",
        (0, 2, "2020-05"): "duplicate_across_places",
        (1, 2, "2011-05"): "duplicate_across_places",
        (1, 3, "2020-05"): "duplicate_across_splits",
        (1, 2, "2020-05"): "duplicate_across_splits",
        (5, 3, "2020-05"): "duplicate_across_splits",
        (2, 0, "2020-05"): "duplicate_within_place",
        (2, 1, "2020-05"): "duplicate_within_place",
        (2, 0, "2023-05"): "",
        (3, 0, "2020-05"): "duplicate_across_splits",
        (8, 0, "2020-05"): "duplicate_across_splits",
        (9, 0, "2011-05"): "",
        (6, 0, "2020-05"): "",
    }
    assert done.metrics["images"] == len(taken) and done.metrics["kept"] == 3
    assert sum(done.metrics["quarantined"].values()) == len(taken) - 3
    assert done.metrics["subsets"]["test_v1"] == {"images": 3, "kept": 1}


def test_number_of_cores_and_earlier_runs_change_nothing(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [shot(p, s, "2020-05", picture(10 * p + s)) for p in range(12) for s in range(4)]
    done = Cropped(tmp_path, params, taken)
    (tmp_path / "crops" / "local" / "train" / "stale.tar").write_bytes(b"old")
    (tmp_path / "crops" / ".new-1").mkdir()
    done.again("crops")
    monkeypatch.setattr(crop, "_FEW", 0)
    done.again("other")
    files = sorted(p.relative_to(tmp_path / "other") for p in (tmp_path / "other").rglob("*") if p.is_file())
    assert len(files) == 1 + 3 + 6  # the table, the shards, and a page in each folder
    assert files == sorted(p.relative_to(tmp_path / "crops") for p in (tmp_path / "crops").rglob("*") if p.is_file())
    for file in files:
        assert (tmp_path / "other" / file).read_bytes() == (tmp_path / "crops" / file).read_bytes()
    assert (tmp_path / "other.json").read_bytes() == (tmp_path / "crops.json").read_bytes()


def test_faults_that_stop_the_stage(tmp_path: Path, params: Params) -> None:
    done = Cropped(tmp_path, params, [shot(0, 0, "2020-05", picture(1)), shot(1, 0, "2020-05", picture(2))])
    before = {p: p.read_bytes() for p in (tmp_path / "crops").rglob("*") if p.is_file()}
    tables.write(tables.LOCATIONS, locations().iloc[1:], tmp_path / "locations.parquet")
    with pytest.raises(UserError, match="place 0 of the captures is unknown"):
        done.again("crops")
    tables.write(tables.LOCATIONS, locations(), tmp_path / "locations.parquet")
    (shard,) = (tmp_path / "captures").rglob("*.tar")
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(UserError, match="dvc checkout"):
        done.again("crops")
    shard.unlink()
    with pytest.raises(UserError, match="shard is missing"):
        done.again("crops")
    assert {p: p.read_bytes() for p in (tmp_path / "crops").rglob("*") if p.is_file()} == before
    write_captures([shot(0, 0, "2020-05", b"", status="failed")], locations(), tmp_path / "captures")
    with pytest.raises(UserError, match="there is no picture"):
        done.again("crops")


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = (np.asarray(a.convert("RGB"), float) - np.asarray(b.convert("RGB"), float)) ** 2
    return float(10 * np.log10(255**2 / error.mean()))


@pytest.mark.archive
def test_raw_examples_agree_with_their_published_crops(archive: Path, params: Params) -> None:
    """Encoded at the quality of the published crops (75), ours differ from them much less than encoding changes them.

    The measure is the PSNR of RGB. A shift of the box by one pixel, or another filter, would cost 10 dB.
    """
    folder = archive / "image_preprocessing"
    raw = sorted((folder / "example images").glob("*.png"))
    assert len(raw) == 6
    like_theirs = params.crop.model_copy(update={"quality": 75})
    for path in raw:
        published = Image.open(folder / "Cropped_example images" / f"{path.stem}.jpg")
        data = path.read_bytes()
        frame = Image.open(path).convert("RGB").crop(tuple(params.crop.box))  # type: ignore[arg-type]
        unencoded = frame.resize((224, 224), Image.Resampling.BICUBIC)
        ours = Image.open(io.BytesIO(crop_picture(data, like_theirs).data))
        jpeg_error = psnr(unencoded, published)
        assert psnr(ours, published) > 40 > jpeg_error + 5
        default = Image.open(io.BytesIO(crop_picture(data, params.crop).data))
        assert psnr(default, published) > jpeg_error


@pytest.mark.archive
@pytest.mark.slow
def test_the_real_test_set(archive: Path, params: Params, tmp_path: Path) -> None:
    """Test and validation v1: all pictures keep their bytes, and black and duplicate frames are found, fast enough."""
    provider = Archive(archive)
    levels = (archive / "data_collection_process/create_ordered_locations_based_on_buffers/buffer_csvs").glob("*.csv")
    known = pd.concat([pd.read_csv(f) for f in levels])
    known = known.rename(columns={"PanoID": "pano_id", "Latitude": "lat", "Longitude": "lon", "Date": "month"}).assign(
        beyond=False
    )
    places = order(known, params)
    folders = ("Cropped_Test_v1", "Cropped_Validation_v1")
    requests = [r for r in provider.plan(places) if r.source.startswith(folders)]
    tables.write(tables.LOCATIONS, places, tmp_path / "l.parquet")
    write_captures(provider.capture(requests), places, tmp_path / "captures")
    begun = sum(os.times()[:4])
    crop.run(params, tmp_path / "captures", tmp_path / "l.parquet", tmp_path / "crops", tmp_path / "c.json")
    rate = len(requests) / (sum(os.times()[:4]) - begun)  # of processor time, whatever else the machine does
    counts = json.loads((tmp_path / "c.json").read_text())
    assert counts["passed_unchanged"] == counts["images"] == len(requests)
    assert rate > 28_702 / (2 * 180)  # the whole collection in three minutes on two cores
    images = tables.read(tables.IMAGES, tmp_path / "crops" / "images.parquet")
    kept = images[images["quarantine"] == ""]
    assert kept["luminance_mean"].min() > 20
    assert not kept.duplicated("sha256").any()
    black = images[images["luminance_mean"] < 1]
    assert len(black) >= 3 and set(black["quarantine"]) == {"blank"}
    shared = images[images["quarantine"].isin(["duplicate_across_places", "duplicate_across_splits"])]
    assert 20 < len(shared) < 0.05 * len(images)


def test_only_new_captures_are_decoded_and_the_output_is_the_same(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = Image.effect_noise(FRAME, 60)
    encoded = io.BytesIO()
    frame.save(encoded, "PNG")
    raw, twice, broken = encoded.getvalue(), picture(7), b"no picture"
    taken = [shot(0, 0, "2023-03", raw), shot(0, 1, "2023-03", twice), shot(5, 0, "2023-03", broken)]
    made: list[bytes] = []

    def counted(data: bytes, settings: parameters.Crop) -> cropping.Cropped:
        made.append(data)
        return cropping.crop_picture(data, settings)

    monkeypatch.setattr(crop, "crop_picture", counted)
    first = Cropped(tmp_path / "first", params, taken)
    assert sorted(made) == sorted([raw, twice, broken])
    made.clear()
    new = shot(5, 1, "2019-03", picture(8))
    grown = Cropped(tmp_path / "grown", params, [*taken, new])
    assert made == [new.data]
    monkeypatch.setenv("STREETRECALL_STORE", str(tmp_path / "empty"))
    nothing_known = Cropped(tmp_path / "nothing", params, [*taken, new])
    assert len(made) == 5
    assert grown.metrics == nothing_known.metrics and grown.metrics["passed_unchanged"] == 3
    pd.testing.assert_frame_equal(grown.images, nothing_known.images)
    for path in (tmp_path / "grown/crops").rglob("*.tar"):
        other = tmp_path / "nothing/crops" / path.relative_to(tmp_path / "grown/crops")
        assert path.read_bytes() == other.read_bytes()
    assert first.metrics["images"] == 3


@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes(
    tmp_path: Path, params: Params, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [shot(place, 0, "2023-03", picture(place)) for place in range(12)]
    Cropped(tmp_path / "here", params, taken)
    monkeypatch.setattr(crop, "_FEW", 0)
    monkeypatch.setenv("STREETRECALL_CLUSTER", scheduler)
    Cropped(tmp_path / "cluster", params, taken)
    written = sorted(path for path in (tmp_path / "here/crops").rglob("*") if path.is_file())
    assert len(written) >= 4
    for path in written:
        assert (
            path.read_bytes() == (tmp_path / "cluster/crops" / path.relative_to(tmp_path / "here/crops")).read_bytes()
        )
