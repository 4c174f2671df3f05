"""The average of weights over steps."""

from __future__ import annotations

import pytest

tf = pytest.importorskip("tensorflow")

from streetrecall.model.optimiser import Average  # noqa: E402


def test_an_average_starts_with_the_first_step_and_follows() -> None:
    weight, statistic = tf.Variable([8.0, 0.0]), tf.Variable(1.0)
    average = Average([weight, statistic], 3.0)
    average.push(0)  # before the first step, as after gradients that overflowed
    assert [v.numpy().tolist() for v in average.variables] == [[8.0, 0.0], 1.0]
    weight.assign([4.0, 0.0])
    average.push(1)
    weight.assign([0.0, 8.0])
    statistic.assign(5.0)
    average.push(2)
    average.take()
    assert (weight.numpy().tolist(), float(statistic)) == ([3.0, 2.0], 2.0)
    none = Average([weight], 0.0)
    weight.assign([5.0, 6.0])
    none.push(7)
    none.take()
    assert weight.numpy().tolist() == [5.0, 6.0]
