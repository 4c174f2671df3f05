"""The keys of params.yaml, their types and their limits. No key has a default: the file holds every value."""

from __future__ import annotations

import difflib
import itertools
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from streetrecall.errors import UserError
from streetrecall.params import document
from streetrecall.params.checks import Checks
from streetrecall.params.fields import Count, Label, NonNegative, Positive, Section, Seed, Share, Split


class ProviderSection(Section):
    """The parameters of one provider; the section's name in params.yaml is the provider's name."""


class City(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    crs: Annotated[str, Field(pattern=r"^(EPSG:\d+|auto)$")]


class Grid(Section):
    kind: Literal["lattice", "streets"]
    spacing_m: Positive
    decimals: Annotated[int, Field(ge=0, le=15)]
    features: Literal["first", "all"]


class Metadata(Section):
    snapshot: Label
    radius_m: Positive
    decimals: Annotated[int, Field(ge=0, le=15)]
    beyond_m: NonNegative


class Scrape(Section):
    headings_deg: Annotated[list[Annotated[float, Field(ge=0, lt=360)]], Field(min_length=1, max_length=4)]
    width: Annotated[int, Field(ge=16, le=8192)]
    height: Annotated[int, Field(ge=16, le=8192)]
    quality: Annotated[int, Field(ge=1, le=100)]
    blank_luminance: Annotated[float, Field(ge=0, le=255)]
    gallery_dates: Count
    training_dates: Count


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


DENSE_M = 20.0  # radius of a level; places nearer to each other than this are dense


def is_dense(split: str, radius_m: float) -> bool:
    """Whether a place is of a dense level, whose places need no frames: a whole sphere takes less time.

    >>> is_dense("gallery", 50.0), is_dense("train", 10.0), is_dense("train", 45.0)
    (True, True, False)
    """
    return split == "gallery" or radius_m < DENSE_M


class Level(Section):
    radius_m: Positive
    split: Split
    apart_m: NonNegative


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
        if any(a.radius_m < b.radius_m for a, b in itertools.pairwise(levels)):
            raise ValueError("the radius of a level must not be larger than that of the level before")
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


class Folder(ProviderSection):
    path: str
    place_m: Annotated[float, Field(gt=0, le=50)]
    fit: Literal["centre", "squeeze"]
    shareable: bool
    licence: Annotated[str, Field(min_length=1)]
    attribution: Annotated[str, Field(min_length=1)]


class Panoramax(ProviderSection):
    place_m: Annotated[float, Field(gt=0, le=50)]
    heading_deg: Annotated[float, Field(gt=0, le=180)]
    dates: Literal["clusters", "related"]
    asset: Literal["sd", "hd"]
    box_deg: Annotated[float, Field(gt=0, le=0.05)]
    limit: Annotated[int, Field(ge=1, le=10_000)]


class Mapillary(ProviderSection):
    place_m: Annotated[float, Field(gt=0, le=50)]
    heading_deg: Annotated[float, Field(gt=0, le=180)]
    asset: Literal["thumb_2048_url", "thumb_1024_url"]
    box_deg: Annotated[float, Field(gt=0, le=0.05)]
    limit: Annotated[int, Field(ge=1, le=2_000)]
    ids: str


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


class TrainingViews(Section):
    views: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=32, le=2048)]
    fov_deg: Annotated[list[float], Field(min_length=2, max_length=2)]
    pitch_deg: Annotated[list[float], Field(min_length=2, max_length=2)]
    roll_deg: Annotated[float, Field(ge=0, le=45)]
    phone_share: Share
    covered_share: Share

    @field_validator("fov_deg")
    @classmethod
    def _a_lens(cls, span: list[float]) -> list[float]:
        if not 10 <= span[0] <= span[1] <= 100:
            raise ValueError("not a smallest and a largest field of view within 10 and 100 degrees")
        return span

    @field_validator("pitch_deg")
    @classmethod
    def _not_too_steep(cls, span: list[float]) -> list[float]:
        if not -30 <= span[0] <= span[1] <= 30:
            raise ValueError("not a smallest and a largest pitch within -30 and 30 degrees")
        return span


class Views(Section):
    seed: Seed
    directions: Annotated[int, Field(ge=1, le=72)]
    fov_deg: Annotated[float, Field(ge=10, le=100)]
    dates: Count
    size: Annotated[int, Field(ge=32, le=2048)]
    quality: Annotated[int, Field(ge=1, le=100)]
    training: TrainingViews


class Photos(Section):
    seed: Seed
    spots: Annotated[int, Field(ge=0)]
    far_share: Share
    see_m: NonNegative
    long_side: Annotated[int, Field(ge=32, le=4096)]


Colours = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=3, max_length=3)]


