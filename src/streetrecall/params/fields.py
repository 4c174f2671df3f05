"""Kinds of values in params.yaml, and the base class of its sections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from streetrecall import months

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Split = Literal["train", "validation", "test", "gallery"]


def _text(value: Any) -> Any:
    if not isinstance(value, str):  # such as 2026-11-05, which YAML reads as a date
        raise ValueError("not text; write it in quotes")
    return value


Label = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[A-Za-z0-9._-]{1,40}$")]
Month = Annotated[str, Field(pattern=f"^{months.PATTERN}$")]


class Section(BaseModel):
    """A mapping of params.yaml: every key is required, no other is allowed, and values are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
