"""Data augmentation of a whole training batch: geometry in one op, then blur, downscaling, light and occlusion.

All randomness is stateless: a batch's augmentation depends on its seed alone, in whatever order batches are made.
"""

from __future__ import annotations

import math

import tensorflow as tf


def augment(images: tf.Tensor, seed: tf.Tensor, *, rotation: float, zoom: float, shift: float, shear: float,
            light: float, colour: float, blur: float, downscale_prob: float, min_side: float,
            occlusion: float) -> tf.Tensor:  # fmt: skip
    """Augment (b, s, s, 3) uint8 images to (b, s, s, 3) float32, still raw pixels 0…255.

    `seed` (2,) int32. `rotation` and `shear` in degrees; `zoom` and `shift` as fractions of the side; `light` is the
    largest change of contrast and brightness, `colour` that of each channel's gain. `blur`, `downscale_prob` and
    `occlusion` are the probabilities that an image is blurred, that it is downscaled (to at least `min_side` pixels)
    and enlarged again, and that it gets a grey rectangle. Each image is mirrored with probability 0.5.
    """
    seeds = tf.random.split(seed, 4)
    images = tf.cast(move(images, seeds[0], rotation, zoom, shift, shear), tf.float32)
    if blur:
        images = lose_resolution(images, seeds[1], blur)
    if downscale_prob:
        images = downscale(images, tf.random.split(seeds[1])[1], downscale_prob, min_side)
    if light or colour:
        images = change_light(images, seeds[2], light, colour)
    if occlusion:
        images = occlude(images, seeds[3], occlusion)
    return images


def uniform(shape: list, seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, low, high)


def move(images: tf.Tensor, seed: tf.Tensor, rotation: float, zoom: float, shift: float, shear: float) -> tf.Tensor:
    """Rotate, zoom, shift, shear and flip every image in one resampling; the border is filled by reflection."""
    b, side = tf.shape(images)[0], tf.cast(tf.shape(images)[1], tf.float32)
    draws = uniform([7, b], seed, -1.0, 1.0)
    angle = draws[0] * math.radians(rotation)
    slant = draws[1] * math.radians(shear)
    # Zooming in and out by the same factor are equally likely; the aspect ratio varies a little, as that of faces does.
    scale = tf.exp(draws[2] * math.log1p(zoom))
    scale_x, scale_y = scale * tf.exp(draws[3] * zoom / 4), scale * tf.exp(-draws[3] * zoom / 4)
    flip = tf.where(draws[4] < 0, -1.0, 1.0)
    # Output pixel (x, y) is sampled from the input at A (x - c) + c + shift, where c is the centre.
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


def lose_resolution(images: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Blend each image, with `probability`, with its low-resolution version: small or unsharp faces look like it."""
    b, side = tf.shape(images)[0], tf.shape(images)[1]
    draws = uniform([2, b, 1, 1, 1], seed, 0.0, 1.0)
    chosen = indices(draws[0] < probability)
    sharp, weight = tf.gather_nd(images, chosen), tf.gather_nd(draws[1], chosen)
    coarse = tf.nn.avg_pool2d(sharp, 4, 4, "SAME")
    coarse = tf.image.resize(coarse, [side, side], "bilinear")
    return tf.tensor_scatter_nd_update(images, chosen, sharp + weight * (coarse - sharp))


def downscale(images: tf.Tensor, seed: tf.Tensor, probability: float, min_side: float) -> tf.Tensor:
    """Downscale each image with `probability`, compress it as JPEG, and enlarge it again: a small face in a photo.

    The downscaled side is the same for the whole batch, log-uniform from `min_side` to three quarters of the side; the
    JPEG quality is uniform from 30 to 95 for each image.
    """
    b, side = tf.shape(images)[0], tf.shape(images)[1]
    side_seed, choice_seed, quality_seed = tf.unstack(tf.random.split(seed, 3))
    chosen = indices(uniform([b], choice_seed, 0.0, 1.0) < probability)
    largest = tf.maximum(tf.cast(side, tf.float32) * 0.75, float(min_side))
    small_side = tf.cast(tf.exp(uniform([], side_seed, math.log(min_side), tf.math.log(largest))), tf.int32)
    quality = tf.cast(uniform([tf.shape(chosen)[0]], quality_seed, 30.0, 96.0), tf.int32)
    small = tf.image.resize(tf.gather_nd(images, chosen), [small_side, small_side], antialias=True)
    small = tf.cast(tf.clip_by_value(tf.round(small), 0.0, 255.0), tf.uint8)

    def compress_and_enlarge(image_and_quality):
        image, quality = image_and_quality
        encoded = tf.raw_ops.EncodeJpegVariableQuality(images=image, quality=quality)
        return tf.image.resize(tf.io.decode_jpeg(encoded, channels=3), [side, side])

    # map_fn needs the result's shape for a batch in which no image is chosen.
    enlarged = tf.map_fn(
        compress_and_enlarge, (small, quality), fn_output_signature=tf.TensorSpec(images.shape[1:], tf.float32)
    )
    return tf.tensor_scatter_nd_update(images, chosen, enlarged)


def change_light(images: tf.Tensor, seed: tf.Tensor, light: float, colour: float) -> tf.Tensor:
    """Change contrast around mid-grey, brightness, and the gain of each channel."""
    b, side = tf.shape(images)[0], tf.shape(images)[1]
    draws = uniform([b, 1, 5], seed, -1.0, 1.0)
    contrast, brightness = 1.0 + light * draws[..., 3:4], light * draws[..., 4:5]
    gains = 1.0 + colour * draws[..., :3]
    # (pixel - 127.5) * contrast * gain + 127.5 * (gain + brightness), as one multiplication and one addition
    scale = contrast * gains
    offset = 127.5 * (gains + brightness - scale)
    # As whole rows of pixels, because TensorFlow is slow where the last dimension that differs is as short as 3.
    rows = tf.reshape(images, [b, side, -1]) * tf.tile(scale, [1, 1, side]) + tf.tile(offset, [1, 1, side])
    return tf.reshape(tf.clip_by_value(rows, 0.0, 255.0), tf.shape(images))


def occlude(images: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Cover each image, with `probability`, with a rectangle of a random grey, sides 20 to 40 % of the image's."""
    b, side = tf.shape(images)[0], tf.shape(images)[1]
    draws = uniform([6, b, 1, 1], seed, 0.0, 1.0)
    chosen = indices(draws[4] < probability)
    draws = tf.gather(draws, chosen[:, 0], axis=1)
    at = tf.cast(tf.range(side), tf.float32) / tf.cast(side, tf.float32)
    inside_x = tf.abs(at[None, None, :] - draws[0]) < 0.1 + 0.1 * draws[2]
    inside_y = tf.abs(at[None, :, None] - draws[1]) < 0.1 + 0.1 * draws[3]
    covered = (inside_x & inside_y)[..., None]
    changed = tf.where(covered, 255.0 * draws[5][..., None], tf.gather_nd(images, chosen))
    return tf.tensor_scatter_nd_update(images, chosen, changed)


def indices(chosen: tf.Tensor) -> tf.Tensor:
    """Indices (n, 1) int32 of the images that are chosen, given as (b, …) bool with one value each."""
    return tf.cast(tf.where(tf.reshape(chosen, [-1])), tf.int32)
