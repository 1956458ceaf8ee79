"""Stable Diffusion 1.x and 2.x: a UNet conditioned on one CLIP text encoder (Rombach et al. 2022).

The differences of inpainting models and LCMs are read from the UNet's configuration, not from the family.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.configs.networks import UNetConfig
from pochade.configs.read_json import unet_config
from pochade.diffusion.parametrization import Parametrization, find_parametrization
from pochade.diffusion.schedule import NoiseSchedule, noise_schedule
from pochade.errors import InvalidCheckpoint
from pochade.families.clip import (
    CLIP,
    check_vocabularies,
    context_length,
    encode,
    tokenizers_of,
)
from pochade.families.family import Conditioned, Configs, Denoiser, Family, Inputs, Traits
from pochade.models.controlnet import controlled_unet, unet_with_controlnets
from pochade.models.deepcache import unet_from_features, unet_with_features
from pochade.models.embedding import embed_guidance, embed_timestep
from pochade.models.unet import unet

Floats = NDArray[np.float32]


# --- the UNet ---------------------------------------------------------------------------------------------


def unet_inputs(config: UNetConfig) -> Inputs:
    """Return the smallest inputs with which a UNet uses all of its weights."""
    side = 2 ** (len(config.widths) - 1)
    inputs: dict[str, tuple[tuple[int, ...], str]] = {
        "x": ((1, config.in_channels, side, side), "f32"),
        "time": ((1, config.widths[0]), "f32"),
        "context": ((1, 77, config.context_width), "f32"),
    }
    if config.added_width is not None:
        inputs["added"] = ((1, config.added_width), "f32")
    if config.guidance_width is not None:
        inputs["guidance"] = ((1, config.guidance_width), "f32")
    return inputs


UNET = Denoiser(
    config=unet_config,
    function=unet,
    inputs=unet_inputs,
    controlled=controlled_unet,
    with_controlnets=unet_with_controlnets,
    with_features=unet_with_features,
    from_features=unet_from_features,
    seamless=True,
)


def unet_traits(configs: Configs) -> Traits:
    """Derive the traits of any UNet from its configuration and that of the autoencoder."""
    config, factor = configs.denoiser, configs.autoencoder.factor
    return Traits(
        side=config.sample_size * factor,
        multiple=factor,
        channels=config.in_channels,
        activation=config.widths[0],
        takes_guidance=config.guidance_width is not None,
        reads_pooled=config.added_width is not None,
        reads_mask=config.in_channels == 2 * configs.autoencoder.latent_channels + 1,
    )


def check_model(configs: Configs, tokenizers: Sequence[Any], path: str) -> None:
    """Check that the UNet takes a latent, optionally with a mask and the masked picture's latent, and that
    the tokenizers fit the text encoders. Raises InvalidCheckpoint."""
    given, latent = configs.denoiser.in_channels, configs.autoencoder.latent_channels
    if given not in (latent, 2 * latent + 1):
        raise InvalidCheckpoint(
            f"'{path}': its UNet takes {given} channels; {latent} (a latent) and {2 * latent + 1} (for"
            " inpainting) are supported. It may be a model for depth maps, upscaling or instructions"
        )
    check_vocabularies(configs, tokenizers, path)


def context_inputs(configs: Configs, rows: Conditioned) -> dict[str, Floats]:
    """Return the context, which is the only constant input."""
    return {"context": np.concatenate([each.context for each in rows.conditionings])}


def step_inputs(config: UNetConfig, timestep: float, rows: int, cfg_scale: float) -> dict[str, Floats]:
    """Return the embedded timestep, and in LCMs the embedded guidance scale."""
    inputs = {"time": embed_timestep(config, np.full(rows, timestep, np.float32))}
    if config.guidance_width is not None:
        inputs["guidance"] = embed_guidance(config, [cfg_scale] * rows)
    return inputs


# --- training ---------------------------------------------------------------------------------------------


def schedule_of(json: Mapping[str, Any]) -> NoiseSchedule:
    """Read the schedule of a `scheduler/scheduler_config.json` as diffusers writes it. Raises
    InvalidCheckpoint."""
    if json.get("trained_betas") is not None:
        raise InvalidCheckpoint("scheduler_config.json: trained_betas is not supported; beta_schedule is")
    try:
        numbers = (
            float(json.get("beta_start", 0.00085)),
            float(json.get("beta_end", 0.012)),
            int(json.get("num_train_timesteps", 1000)),
        )
    except (TypeError, ValueError) as error:
        raise InvalidCheckpoint(
            f"scheduler_config.json: beta_start, beta_end and num_train_timesteps must be numbers ({error})"
        ) from error
    zero_snr = bool(json.get("rescale_betas_zero_snr", False))
    return noise_schedule(json.get("beta_schedule", "scaled_linear"), *numbers, zero_snr)


def parametrization_of(json: Mapping[str, Any]) -> Parametrization:
    """Return the parametrization for the `prediction_type` of a `scheduler_config.json`. Raises
    InvalidCheckpoint."""
    return find_parametrization(json.get("prediction_type", "epsilon"))


# --- the families -----------------------------------------------------------------------------------------

SD1 = Family(
    label="SD 1.x",
    latents="SD",
    denoiser=UNET,
    text_encoders=(CLIP,),
    traits=unet_traits,
    tokenizers=tokenizers_of,
    check=check_model,
    encode=partial(encode, penultimate=False),
    length=context_length,
    learns_words=True,
    constant_inputs=context_inputs,
    step_inputs=step_inputs,
    schedule=schedule_of,
    parametrization=parametrization_of,
    trained_here=True,
)
SD2 = replace(SD1, label="SD 2.x")
"""SD 2.x differs in its text encoder, OpenCLIP's, and in its files, most of which predict v."""
