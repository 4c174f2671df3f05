"""The memory of earlier batches."""

from __future__ import annotations

import pytest

tf = pytest.importorskip("tensorflow")

from streetrecall.model.objective import Memory  # noqa: E402


def test_the_memory_holds_the_latest_pictures_and_forgets_the_oldest() -> None:
    memory = Memory(5, 2)
    for start in (0, 3, 6):
        index = tf.range(start, start + 3, dtype=tf.int64)
        descriptors = tf.repeat(tf.cast(index, tf.float32)[:, None], 2, axis=1)
        others, rows = memory.after(descriptors, index)
        assert others.shape == (8, 2)
        assert rows.numpy()[:3].tolist() == index.numpy().tolist()
        memory.push(descriptors, index)
    assert memory.variables[1].numpy().tolist() == [4, 5, 6, 7, 8]
    assert memory.variables[0].numpy()[:, 0].tolist() == [4, 5, 6, 7, 8]
    memory.clear()
    assert memory.variables[1].numpy().tolist() == [-1] * 5
    none = Memory(0, 2)
    none.push(descriptors, index)
    assert none.after(descriptors, index)[1].numpy().tolist() == [6, 7, 8]
