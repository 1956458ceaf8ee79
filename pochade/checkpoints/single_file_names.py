"""Renames a checkpoint's tensors for a single file: the inverse of `single_file`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pochade.checkpoints.contents import AUTOENCODER, UNET
from pochade.checkpoints.detect import FileFormat
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.checkpoints.keymaps import KeyMap, LazyTensors, inverted, rename
from pochade.checkpoints.ldm import (
    CLIP,
    autoencoder_rules,
    canonical_layout,
    open_clip_rules,
    unet_rules,
)
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]


def single_file_tensors(checkpoint: Checkpoint, family: FileFormat) -> LazyTensors:
    """Return all tensors of a checkpoint under the names of a single file. Only fused ones are copied, at
    access.

    A model that predicts v is marked by the empty tensor `v_pred`, and by `ztsnr` if its schedule has zero
    terminal SNR. Raises InvalidCheckpoint, naming it, for a tensor that has no name in a single file.
    """
    makers = dict(_named(checkpoint, family))
    scheduler = checkpoint.scheduler
    if scheduler.get("prediction_type") == "v_prediction":
        makers["v_pred"] = _nothing
    if scheduler.get("rescale_betas_zero_snr"):
        makers["ztsnr"] = _nothing
    return LazyTensors(makers)


def _named(checkpoint: Checkpoint, family: FileFormat) -> Iterator[tuple[str, Any]]:
    if checkpoint.vae.config.get("_class_name") == "AutoencoderTiny":
        raise InvalidCheckpoint(
            f"'{checkpoint.name}' has a tiny autoencoder, which a single file cannot hold; keep the"
            " diffusers folder"
        )
    unet = unet_rules(canonical_layout(checkpoint.unet.tensors))
    yield from _back(checkpoint.unet, unet, UNET)
    levels = len(checkpoint.vae.config["block_out_channels"])
    yield from _back(checkpoint.vae, autoencoder_rules(levels), AUTOENCODER)
    for stored, encoder in zip(family.encoders, checkpoint.text_encoders, strict=True):
        rules = open_clip_rules(projection=stored.projected) if stored.open_clip else CLIP
        named = _back(encoder, rules, stored.prefix)
        yield from _with_unused_layer(named) if stored.open_clip and not stored.projected else named


def _back(component: Component, rules: KeyMap, prefix: str) -> Iterator[tuple[str, Any]]:
    where = component.files[0] if component.files else Path(component.name)
    renamed = rename(component.tensors, inverted(rules), where, strict=True)
    return ((prefix + name, maker) for name, maker in renamed.makers.items())


def _with_unused_layer(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Add the unused last layer: SD 2.x reads the layer before the last, and every reader counts from the
    end. The diffusers folder omits the last layer; a copy of the one before replaces it and is never used."""
    known = dict(named)
    begin = "cond_stage_model.model.transformer.resblocks."
    last = max(int(name.removeprefix(begin).split(".")[0]) for name in known if name.startswith(begin))
    yield from known.items()
    for name, maker in known.items():
        if name.startswith(f"{begin}{last}."):
            yield name.replace(f"{begin}{last}.", f"{begin}{last + 1}."), maker


def _nothing() -> Array:
    return np.zeros(0, np.float32)
