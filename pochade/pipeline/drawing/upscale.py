"""Pictures made larger by a model of the ESRGAN family, in overlapping parts, or without a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pochade.checkpoints.contents import contents_of
from pochade.checkpoints.library import entries, pick
from pochade.checkpoints.upscaler import read_upscaler
from pochade.errors import InvalidRequest
from pochade.images.fitting import surrounded
from pochade.images.upscaling import find_upscaler, is_model_file, upscaled
from pochade.models.config import RrdbConfig, rrdb_config
from pochade.models.rrdb import rrdb
from pochade.pipeline.drawing.tiles import in_tiles
from pochade.pipeline.loading.choice import choose, make_engine
from pochade.pipeline.loading.networks import Network, make_network
from pochade.pipeline.loading.shapes import rrdb_shapes

TILE, OVERLAP = 256, 32
"""Pixels of the picture: the side of a part, and how far neighbours reach into one another at the least."""


def load_upscaler(
    path: Path | str, *, device: str = "auto", precision: str = "auto", engine: str = "auto"
) -> Network:
    """Load an ESRGAN model by itself; the arguments are those of `pochade.load`."""
    return upscaler_on(make_engine(choose(device, precision, engine)), path)


def named_upscaler(name: str, roots: Sequence[Path]) -> str:
    """The own name of an upscaler without a model, or the path of a model's file, given itself or by name.

    roots: the folders of models. Raises InvalidRequest, naming what there is, for one that is not there,
    InvalidCheckpoint if several files have the name.
    """
    try:
        return find_upscaler(name)
    except InvalidRequest as unknown:
        if Path(name).is_file():
            return name
        known = entries(roots)
        if any(entry.answers_to(name) for entry in known):
            return str(pick(name, known, roots, "upscaler").path)
        if is_model_file(name):  # a path, which is told to be none where it is opened
            return name
        files = [entry.name for entry in known if contents_of(entry.path).kind == "upscaler"]
        listed = f"; in the folders of models: {', '.join(files)}" if files else ""
        raise InvalidRequest(f"{unknown}{listed}") from unknown


def upscaler_on(engine: Any, path: Path | str) -> Network:
    """An ESRGAN model on an engine. Raises InvalidCheckpoint for anything else."""
    component = read_upscaler(path)
    config = rrdb_config(component.config)
    return make_network(component, config, rrdb_shapes(config), engine)


def enlarged_by(network: Network, image: Image.Image, *, tile: int = TILE) -> Image.Image:
    """An RGB picture, larger by the model's own factor; of RGBA the transparency is interpolated.

    tile: side of the parts, px, which bounds the memory.
    """
    if image.mode == "RGBA":
        larger = enlarged_by(network, image.convert("RGB"), tile=tile)
        larger.putalpha(image.getchannel("A").resize(larger.size, Image.Resampling.LANCZOS))
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
