from __future__ import annotations

import io

import pytest
from PIL import Image

from streetrecall.pictures.inspect import inspect
from streetrecall.pictures.structure import NotAPictureError


def encoded(kind: str, colour: tuple[int, int, int] = (10, 200, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_size_format_and_luminance_of_a_complete_picture(kind: str) -> None:
    picture = inspect(encoded(kind, (255, 255, 255)))
    assert (picture.width, picture.height, picture.format) == (64, 48, kind)
    assert picture.luminance == pytest.approx(255, abs=1)
    assert inspect(encoded(kind, (0, 0, 0))).luminance < 1


def noise(kind: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((256, 256), 80).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_picture_is_refused(kind: str, share: float) -> None:
    data = noise(kind)
    with pytest.raises(NotAPictureError):
        inspect(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"<html>sorry</html>", b"GIF89a" + bytes(100)])
def test_other_bytes_are_not_a_picture(data: bytes) -> None:
    with pytest.raises(NotAPictureError):
        inspect(data)


def test_a_picture_of_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(NotAPictureError, match="more pixels"):
        inspect(encoded("PNG"))
