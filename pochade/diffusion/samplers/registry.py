"""The samplers by the names that users know."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pochade.diffusion.samplers.dpm import dpmpp_2m, dpmpp_2m_sde, dpmpp_sde
from pochade.diffusion.samplers.euler import ddim, euler, euler_ancestral, heun
from pochade.diffusion.samplers.lcm import lcm
from pochade.diffusion.samplers.step import Step
from pochade.diffusion.samplers.unipc import unipc
from pochade.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A sampler and what a caller must know of it.

    function: `(denoise, x, sigmas, noise, **options) -> iterator of Step`.
    stochastic: it draws noise along the way (with its options at their defaults).
    evaluations: calls of `denoise` per step (the step to sigma 0 always takes one).
    schedule: what 'Automatic' stands for.
    options: names of the numbers of a Request that the function takes as keywords.
    """

    label: str
    function: Callable[..., Iterator[Step]]
    schedule: str = "Uniform"
    stochastic: bool = False
    evaluations: int = 1
    options: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


_ALL = (
    Sampler(label="Euler", function=euler),
    Sampler(label="Euler a", function=euler_ancestral, stochastic=True, aliases=("euler_ancestral",)),
    Sampler(label="Heun", function=heun, evaluations=2),
    Sampler(label="DDIM", function=ddim, schedule="DDIM", options=("eta",)),
    Sampler(label="DPM++ 2M", function=dpmpp_2m, schedule="Karras"),
    Sampler(label="DPM++ 2M SDE", function=dpmpp_2m_sde, schedule="Karras", stochastic=True),
    Sampler(label="DPM++ SDE", function=dpmpp_sde, schedule="Karras", stochastic=True, evaluations=2),
    Sampler(label="UniPC", function=unipc, aliases=("uni_pc_bh2",)),
    Sampler(label="LCM", function=lcm, schedule="LCM", stochastic=True),
)

SAMPLERS: Mapping[str, Sampler] = MappingProxyType({sampler.label: sampler for sampler in _ALL})


def find_sampler(name: str) -> Sampler:
    """The sampler of a label or alias, in any case: 'DPM++ 2M', 'dpmpp_2m', 'k_dpmpp_2m', 'euler_ancestral'.

    A schedule in the name is not read here; see `schedule.split_sampler_name`. Raises InvalidRequest, naming
    all samplers, if there is none of that name: no sampler is ever replaced by another.
    """
    for sampler in _ALL:
        if _key(name) in {_key(known) for known in (sampler.label, *sampler.aliases)}:
            return sampler
    raise InvalidRequest(f"sampler '{name}' is unknown; one of: {', '.join(SAMPLERS)}")


def _key(name: str) -> str:
    plain = name.strip().lower().replace("+", "p").replace("-", " ").replace("_", " ")
    return "".join(plain.removeprefix("k ").split())
