"""Thresholds of the checks between stages: the section ``checks`` of params.yaml (docs/checks.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streetrecall.params.fields import Count, Month, NonNegative, Positive, Section, Share


class CheckGrid(Section):
    min_points: Count
    max_points: Count
    spacing_tolerance: Share
    spacing_mostly: Share


class CheckPanoramas(Section):
    min_rows: Count
    first_month: Month
    last_month: Month
    max_unknown_month_share: Share
    max_unknown_month_share_of: dict[str, Share]
    offset_tolerance_m: Positive
    max_median_offset_m: Positive
    max_p95_offset_m: Positive
    max_offset_m: Positive
    max_outside_m: Positive
    max_uncovered_share: Share
    max_uncovered_share_of: dict[str, Share]


class CheckLocations(Section):
    min_places: Count
    position_tolerance_m: Positive
    min_split_distance_m: NonNegative


class CheckCaptures(Section):
    min_rows: Count
    directions: Annotated[int, Field(ge=1, le=4)]
    frames: Annotated[
        list[Annotated[list[Count], Field(min_length=2, max_length=2)]],
        Field(min_length=1),
    ]
    min_framed_share: Share
    max_place_distance_m: Positive
    min_complete_share: Share
    min_complete_share_of: dict[str, Share]
    max_lost_share: Share
    max_blank_share: Share
    max_uncollected_share: Share
    max_uncollected_share_of: dict[str, Share]


class CheckCrops(Section):
    min_rows: Count
    min_luminance_mean: NonNegative
    min_luminance_std: NonNegative
    max_shared_share: Share
    near_equal_bits: Annotated[int, Field(ge=0, le=63)]
    max_near_equal_share: Share
    min_split_distance_m: NonNegative
    position_tolerance_m: Positive
    max_quarantined_share: Share
    min_four_headings_share: Share
    min_four_headings_share_of: dict[str, Share]
    min_train_places: Count
    min_train_places_with_dates_share: Share
    min_train_places_with_dates_share_of: dict[str, Share]


class CheckViews(Section):
    min_rows_of: dict[str, Count]
    min_complete_share: Share


class CheckPhotos(Section):
    min_rows_of: dict[str, Count]
    distance_tolerance_m: Positive


class CheckDescriptors(Section):
    norm_tolerance: Positive
    pairs: Count
    min_similarity_spread: NonNegative
    max_similarity_mean: Annotated[float, Field(ge=-1, le=1)]


class CheckPredictions(Section):
    min_rows: Count
    min_answered_share: Share
    distance_tolerance_m: Positive
    distance_tolerance_share: NonNegative


class Checks(Section):
    listed_ids: Count
    grid: CheckGrid
    panoramas: CheckPanoramas
    locations: CheckLocations
    captures: CheckCaptures
    crops: CheckCrops
    views: CheckViews
    photos: CheckPhotos
    descriptors: CheckDescriptors
    predictions: CheckPredictions
