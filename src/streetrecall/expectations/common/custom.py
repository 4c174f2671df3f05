"""Expectations that Great Expectations lacks: distances, leakage between groups, completeness.

Each one is an Expectation class over a metric for pandas, so that the library treats it as its own: it reports rows,
respects ``mostly`` and ``row_condition``, and renders it. A metric returns True for each row that is right.
"""

# ruff: noqa: N805  (the library passes the class to the function of a metric)
from __future__ import annotations

from string import Template
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import (
    ColumnAggregateExpectation,
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.metrics import ColumnAggregateMetricProvider
from great_expectations.expectations.metrics.column_aggregate_metric_provider import column_aggregate_value
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    ColumnPairMapMetricProvider,
    MulticolumnMapMetricProvider,
    column_condition_partial,
    column_pair_condition_partial,
    multicolumn_condition_partial,
)
from great_expectations.expectations.row_conditions import Condition, deserialize_row_condition
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streetrecall import geo


def nearest_other(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each point of ``xy`` (n, 2) to the nearest other one; infinite if there is none. Metres in and out.

    >>> nearest_other(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])).tolist()
    [5.0, 1.0, 1.0]
    """
    if len(xy) < 2:
        return np.full(len(xy), np.inf)
    return np.asarray(cKDTree(xy).query(xy, k=2)[0][:, 1])


def nearest_of_others(xy: NDArray[np.float64], group: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of each point of ``xy`` (n, 2) to the nearest one of another group; infinite if there is none.

    >>> nearest_of_others(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 9.0]]), np.array(["a", "a", "b"])).tolist()
    [9.0, 8.0, 8.0]
    """
    nearest = np.full(len(xy), np.inf)
    for name in np.unique(group):
        own = group == name
        if not own.all():
            nearest[own] = cKDTree(xy[~own]).query(xy[own])[0]
    return nearest


def _words(value: Any) -> str:
    if isinstance(value, dict):
        value = deserialize_row_condition(value)
    if isinstance(value, Condition):
        return repr(value)
    if isinstance(value, list | tuple):
        return ", ".join(f"({_words(v)})" if isinstance(v, list | tuple) else _words(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Sentence:
    """Renders an expectation as a sentence, in which ``$NAME`` is the value of an argument."""

    sentence: ClassVar[str]

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls, configuration: Any = None, result: Any = None, runtime_configuration: Any = None, **_: Any
    ) -> list[Any]:
        kwargs = (configuration or result.expectation_config).kwargs
        values = {name: _words(value) for name, value in kwargs.items() if value is not None}
        sentence = cls.sentence
        if "row_condition" in values:
            sentence = f"If $row_condition, then {sentence}"
        if kwargs.get("mostly", 1) != 1:
            sentence += ", at least $mostly of the rows"
        return [
            RenderedStringTemplateContent(
                content_block_type="string_template",
                string_template={
                    "template": sentence + ".",
                    "params": {name: values.get(name) for name in Template(sentence).get_identifiers()},
                    "styling": (runtime_configuration or {}).get("styling"),
                },
            )
        ]


class _MultiColumn(MulticolumnMapMetricProvider):
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")


class ColumnPair(ColumnPairMapMetricProvider):
    condition_domain_keys = (
        "batch_id",
        "table",
        "column_A",
        "column_B",
        "row_condition",
        "condition_parser",
        "ignore_row_if",
    )


class _Months(ColumnMapMetricProvider):
    condition_metric_name = "column_values.months_between"
    condition_value_keys = ("first", "last")

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, first: str, last: str, **_: Any) -> pd.Series:
        return (column >= first) & (column <= last)


class ExpectColumnValuesToBeMonthsBetween(Sentence, ColumnMapExpectation):
    """Months written YYYY-MM lie between ``first`` and ``last``, both included."""

    column: str
    first: str
    last: str

    map_metric = "column_values.months_between"
    success_keys = ("first", "last", "mostly")
    sentence: ClassVar[str] = "$column: months must lie between $first and $last"


class _OneOf(ColumnPair):
    condition_metric_name = "column_pair_values.one_of"
    condition_value_keys = ("pairs",)

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_A: pd.Series, column_B: pd.Series, pairs: list[list[Any]], **_: Any) -> pd.Series:
        known = {tuple(pair) for pair in pairs}
        return pd.Series([pair in known for pair in zip(column_A, column_B, strict=True)], index=column_A.index)


