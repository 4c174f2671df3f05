"""Answer photos from a bundle: where each was taken, how sure that is, and which pictures of the gallery say so.

The answer is the one that the stage evaluate gives: the same pixels, scores, comparison of points, position and radius.
Only the gallery differs, for here all its pictures may answer, whatever their month.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streetrecall.bundle import layout
from streetrecall.bundle.gallery import Gallery, Part
from streetrecall.bundle.layout import Calibration
from streetrecall.pictures.photo import Bytes, Photo, read_photo, reduce_to
from streetrecall.retrieval.photo_descriptors import describe_photo
from streetrecall.retrieval.photos import score, together
from streetrecall.retrieval.points import Points, find_points
from streetrecall.retrieval.portable import PortableEmbedder
from streetrecall.retrieval.rerank import match
from streetrecall.scoring.position import difficulty, locate
from streetrecall.scoring.ranking import Floats, Ints, Ranking
from streetrecall.scoring.spots import margins, spread_out

SHOWN = 5  # neighbours of an answer
RANKED = 20  # places or pictures that are ranked, as in the evaluation
LOOKED_AT = 60  # best places among which those that are shown are found
NO_MONTH = "none"  # of a photo whose month keeps no picture from answering
DENSE_PLACES = 1_000  # of more places only those are scored whose views the index finds
CANDIDATES = 600  # views that the index finds for each photo
SPHERE_VIEWS, SPHERE_FOV_DEG, SPHERE_PITCH_DEG = 8, 64.0, 4.0  # how a 360-degree picture is asked
_SPHERE_SIZE = 640, 480
_EARTH_M = 6_371_008.8  # mean radius


@dataclass(frozen=True)
class Neighbour:
    """A place that looks like the photo, and the picture of it that does so most.

    ``lat`` and ``lon`` are the place's, ``distance_m`` the metres from it to the answer. ``row`` is the picture's row
    in the gallery, for `Gallery.thumbnail`; ``direction_deg`` is where it looks, and None where that is unknown.
    ``similarity`` is the inner product of the descriptors, ``score`` what the place is ranked by, ``inliers`` the
    number of points that agree (None: not compared).
    """

    place: int
    row: int
    lat: float
    lon: float
    month: str
    direction_deg: float | None
    similarity: float
    score: float
    inliers: int | None
    distance_m: float
    provider: str
    licence: str
    attribution: str
    has_thumbnail: bool


@dataclass(frozen=True)
class Said:
    """Where a photo's own metadata say that it was taken, and how far that is from the answer. It decides nothing."""

    name: str
    lat: float
    lon: float
    distance_m: float


@dataclass(frozen=True)
class Answer:
    """Where ``photos`` (names) were taken, if they are of one spot.

    The true position lies within ``radius_m`` of ``lat`` and ``lon`` in a share ``coverage`` of the answers to photos
    that have a place of the gallery nearby; None without enough photos to calibrate. A ``withheld`` answer must not be
    shown as a position: ``reason`` says why. ``confidence`` is compared with ``threshold``.
    """

    photos: list[str]
    lat: float
    lon: float
    radius_m: float | None
    coverage: float
    withheld: bool
    reason: str
    confidence: float
    threshold: float | None
    neighbours: list[Neighbour]
    said: list[Said] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """A photo as the bundle sees it: one picture, or several directions of a sphere. ``descriptors`` (n, d)."""

    photo: Photo
    pictures: list[Bytes]
    descriptors: NDArray[np.float32]


