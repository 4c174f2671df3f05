from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from streetrecall.params.schema import Params, PhotoAnswering
from streetrecall.retrieval.photos import Gallery, gallery_of, score


def gallery(seed: int = 0) -> Gallery:
    """Six places 10 m apart, two dates, four views each."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [(p, f"{p}-{d}", month, 10.0 * p + d) for p in range(6) for d, month in enumerate(("2022-05", "2019-06"))
         for _ in range(4)], columns=["place", "pano_id", "month", "x"]
    ).assign(y=0.0)  # fmt: skip
    rows["place"] += 40
    descriptors = rng.normal(size=(len(rows), 16)).astype(np.float32)
    return gallery_of(rows, descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True))


@pytest.fixture
def settings(params: Params) -> PhotoAnswering:
    rerank = params.evaluate.photos.rerank.model_copy(update={"places": 4, "views": 2})
    return params.evaluate.photos.model_copy(update={"rerank": rerank})


def test_places_are_at_the_mean_of_their_panoramas() -> None:
    found = gallery()
    assert found.places.tolist() == [40, 41, 42, 43, 44, 45]
    assert np.allclose(found.xy[:, 0], 10.0 * np.arange(6) + 0.5)


def test_views_of_the_photos_month_never_answer(settings: PhotoAnswering) -> None:
    found = gallery()
    asked = found.descriptors[[0, 0]]  # a view of 2022-05
    month = np.array(["2022-05", "2024-01"])
    scores = score(month, asked, found, settings)
    used = found.rows["month"].to_numpy()[scores.views]
    assert set(used[0].ravel()) == {"2019-06"}
    assert scores.views[1, 0, 0] == 0
    only_new = gallery_of(found.rows.assign(month="2022-05"), found.descriptors)
    nothing = score(month[:1], asked[:1], only_new, settings)
    assert np.isneginf(nothing.of_places).all()
    assert (nothing.best == -1).all()
    assert (nothing.views == -1).all()


def test_scores_best_places_and_views_agree_with_a_loop(settings: PhotoAnswering) -> None:
    found = gallery(1)
    rng = np.random.default_rng(2)
    asked = rng.normal(size=(3, 16)).astype(np.float32)
    scores = score(np.array(["2024-01"] * 3), asked, found, settings)
    similarity = asked @ found.descriptors.T
    for photo in range(3):
        own = []
        for place in range(6):
            best = [similarity[photo, found.date == d].max() for d in np.unique(found.date[found.place == place])]
            own.append(0.5 * max(best) + 0.5 * np.mean(best))
        near = [[q for q in range(6) if abs(q - p) == 1] for p in range(6)]
        expected = [own[p] + 0.3 * np.mean([own[q] for q in near[p]]) for p in range(6)]
        assert np.allclose(scores.of_places[photo], expected, atol=1e-6)
        assert scores.best[photo].tolist() == np.argsort(-np.array(expected))[:4].tolist()
        for place, views in zip(scores.best[photo], scores.views[photo], strict=True):
            members = np.flatnonzero(found.place == place)
            assert views.tolist() == members[np.argsort(-similarity[photo, members])][:2].tolist()
