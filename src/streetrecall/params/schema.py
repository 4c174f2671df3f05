"""params.yaml as typed, validated, frozen objects. Nothing here reads a default: every key stands in the file."""

from __future__ import annotations

import difflib
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from streetrecall import months
from streetrecall.errors import UserError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Split = Literal["train", "validation", "test"]


def _text(value: Any) -> Any:
    if not isinstance(value, str):  # such as 2026-11-05, which YAML reads as a date
        raise ValueError("not text; write it in quotes")
    return value


Label = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")]
Month = Annotated[str, Field(pattern=f"^{months.PATTERN}$")]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ProviderSection(Section):
    """The parameters of one provider; the section's name in params.yaml is the provider's name."""


class City(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    crs: Annotated[str, Field(pattern=r"^EPSG:\d+$")]


class Grid(Section):
    spacing_m: Positive
    decimals: Annotated[int, Field(ge=0, le=15)]
    features: Literal["first", "all"]


class Metadata(Section):
    snapshot: Label
    radius_m: Positive
    decimals: Annotated[int, Field(ge=0, le=15)]


class Scrape(Section):
    headings_deg: Annotated[list[Annotated[float, Field(ge=0, lt=360)]], Field(min_length=1, max_length=4)]
    width: Annotated[int, Field(ge=16, le=8192)]
    height: Annotated[int, Field(ge=16, le=8192)]
    quality: Annotated[int, Field(ge=1, le=100)]
    blank_luminance: Annotated[float, Field(ge=0, le=255)]


class Network(Section):
    browsers: Annotated[int, Field(ge=1, le=64)]
    recycle_captures: Count
    ready_s: Positive
    threads: Annotated[int, Field(ge=1, le=256)]
    requests_per_second: Positive
    burst: Count
    timeout_s: Positive
    tries: Annotated[int, Field(ge=1, le=50)]
    backoff_s: Positive
    backoff_limit_s: Positive
    breaker_refusals: Count
    breaker_pause_s: Positive
    breaker_pauses: Annotated[int, Field(ge=0)]


class Level(Section):
    radius_m: Positive
    split: Split


class Order(Section):
    start: Annotated[list[float], Field(min_length=2, max_length=2)]
    levels: Annotated[list[Level], Field(min_length=1)]
    quadrant_segments: Annotated[int, Field(ge=0)]

    @field_validator("start")
    @classmethod
    def _on_earth(cls, start: list[float]) -> list[float]:
        if not (abs(start[0]) <= 90 and abs(start[1]) <= 180):
            raise ValueError("not a latitude and a longitude in degrees")
        return start

    @field_validator("levels")
    @classmethod
    def _shrinking(cls, levels: list[Level]) -> list[Level]:
        if any(a.radius_m <= b.radius_m for a, b in itertools.pairwise(levels)):
            raise ValueError("the levels' radii must shrink from one to the next")
        return levels


class Simulated(ProviderSection):
    seed: Seed
    years: Annotated[list[Annotated[int, Field(ge=1990, le=2100)]], Field(min_length=2, max_length=2)]
    block_m: Annotated[float, Field(ge=40, le=200)]
    margin_m: Annotated[float, Field(ge=60, le=400)]
    open_share: Share
    park_share: Annotated[float, Field(ge=0, le=0.4)]
    water_share: Annotated[float, Field(ge=0, le=0.4)]
    undriven_share: Annotated[float, Field(ge=0, le=0.9)]
    spot_spacing_m: Annotated[float, Field(ge=3, le=60)]
    dates_mode: Annotated[float, Field(ge=1, le=16)]
    dates_spread: NonNegative
    position_error_m: Annotated[float, Field(ge=0, le=5)]
    yaw_error: Annotated[float, Field(ge=0, le=20)]
    twin_share: Share
    repainted_share: Share
    rebuilt_share: Share
    parked_share: Share
    people_share: Share
    undated_share: Share
    dark_share: Share
    stuck_share: Share


class Archive(ProviderSection):
    path: str


class Google(ProviderSection):
    accept_terms: bool


QuarantineReason = Literal["blank", "duplicate_across_splits", "duplicate_across_places", "duplicate_within_place"]


class Quarantine(Section):
    reasons: list[QuarantineReason]
    blank_mean: NonNegative
    blank_std: NonNegative
    phash_distance: Annotated[int, Field(ge=0, le=64)]


class Crop(Section):
    box: Annotated[list[int], Field(min_length=4, max_length=4)]
    size: Count
    quality: Annotated[int, Field(ge=1, le=100)]
    quarantine: Quarantine

    @field_validator("box")
    @classmethod
    def _a_box(cls, box: list[int]) -> list[int]:
        left, top, right, bottom = box
        if not (0 <= left < right and 0 <= top < bottom):
            raise ValueError("not a box: left, top, right, bottom, with left < right and top < bottom")
        return box


class Baseline(Section):
    size: Count
    cells: Annotated[int, Field(ge=2)]
    orientations: Count

    @model_validator(mode="after")
    def _whole_cells(self) -> Baseline:
        if self.size % self.cells or self.size // self.cells < 2:
            raise ValueError(f"a side of {self.size} pixels cannot be cut into {self.cells} equal cells")
        return self


class VladBranch(Section):
    pool: Literal["vlad"]
    map: str
    channels: Count
    clusters: Count
    sharpness: Positive
    weight: Positive


class GridBranch(Section):
    pool: Literal["grid"]
    map: str
    channels: Count
    weight: Positive


class GemBranch(Section):
    pool: Literal["gem"]
    map: str
    p: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    weight: Positive


class AverageBranch(Section):
    pool: Literal["average"]
    map: str
    weight: Positive


Branch = Annotated[VladBranch | GridBranch | GemBranch | AverageBranch, Field(discriminator="pool")]


class Head(Section):
    dimensions: Count
    normalise: Literal["none", "before", "after"]
    branches: Annotated[list[Branch], Field(min_length=1)]
    shrinkage: NonNegative
    components: Count

    @model_validator(mode="after")
    def _something_to_normalise(self) -> Head:
        if self.normalise != "none" and not any(isinstance(b, GemBranch | AverageBranch) for b in self.branches):
            raise ValueError(
                f"normalise is '{self.normalise}', which is for gem and average: no branch is one of those"
            )
        return self


class Loss(Section):
    name: Literal["multi_similarity", "triplet", "contrastive"]
    alpha: Positive
    beta: Positive
    base: Annotated[float, Field(ge=-1, le=1)]
    epsilon: NonNegative
    margin: Annotated[float, Field(ge=0, le=2)]


class Batch(Section):
    places: Annotated[int, Field(ge=2)]
    images: Annotated[int, Field(ge=2)]
    guard_m: NonNegative
    gap_weight: NonNegative
    hard_share: Share
    memory: Annotated[int, Field(ge=0)]


class Phase(Section):
    start: Literal["lda", "pca", "random", "keep"]
    trains_after: str
    epochs: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=0)]
    learning_rate: Positive
    patience: Count