class NetworkFile(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    size: Annotated[int, Field(ge=16, le=2048)]
    mean: Colours
    deviation: Colours

    @model_validator(mode="after")
    def _can_be_used(self) -> NetworkFile:
        if self.name in ("model", "baseline", "sift_vlad", "index"):
            raise ValueError(f"'{self.name}' is the name of a system of this project; take another name")
        if min(self.deviation) <= 0:
            raise ValueError("deviation: every number must be larger than 0")
        return self


class Baseline(Section):
    size: Count
    cells: Annotated[int, Field(ge=2)]
    orientations: Count
    networks: list[NetworkFile]

    @field_validator("networks")
    @classmethod
    def _each_once(cls, networks: list[NetworkFile]) -> list[NetworkFile]:
        if len({network.name for network in networks}) < len(networks):
            raise ValueError("two networks have the same name")
        return networks

    @model_validator(mode="after")
    def _whole_cells(self) -> Baseline:
        if self.size % self.cells or self.size // self.cells < 2:
            raise ValueError(f"a side of {self.size} pixels cannot be cut into {self.cells} equal cells")
        return self


class SiftVlad(Section):
    seed: Seed
    clusters: Annotated[int, Field(ge=2, le=512)]
    channels: Annotated[int, Field(ge=1, le=128)]


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


class ViewTraining(Section):
    near_m: NonNegative
    near_deg: Annotated[float, Field(ge=0, le=180)]
    far_m: NonNegative
    far_deg: Annotated[float, Field(ge=0, le=180)]
    branches: Annotated[list[Branch], Field(min_length=1)]
    places: Annotated[int, Field(ge=2)]
    images: Annotated[int, Field(ge=2)]
    memory: Annotated[int, Field(ge=0)]
    phases: list[Phase]

    @model_validator(mode="after")
    def _of_any_shape(self) -> ViewTraining:
        if any(isinstance(branch, GridBranch) for branch in self.branches):
            raise ValueError("the branch 'grid' takes square pictures only, and photos are not square")
        if self.near_m > self.far_m or self.near_deg > self.far_deg:
            raise ValueError(
                "a pair of views would be positive and negative: near_m and near_deg must not be larger than "
                "far_m and far_deg"
            )
        return self


class Augment(Section):
    shift: Share
    zoom: Share
    brightness: Share
    contrast: Share
    saturation: Share
    erase: Share
    copies: Annotated[int, Field(ge=0, le=8)]
    part_share: Share
    part_least: Annotated[float, Field(ge=0.3, le=1)]
    roll_deg: Annotated[float, Field(ge=0, le=45)]


class Train(Section):
    seed: Seed
    threads: Count
    recipe: Literal["streetrecall", "original"]
    start_from: Annotated[str, Field(min_length=1)]
    backbone: str
    weights: Annotated[str, Field(min_length=1)]
    image_size: Count
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    head: Head
    loss: Loss
    batch: Batch
    phases: list[Phase]
    views: ViewTraining
    frozen_layers: Annotated[int, Field(ge=0)]
    batch_norm: Literal["frozen", "trained"]
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    average_epochs: NonNegative
    min_spread: Share
    augment: Augment

    @property
    def needed_splits(self) -> list[str]:
        """The splits that must have places: test alone where a trained embedder is taken as it is."""
        return ["test"] if self.start_from != "none" and not self.phases else ["train", "validation", "test"]

    @model_validator(mode="after")
    def _something_to_do(self) -> Train:
        if self.start_from == "none" and not (self.phases and self.views.phases):
            raise ValueError("phases and views.phases may be empty only if start_from names a trained embedder")
        return self

    @model_validator(mode="after")
    def _enough_components(self) -> Train:
        lda = self.recipe == "streetrecall" and any(
            phase.start == "lda" for phase in (*self.phases, *self.views.phases)
        )
        if lda and self.head.components < self.head.dimensions:
            raise ValueError(
                f"head.components is {self.head.components}, and lda needs at least as many as head.dimensions, "
                f"{self.head.dimensions}: the dimensions beyond would be zero"
            )
        return self


class Index(Section):
    kind: Literal["auto", "exact", "ah", "tree"]
    exact_up_to: Annotated[int, Field(ge=0)]
    neighbours: Annotated[int, Field(ge=10)]  # ten are what its recall is measured by
    recall: Annotated[float, Field(gt=0, lt=1)]
    reorder: Count | Literal["auto"]
    dimensions_per_block: Count
    leaves: Count | Literal["auto"]
    leaves_to_search: Count | Literal["auto"]


class Position(Section):
    neighbours: Annotated[int, Field(ge=2, le=20)]  # evaluate ranks 20 answers
    temperature: Positive
    agree_m: Positive
    agreement: Share
    coverage: Annotated[float, Field(gt=0, lt=1)]
    difficulty_floor_m: Positive
    radius_floor_m: NonNegative


class Rerank(Section):
    places: Annotated[int, Field(ge=0, le=100)]
    views: Count
    weight: NonNegative
    photo_px: Annotated[int, Field(ge=64)]
    photo_points: Annotated[int, Field(ge=50)]
    view_points: Annotated[int, Field(ge=50)]


class PhotoAnswering(Section):
    over_dates: Share
    neighbour_weight: NonNegative
    neighbour_m: NonNegative
    apart_m: NonNegative
    temperature: Positive
    margin_weight: NonNegative
    rerank: Rerank


class Evaluate(Section):
    seed: Seed
    bootstrap_draws: Annotated[int, Field(ge=100)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    before_year: Annotated[int, Field(ge=1000, le=9999)]
    position: Position
    photos: PhotoAnswering


class Bundle(Section):
    thumbnail: Annotated[int, Field(ge=0, le=1024)]
    quality: Annotated[int, Field(ge=1, le=100)]


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
    folder: Folder
    panoramax: Panoramax
    mapillary: Mapillary
    google: Google
    crop: Crop
    views: Views
    photos: Photos
    baseline: Baseline
    sift_vlad: SiftVlad
    train: Train
    index: Index
    evaluate: Evaluate
    bundle: Bundle
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
        UserError: naming the file and every wrong key, with the nearest valid key for an unknown one.
    """
    path = Path(path)
    return parse(document.parse(document.read_text(path), str(path)), str(path))


def parse(raw: Any, where: str = "params.yaml") -> Params:
    """Validate the mapping ``raw``, whose source is ``where``; see `load`."""
    if not isinstance(raw, dict):
        raise UserError(f"{where}: holds no keys")
    try:
        return _with_crs(Params.model_validate(raw))
    except ValidationError as error:
        lines = [_explain(dotted(problem["loc"], raw), problem) for problem in error.errors()]
        raise UserError("\n".join(f"{where}: {line}" for line in lines)) from error


def _with_crs(params: Params) -> Params:
    """``params`` with the CRS that ``city.crs: auto`` stands for: the UTM zone of ``order.start``."""
    if params.city.crs != "auto":
        return params
    crs = utm_crs(*params.order.start)
    return params.model_copy(update={"city": params.city.model_copy(update={"crs": crs})})


def utm_crs(lat: float, lon: float) -> str:
    """The CRS WGS 84 / UTM of a position in degrees.

    >>> utm_crs(59.325, 18.07), utm_crs(-33.9, 18.4), utm_crs(0.0, 180.0)
    ('EPSG:32634', 'EPSG:32734', 'EPSG:32601')
    """
    zone = int((lon + 180.0) // 6) % 60 + 1
    return f"EPSG:{32600 + zone + (100 if lat < 0 else 0)}"


def _explain(key: str, problem: Any) -> str:
    """One problem that pydantic found, in a sentence."""
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; the nearest valid key is '{nearest_key(key)}'"
    if problem["type"] == "missing":
        return f"the key '{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict):  # of several keys, which the message names
        return f"'{key}': {message}"
    return f"'{key}' is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def dotted(loc: tuple[int | str, ...], raw: Any) -> str:
    """The key that pydantic's ``loc`` means, without the name of the variant that pydantic adds for a branch.

    >>> dotted(("branches", 0, "vlad", "clusters"), {"branches": [{"pool": "vlad", "clusters": -1}]})
    'branches.0.clusters'
    """
    parts, node = [], raw
    for part in loc:
        if isinstance(node, dict) and part not in node and part == node.get("pool"):
            continue
        parts.append(str(part))
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            node = None
    return ".".join(parts)


def nearest_key(key: str) -> str:
    """The valid key that is most like ``key``.

    >>> nearest_key("train.sede"), nearest_key("train.phases.1.learning_rat")
    ('train.seed', 'train.phases.1.learning_rate')
    """
    parts = key.split(".")
    pattern = ".".join("0" if part.isdigit() else part for part in parts)
    found = difflib.get_close_matches(pattern, list(valid_keys()), n=1, cutoff=0.0)[0].split(".")
    numbers = iter([part for part in parts if part.isdigit()])
    return ".".join(next(numbers, part) if part == "0" else part for part in found)


def valid_keys(model: type[BaseModel] | None = None, prefix: str = "") -> Iterator[str]:
    """All dotted keys of params.yaml; 0 stands for any index of a list.

    >>> {"grid.spacing_m", "train.phases.0.epochs", "train.head.branches.0.clusters"} <= set(valid_keys())
    True
    """
    for name, field in (model or Params).model_fields.items():
        yield prefix + name
        for inner, step in _sections(field.annotation):
            yield from valid_keys(inner, f"{prefix}{name}.{step}")


def _sections(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """The sections that a field of this type may hold, and the step to them: nothing, or an index of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    elif typing.get_origin(annotation) is list:
        yield from ((inner, "0.") for inner, _ in _sections(typing.get_args(annotation)[0]))
    elif typing.get_origin(annotation) in (Annotated, types.UnionType, typing.Union):
        for part in typing.get_args(annotation):
            yield from _sections(part)
