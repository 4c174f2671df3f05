"""Which metrics are better when they are larger, and which when they are smaller.

A metric is named FILE.KEY, such as ``evaluate.model.test.city.recall_at_1_25m``. A new metric that no pattern matches
counts as neither; the test-suite then asks for a pattern.
"""

from __future__ import annotations

import re
from enum import Enum

LOW, HIGH = "_ci_low", "_ci_high"  # ends of the interval of the metric KEY: KEY_ci_low, KEY_ci_high


class Better(Enum):
    """What is better: a larger value, a smaller one, or neither (a count, a setting)."""

    LARGER = 1
    SMALLER = -1
    NEITHER = 0


# The first pattern that is found in a name decides.
PATTERNS = {
    # What the data are, how large the model is, how training went: described, not judged.
    r"^(grid|metadata|order|scrape|views|photos|crop)\.": Better.NEITHER,
    r"^train\.(best|epochs|model|training)\b": Better.NEITHER,
    r"^bundle\.(embedder_)?bytes$": Better.SMALLER,
    r"^bundle\.": Better.NEITHER,
    r"^index\.(kind|dimensions|described|quarantined|views|photos)$": Better.NEITHER,
    r"(^|[._])(queries|images|places|gallery)(_|\.|$)": Better.NEITHER,  # denominators
    r"_stated$": Better.NEITHER,  # what was asked for
    r"_lost$": Better.SMALLER,  # recall lost to the approximate index
    r"(^|[._])aurc_": Better.SMALLER,  # area under the curve of risk: wrong answers among those given
    r"(^|[._])error_": Better.SMALLER,  # metres
    r"(^|[._])radius_(mean|median)_m$": Better.SMALLER,  # metres; a smaller radius says more
    r"(^|[._])coverage$": Better.LARGER,  # how often the radius holds
    r"(^|[._])(recall|right|answered|withheld|auroc)(@|_|\b)|_r[15]$": Better.LARGER,
}


def better(name: str) -> Better:
    """What is better for the metric FILE.KEY; the ends of an interval go with their metric.

    >>> better("evaluate.test.recall_at_1_25m"), better("evaluate.test.error_median_m"), better("order.places")
    (<Better.LARGER: 1>, <Better.SMALLER: -1>, <Better.NEITHER: 0>)
    """
    return pattern_of(name) or Better.NEITHER


def pattern_of(name: str) -> Better | None:
    """As `better`, but None for a name that no pattern matches."""
    name = name.removesuffix(LOW).removesuffix(HIGH)
    return next((kind for pattern, kind in PATTERNS.items() if re.search(pattern, name)), None)