class ExpectColumnPairValuesToBeOneOf(Sentence, ColumnPairMapExpectation):
    """The two values are one of ``pairs``. The library's own expectation of this kind takes no ``row_condition``."""

    pairs: list[list[Any]]
    ignore_row_if: str = "neither"

    map_metric = "column_pair_values.one_of"
    success_keys = ("pairs", "ignore_row_if", "mostly")
    sentence: ClassVar[str] = "$column_A and $column_B must be one of $pairs"


class _NotShared(ColumnPair):
    condition_metric_name = "column_pair_values.not_shared"
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_A: pd.Series, column_B: pd.Series, **_: Any) -> pd.Series:
        return column_B.groupby(column_A.to_numpy()).transform("nunique") == 1


class ExpectColumnAValuesNotToBeSharedAcrossColumnB(Sentence, ColumnPairMapExpectation):
    """No value of ``column_A`` (a hash, an id) occurs with two values of ``column_B`` (a place, a split)."""

    ignore_row_if: str = "neither"

    map_metric = "column_pair_values.not_shared"
    success_keys = ("ignore_row_if", "mostly")
    sentence: ClassVar[str] = "no $column_A may occur in more than one $column_B"


class _Nearest(_MultiColumn):
    condition_metric_name = "multicolumn_values.nearest_neighbour_between"
    condition_value_keys = ("min_m", "max_m")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, min_m: float, max_m: float, **_: Any) -> pd.Series:
        distance = nearest_other(column_list.to_numpy(float))
        return pd.Series((distance >= min_m) & (distance <= max_m), index=column_list.index)


class ExpectNearestNeighbourToBeBetween(Sentence, MulticolumnMapExpectation):
    """The nearest other row, by the two projected coordinates of ``column_list``, is ``min_m`` to ``max_m`` away."""

    min_m: float
    max_m: float

    map_metric = "multicolumn_values.nearest_neighbour_between"
    success_keys = ("min_m", "max_m", "mostly")
    sentence: ClassVar[str] = "the nearest neighbour (by $column_list) must be $min_m m to $max_m m away"


class _GroupsApart(_MultiColumn):
    condition_metric_name = "multicolumn_values.groups_apart"
    condition_value_keys = ("min_m",)

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, min_m: float, **_: Any) -> pd.Series:
        distance = nearest_of_others(column_list.iloc[:, :2].to_numpy(float), column_list.iloc[:, 2].to_numpy())
        return pd.Series(distance >= min_m, index=column_list.index)


class ExpectGroupsToBeApart(Sentence, MulticolumnMapExpectation):
    """Rows of different groups lie at least ``min_m`` apart. ``column_list``: x, y (projected, metres), group."""

    min_m: float

    map_metric = "multicolumn_values.groups_apart"
    success_keys = ("min_m", "mostly")
    sentence: ClassVar[str] = "rows of different groups ($column_list) must lie at least $min_m m apart"


class _KeepRadius(_MultiColumn):
    condition_metric_name = "multicolumn_values.picks_keep_radius"
    condition_value_keys = ("disc_share",)

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, disc_share: float, **_: Any) -> pd.Series:
        xy = column_list.iloc[:, :2].to_numpy(float)
        radius = column_list.iloc[:, 2].to_numpy(float)
        fits = np.ones(len(xy), bool)
        for value in np.unique(radius):
            level, wider = radius == value, radius > value
            apart = nearest_other(xy[level])
            if wider.any():
                apart = np.minimum(apart, cKDTree(xy[wider]).query(xy[level])[0])
            fits[level] = apart >= value * disc_share
        return pd.Series(fits, index=column_list.index)


class ExpectPicksToKeepTheirRadius(Sentence, MulticolumnMapExpectation):
    """A place lies outside the disc of its level's radius around every place of its level and of wider levels.

    ``column_list``: x, y (projected, metres), radius of the level. ``disc_share``: inner radius of the polygon that
    stands for a disc, as a share of the radius of the disc (cos(pi / sides); 1 for a true circle).
    """

    disc_share: float

    map_metric = "multicolumn_values.picks_keep_radius"
    success_keys = ("disc_share", "mostly")
    sentence: ClassVar[str] = (
        "no place ($column_list) may lie within $disc_share of its radius from a place of its level or of a wider one"
    )


