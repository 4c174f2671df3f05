"""Random changes to training pictures and maps, by stateless TensorFlow ops: the seed alone decides the change.

No change mirrors a picture: a mirrored street is another street.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from streetrecall.params.schema import Augment


def augment(image: Any, seed: Any, params: Augment) -> Any:
    """A changed copy of ``image`` (size, size, 3) of 0-255; ``seed`` (2,) int32 decides everything."""
    seeds = _split(seed, 6)
    image = _take_part(_move(image, seeds[0], params), seeds[5], params)
    image = tf.image.stateless_random_brightness(image, max(params.brightness, 1e-6) * 255.0, seeds[1])
    image = tf.image.stateless_random_contrast(image, 1.0 - params.contrast, 1.0 + params.contrast + 1e-6, seeds[2])
    factor = tf.random.stateless_uniform((), seeds[3], 1.0 - params.saturation, 1.0 + params.saturation + 1e-6)
    grey = tf.image.rgb_to_grayscale(image)
    image = grey + (image - grey) * factor
    image = _erase(image, seeds[4], params.erase)
    return tf.clip_by_value(image, 0.0, 255.0)


def augment_map(values: Any, seed: Any, params: Augment) -> Any:
    """A changed copy of a map (height, width, channels): shifted, enlarged, cut and erased as `augment` does."""
    seeds = _split(seed, 3)
    return _erase(_take_part(_move(values, seeds[0], params), seeds[2], params), seeds[1], params.erase)


def _split(seed: Any, count: int) -> list[Any]:
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))


def _move(image: Any, seed: Any, params: Augment) -> Any:
    """Cut out a square, smaller by up to ``zoom`` and off centre by up to ``shift``, and enlarge it to full size."""
    size = int(image.shape[0])
    draw = tf.random.stateless_uniform((3,), seed)
    side = 1.0 / (1.0 + params.zoom * draw[0])
    centre = 0.5 + (2.0 * draw[1:] - 1.0) * params.shift
    low = centre - side / 2
    box = tf.concat([low, low + side], 0)
    moved = tf.image.crop_and_resize(image[None], box[None], [0], (size, size))
    inside = tf.image.crop_and_resize(tf.ones_like(image)[None, ..., :1], box[None], [0], (size, size))
    grey = tf.reduce_mean(image, axis=(0, 1))
    return moved[0] + (1.0 - inside[0]) * grey


def _take_part(image: Any, seed: Any, params: Augment) -> Any:
    """With probability ``part_share``, turn the image by up to ``roll_deg`` and stretch a part of it to full size.

    Each side of the part is a share of the image's between ``part_least`` and all of it, and the part lies anywhere.
    What comes in at the corners is mirrored.
    """
    if not params.part_share:
        return image
    size = float(image.shape[0])
    draw = tf.random.stateless_uniform((6,), seed)
    side = params.part_least + (1.0 - params.part_least) * draw[:2]
    low = (1.0 - side) * draw[2:4] * (size - 1.0)
    angle = (2.0 * draw[4] - 1.0) * math.radians(params.roll_deg)
    cos, sin, middle = tf.cos(angle), tf.sin(angle), (size - 1.0) / 2
    # A position (x, y) of the result comes from low + side * (x, y), turned about the middle of the image.
    (sy, sx), (oy, ox) = tf.unstack(side), tf.unstack(low - middle)
    rows = [cos * sx, -sin * sy, cos * ox - sin * oy + middle, sin * sx, cos * sy, sin * ox + cos * oy + middle]
    transform = tf.stack([*rows, tf.constant(0.0), tf.constant(0.0)])[None]

    def part() -> Any:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None], transforms=transform, output_shape=tf.constant([int(size)] * 2), fill_value=0.0,
            interpolation="BILINEAR", fill_mode="REFLECT",
        )[0]  # fmt: skip

    return tf.cond(draw[5] < params.part_share, part, lambda: image)


def _erase(image: Any, seed: Any, chance: float) -> Any:
    """With probability ``chance``, fill a rectangle with the mean values of the image.

    Its sides are a tenth to a third of the image's, and at least one position.
    """
    size = int(image.shape[0])
    draw = tf.random.stateless_uniform((5,), seed)
    extent = tf.maximum(tf.cast((0.1 + 0.23 * draw[:2]) * size, tf.int32), 1)
    corner = tf.cast(draw[2:4] * tf.cast(size - extent, tf.float32), tf.int32)
    row, column = tf.range(size)[:, None], tf.range(size)[None, :]
    inside = (row >= corner[0]) & (row < corner[0] + extent[0])
    inside &= (column >= corner[1]) & (column < corner[1] + extent[1])
    erased = tf.where(inside[..., None], tf.reduce_mean(image, axis=(0, 1)), image)
    return tf.cond(draw[4] < chance, lambda: erased, lambda: image)
