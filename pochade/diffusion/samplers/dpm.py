"""The DPM-Solver++ family: exponential integrators in lambda = -log sigma (Lu et al. 2022).

The stochastic ones solve the reverse-time SDE with eta times the variance of the ancestral one. Its solutions
have the same distribution at each sigma for every eta, including 0. Their noise
comes from `path`, one Brownian path for all numbers of steps, or without it from independent draws.
"""

from collections.abc import Iterator, Sequence
from math import expm1, log

from pochade.diffusion.brownian import Path
from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Evaluation, Noise, SamplerStep, approach, midway, transitions
from pochade.ops import Tensor


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[SamplerStep]:
    """DPM-Solver++(2M): Lu et al. 2022, algorithm 2. Order 2, one evaluation per step; draws no noise."""
    before: Evaluation | None = None
    for index, sigma, after in transitions(sigmas):
        now = sigma, denoise(x, sigma)
        x = approach(x, midway(now, before, after), after / sigma)
        before = now
        yield SamplerStep(index, len(sigmas) - 1, x, now[1])


def dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    eta: float = 1.0,
    path: Path | None = None,
) -> Iterator[SamplerStep]:
    """SDE-DPM-Solver++(2M), midpoint form (Lu et al. 2022, the solvers for diffusion SDEs).

    One evaluation and one noise per step; none to sigma 0. With eta 0 it is DPM++ 2M.
    """
    return _multistep_sde(denoise, x, sigmas, noise, eta, path, memory=2, midpoint=True)


def dpmpp_2m_sde_heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    eta: float = 1.0,
    path: Path | None = None,
) -> Iterator[SamplerStep]:
    """DPM++ 2M SDE that integrates the line through the last two evaluations instead of using its midpoint.

    Known as its 'heun' form. One evaluation and one noise per step; none to sigma 0. Order 2.
    """
    return _multistep_sde(denoise, x, sigmas, noise, eta, path, memory=2)


def dpmpp_3m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    eta: float = 1.0,
    path: Path | None = None,
) -> Iterator[SamplerStep]:
    """SDE-DPM-Solver++(3M): the parabola through the last three evaluations in place of that line.

    One evaluation and one noise per step; none to sigma 0. Its quadratic part has half the weight of
    the integral, as published and in all implementations; so the order is 2, with a smaller error than 2M's.
    """
    return _multistep_sde(denoise, x, sigmas, noise, eta, path, memory=3)


def _multistep_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    eta: float,
    path: Path | None,
    memory: int,
    midpoint: bool = False,
) -> Iterator[SamplerStep]:
    """Multistep solver. memory: the number of evaluations that a step uses."""
    seen: list[Evaluation] = []
    for index, sigma, after in transitions(sigmas):
        denoised = denoise(x, sigma)
        seen = [(sigma, denoised), *seen[: memory - 1]]
        before = seen[1] if len(seen) > 1 else None
        mean = midway(seen[0], before, after) if midpoint else _mean(seen, after, eta)
        ratio, deviation = solution(sigma, after, eta)
        x = approach(x, mean, ratio)
        if deviation > 0:
            x = x + deviation * (noise() if path is None else path(sigma, after, eta))
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def _mean(seen: Sequence[Evaluation], after: float, eta: float) -> Tensor:
    """Return the denoised latent for the next step: the polynomial through `seen` (latest first), averaged
    with the weight of the SDE's exact solution.

    From the third-order multistep update of DPM-Solver++, with h (1 + eta) in place of h.
    """
    (sigma, denoised), *earlier = seen
    if not earlier or after == 0:
        return denoised
    h = log(sigma / after)
    decay = h * (1 + eta)
    linear = 1 + expm1(-decay) / decay
    r = log(earlier[0][0] / sigma) / h
    slope = (denoised - earlier[0][1]) / r
    change = linear * slope
    if len(earlier) > 1:
        earlier_r = log(earlier[1][0] / earlier[0][0]) / h
        bend = (slope - (earlier[0][1] - earlier[1][1]) / earlier_r) / (r + earlier_r)
        change = change + (linear * r + 0.5 - linear / decay) * bend
    return denoised + change / -expm1(-decay)


def dpmpp_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    eta: float = 1.0,
    path: Path | None = None,
) -> Iterator[SamplerStep]:
    """SDE-DPM-Solver++(2S): a trial half step, then the whole step with the denoised latent of the middle.

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
            first, whole = _first_and_whole((sigma, middle, after), noise, eta, path)
            ratio, deviation = solution(sigma, middle, eta)
            trial = approach(x, denoised, ratio) + deviation * first
            denoised = denoise(trial, middle)
            ratio, deviation = solution(sigma, after, eta)
            x = approach(x, denoised, ratio) + deviation * whole
        yield SamplerStep(index, len(sigmas) - 1, x, denoised)


def _first_and_whole(
    levels: tuple[float, float, float], noise: Noise, eta: float, path: Path | None
) -> tuple[Tensor, Tensor]:
    """Return the noise of the first part of a step and of the whole. levels: the boundaries of the parts."""
    sigma, middle, after = levels
    if path is not None and eta > 0:
        return path(sigma, middle, eta), path(sigma, after, eta)
    first, second = noise(), noise()
    part = (after / middle) ** (2 * eta)
    return first, (part**0.5 * first + second) / (1 + part) ** 0.5


def solution(sigma: float, after: float, eta: float) -> tuple[float, float]:
    """Return (ratio, deviation) of the exact solution from sigma to `after` for a constant denoised latent.

    The difference of x from it is scaled by `ratio`, and normal noise of this deviation is added.
    """
    q = after / sigma
    return q ** (1 + eta), after * (1 - q ** (2 * eta)) ** 0.5