class _PositionsAgree(_MultiColumn):
    condition_metric_name = "multicolumn_values.positions_agree"
    condition_value_keys = ("crs", "tolerance_m")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, crs: str, tolerance_m: float, **_: Any) -> pd.Series:
        lat, lon, x, y = column_list.to_numpy(float).T
        east, north = geo.project(lat, lon, crs)
        return pd.Series(np.hypot(east - x, north - y) <= tolerance_m, index=column_list.index)


class ExpectPositionsToAgree(Sentence, MulticolumnMapExpectation):
    """Degrees and metres are the same position in ``crs``. ``column_list``: latitude, longitude, x, y."""

    crs: str
    tolerance_m: float

    map_metric = "multicolumn_values.positions_agree"
    success_keys = ("crs", "tolerance_m", "mostly")
    sentence: ClassVar[str] = "the positions $column_list must agree in $crs within $tolerance_m m"


class _DistanceAgrees(_MultiColumn):
    condition_metric_name = "multicolumn_values.distance_agrees"
    condition_value_keys = ("tolerance_m", "tolerance_share")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, tolerance_m: float, tolerance_share: float, **_: Any) -> pd.Series:
        lat1, lon1, lat2, lon2, stated = column_list.to_numpy(float).T
        measured = geo.distance_m(lat1, lon1, lat2, lon2)
        agrees = np.abs(measured - stated) <= tolerance_m + tolerance_share * measured
        return pd.Series(agrees, index=column_list.index)


class ExpectDistanceToAgreeWithPositions(Sentence, MulticolumnMapExpectation):
    """A stated distance equals the geodesic one. ``column_list``: two latitude, longitude pairs, then the distance.

    ``tolerance_share`` allows for a distance measured in a projected CRS, whose scale is not exactly 1.
    """

    tolerance_m: float
    tolerance_share: float

    map_metric = "multicolumn_values.distance_agrees"
    success_keys = ("tolerance_m", "tolerance_share", "mostly")
    sentence: ClassVar[str] = (
        "the distance ($column_list) must be that between the positions, within $tolerance_m m + $tolerance_share of it"
    )


class _GroupsComplete(_MultiColumn):
    condition_metric_name = "multicolumn_values.groups_complete"
    condition_value_keys = ("members",)

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, members: list[int], **_: Any) -> pd.Series:
        *group, member = column_list.columns
        wanted = column_list[member].isin(members)
        found = column_list[member].where(wanted).groupby([column_list[c] for c in group]).transform("nunique")
        return wanted & (found == len(members))


class ExpectGroupsToBeComplete(Sentence, MulticolumnMapExpectation):
    """Each group holds all of ``members``. ``column_list``: the columns that define a group, then the member's."""

    members: list[int]

    map_metric = "multicolumn_values.groups_complete"
    success_keys = ("members", "mostly")
    sentence: ClassVar[str] = "every group ($column_list: the last column within the others) must hold all of $members"


class _ShareOfOthers(ColumnAggregateMetricProvider):
    metric_name = "column.share_of_other_values"
    value_keys = ("usual",)

    @column_aggregate_value(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, usual: list[Any], **_: Any) -> float:
        return float((~column.isin(usual)).mean()) if len(column) else 0.0


class _CountsOfOthers(ColumnAggregateMetricProvider):
    metric_name = "column.counts_of_other_values"
    value_keys = ("usual",)

    @column_aggregate_value(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, usual: list[Any], **_: Any) -> dict[str, int]:
        counts = column[~column.isin(usual)].astype(str).value_counts()
        return {name: int(counts[name]) for name in sorted(counts.index)}


class ExpectColumnShareOfOtherValuesToBeAtMost(Sentence, ColumnAggregateExpectation):
    """At most ``max_share`` of the rows hold a value outside ``usual``; such rows are counted by value."""

    usual: list[str]
    max_share: float

    metric_dependencies = ("column.share_of_other_values", "column.counts_of_other_values")
    success_keys = ("usual", "max_share")
    sentence: ClassVar[str] = "$column: at most $max_share of the rows may hold a value other than '$usual'"

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
    ) -> dict[str, Any]:
        share = metrics["column.share_of_other_values"]
        return {
            "success": share <= self.max_share,
            "result": {"observed_value": share, "details": {"counts": metrics["column.counts_of_other_values"]}},
        }
