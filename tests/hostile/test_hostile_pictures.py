"""Each hostile picture of the table is taken or refused, by the stages and the checks alike."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from picture_table import (
    JPEG,
    PNG,
    REFUSED,
    WHOLE,
    cmyk,
    encoded,
    exif,
    interlaced_png,
    mpo,
    png_with,
    scene,
    with_segment,
)
from PIL import Image, ImageOps
from tinyarchive import picture as frame

from streetrecall.expectations.common.pictures import read
from streetrecall.params.schema import Params
from streetrecall.pictures.cropping import crop_picture
from streetrecall.pictures.inspect import decode, inspect
from streetrecall.pictures.structure import NotAPictureError, read_structure


def checked(data: bytes, tmp_path: Path) -> dict[str, object]:
    """What the checks read of a picture in a shard."""
    (tmp_path / "shard.tar").write_bytes(data)
    rows = pd.DataFrame({"shard": ["shard.tar"], "offset": [0], "size": [len(data)]})
    row = read(rows, tmp_path).iloc[0].to_dict()
    return {key: None if pd.isna(value) else value for key, value in row.items()}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_picture_is_taken(name: str, params: Params, tmp_path: Path) -> None:
    data = WHOLE[name]()
    found = inspect(data)
    assert (found.width, found.height) == (224, 224)
    assert found.format == ("PNG" if name.startswith("PNG") else "JPEG")
    assert found.luminance == pytest.approx(np.asarray(scene().convert("L")).mean(), abs=9)

    row = checked(data, tmp_path)
    assert (row["read_error"], row["read_format"]) == (None, found.format)
    assert (row["read_width"], row["read_height"], row["read_sha256"]) == (224, 224, hashlib.sha256(data).hexdigest())

    crop = crop_picture(data, params.crop)
    assert (crop.flaw, crop.width, crop.height) == ("", 224, 224)
    assert checked(crop.data, tmp_path)["read_error"] is None
    if name != "JPEG, YCCK":  # the table makes one by changing what the numbers of another mean
        grey = [np.asarray(image.convert("L"), float) for image in (decode(read_structure(crop.data)), scene())]
        assert abs(grey[0] - grey[1]).mean() < 8
    pixels = tf.io.decode_jpeg(crop.data, channels=3)  # as training reads it
    assert pixels.shape == (224, 224, 3)
    with Image.open(io.BytesIO(crop.data)) as shown:
        assert (shown.format, shown.getexif()) == ("JPEG", {}), "no later stage meets what was broken"


@pytest.mark.parametrize("name", REFUSED)
def test_another_file_is_refused(name: str, params: Params, tmp_path: Path) -> None:
    make, reason = REFUSED[name]
    data = make()
    with pytest.raises(NotAPictureError, match=reason) as refusal:
        inspect(data)
    assert " at 0x" not in str(refusal.value), "an address differs from run to run"
    crop = crop_picture(data, params.crop)
    assert (crop.flaw, crop.data) == ("undecodable", data)


SMALL = scene(size=(48, 32))
PARTS = {
    "JPEG": encoded(SMALL),
    "progressive": encoded(SMALL, progressive=True),
    "MPO": mpo(SMALL),
    "EXIF": with_segment(0xE1, exif(6), encoded(SMALL)),
    "thumbnail": with_segment(0xE1, exif(1) + encoded(SMALL), encoded(SMALL)),
    "CMYK": cmyk(0, SMALL),
    "PNG": encoded(SMALL, "PNG"),
    "interlaced": interlaced_png(SMALL),
}


@pytest.mark.parametrize("tail", [b"", b"\n", b"\xff" * 50, bytes(50)], ids=["", "newline", "padding", "zeros"])
@pytest.mark.parametrize("data", PARTS.values(), ids=PARTS)
def test_each_part_of_a_picture_is_refused(data: bytes, tail: bytes) -> None:
    end = len(data)
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "MPO":  # its first picture ends before the file does
            image.seek(1)
            end = image.offset
    read_structure(data[:end] + tail)
    for length in range(end):
        with pytest.raises(NotAPictureError):
            read_structure(data[:length] + tail)


@pytest.mark.parametrize(
    "data", [JPEG, encoded(progressive=True), mpo(), PNG], ids=["JPEG", "progressive", "MPO", "PNG"]
)
def test_damage_anywhere_is_a_refusal_or_a_picture(data: bytes, params: Params) -> None:
    rng = random.Random(7)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(min(len(data), rng.choice([30, 700, len(data)])))
            damaged[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        try:
            found = inspect(bytes(damaged))
        except NotAPictureError:
            assert crop_picture(bytes(damaged), params.crop).flaw == "undecodable"
        else:
            assert crop_picture(bytes(damaged), params.crop).flaw != "undecodable"
            assert found.width * found.height > 0


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "size"), [("JPEG", (224, 224)), ("JPEG", (90, 60)), ("PNG", (224, 224))])
def test_exif_orientation_is_applied(
    kind: str, size: tuple[int, int], orientation: int, order: str, params: Params, tmp_path: Path
) -> None:
    if kind == "JPEG":
        data = with_segment(0xE1, exif(orientation, order), encoded(scene(size=size), quality=98))
    else:
        data = png_with(b"eXIf", exif(orientation, order)[6:])
    with Image.open(io.BytesIO(data)) as stored:
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    found = inspect(data)
    assert (found.width, found.height) == upright.size
    row = checked(data, tmp_path)
    assert (row["read_width"], row["read_height"], row["read_error"]) == (*upright.size, None)
    assert np.array_equal(decode(read_structure(data)), upright)

    crop = crop_picture(data, params.crop)
    assert crop.flaw == ("" if size == (224, 224) else "wrong_shape")
    with Image.open(io.BytesIO(crop.data)) as made:
        assert made.getexif() == {}
        if size == (224, 224):
            assert abs(np.asarray(made, float) - np.asarray(upright, float)).mean() < 6
    if orientation == 1 and kind == "JPEG" and size == (224, 224):
        assert crop.data == encoded(scene(size=size), quality=98), "not encoded anew"


def test_a_published_picture_keeps_its_bytes(params: Params) -> None:
    for data in (JPEG, encoded(progressive=True), frame(3), encoded(scene().convert("L"), optimize=True)):
        assert read_structure(data).bare == data
        assert crop_picture(data, params.crop).data == data
        for more in (b"\n", b"\xff" * 9, b"video"):
            assert crop_picture(data + more, params.crop).data == data
        assert crop_picture(with_segment(0xE1, exif(1) + b"broken", data), params.crop).data == data
