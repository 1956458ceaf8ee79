"""Pictures made larger by a model of the ESRGAN family, in overlapping parts, or without a model."""

import numpy as np
from PIL import Image

from pochade.images.fitting import surrounded
from pochade.images.masks import surroundings
from pochade.images.upscaling import upscaled
from pochade.models.config import RrdbConfig
from pochade.models.rrdb import rrdb
from pochade.pipeline.loading.networks import Network
from pochade.pipeline.loading.tiles import in_tiles

TILE, OVERLAP = 256, 32
"""Pixels of the picture: the side of a part, and how far neighbours reach into one another at the least."""


def enlarged_by(network: Network, image: Image.Image, *, tile: int = TILE) -> Image.Image:
    """A picture larger by the model's own factor: RGB, or RGBA if it has transparency, which is interpolated.

    The model sees the colours around it in place of those that are hidden by full transparency. tile: side of
    the parts, px, which bounds the memory.
    """
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        hidden = alpha.point(lambda value: 0 if value else 255)
        larger = enlarged_by(network, surroundings(rgba, hidden), tile=tile)
        larger.putalpha(alpha.resize(larger.size, Image.Resampling.LANCZOS))
        return larger
    config = network.config
    assert isinstance(config, RrdbConfig)
    side = config.unshuffle
    even = surrounded(image.convert("RGB"), 0, 0, -image.width % side, -image.height % side)
    pixels = np.asarray(even, np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    result = in_tiles(
        lambda part: network.run(rrdb, picture=part),
        pixels,
        given=side,
        made=1 << config.doublings,
        tile=max(1, tile // side),
        overlap=min(OVERLAP, tile // 4) // side,
    )
    width, height = image.width * config.scale, image.height * config.scale
    kept = result[0, :, :height, :width].transpose(1, 2, 0)
    return Image.fromarray(np.rint(kept.clip(0, 1) * 255).astype(np.uint8))


def resized_by(network: Network, image: Image.Image, width: int, height: int) -> Image.Image:
    """A picture in another size, px: enlarged by the model as often as that is needed, then fitted."""
    config = network.config
    assert isinstance(config, RrdbConfig)
    image = enlarged_by(network, image)
    while config.scale > 1 and (image.width < width or image.height < height):
        image = enlarged_by(network, image)
    return image if image.size == (width, height) else upscaled(image, width, height)