class Augment(Section):
    shift: Share
    zoom: Share
    brightness: Share
    contrast: Share
    saturation: Share
    erase: Share


class Train(Section):
    seed: Seed
    threads: Count
    recipe: Literal["streetrecall", "original"]
    backbone: str
    weights: Literal["imagenet", "none"]
    image_size: Count
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    head: Head
    loss: Loss
    batch: Batch
    phases: Annotated[list[Phase], Field(min_length=1)]
    frozen_layers: Annotated[int, Field(ge=0)]
    batch_norm: Literal["frozen", "trained"]
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    average_epochs: NonNegative
    min_spread: Share
    augment: Augment

    @model_validator(mode="after")
    def _enough_components(self) -> Train:
        lda = self.recipe == "streetrecall" and any(phase.start == "lda" for phase in self.phases)
        if lda and self.head.components < self.head.dimensions:
            raise ValueError(
                f"head.components is {self.head.components}, and lda needs at least as many as head.dimensions, "
                f"{self.head.dimensions}: the dimensions beyond would be zero"
            )
        return self


class Index(Section):
    kind: Literal["auto", "exact", "ah", "tree"]
    exact_up_to: Annotated[int, Field(ge=0)]
    ah_up_to: Annotated[int, Field(ge=0)]
    neighbours: Annotated[int, Field(ge=10)]  # ten are what its recall is measured by
    recall: Annotated[float, Field(gt=0, lt=1)]
    reorder: Count | Literal["auto"]
    dimensions_per_block: Count
    leaves: Count | Literal["auto"]
    leaves_to_search: Count | Literal["auto"]
    batch_size: Count


