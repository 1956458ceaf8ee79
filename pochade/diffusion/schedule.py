"""Noise schedules: the noise levels that a model was trained with, and those that sampling visits.

`NoiseSchedule` belongs to the model, a list of sigmas to the picture. `schedule.sigma(timestep)` and
`schedule.timestep(sigma)` convert between the two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.align_your_steps import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, align_your_steps
from pochade.diffusion.beta import beta_quantile
from pochade.errors import InvalidCheckpoint, InvalidRequest

Floats = NDArray[np.float64]

TERMINAL_ALPHA_CUMPROD = 2.0**-24
"""The last alpha_cumprod of a zero-terminal-SNR schedule.

Zero itself would make the last sigma infinite. This is the smallest positive half-precision number, so
weights and latents in half precision cannot distinguish it from zero, and sigma becomes 4096. Other software
uses the same value, so pictures agree.
"""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The noise levels that a model was trained with, timestep 0 (nearly clean) first.

    alphas_cumprod: (steps,) float64, decreasing, inside (0, 1): the share of the data's variance that is left
        at each timestep, alpha-bar of Ho et al. 2020.
    """

    alphas_cumprod: Floats

    def __post_init__(self) -> None:
        self.alphas_cumprod.setflags(write=False)

    @property
    def steps(self) -> int:
        return len(self.alphas_cumprod)

    @cached_property
    def sigmas(self) -> Floats:
        """(steps,) noise per unit of data at each timestep: sqrt((1 - a) / a), increasing."""
        return np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def sigma(self, timestep: float) -> float:
        """Return the noise level at a timestep: linear in log sigma between timesteps, clamped."""
        return float(_at(self, np.array(timestep)))

    def timestep(self, sigma: float) -> float:
        """Return the timestep of a noise level: the inverse of `sigma`, clamped to 0..steps - 1.

        A level of the grid gives exactly its integer, even after rounding to float32: the model must not
        receive 498.9999 instead of 499.
        """
        timestep = float(np.interp(np.log(max(sigma, 1e-10)), np.log(self.sigmas), np.arange(self.steps)))
        nearest = float(round(timestep))
        return nearest if abs(timestep - nearest) < 1e-4 else timestep


Levels = Callable[[NoiseSchedule, int], Floats]
"""(schedule, steps) -> `steps` sigmas, decreasing, without the final 0."""


# --- what the model was trained with ------------------------------------------------------------------


