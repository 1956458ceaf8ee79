"""Opens ControlNets, checks that they fit the UNet, and computes their residuals at each step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pochade.configs.networks import ControlNetConfig
from pochade.errors import InvalidRequest
from pochade.images.decode import on_white
from pochade.images.fitting import filled_up, fit
from pochade.images.masks import Box
from pochade.images.preprocessors import preprocessed
from pochade.images.upscaling import upscaled
from pochade.loading.auxiliary import controlnet_on
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.models.embedding import embed_timestep
from pochade.request_options import Control

Floats = NDArray[np.float32]

FAMILIES = {768: "SD 1.x", 1024: "SD 2.x", 1280: "SDXL refiner", 2048: "SDXL"}
"""Width of the text conditioning -> family."""

ROUNDING = 1e-6
"""Tolerance for shares of the steps."""


@dataclass(frozen=True, eq=False)
class ControlNetPass:
    """One ControlNet in one pass. hint: (1, C, h, w), its embedded control picture."""

    control: Control
    network: Network
    hint: Floats

    def is_active(self, step: int, steps: int) -> bool:
        """Whether it is used in a step, counted from 0: the whole step must lie between start and end."""
        begins, ends = step / steps, (step + 1) / steps
        return begins >= self.control.start - ROUNDING and ends <= self.control.end + ROUNDING

    @property
    def config(self) -> ControlNetConfig:
        assert isinstance(self.network.config, ControlNetConfig)
        return self.network.config


def controlnet_passes(
    networks: Networks, controls: Sequence[Control], width: int, height: int
) -> list[ControlNetPass]:
    """Open the ControlNets of a pass of this size, px, without those of strength 0.

    Raises InvalidCheckpoint for a file that is not a ControlNet, InvalidRequest for one of another family.
    """
    return [_one(networks, control, width, height) for control in controls if control.strength > 0]


def check_controls(networks: Networks, controls: Sequence[Control]) -> None:
    """Open and check the ControlNets without computing anything. Raises as `controlnet_passes` does."""
    for control in controls:
        if control.strength > 0:
            _opened(networks, control)


def crop_controls(controls: Sequence[Control], size: tuple[int, int], box: Box) -> list[Control]:
    """Crop control pictures to a box of a source picture of this size, px."""
    return [
        replace(control, image=fit(on_white(control.image), *size, "stretch").crop(box))
        for control in controls
    ]


def fit_controls(
    controls: Sequence[Control], size: tuple[int, int], drawn: tuple[int, int], *, tiling: bool = False
) -> list[Control]:
    """Fit control pictures to a source picture of this size, px, and pad them to the drawn size, or with
    tiling stretch them to it."""
    fitted = [fit(on_white(each.image), *size, each.resize_mode) for each in controls]
    whole = [upscaled(each, *drawn, tiling=True) if tiling else filled_up(each, *drawn) for each in fitted]
    return [replace(each, image=image) for each, image in zip(controls, whole, strict=True)]


def residuals(
    networks: Networks, acting: Sequence[ControlNetPass], x: Floats, timestep: float, **inputs: Floats
) -> list[Floats]:
    """Return the sum of the ControlNets' residuals, scaled by strength; empty without ControlNets.

    x: (B, C, h, w), without the extra channels of inpainting models. inputs: those of the UNet.
    """
    total: list[Floats] = []
    for each in acting:
        time = embed_timestep(each.config.unet, np.full(len(x), timestep, np.float32))
        parts = networks.control(each.network, x=x, time=time, hint=each.hint, **inputs)
        weighted = [np.float32(each.control.strength) * part for part in parts]
        total = [a + b for a, b in zip(total, weighted, strict=True)] if total else weighted
    return total


def control_picture(control: Control, width: int, height: int) -> Floats:
    """Return the control picture (1, 3, H, W) in 0..1, resized to the drawn size and preprocessed.

    With a resolution of its own the preprocessor runs at that size, and its result is resized.
    """
    image = fit(on_white(control.image), width, height, control.resize_mode)
    if control.resolution is not None:
        scale = control.resolution / min(width, height)
        image = fit(image, max(1, round(width * scale)), max(1, round(height * scale)), "stretch")
    image = preprocessed(image, control.preprocessor, control.thresholds)
    if image.size != (width, height):
        image = fit(image, width, height, "stretch")
    pixels = np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def _one(networks: Networks, control: Control, width: int, height: int) -> ControlNetPass:
    network = _opened(networks, control)
    picture = control_picture(control, width, height)
    return ControlNetPass(control, network, networks.embed_hint(network, picture))


def _opened(networks: Networks, control: Control) -> Network:
    if networks.family.denoiser.controlled is None:
        raise InvalidRequest(
            f"the ControlNet '{control.model}' cannot be used: the model is {networks.family.label}, for"
            " which ControlNets are not supported; leave it out"
        )
    network = networks.auxiliary(Path(control.model), controlnet_on)
    assert isinstance(network.config, ControlNetConfig)
    _check_fit(networks, network.config, control.model)
    return network


def _check_fit(networks: Networks, config: ControlNetConfig, path: Path | str) -> None:
    """Check that the ControlNet was trained for the model's family."""
    theirs, ours = config.unet, networks.unet_config
    if theirs.context_width != ours.context_width:
        raise InvalidRequest(
            f"the ControlNet '{path}' reads a text {_width(theirs.context_width)}, this model one"
            f" {_width(ours.context_width)}: take a ControlNet that was made for the model's family"
        )
    facts = (
        ("widths of its levels", theirs.widths, ours.widths),
        ("layers per level", _layers(theirs.down_depths), _layers(ours.down_depths)),
        ("added conditioning", theirs.added_width, ours.added_width),
        ("latent channels", theirs.in_channels, networks.autoencoder_config.latent_channels),
        ("pixels per latent pixel", config.factor, networks.autoencoder_config.factor),
    )
    for name, theirs_is, ours_is in facts:
        if theirs_is != ours_is:
            raise InvalidRequest(
                f"the ControlNet '{path}' does not go with this model: {name} {theirs_is}, the model's"
                f" {ours_is}"
            )


def _layers(depths: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return tuple(map(len, depths))


def _width(width: int) -> str:
    return f"{width} wide ({FAMILIES[width]})" if width in FAMILIES else f"{width} wide"
