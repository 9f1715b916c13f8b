"""Random changes to a whole training batch: geometry in one op, then light, blur and occlusion.

All randomness is stateless: a batch's changes follow from its seed alone, in whatever order batches are made.
"""

from __future__ import annotations

import math

import tensorflow as tf


def augment(images: tf.Tensor, seed: tf.Tensor, *, rotation: float, zoom: float, shift: float, shear: float,
            light: float, colour: float, blur: float, reduction: float, least_side: float,
            occlusion: float) -> tf.Tensor:  # fmt: skip
    """(b, s, s, 3) uint8 to (b, s, s, 3) float32, still raw pixels 0…255.

    `seed` (2,) int32. `rotation` and `shear` in degrees, `zoom` and `shift` as fractions of the side, `light` and
    `colour` the largest change of contrast and of each channel's gain, `blur` the share of pictures that become
    unsharp, `reduction` the share that are reduced, to `least_side` pixels a side at least, and enlarged again,
    `occlusion` the share that get a grey rectangle. Flips are always even.
    """
    seeds = tf.random.split(seed, 4)
    images = tf.cast(move(images, seeds[0], rotation, zoom, shift, shear), tf.float32)
    if blur:
        images = lose_resolution(images, seeds[1], blur)
    if reduction:
        images = reduce(images, tf.random.split(seeds[1])[1], reduction, least_side)
    if light or colour:
        images = change_light(images, seeds[2], light, colour)
    if occlusion:
        images = occlude(images, seeds[3], occlusion)
    return images


def uniform(shape: list, seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, low, high)


def move(images: tf.Tensor, seed: tf.Tensor, rotation: float, zoom: float, shift: float, shear: float) -> tf.Tensor:
    """Rotate, zoom, shift, shear and flip every picture in one resampling; what comes from outside is mirrored in."""
    b, side = tf.shape(images)[0], tf.cast(tf.shape(images)[1], tf.float32)
    draws = uniform([7, b], seed, -1.0, 1.0)
    angle = draws[0] * math.radians(rotation)
    slant = draws[1] * math.radians(shear)
    # Zooming in and out by the same factor are equally likely; the two sides differ a little, as faces do.
    scale = tf.exp(draws[2] * math.log1p(zoom))
    scale_x, scale_y = scale * tf.exp(draws[3] * zoom / 4), scale * tf.exp(-draws[3] * zoom / 4)
    flip = tf.where(draws[4] < 0, -1.0, 1.0)
    # Output pixel (x, y) is taken from the input at A (x - c) + c + shift, c being the centre.
    a = flip * tf.cos(angle) * scale_x
    b_ = flip * -tf.sin(angle + slant) * scale_x
    c = tf.sin(angle) * scale_y
    d = tf.cos(angle + slant) * scale_y
    centre = (side - 1) / 2
    offset_x = centre - a * centre - b_ * centre + draws[5] * shift * side
    offset_y = centre - c * centre - d * centre + draws[6] * shift * side
    zero = tf.zeros_like(a)
    transforms = tf.stack([a, b_, offset_x, c, d, offset_y, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def lose_resolution(images: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Blend a share of the pictures with their own low-resolution version, as small or unsharp faces look."""
    b, side = tf.shape(images)[0], tf.shape(images)[1]
    draws = uniform([2, b, 1, 1, 1], seed, 0.0, 1.0)
    coarse = tf.nn.avg_pool2d(images, 4, 4, "SAME")
    coarse = tf.image.resize(coarse, [side, side], "bilinear")
    weight = tf.where(draws[0] < share, draws[1], 0.0)
    return images + weight * (coarse - images)


def reduce(images: tf.Tensor, seed: tf.Tensor, share: float, least_side: float) -> tf.Tensor:
    """Reduce a share of the pictures, compress them as JPEG, and enlarge them again, as small faces of a large one are.

    A batch has one reduced side, drawn evenly on a logarithmic scale from `least_side` to three quarters of the side,
    and every picture a JPEG quality of its own, 30 to 95.
    """
    b, side = tf.shape(images)[0], tf.shape(images)[1]
    of_side, of_pictures, of_quality = tf.unstack(tf.random.split(seed, 3))
    chosen = tf.cast(tf.where(uniform([b], of_pictures, 0.0, 1.0) < share), tf.int32)
    largest = tf.maximum(tf.cast(side, tf.float32) * 0.75, float(least_side))
    reduced_side = tf.cast(tf.exp(uniform([], of_side, math.log(least_side), tf.math.log(largest))), tf.int32)
    quality = tf.cast(uniform([tf.shape(chosen)[0]], of_quality, 30.0, 96.0), tf.int32)
    reduced = tf.image.resize(tf.gather_nd(images, chosen), [reduced_side, reduced_side], antialias=True)
    reduced = tf.cast(tf.clip_by_value(tf.round(reduced), 0.0, 255.0), tf.uint8)

    def compress(picture_and_quality):
        picture, quality = picture_and_quality
        encoded = tf.raw_ops.EncodeJpegVariableQuality(images=picture, quality=quality)
        return tf.image.resize(tf.io.decode_jpeg(encoded, channels=3), [side, side])

    # With a known shape of the result, so that there may be no picture to change.
    lost = tf.map_fn(compress, (reduced, quality), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32))
    return tf.tensor_scatter_nd_update(images, chosen, lost)


def change_light(images: tf.Tensor, seed: tf.Tensor, light: float, colour: float) -> tf.Tensor:
    """Change contrast around the middle grey, brightness, and the gain of each channel."""
    draws = uniform([tf.shape(images)[0], 1, 1, 5], seed, -1.0, 1.0)
    contrast, brightness = 1.0 + light * draws[..., 3:4], light * draws[..., 4:5]
    gains = 1.0 + colour * draws[..., :3]
    # (pixel - 127.5) * contrast * gain + 127.5 * (gain + brightness), as one multiplication and one addition
    scale = contrast * gains
    return tf.clip_by_value(images * scale + 127.5 * (gains + brightness - scale), 0.0, 255.0)


def occlude(images: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """Cover a share of the pictures with one plain rectangle of a random grey, a fifth to two fifths of the side."""
    b, side = tf.shape(images)[0], tf.shape(images)[1]
    draws = uniform([6, b, 1, 1], seed, 0.0, 1.0)
    at = tf.cast(tf.range(side), tf.float32) / tf.cast(side, tf.float32)
    inside_x = tf.abs(at[None, None, :] - draws[0]) < 0.1 + 0.1 * draws[2]
    inside_y = tf.abs(at[None, :, None] - draws[1]) < 0.1 + 0.1 * draws[3]
    covered = (inside_x & inside_y & (draws[4] < share))[..., None]
    return tf.where(covered, 255.0 * draws[5][..., None], images)