class Position(Section):
    neighbours: Annotated[int, Field(ge=2, le=20)]  # evaluate ranks 20 answers
    temperature: Positive
    agree_m: Positive
    agreement: Share
    coverage: Annotated[float, Field(gt=0, lt=1)]
    difficulty_floor_m: Positive
    radius_floor_m: NonNegative


class Evaluate(Section):
    seed: Seed
    bootstrap_draws: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    before_year: Annotated[int, Field(ge=1000, le=9999)]
    position: Position


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
    offset_tolerance_m: Positive
    max_median_offset_m: Positive
    max_p95_offset_m: Positive
    max_offset_m: Positive
    max_outside_m: Positive
    max_uncovered_share: Share


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
    max_place_distance_m: Positive
    min_complete_share: Share
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
    min_train_places: Count
    min_train_places_with_dates_share: Share


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
    descriptors: CheckDescriptors
    predictions: CheckPredictions


class Params(Section):
    provider: str
    city: City
    grid: Grid
    metadata: Metadata
    scrape: Scrape
    network: Network
    order: Order
    simulated: Simulated
    archive: Archive
    google: Google
    crop: Crop
    baseline: Baseline
    train: Train
    index: Index
    evaluate: Evaluate
    checks: Checks
    guard: dict[str, NonNegative]

    @field_validator("provider")
    @classmethod
    def _a_provider(cls, name: str) -> str:
        known = [
            key
            for key, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, ProviderSection)
        ]
        if name not in known:
            raise ValueError(f"there is no such provider; there are: {', '.join(known)}")
        return name


def load(path: str | Path = "params.yaml") -> Params:
    """Read and validate params.yaml.

    Raises:
        UserError: naming the file and every offending key, with the nearest valid key for an unknown one.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; run from the project's folder") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from error
    return parse(raw, str(path))


def parse(raw: Any, where: str = "params.yaml") -> Params:
    """Validate the mapping that ``where`` holds; see `load`."""
    if not isinstance(raw, dict):
        raise UserError(f"{where}: holds no keys")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        lines = [
            _explain(problem["loc"], problem["type"], problem["msg"], problem["input"]) for problem in error.errors()
        ]
        raise UserError("\n".join(f"{where}: {line}" for line in lines)) from error


def _explain(loc: tuple[int | str, ...], kind: str, message: str, value: Any) -> str:
    key = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        nearest = difflib.get_close_matches(key, valid_keys(), n=1, cutoff=0.0)
        return f"unknown key '{key}'; the nearest valid key is '{nearest[0]}'"
    if kind == "missing":
        return f"the key '{key}' is missing"
    message = message.removeprefix("Value error, ")
    if isinstance(value, dict):  # of several keys, which the message names
        return f"'{key}': {message}"
    return f"'{key}' is {value!r}: {message[0].lower()}{message[1:]}"


def valid_keys(model: type[BaseModel] = Params, prefix: str = "") -> list[str]:
    """All dotted keys of params.yaml.

    >>> "grid.spacing_m" in valid_keys()
    True
    """
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += valid_keys(field.annotation, f"{prefix}{name}.")
    return keys
