"""Pictures made larger by a model of the ESRGAN family, in overlapping parts, or without a model."""

import math

import numpy as np
from PIL import Image

from pochade.generation.decoding import check_finite
from pochade.images.fitting import surrounded
from pochade.images.masks import surroundings
from pochade.images.upscaling import Box, upscaled
from pochade.loading.network import Network
from pochade.loading.tiling import form_of, in_tiles
from pochade.models.config import RrdbConfig
from pochade.models.rrdb import rrdb

TILE, OVERLAP = 256, 32
"""Pixels of the picture: the side of a part, and how far neighbours reach into one another at the least."""


def enlarged_by(
    network: Network, image: Image.Image, *, tile: int = TILE, tiling: bool = False
) -> Image.Image:
    """A picture larger by the model's own factor: RGB, or RGBA if it has transparency, which is interpolated.

    The model sees the colours around it in place of those that are hidden by full transparency. tile: side of
    the parts, px, which bounds the memory. tiling: the picture's edges fit together; its sides must then be
    multiples of what the model takes together (4 px at most).
    """
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        hidden = alpha.point(lambda value: 0 if value else 255)
        larger = enlarged_by(network, surroundings(rgba, hidden), tile=tile, tiling=tiling)
        larger.putalpha(alpha.resize(larger.size, Image.Resampling.LANCZOS))
        return larger
    config = network.config
    assert isinstance(config, RrdbConfig)
    side = config.unshuffle
    even = surrounded(image.convert("RGB"), 0, 0, -image.width % side, -image.height % side)
    pixels = np.asarray(even, np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    unit = max(1, tile // side)
    function = form_of(rrdb, even.height // side, even.width // side, tile=unit, tiling=tiling)
    result = in_tiles(
        lambda part: network.run(function, picture=part),
        pixels,
        given=side,
        made=1 << config.doublings,
        tile=unit,
        overlap=min(OVERLAP, tile // 4) // side,
        tiling=tiling,
    )
    check_finite(result, "the upscaler", network.engine.precision)
    width, height = image.width * config.scale, image.height * config.scale
    kept = result[0, :, :height, :width].transpose(1, 2, 0)
    return Image.fromarray(np.rint(kept.clip(0, 1) * 255).astype(np.uint8))


def resized_by(
    network: Network,
    image: Image.Image,
    width: int,
    height: int,
    *,
    box: Box | None = None,
    tiling: bool = False,
) -> Image.Image:
    """A picture in another size, px: enlarged by the model as often as that is needed, then fitted.

    box: of the picture only this part. tiling: as in `enlarged_by`.
    """
    config = network.config
    assert isinstance(config, RrdbConfig)
    if box is not None and not tiling:
        image, box = _around(image, box)
    left, top, right, bottom = (0.0, 0.0, *image.size) if box is None else box
    larger, scale = enlarged_by(network, image, tiling=tiling), config.scale
    while config.scale > 1 and ((right - left) * scale < width or (bottom - top) * scale < height):
        larger, scale = enlarged_by(network, larger, tiling=tiling), scale * config.scale
    if box is None and larger.size == (width, height):
        return larger
    part = (left * scale, top * scale, right * scale, bottom * scale)
    return upscaled(larger, width, height, box=part, tiling=tiling)


def _around(image: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """What of a picture a part of it needs, and where the part lies in that."""
    left, top = (max(0, math.floor(side) - OVERLAP) for side in box[:2])
    right = min(image.width, math.ceil(box[2]) + OVERLAP)
    bottom = min(image.height, math.ceil(box[3]) + OVERLAP)
    return image.crop((left, top, right, bottom)), (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
