"""The DPM-Solver++ family: exponential integrators in lambda = -log sigma (Lu et al. 2022).

The stochastic ones solve the reverse-time equation whose noise has eta times the variance of the ancestral
one's. All of its solutions have the same distribution at each sigma, those of eta 0 included.
"""

from collections.abc import Iterator, Sequence

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Evaluation, Noise, Step, approach, midway, transitions
from pochade.ops import Tensor


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Step]:
    """DPM-Solver++(2M): Lu et al. 2022, algorithm 2. Order 2, one evaluation per step; draws no noise."""
    before: Evaluation | None = None
    for index, sigma, after in transitions(sigmas):
        now = sigma, denoise(x, sigma)
        x = approach(x, midway(now, before, after), after / sigma)
        before = now
        yield Step(index, len(sigmas) - 1, x, now[1])


def dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M), midpoint form (Lu et al. 2022, the solvers for diffusion SDEs).

    One evaluation and one noise per step; none to sigma 0. With eta 0 it is DPM++ 2M.
    """
    before: Evaluation | None = None
    for index, sigma, after in transitions(sigmas):
        now = sigma, denoise(x, sigma)
        ratio, deviation = solution(sigma, after, eta)
        x = approach(x, midway(now, before, after), ratio)
        if deviation > 0:
            x = x + deviation * noise()
        before = now
        yield Step(index, len(sigmas) - 1, x, now[1])


def dpmpp_sde(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2S): a trial half step, then the whole step with what was denoised in its middle.

    Lu et al. 2022, algorithm 1 with r = 1/2, for the SDE. Two evaluations and two noises per step; the last
    step, to sigma 0, is Euler's.

    Both noises belong to one Brownian path W. What a step from sigma to `after` collects is after^(1 + eta)
    times the increment of W between the times sigma^(-2 eta) and after^(-2 eta). With q = middle / sigma =
    after / middle, the middle divides that time as q^(2 eta) : 1, and the increments of the two parts add up.
    """
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        if after == 0:
            x = denoised
        else:
            middle = (sigma * after) ** 0.5
            first, second = noise(), noise()
            part = (after / middle) ** (2 * eta)
            whole = (part**0.5 * first + second) / (1 + part) ** 0.5
            ratio, deviation = solution(sigma, middle, eta)
            trial = approach(x, denoised, ratio) + deviation * first
            denoised = denoise(trial, middle)
            ratio, deviation = solution(sigma, after, eta)
            x = approach(x, denoised, ratio) + deviation * whole
        yield Step(index, len(sigmas) - 1, x, denoised)


def solution(sigma: float, after: float, eta: float) -> tuple[float, float]:
    """(ratio, deviation) of the SDE's exact solution from sigma to `after` for a constant denoised latent:

    what separates x from it shrinks to `ratio`, and normal noise of this deviation is added.
    """
    q = after / sigma
    return q ** (1 + eta), after * (1 - q ** (2 * eta)) ** 0.5
