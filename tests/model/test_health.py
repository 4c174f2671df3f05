"""The measure of collapse."""

from __future__ import annotations

import numpy as np
import pytest

from streetrecall.model.health import spread


def test_the_spread_of_equal_descriptors_is_zero() -> None:
    assert spread(np.tile(np.eye(4, dtype=np.float32)[:1], (5, 1))) == pytest.approx(0.0)
