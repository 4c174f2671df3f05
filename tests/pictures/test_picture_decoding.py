"""The decoder of PNG gives the pixels that Pillow gives."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from streetrecall.pictures.inspect import decode
from streetrecall.pictures.structure import NotAPictureError, read_structure


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "I;16"])
def test_png_is_decoded_as_pillow_does(mode: str) -> None:
    frame = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    if mode == "I;16":
        frame = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60), dtype=np.uint16) * 257)
    else:
        frame = frame.convert(mode)
    out = io.BytesIO()
    frame.save(out, "PNG")
    fast = decode(read_structure(out.getvalue()))
    assert fast.mode == "RGB"
    if mode != "I;16":  # Pillow clips 16 bits to 8, where OpenCV scales them
        assert np.array_equal(np.asarray(fast), np.asarray(frame.convert("RGB")))
    with pytest.raises(NotAPictureError):
        read_structure(out.getvalue()[:-30])
