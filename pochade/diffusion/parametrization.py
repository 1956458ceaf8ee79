"""Parametrizations: how a model's raw output is converted to a denoised latent.

A parametrization is a function `(schedule, sigma) -> (c_skip, c_out, c_in, c_noise)`, so that

    denoised = c_skip * x + c_out * model(c_in * x, c_noise)          (Karras et al. 2022, equation 7)

with `x = data + sigma * noise`. All models here were trained on `c_in * x`, whose variance stays near one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from pochade.diffusion.schedule import NoiseSchedule
from pochade.errors import InvalidCheckpoint
from pochade.ops import Tensor


class Coefficients(NamedTuple):
    """The four numbers of a parametrization at one noise level."""

    c_skip: float
    c_out: float
    c_in: float
    c_noise: float
    """The timestep that the model receives: an integer on the training grid, or a fraction between."""


Parametrization = Callable[[NoiseSchedule, float], Coefficients]

Predict = Callable[[Tensor, float], Tensor]
"""(scaled latent, timestep) -> the model's raw output, of the latent's shape."""

Denoise = Callable[[Tensor, float], Tensor]
"""(latent x = data + sigma * noise, sigma > 0) -> the expected data, of the latent's shape."""


def eps(schedule: NoiseSchedule, sigma: float) -> Coefficients:
    """The model predicts the noise: data = x - sigma * eps (Ho et al. 2020, equation 15)."""
    return Coefficients(1.0, -sigma, (sigma * sigma + 1) ** -0.5, schedule.timestep(sigma))


def v(schedule: NoiseSchedule, sigma: float) -> Coefficients:
    """The model predicts the velocity v = alpha * noise - sigma_vp * data, where alpha = c_in and sigma_vp =
    sigma * c_in (Salimans and Ho 2022, appendix D)."""
    c_in = (sigma * sigma + 1) ** -0.5
    return Coefficients(c_in * c_in, -sigma * c_in, c_in, schedule.timestep(sigma))


def sample(schedule: NoiseSchedule, sigma: float) -> Coefficients:
    """The model predicts the data itself."""
    return Coefficients(0.0, 1.0, (sigma * sigma + 1) ** -0.5, schedule.timestep(sigma))


PARAMETRIZATIONS: Mapping[str, Parametrization] = MappingProxyType(
    {"eps": eps, "epsilon": eps, "v": v, "v_prediction": v, "sample": sample}
)
"""Short names, and the names of `prediction_type` in diffusers folders."""


def find_parametrization(name: str) -> Parametrization:
    """Return the parametrization that a checkpoint's configuration names.

    Raises InvalidCheckpoint if unknown.
    """
    if name not in PARAMETRIZATIONS:
        raise InvalidCheckpoint(f"prediction type '{name}' is unknown; one of: {', '.join(PARAMETRIZATIONS)}")
    return PARAMETRIZATIONS[name]


def denoiser(predict: Predict, parametrization: Parametrization, schedule: NoiseSchedule) -> Denoise:
    """Return `denoise(x, sigma)` for a model's raw `predict(c_in * x, timestep)`.

    x: (B, ...) in the frame x = data + sigma * noise; sigma: one positive number for the whole batch.
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        c_skip, c_out, c_in, c_noise = parametrization(schedule, float(sigma))
        return c_skip * x + c_out * predict(c_in * x, c_noise)

    return denoise
