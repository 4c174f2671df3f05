"""params.yaml as typed, validated, frozen objects. Nothing here reads a default: every key stands in the file."""

from __future__ import annotations

import difflib
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streetrecall.errors import UserError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Split = Literal["train", "validation", "test"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class City(Section):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    crs: Annotated[str, Field(pattern=r"^EPSG:\d+$")]


class Grid(Section):
    spacing_m: Positive
    decimals: Annotated[int, Field(ge=0, le=15)]
    features: Literal["first", "all"]


class Metadata(Section):
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


class Simulated(Section):
    seed: Seed


class Archive(Section):
    path: str


class Google(Section):
    accept_terms: bool


class Crop(Section):
    box: Annotated[list[int], Field(min_length=4, max_length=4)]
    size: Count
    quality: Annotated[int, Field(ge=1, le=100)]


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
    projection: Literal["lda", "pca", "random"]
    shrinkage: NonNegative
    components: Count


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


class Phase(Section):
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
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    min_spread: Share
    augment: Augment


class Index(Section):
    kind: Literal["auto", "exact", "ah", "tree"]
    exact_up_to: Annotated[int, Field(ge=0)]
    ah_up_to: Annotated[int, Field(ge=0)]
    neighbours: Count
    reorder: Count
    dimensions_per_block: Count
    leaves: Count
    leaves_to_search: Count
    batch_size: Count


class Evaluate(Section):
    bootstrap_draws: Count


class Params(Section):
    provider: Literal["simulated", "archive", "google"]
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
    train: Train
    index: Index
    evaluate: Evaluate


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
