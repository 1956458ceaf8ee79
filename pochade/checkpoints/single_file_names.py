"""A checkpoint's tensors under the names of a single file: the way back of `single_file`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pochade.checkpoints.detect import REFINER, SD2, XL, Family
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.checkpoints.keymaps import KeyMap, LazyTensors, inverted, rename
from pochade.checkpoints.kinds import AUTOENCODER, UNET
from pochade.checkpoints.ldm import (
    CLIP,
    autoencoder_rules,
    canonical_layout,
    open_clip_rules,
    unet_rules,
)
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]


def single_file_tensors(checkpoint: Checkpoint, family: Family) -> LazyTensors:
    """All tensors of a checkpoint as one file names them. Only fused ones are copied, when asked for.

    A model that predicts v says so by the empty tensors `v_pred` and, where its schedule ends in pure noise,
    `ztsnr`. Raises InvalidCheckpoint, naming it, for a tensor that the layout has no place for.
    """
    makers = dict(_named(checkpoint, family))
    scheduler = checkpoint.scheduler
    if scheduler.get("prediction_type") == "v_prediction":
        makers["v_pred"] = _nothing
    if scheduler.get("rescale_betas_zero_snr"):
        makers["ztsnr"] = _nothing
    return LazyTensors(makers)


def _named(checkpoint: Checkpoint, family: Family) -> Iterator[tuple[str, Any]]:
    if checkpoint.vae.config.get("_class_name") == "AutoencoderTiny":
        raise InvalidCheckpoint(
            f"'{checkpoint.name}' has a tiny autoencoder, for which single files have no place; keep the"
            " diffusers folder"
        )
    unet = unet_rules(canonical_layout(checkpoint.unet.tensors))
    yield from _back(checkpoint.unet, unet, UNET)
    levels = len(checkpoint.vae.config["block_out_channels"])
    yield from _back(checkpoint.vae, autoencoder_rules(levels), AUTOENCODER)
    text, second = checkpoint.text_encoder, checkpoint.text_encoder_2
    if family is XL and second is not None:
        yield from _back(text, CLIP, "conditioner.embedders.0.transformer.")
        yield from _back(second, open_clip_rules(projection=True), "conditioner.embedders.1.model.")
    elif family is REFINER:
        yield from _back(text, open_clip_rules(projection=True), "conditioner.embedders.0.model.")
    elif family is SD2:
        yield from _with_unused_layer(
            _back(text, open_clip_rules(projection=False), "cond_stage_model.model.")
        )
    else:
        yield from _back(text, CLIP, "cond_stage_model.transformer.")


def _back(component: Component, rules: KeyMap, prefix: str) -> Iterator[tuple[str, Any]]:
    where = component.files[0] if component.files else Path(component.name)
    renamed = rename(component.tensors, inverted(rules), where, strict=True)
    return ((prefix + name, maker) for name, maker in renamed.makers.items())


def _with_unused_layer(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """SD 2.x reads the layer before the last, and every reader counts from the end. The last one was lost in
    the diffusers folder; a copy of the one before takes its place, which nothing looks at."""
    known = dict(named)
    begin = "cond_stage_model.model.transformer.resblocks."
    last = max(int(name.removeprefix(begin).split(".")[0]) for name in known if name.startswith(begin))
    yield from known.items()
    for name, maker in known.items():
        if name.startswith(f"{begin}{last}."):
            yield name.replace(f"{begin}{last}.", f"{begin}{last + 1}."), maker


def _nothing() -> Array:
    return np.zeros(0, np.float32)
