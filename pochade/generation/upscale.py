"""Upscales pictures with an ESRGAN model in overlapping tiles, or without a model."""

import math

import numpy as np
from PIL import Image

from pochade.configs.networks import RrdbConfig
from pochade.generation.decoding import check_finite
from pochade.images.fitting import surrounded
from pochade.images.masks import surroundings
from pochade.images.upscaling import Box, upscaled
from pochade.loading.network import Network
from pochade.loading.tiling import run_tiled, tile_function
from pochade.models.rrdb import rrdb

TILE, OVERLAP = 256, 32
"""Pixels of the picture: the side of a tile, and the minimum overlap of tiles."""


def upscale_with(
    network: Network, image: Image.Image, *, tile: int = TILE, tiling: bool = False
) -> Image.Image:
    """Upscale a picture by the model's own factor: RGB, or RGBA with interpolated transparency.

    Colours hidden by full transparency are replaced by the surrounding ones. tile: side of the tiles, px,
    which bounds the memory. tiling: the picture's edges fit together; its sides must then be multiples of the
    model's pixel unshuffle factor (4 px at most).
    """
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        hidden = alpha.point(lambda value: 0 if value else 255)
        larger = upscale_with(network, surroundings(rgba, hidden), tile=tile, tiling=tiling)
        larger.putalpha(alpha.resize(larger.size, Image.Resampling.LANCZOS))
        return larger
    config = network.config
    assert isinstance(config, RrdbConfig)
    side = config.unshuffle
    even = surrounded(image.convert("RGB"), 0, 0, -image.width % side, -image.height % side)
    pixels = np.asarray(even, np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    unit = max(1, tile // side)
    function = tile_function(rrdb, even.height // side, even.width // side, tile=unit, tiling=tiling)
    result = run_tiled(
        lambda part: network.run(function, picture=part),
        pixels,
        in_scale=side,
        out_scale=1 << config.doublings,
        tile=unit,
        overlap=min(OVERLAP, tile // 4) // side,
        tiling=tiling,
    )
    check_finite(result, "the upscaler", network.engine.precision)
    width, height = image.width * config.scale, image.height * config.scale
    kept = result[0, :, :height, :width].transpose(1, 2, 0)
    return Image.fromarray(np.rint(kept.clip(0, 1) * 255).astype(np.uint8))


def resize_with(
    network: Network,
    image: Image.Image,
    width: int,
    height: int,
    *,
    box: Box | None = None,
    tiling: bool = False,
) -> Image.Image:
    """Resize a picture, px: upscale it with the model as often as needed, then resize the result.

    box: use only this part of the picture. tiling: as in `upscale_with`.
    """
    config = network.config
    assert isinstance(config, RrdbConfig)
    if box is not None and not tiling:
        image, box = _around(image, box)
    left, top, right, bottom = (0.0, 0.0, *image.size) if box is None else box
    larger, scale = upscale_with(network, image, tiling=tiling), config.scale
    while config.scale > 1 and ((right - left) * scale < width or (bottom - top) * scale < height):
        larger, scale = upscale_with(network, larger, tiling=tiling), scale * config.scale
    if box is None and larger.size == (width, height):
        return larger
    part = (left * scale, top * scale, right * scale, bottom * scale)
    return upscaled(larger, width, height, box=part, tiling=tiling)


def _around(image: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """The part of a picture that a tile needs, and the position of the tile in it."""
    left, top = (max(0, math.floor(side) - OVERLAP) for side in box[:2])
    right = min(image.width, math.ceil(box[2]) + OVERLAP)
    bottom = min(image.height, math.ceil(box[3]) + OVERLAP)
    return image.crop((left, top, right, bottom)), (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