class Bundle:
    """The bundle in ``folder``. One instance serves one thread at a time.

    Args:
        threads: of the network and of the comparison; None: all cores of this process.

    Raises:
        UserError: there is no bundle, or a damaged one.
    """

    def __init__(self, folder: str | Path, threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = layout.read_manifest(self.folder)
        self.threads = threads or _cores()
        self.settings = layout.as_namespace(self.manifest["answering"])
        self.kind = self.manifest["kind"]

    @cached_property
    def embedder(self) -> PortableEmbedder:
        sizes = [(int(h), int(w)) for h, w in self.manifest["sizes"]]
        return PortableEmbedder(self.folder / layout.EMBEDDER, sizes, self.threads)

    @cached_property
    def gallery(self) -> Gallery:
        return Gallery(self.folder, self.manifest)

    def calibration(self, compare: bool, several: bool) -> Calibration:
        how = layout.FULL if compare and self.compares else layout.QUICK
        return Calibration(**self.manifest["calibration"][how][layout.SEVERAL if several else layout.SINGLE])

    @property
    def compares(self) -> bool:
        """Whether photos are compared with the gallery by their points."""
        return self.kind == layout.VIEWS and self.gallery.has_points and self.settings.photos.rerank.places > 0

    def answer(
        self, photos: Sequence[bytes | str | Path | Photo], together: bool = False, compare: bool = True
    ) -> list[Answer]:
        """One answer for each of ``photos``, or a single one for all if they were taken ``together`` at one spot.

        ``compare`` false leaves the comparison of points out, which takes most of the time.

        Raises:
            NotAPhotoError: one of them cannot be read; its ``name`` says which.
        """
        seen = [self.see(photo) for photo in photos]
        groups = [seen] if together and seen else [[one] for one in seen]
        return [self.answer_seen(group, compare) for group in groups]

    def see(self, source: bytes | str | Path | Photo) -> Seen:
        """Read and describe one photo."""
        photo = source if isinstance(source, Photo) else read_photo(source)
        pictures = look_around(photo) if photo.sphere else [photo.pixels]
        return Seen(photo, pictures, np.stack([describe_photo(self.embedder, picture) for picture in pictures]))

    def answer_seen(self, seen: Sequence[Seen], compare: bool = True, month: str = NO_MONTH) -> Answer:
        """The answer to photos of one spot. Pictures of the gallery of that ``month`` do not answer."""
        descriptors = np.concatenate([one.descriptors for one in seen])
        compare = compare and self.compares
        if self.kind == layout.VIEWS:
            ranked = self._rank_places(descriptors, [p for one in seen for p in one.pictures], compare, month)
        else:
            ranked = self._rank_pictures(descriptors, month)
        calibration = self.calibration(compare, len(descriptors) > 1)
        return self._conclude(seen, ranked, calibration)

    # Views: places, ranked by all their views and by points

    def _rank_places(
        self, descriptors: NDArray[np.float32], pictures: Sequence[Bytes], compare: bool, month: str
    ) -> Ranked:
        settings = self.settings.photos
        part = self._candidates(descriptors)
        scores = score(np.full(len(descriptors), month), descriptors, part, settings)
        values = scores.of_places
        inliers = np.zeros(values.shape, np.int64)
        if compare:
            found = self._compare(pictures, part, scores.views)
            rows, columns = np.nonzero(scores.best >= 0)
            inliers[rows, scores.best[rows, columns]] = found[rows, columns]
            values = values + (settings.rerank.weight * np.log1p(inliers)).round(9)
        one_spot = np.zeros(len(descriptors), np.int64)
        values = together(values, one_spot).round(9)[0] if len(descriptors) > 1 else values[0]
        order = np.argsort(-values, kind="stable")
        order = order[np.isfinite(values[order])]
        # As in the evaluation: the best places vote for the position, and the places shown are apart from each other.
        voting, looked_at = order[:RANKED], order[:LOOKED_AT]
        apart = spread_out(values[None, looked_at], part.xy[looked_at], settings.apart_m, SHOWN)[0]
        places = np.concatenate([voting, looked_at[apart]])
        rows, similar = _best_views(descriptors, part, places, month)
        confidence = 0.0
        if len(order):
            margin = margins(values[None], order[:1], part.xy, self.settings.position.agree_m)
            confidence = float((values[order[:1]] + settings.margin_weight * margin).round(9)[0])
        return Ranked(
            numbers=part.numbers[places], rows=part.rows[rows], similarity=similar, score=values[places],
            inliers=inliers[:, places].max(axis=0) if compare else None, xy=part.xy[places],
            temperature=settings.temperature, voting=len(voting), shown=np.arange(len(voting), len(places)),
            confidence=confidence,
        )  # fmt: skip

    def _candidates(self, descriptors: NDArray[np.float32]) -> Part:
        gallery = self.gallery
        if len(gallery.places) <= DENSE_PLACES:
            return gallery.everything()
        found, _ = gallery.search(descriptors, min(CANDIDATES, len(gallery)))
        numbers = np.unique(gallery.place_of_row[found[found >= 0]])
        return gallery.part(gallery.near(numbers, self.settings.photos.neighbour_m))

    def _compare(self, pictures: Sequence[Bytes], part: Part, views: Ints) -> Ints:
        """The most matches of each picture with the views (n, c, v), rows of ``part``: (n, c)."""
        counts = np.zeros(views.shape, np.int64)
        with ThreadPoolExecutor(self.threads) as pool:
            for number, picture in enumerate(pictures):
                asked = self.points_of(picture)
                wanted = np.argwhere(views[number] >= 0)

                def count(at: Ints, asked: Points = asked, number: int = number) -> int:
                    row = int(part.rows[views[number][tuple(at)]])
                    return len(match(asked, self.gallery.points(row))[0])

                for at, found in zip(wanted, pool.map(count, wanted), strict=True):
                    counts[(number, *at)] = found
        return counts.max(axis=2, initial=0)

    def points_of(self, picture: Bytes) -> Points:
        """The points of a photo that are compared."""
        rerank = self.settings.photos.rerank
        return find_points(reduce_to(picture, rerank.photo_px), rerank.photo_points)

    # Pictures: single ones, of one direction each

    def _rank_pictures(self, descriptors: NDArray[np.float32], month: str) -> Ranked:
        gallery = self.gallery
        # The mean of several descriptors ranks as the mean of their similarities does.
        asked = descriptors.mean(axis=0, keepdims=True)
        spare = int((gallery.columns["month"] == month).sum()) if month != NO_MONTH else 0
        found, similar = gallery.search(asked, min(RANKED + spare, len(gallery)))
        kept = found[0] >= 0
        kept &= gallery.columns["month"][np.maximum(found[0], 0)] != month
        rows, similarity = found[0][kept][:RANKED], similar[0][kept][:RANKED].astype(np.float64)
        numbers = gallery.place_of_row[rows]
        xy = np.column_stack([gallery.columns[name][rows] for name in ("x", "y")])
        return Ranked(
            numbers=numbers, rows=rows, similarity=similarity, score=similarity, inliers=None, xy=xy,
            temperature=self.settings.position.temperature, voting=len(rows),
            shown=np.sort(np.unique(numbers, return_index=True)[1])[:SHOWN], confidence=None,
        )  # fmt: skip

    # Both

    def _conclude(self, seen: Sequence[Seen], ranked: Ranked, calibration: Calibration) -> Answer:
        placed = self.settings.position
        names = [one.photo.name for one in seen]
        if not len(ranked.numbers):
            nothing = "no picture of the gallery may answer"
            return Answer(names, math.nan, math.nan, None, calibration.coverage, True, nothing, 0.0, None, [])
        k = min(placed.neighbours, ranked.voting)
        best = Ranking(np.arange(k)[None], ranked.score[None, :k])
        position = locate(best, ranked.xy, ranked.temperature, placed.agree_m)
        radius = None
        if calibration.factor is not None:
            scale = float(difficulty(position, placed.difficulty_floor_m)[0])
            radius = round(max(placed.radius_floor_m, calibration.factor * scale), 2)
        xy = position.xy[0]
        lat, lon = self._degrees(int(ranked.numbers[0]), xy)
        views = self.kind == layout.VIEWS
        confidence = float(position.agreement[0].round(9)) if ranked.confidence is None else ranked.confidence
        withheld = calibration.threshold is not None and confidence < calibration.threshold
        return Answer(
            names, lat, lon, radius, calibration.coverage, withheld,
            _reason(views, confidence, calibration, placed.agree_m) if withheld else "",
            round(confidence, 6), calibration.threshold, self._neighbours(ranked, xy),
            [
                Said(one.photo.name, *one.photo.position, round(_metres(*one.photo.position, lat, lon), 1))
                for one in seen if one.photo.position is not None
            ],
        )  # fmt: skip

    def _degrees(self, number: int, xy: Floats) -> tuple[float, float]:
        """Latitude and longitude of a position near the place ``number``: a linear step of some tens of metres from it
        errs by less than a millimetre."""
        gallery = self.gallery
        lat, lon = gallery.latlon[number] + gallery.degrees_per_m[number] @ (xy - gallery.xy[number])
        return round(float(lat), 7), round(float(lon), 7)

    def _neighbours(self, ranked: Ranked, xy: Floats) -> list[Neighbour]:
        gallery = self.gallery
        shown: list[Neighbour] = []
        for i in ranked.shown.tolist():
            number, row = int(ranked.numbers[i]), int(ranked.rows[i])
            columns = {name: values[row] for name, values in gallery.columns.items()}
            heading = float(columns["heading_deg"])
            lat, lon = gallery.latlon[number].round(7).tolist()
            shown.append(
                Neighbour(
                    place=int(gallery.places[number]), row=row, lat=lat, lon=lon, month=str(columns["month"]),
                    direction_deg=None if math.isnan(heading) else heading,
                    similarity=round(float(ranked.similarity[i]), 4), score=round(float(ranked.score[i]), 4),
                    inliers=None if ranked.inliers is None else int(ranked.inliers[i]),
                    distance_m=round(float(np.hypot(*(gallery.xy[number] - xy))), 1),
                    provider=str(columns["provider"]), licence=str(columns["licence"]),
                    attribution=str(columns["attribution"]), has_thumbnail=int(columns["thumbnail_offset"]) >= 0,
                )
            )  # fmt: skip
        return shown

    def matches(self, picture: Bytes, row: int) -> tuple[Floats, Floats]:
        """What agrees between a photo's ``picture`` and a row of the gallery: positions (n, 2) in shares of width and
        height of each, from their top left corners."""
        asked, answering = self.points_of(picture), self.gallery.points(row)
        a, b = match(asked, answering)
        height, width = reduce_to(picture, self.settings.photos.rerank.photo_px).shape[:2]
        side = (self.gallery.columns["width"][row], self.gallery.columns["height"][row])
        return (asked.xy[a] + 0.5) / (width, height), (answering.xy[b] + 0.5) / side


@dataclass(frozen=True)
class Ranked:
    """Places or pictures: numbers of places, rows of the gallery, what they are ranked by, and projected positions.

    The first ``voting`` are the best ones, best first, which vote for the position. ``shown`` are those that a person
    sees.
    """

    numbers: Ints
    rows: Ints
    similarity: Floats
    score: Floats
    inliers: Ints | None
    xy: Floats
    temperature: float
    voting: int
    shown: Ints
    confidence: float | None  # of the first; None: the agreement of the position


def look_around(photo: Photo) -> list[Bytes]:
    """What a 360-degree picture shows in each direction. Directions that a part of a sphere lacks are left out."""
    from streetrecall.pictures.projections import Sphere, View

    sphere = Sphere(photo.pixels)
    width, height = _SPHERE_SIZE
    headings = np.arange(SPHERE_VIEWS) * (360.0 / SPHERE_VIEWS)
    views = [sphere.cut(View(h, SPHERE_FOV_DEG, width, height, SPHERE_PITCH_DEG)) for h in headings.tolist()]
    return [view for view in views if view.std() > 1.0] or views[:1]


def _best_views(descriptors: NDArray[np.float32], part: Part, places: Ints, month: str) -> tuple[Ints, Floats]:
    """Of each of ``places``, numbers in ``part``: the row of its most similar view, and the similarity."""
    rows, values = np.zeros(len(places), np.int64), np.zeros(len(places))
    starts = np.searchsorted(part.place, np.arange(len(part.numbers) + 1))
    for i, place in enumerate(places.tolist()):
        own = np.arange(starts[place], starts[place + 1])
        own = own[part.month[own] != month]
        similarity = (descriptors @ part.descriptors[own].T).max(axis=0)
        best = int(similarity.argmax())
        rows[i], values[i] = own[best], similarity[best]
    return rows, values


def _reason(views: bool, confidence: float, calibration: Calibration, agree_m: float) -> str:
    if views:
        return (
            f"the confidence, by the score of the best place and its margin to others, is {confidence:.3f}; below "
            f"{calibration.threshold:.3f} the photo is as likely from where the gallery has no place"
        )
    return (
        f"the most similar pictures disagree: only {confidence:.0%} of their weight lies within {agree_m:.0f} m of one "
        f"position, and {calibration.threshold:.0%} is asked for"
    )


def _metres(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Distance on a sphere, which errs by half a percent at most.

    >>> round(_metres(59.0, 18.0, 59.0, 18.001))
    57
    """
    a, b, c, d = map(math.radians, (lat1, lon1, lat2, lon2))
    h = math.sin((c - a) / 2) ** 2 + math.cos(a) * math.cos(c) * math.sin((d - b) / 2) ** 2
    return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(h)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
