"""The galleries that the benchmark `locate` makes of a bundle answer as the bundle does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundlefixtures import photos, tiny_bundle, town

from streetrecall.benchmarks.locate import resize_gallery
from streetrecall.bundle.answer import Bundle
from streetrecall.errors import UserError

__all__ = ["photos", "tiny_bundle", "town"]  # fixtures


@pytest.mark.parametrize("times", [0.5, 1.0, 2.5])
def test_a_gallery_has_as_many_pictures_as_asked_and_answers(
    times: float, tiny_bundle: Path, photos: pd.DataFrame, tmp_path: Path
) -> None:
    whole = Bundle(tiny_bundle)
    pictures = round(times * len(whole.gallery))
    resize_gallery(tiny_bundle, tmp_path / "b", pictures)
    made = Bundle(tmp_path / "b")
    assert len(made.gallery) == pictures == len(made.gallery.descriptors)
    common = min(pictures, len(whole.gallery))
    assert np.allclose(made.gallery.descriptors[:common], whole.gallery.descriptors[:common], atol=1e-3)
    assert len(np.unique(made.gallery.xy, axis=0)) == len(made.gallery.places)
    (answer,) = made.answer([photos["jpeg"].iloc[0]])
    assert answer.neighbours
    assert {one.place for one in answer.neighbours} <= set(made.gallery.places.tolist())
    if times >= 1:
        assert answer.neighbours[0].place == whole.answer([photos["jpeg"].iloc[0]])[0].neighbours[0].place


def test_a_gallery_without_pictures_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--gallery -5: a gallery has at least one picture"):
        resize_gallery(tiny_bundle, tmp_path / "b", -5)
