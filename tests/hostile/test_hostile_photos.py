"""Each photo of the table is read, or turned away with its name and a reason."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_table import TAKEN, TALL, TURNED_AWAY, WIDE, black, gps, heic, photo, turned
from picture_table import REFUSED, WHOLE, encoded, with_segment
from PIL import Image

from streetrecall.pictures.photo import ENOUGH_PX, NotAPhotoError, read_photo


@pytest.mark.parametrize("name", TAKEN)
def test_a_photo_is_read(name: str) -> None:
    make, size = TAKEN[name]
    found = read_photo(make(), "mine")
    assert (found.width, found.height) == size
    assert found.pixels.shape == (size[1], size[0], 3)
    assert found.pixels.dtype == np.uint8
    assert (found.name, found.sphere, found.position) == ("mine", False, None)


@pytest.mark.parametrize("name", WHOLE)
def test_what_the_pipeline_takes_is_read(name: str) -> None:
    assert read_photo(WHOLE[name]()).pixels.shape == (224, 224, 3)


@pytest.mark.parametrize("name", TURNED_AWAY)
def test_what_is_no_photo_is_named(name: str) -> None:
    make, reason = TURNED_AWAY[name]
    with pytest.raises(NotAPhotoError, match=reason) as error:
        read_photo(make(), "mine.jpg")
    assert str(error.value).startswith("mine.jpg: ")
    assert " at 0x" not in str(error.value), "an address differs from run to run"


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"WebP", "HEIC", "AVIF", "a WebP", "a HEIC"}))
def test_what_the_pipeline_refuses_is_no_photo_but_a_whole_webp_or_heic(name: str) -> None:
    make, _ = REFUSED[name]
    data = make()
    try:
        found = read_photo(data)
    except NotAPhotoError as error:
        assert error.reason
    else:
        assert found.format in ("WebP", "HEIC", "AVIF")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_turned_photo_is_upright(orientation: int, kind: str) -> None:
    upright = np.asarray(photo(TALL), float)
    found = read_photo(turned(orientation, kind))
    assert np.abs(found.pixels - upright).mean() < 8


def test_a_photo_says_where_and_when_it_was_taken() -> None:
    for data in (encoded(photo(), exif=gps(-33.75, 151.125)), heic(photo(), exif=gps(-33.75, 151.125).tobytes())):
        found = read_photo(data)
        assert found.position == pytest.approx((-33.75, 151.125), abs=1e-6)
        assert (found.heading_deg, found.month) == (271.5, "2023-07")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.jpg", "no such file"),
        (tmp_path / "empty.jpg", "0 bytes"),
        (Path("/dev/null"), "no file"),
        (tmp_path / ("a" * 300), "too long"),
        (tmp_path / "a\0b", "null"),
    ):
        with pytest.raises(NotAPhotoError, match=reason) as error:
            read_photo(path)
        assert error.value.name == str(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_fifty_megapixels_are_read_in_bounded_memory(kind: str, tmp_path: Path) -> None:
    """In a process of its own, whose peak is compared with that of reading a small photo."""
    size = 8160, 6144
    (tmp_path / "large").write_bytes(black(*size) if kind == "PNG" else encoded(Image.new("RGB", size)))
    (tmp_path / "small").write_bytes(encoded(photo(), kind))
    peak = {}
    for name in ("small", "large"):
        code = (
            "import resource, sys\nfrom streetrecall.pictures.photo import read_photo\n"
            "photo = read_photo(sys.argv[1])\n"
            "print(photo.width, *photo.pixels.shape, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=True
        )
        *shape, peak[name] = map(int, done.stdout.split())
        if name == "large":
            assert shape[0] == 8160
            assert ENOUGH_PX <= min(shape[1:3]) <= 2 * ENOUGH_PX
    assert peak["large"] - peak["small"] < (90_000 if kind == "JPEG" else 420_000)  # kilobytes


def sphere(width: int = 1024) -> Image.Image:
    """A 360-degree picture: sky of one colour at the top, and columns that go on from the right edge to the left."""
    turn = np.arange(width) / width * 2 * np.pi
    down = np.linspace(0, 1, width // 2)[:, None]
    bands = [127 + 90 * np.sin(turn * n + n)[None] * np.sin(down * np.pi) for n in (3, 5, 8)]
    return Image.fromarray(np.stack(bands, axis=2).astype(np.uint8))


XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description GPano:ProjectionType='equirectangular' "


def test_a_360_degree_picture_is_told_by_its_metadata_or_by_its_edges() -> None:
    plain = encoded(sphere(), quality=92)
    assert read_photo(plain).sphere
    assert not read_photo(encoded(scene_of_two_to_one())).sphere
    told = with_segment(0xE1, XMP + b"GPano:PoseHeadingDegrees='-90'/></x:xmpmeta>", encoded(sphere()))
    found = read_photo(told)
    assert found.sphere
    assert found.heading_deg == 270.0


def test_a_part_of_a_sphere_is_put_where_it_belongs() -> None:
    whole = sphere()
    part = whole.crop((0, 128, 1024, 384))
    xmp = (
        XMP + b"GPano:FullPanoWidthPixels='1024' GPano:FullPanoHeightPixels='512' GPano:CroppedAreaLeftPixels='0' "
        b"GPano:CroppedAreaTopPixels='128'/></x:xmpmeta>"
    )
    found = read_photo(with_segment(0xE1, xmp, encoded(part, quality=95)))
    assert found.pixels.shape == (512, 1024, 3)
    assert np.abs(found.pixels[128:384].astype(float) - np.asarray(part)).mean() < 4
    assert (found.pixels[:128] == 128).all()
    absurd = xmp.replace(b"'1024'", b"'99999999'")
    assert read_photo(with_segment(0xE1, absurd, encoded(part))).sphere


def scene_of_two_to_one() -> Image.Image:
    return photo((1024, 512))


GOOD = [encoded(photo(WIDE)), encoded(photo(), "PNG"), encoded(photo(), "WEBP"), heic()]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_photo_or_a_reason(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(GOOD))
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_photo(bytes(changed[: data.draw(st.integers(1, len(changed)))]))
    except NotAPhotoError as error:
        assert error.reason
    else:
        assert found.pixels.ndim == 3
        assert io.BytesIO(found.pixels.tobytes()).getbuffer().nbytes == found.pixels.size
