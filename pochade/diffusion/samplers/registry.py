"""All samplers by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from pochade.diffusion.samplers.consistency import lcm, tcd
from pochade.diffusion.samplers.dpm import (
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_2m_sde_heun,
    dpmpp_3m_sde,
    dpmpp_sde,
)
from pochade.diffusion.samplers.dpm2 import dpm2, dpm2_ancestral, dpmpp_2s_ancestral
from pochade.diffusion.samplers.dpm_solver import dpm_adaptive, dpm_fast
from pochade.diffusion.samplers.euler import ddim, euler, euler_ancestral, heun
from pochade.diffusion.samplers.linear_multistep import lms, plms
from pochade.diffusion.samplers.restart import restart
from pochade.diffusion.samplers.step import SamplerStep
from pochade.diffusion.samplers.unipc import BH1, BH2, unipc
from pochade.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A sampler and its properties.

    function: `(denoise, x, sigmas, noise, **options) -> iterator of Step`.
    stochastic: whether it draws noise between steps (with default options).
    evaluations: calls of `denoise` per step (the step to sigma 0 takes one). The first step of PLMS takes one
        more; the two samplers that choose their own steps document their evaluations.
    schedule: the schedule that 'Automatic' selects.
    discard_penultimate: compute one more sigma and leave out the last one above 0; see `schedule.sigmas`.
    alone: its steps depend on the latent, so each picture of a batch is drawn separately.
    options: fields of a Request that the function takes as keywords.
    brownian: whether the function takes the keyword `path`, a Brownian path for its noise.
    needs_schedule: whether the function takes the model's NoiseSchedule as the keyword `schedule`.
    aliases: further names, besides other spellings of the label; see `find_sampler`.
    """

    label: str
    function: Callable[..., Iterator[SamplerStep]]
    schedule: str = "Uniform"
    stochastic: bool = False
    evaluations: int = 1
    discard_penultimate: bool = False
    alone: bool = False
    options: tuple[str, ...] = ()
    brownian: bool = False
    needs_schedule: bool = False
    aliases: tuple[str, ...] = ()

    def adds_noise(self, eta: float | None) -> bool:
        """Return whether it draws noise between steps with this eta; None means its default."""
        return self.stochastic if eta is None or "eta" not in self.options else eta > 0


ETA = ("eta",)

_ALL = (
    Sampler(label="Euler", function=euler, aliases=("EulerDiscreteScheduler",)),
    Sampler(
        label="Euler a",
        function=euler_ancestral,
        stochastic=True,
        options=ETA,
        aliases=("euler_ancestral", "EulerAncestralDiscreteScheduler"),
    ),
    Sampler(label="Heun", function=heun, evaluations=2, aliases=("HeunDiscreteScheduler",)),
    Sampler(label="LMS", function=lms, aliases=("LMSDiscreteScheduler",)),
    Sampler(
        label="DPM2",
        function=dpm2,
        schedule="Karras",
        evaluations=2,
        discard_penultimate=True,
        aliases=("KDPM2DiscreteScheduler",),
    ),
    Sampler(
        label="DPM2 a",
        function=dpm2_ancestral,
        schedule="Karras",
        stochastic=True,
        evaluations=2,
        discard_penultimate=True,
        options=ETA,
        aliases=("dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
    ),
    Sampler(
        label="DPM++ 2S a",
        function=dpmpp_2s_ancestral,
        schedule="Karras",
        stochastic=True,
        evaluations=2,
        options=ETA,
        aliases=("dpmpp_2s_ancestral",),
    ),
    Sampler(
        label="DPM++ 2M",
        function=dpmpp_2m,
        schedule="Karras",
        aliases=("DPMSolverMultistepScheduler",),  # with its default settings
    ),
    Sampler(
        label="DPM++ SDE",
        function=dpmpp_sde,
        schedule="Karras",
        stochastic=True,
        evaluations=2,
        options=ETA,
        brownian=True,
        aliases=("dpmpp_sde_gpu", "DPMSolverSDEScheduler"),
    ),
    Sampler(
        label="DPM++ 2M SDE",
        function=dpmpp_2m_sde,
        schedule="Exponential",
        stochastic=True,
        options=ETA,
        brownian=True,
        aliases=("dpmpp_2m_sde_gpu",),
    ),
    Sampler(
        label="DPM++ 2M SDE Heun",
        function=dpmpp_2m_sde_heun,
        schedule="Exponential",
        stochastic=True,
        options=ETA,
        brownian=True,
        aliases=("dpmpp_2m_sde_heun_gpu",),
    ),
    Sampler(
        label="DPM++ 3M SDE",
        function=dpmpp_3m_sde,
        schedule="Exponential",
        stochastic=True,
        discard_penultimate=True,
        options=ETA,
        brownian=True,
        aliases=("dpmpp_3m_sde_gpu",),
    ),
    Sampler(label="DPM fast", function=dpm_fast, options=ETA),
    Sampler(label="DPM adaptive", function=dpm_adaptive, alone=True, options=ETA, aliases=("dpm_ad",)),
    Sampler(label="Restart", function=restart, schedule="Karras", stochastic=True, evaluations=2),
    Sampler(label="DDIM", function=ddim, schedule="DDIM", options=ETA, aliases=("DDIMScheduler",)),
    Sampler(label="PLMS", function=plms, schedule="DDIM", aliases=("pndm", "PNDMScheduler")),
    Sampler(label="UniPC", function=unipc, schedule="SGM Uniform", aliases=("uni_pc_bh1",)),
    Sampler(
        label="UniPC bh2",
        function=partial(unipc, variant=BH2),
        schedule="SGM Uniform",
        aliases=("uni_pc_bh2",),
    ),
    Sampler(
        label="UniPC order 2",
        function=partial(unipc, variant=BH2, order=2),
        aliases=("UniPCMultistepScheduler",),  # with its default settings
    ),
    Sampler(label="LCM", function=lcm, schedule="LCM", stochastic=True, aliases=("LCMScheduler",)),
    Sampler(
        label="TCD",
        function=tcd,
        schedule="LCM",
        stochastic=True,
        options=ETA,
        needs_schedule=True,
        aliases=("TCDScheduler",),
    ),
)

SAMPLERS: Mapping[str, Sampler] = MappingProxyType({sampler.label: sampler for sampler in _ALL})


def find_sampler(name: str) -> Sampler:
    """Return the sampler of a label or alias, in any case: 'DPM++ 2M', 'dpmpp_2m', 'euler_ancestral'.

    A schedule in the name is not read here; see `schedule.split_sampler_name`. Raises InvalidRequest, listing
    all samplers, if the name is unknown.
    """
    for sampler in _ALL:
        if _key(name) in {_key(known) for known in (sampler.label, *sampler.aliases)}:
            return sampler
    raise InvalidRequest(f"sampler '{name}' is unknown; one of: {', '.join(SAMPLERS)}")


UNIPC: Mapping[tuple[str, int], str] = MappingProxyType(
    {(BH1, 3): "UniPC", (BH2, 3): "UniPC bh2", (BH2, 2): "UniPC order 2"}
)
"""(variant, order) in A1111's options for UniPC -> the label."""


def _key(name: str) -> str:
    plain = name.strip().lower().replace("+", "p").replace("-", " ").replace("_", " ")
    return "".join(plain.removeprefix("k ").split())