def noise_schedule(
    kind: str = "scaled_linear",
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    steps: int = 1000,
    zero_terminal_snr: bool = False,
) -> NoiseSchedule:
    """Return the schedule that a checkpoint's configuration names; the defaults are Stable Diffusion's.

    kind: 'linear' (Ho et al. 2020), 'scaled_linear' (linear in sqrt(beta), Rombach et al. 2022) or
        'squaredcos_cap_v2' (Nichol and Dhariwal 2021, equation 17; it ignores the two betas).
    zero_terminal_snr: rescale so that the last timestep is pure noise (Lin et al. 2023, algorithm 1).

    Raises InvalidCheckpoint for another kind or for betas that do not lie in order inside (0, 1).
    """
    if kind not in ("scaled_linear", "linear", "squaredcos_cap_v2"):
        raise InvalidCheckpoint(
            f"noise schedule '{kind}' is unknown; one of: scaled_linear, linear, squaredcos_cap_v2"
        )
    if not 0 < beta_start <= beta_end < 1 or steps < 2:
        raise InvalidCheckpoint(
            f"noise schedule: beta_start {beta_start}, beta_end {beta_end}, steps {steps}; "
            "0 < beta_start <= beta_end < 1 and at least 2 steps are needed"
        )
    if kind == "linear":
        betas = np.linspace(beta_start, beta_end, steps)
    elif kind == "scaled_linear":
        betas = np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2
    else:
        edges = np.cos((np.linspace(0, 1, steps + 1) + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    alphas_cumprod: Floats = np.cumprod(1 - betas, dtype=np.float64)
    return NoiseSchedule(_zero_terminal_snr(alphas_cumprod) if zero_terminal_snr else alphas_cumprod)


def _zero_terminal_snr(alphas_cumprod: Floats) -> Floats:
    """Lin et al. 2023, algorithm 1: shift sqrt(alpha-bar) so that its end is zero, then stretch."""
    root = np.sqrt(alphas_cumprod)
    rescaled: Floats = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    rescaled[-1] = TERMINAL_ALPHA_CUMPROD
    return rescaled


# --- which levels a picture visits --------------------------------------------------------------------


def _at(schedule: NoiseSchedule, timesteps: Floats) -> Floats:
    return np.exp(np.interp(timesteps, np.arange(schedule.steps), np.log(schedule.sigmas)))


def _uniform(schedule: NoiseSchedule, steps: int) -> Floats:
    """Evenly spaced timesteps from the last to 0."""
    return _at(schedule, np.linspace(schedule.steps - 1, 0, steps))


def _sgm_uniform(schedule: NoiseSchedule, steps: int) -> Floats:
    """Evenly spaced timesteps from the last; one more step would reach 0."""
    return _at(schedule, np.linspace(schedule.steps - 1, 0, steps + 1)[:-1])


def _karras(schedule: NoiseSchedule, steps: int, rho: float = 7.0) -> Floats:
    """Karras et al. 2022, equation 5: evenly spaced in sigma ** (1 / rho)."""
    ends = schedule.sigma_max ** (1 / rho), schedule.sigma_min ** (1 / rho)
    levels: Floats = np.linspace(*ends, steps) ** rho
    return levels


def _exponential(schedule: NoiseSchedule, steps: int) -> Floats:
    """Evenly spaced in log sigma."""
    return _polyexponential(schedule, steps)


def _polyexponential(schedule: NoiseSchedule, steps: int, rho: float = 1.0) -> Floats:
    """Log sigma decreases as the power rho of the remaining share; evenly with rho 1, the default."""
    low, high = np.log(schedule.sigma_min), np.log(schedule.sigma_max)
    levels: Floats = np.exp(low + np.linspace(1, 0, steps) ** rho * (high - low))
    return levels


def _kl_optimal(schedule: NoiseSchedule, steps: int) -> Floats:
    """Evenly spaced in arctan(sigma): the best levels for data of unit variance, whose error is measured in
    Kullback-Leibler divergence (Sabour et al. 2024, theorem 3.1)."""
    levels: Floats = np.tan(np.linspace(np.arctan(schedule.sigma_max), np.arctan(schedule.sigma_min), steps))
    return levels


def _align_your_steps(schedule: NoiseSchedule, steps: int) -> Floats:
    return align_your_steps(STABLE_DIFFUSION, schedule.sigma_max, schedule.sigma_min, steps)


def _align_your_steps_xl(schedule: NoiseSchedule, steps: int) -> Floats:
    return align_your_steps(STABLE_DIFFUSION_XL, schedule.sigma_max, schedule.sigma_min, steps)


def _simple(schedule: NoiseSchedule, steps: int) -> Floats:
    """Every (1000 / steps)-th level of the model, from the last down, rounded to existing levels."""
    return schedule.sigmas[schedule.steps - 1 - np.arange(steps) * schedule.steps // steps]


def _turbo(schedule: NoiseSchedule, steps: int) -> Floats:
    """Every (1000 / steps)-th level from the last down, to the nearest: 999, 749, 499, 249 for 4 steps.

    Distilled models such as SD Turbo were trained at these timesteps; 'trailing' in Lin et al. 2023, table 2.
    """
    timesteps = np.round(np.arange(steps, 0, -1) * (schedule.steps / steps)) - 1
    return schedule.sigmas[timesteps.astype(np.int64)]


def _ddim(schedule: NoiseSchedule, steps: int) -> Floats:
    """The spacing of the DDIM paper's code: multiples of 1000 // steps plus one, so it starts below the last
    timestep ('leading' in Lin et al. 2023, table 2). One step is therefore of little use."""
    timesteps = np.arange(steps)[::-1] * (schedule.steps // steps)
    return schedule.sigmas[timesteps + min(1, schedule.steps - 1 - int(timesteps[0]))]


def _beta(schedule: NoiseSchedule, steps: int) -> Floats:
    """Sigmas at the quantiles of a Beta(0.6, 0.6) distribution: dense at both ends (Lee et al. 2024)."""
    quantiles = beta_quantile(np.linspace(1, 0, steps), 0.6)
    return schedule.sigma_min + quantiles * (schedule.sigma_max - schedule.sigma_min)


def _lcm(schedule: NoiseSchedule, steps: int, trained: int = 50) -> Floats:
    """Evenly chosen among the timesteps 19, 39, ... 999, 20 apart as in consistency distillation with a
    skipping step of 20 (Luo et al. 2023, section 4.3)."""
    if steps > trained:
        raise InvalidRequest(
            f"steps is {steps}; schedule 'LCM' has {trained} timesteps: use fewer or another schedule"
        )
    grid = np.arange(1, trained + 1) * (schedule.steps // trained) - 1
    return schedule.sigmas[grid[::-1][np.arange(steps) * trained // steps]]


AUTOMATIC = "Automatic"

SCHEDULES: Mapping[str, Levels] = MappingProxyType(
    {
        "Uniform": _uniform,
        "Karras": _karras,
        "Exponential": _exponential,
        "Polyexponential": _polyexponential,
        "SGM Uniform": _sgm_uniform,
        "KL Optimal": _kl_optimal,
        "Align Your Steps": _align_your_steps,
        "Simple": _simple,
        "Normal": _uniform,
        "DDIM": _ddim,
        "Beta": _beta,
        "Turbo": _turbo,
        "LCM": _lcm,
    }
)
"""Label -> function of (schedule, steps) that returns `steps` sigmas, decreasing, without the final 0."""

FOR_XL: Mapping[str, Levels] = MappingProxyType({"Align Your Steps": _align_your_steps_xl})
"""Labels with another meaning for SDXL."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "ka": "Karras",  # as in the old 'k_dpmpp_2m_ka'
        "exp": "Exponential",
        "ays": "Align Your Steps",
        "ddim_uniform": "DDIM",
        "sd_turbo": "Turbo",
    }
)


def find_schedule(name: str) -> str:
    """Return the label of a schedule, from a label or alias in any case: 'sgm_uniform' -> 'SGM Uniform'.

    Raises InvalidRequest, listing all schedules, if the name is unknown.
    """
    for known, label in _names():
        if _key(known) == _key(name):
            return label
    raise InvalidRequest(f"schedule '{name}' is unknown; one of: {', '.join((AUTOMATIC, *SCHEDULES))}")


def split_sampler_name(name: str) -> tuple[str, str | None]:
    """Split an old combined name: 'DPM++ 2M Karras' -> ('DPM++ 2M', 'Karras'); 'Euler' -> ('Euler', None).

    The first part is not looked up here (see `samplers.find_sampler`).
    """
    words = name.replace("_", " ").split()
    for count in (3, 2, 1):  # 'SGM Uniform' before 'Uniform'
        for known, label in _names():
            if len(words) > count and _key(" ".join(words[-count:])) == _key(known):
                return " ".join(words[:-count]), label
    return name.strip(), None


def sigmas(
    schedule: NoiseSchedule,
    name: str,
    steps: int,
    automatic: str = "Uniform",
    *,
    discard_penultimate: bool = False,
    overrides: Mapping[str, Levels] = MappingProxyType({}),
) -> list[float]:
    """Return the noise levels for sampling: `steps` of them, decreasing, then 0.

    name: a label or alias of SCHEDULES, or 'Automatic' for the sampler's default, which the caller passes
        as `automatic` (`find_sampler(...).schedule`).
    discard_penultimate: compute one more level and leave out the last above 0, so that the step to 0 is
        longer. Used by convention with some samplers (`find_sampler(...).discard_penultimate`).
    overrides: schedules by label that have another meaning for this model, such as FOR_XL.

    Raises InvalidRequest if the name is unknown or `steps` is not within 1..schedule.steps.
    """
    label = find_schedule(name)
    if label == AUTOMATIC:
        label = find_schedule(automatic)
    if not 1 <= steps <= schedule.steps:
        raise InvalidRequest(f"steps is {steps}; it must lie between 1 and {schedule.steps}")
    levels = overrides.get(label, SCHEDULES[label])
    count = min(steps + discard_penultimate, schedule.steps)
    return [*levels(schedule, count)[:steps].tolist(), 0.0]


def _names() -> list[tuple[str, str]]:
    """Return (name, label) for all labels and aliases."""
    return [*((label, label) for label in (AUTOMATIC, *SCHEDULES)), *ALIASES.items()]


def _key(name: str) -> str:
    return "".join(name.lower().replace("_", " ").replace("-", " ").split())
