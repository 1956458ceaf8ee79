"""DPM-Solver samplers that choose their own steps: DPM fast and DPM adaptive (Lu et al. 2022a).

Both use only the first and the last noise level of the schedule. They work in lambda = -log sigma, which does
not reach sigma 0: they stop at the last level above 0, and one more evaluation completes the step to 0, as in
every sampler here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import atan, ceil, exp, expm1, log

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.euler import ancestral
from pochade.diffusion.samplers.step import Noise, SamplerStep, approach
from pochade.ops import Tensor

THIRD = 1 / 3
"""One constant, so that evaluations shared by two kinds of steps have bit-identical noise levels."""


def dpm_fast(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0
) -> Iterator[SamplerStep]:
    """DPM-Solver-fast: steps of order 3, equally long in log sigma, and a last one or two of lower order.

    Lu et al. 2022a, section 3.3. The requested number of steps is the number of evaluations, and one more
    takes the step to sigma 0: 20 sigmas above 0 give 20 evaluations in 7 steps, and then an eighth step.
    `SamplerStep.steps` counts these. eta above 0 makes it ancestral, see `euler_ancestral`.
    """
    first, last, evaluations, to_zero = _ends(sigmas)
    steps = evaluations // 3 + 1
    orders = [3] * (steps - 1) + [evaluations % 3]
    if evaluations % 3 == 0:
        orders[-2:] = [2, 1]
    if first == last:
        orders = []
    for index, order in enumerate(orders):
        sigma = first * (last / first) ** (index / steps)
        after = first * (last / first) ** ((index + 1) / steps)
        down, up = _down_to(sigma, after, eta, last)
        trial = Trial(denoise, x, sigma)
        x = (trial.first, trial.second, trial.third)[order - 1](down)
        if up > 0:
            x = x + up * noise()
        yield SamplerStep(index, len(orders) + to_zero, x, trial.denoised)
    if to_zero:
        denoised = denoise(x, last)
        yield SamplerStep(len(orders), len(orders) + 1, denoised, denoised)


@dataclass(frozen=True, kw_only=True)
class StepSizeControl:
    """The step size control of DPM adaptive. Lengths are in lambda.

    relative, absolute: the tolerated error of a step, relative to the latent and absolute.
    first: the initial length.
    steps: the largest number of steps; steps that must be longer because of it are always accepted.
    tries: after this many tries no step is rejected.
    """

    relative: float = 0.05
    absolute: float = 0.0078
    first: float = 0.05
    steps: int = 200
    tries: int = 100


def dpm_adaptive(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise,
    eta: float = 0.0,
    control: StepSizeControl = StepSizeControl(),
) -> Iterator[SamplerStep]:
    """DPM-Solver-23: a step of order 3, repeated with a smaller length if one of order 2 differs too much.

    Lu et al. 2022a, appendix C, with the default tolerances of k-diffusion. Three evaluations per step, and
    two for each further try; only accepted steps are yielded. Their number is not known in advance:
    `SamplerStep.steps` is an estimate, greater than the current step until the last one, where it is exact.
    There are at most `control.steps + 1` steps and 2 * control.tries + 3 * control.steps + 1 evaluations.

    The error is measured over all of x, so pictures that must not depend on one another must be drawn
    separately. eta above 0 makes it ancestral, see `euler_ancestral`.
    """
    first, last, _, to_zero = _ends(sigmas)
    span = log(first / last)
    shortest = span / control.steps
    length, done, index, tries = control.first, 0.0, 0, 0
    exponent = 1 / 1.5 if eta else 1 / 3
    earlier, trial = x, None
    while span - done > 1e-5:
        length = max(shortest, length)  # in this order: a length that is not a number becomes `shortest`
        forced = length == shortest or tries >= control.tries
        goal = min(span, done + length)
        sigma, after = first * exp(-done), first * exp(-goal)
        down, up = _down_to(sigma, after, eta, last)
        trial = trial or Trial(denoise, x, sigma)
        low, high = trial.second(down, THIRD), trial.third(down)
        allowed = _largest(abs(low), abs(earlier)) * control.relative
        allowed = _largest(allowed, allowed * 0 + control.absolute)
        error = float((((low - high) / allowed) ** 2).mean()) ** 0.5
        factor = 1 + atan((error + 1e-8) ** -exponent - 1)
        length *= factor
        tries += 1
        if not (factor >= 0.81 or forced):
            continue
        earlier = low
        x = high + up * noise() if up > 0 else high
        done = goal
        left = ceil((span - done) / max(shortest, length)) if span - done > 1e-5 else 0
        yield SamplerStep(index, index + 1 + left + to_zero, x, trial.denoised)
        index, trial = index + 1, None
    if to_zero:
        denoised = denoise(x, last)
        yield SamplerStep(index, index + 1, denoised, denoised)


class Trial:
    """The steps of DPM-Solver-1, 2 and 3 from one point: Lu et al. 2022a, equation 3.7, algorithms 1 and 2.

    Shared evaluations are computed once. The steps are written as corrections of Euler's step.
    """

    def __init__(self, denoise: Denoise, x: Tensor, sigma: float) -> None:
        self.denoised = denoise(x, sigma)
        self._denoise, self._x, self._sigma = denoise, x, sigma
        self._slope = (x - self.denoised) / sigma
        self._bends: dict[float, Tensor] = {}

    def first(self, after: float) -> Tensor:
        return approach(self._x, self.denoised, after / self._sigma)

    def second(self, after: float, share: float = 1 / 2) -> Tensor:
        """Return the step of order 2. share: the position of the second evaluation along lambda."""
        length = log(self._sigma / after)
        level = self._level(length * share)
        bend = self._bend(level, lambda: self.first(level))
        return self.first(after) - after * expm1(length) / (2 * share) * bend

    def third(self, after: float) -> Tensor:
        length = log(self._sigma / after)
        near, far = self._level(length * THIRD), self._level(length * 2 * THIRD)
        first_bend = self._bend(near, lambda: self.first(near))
        part = length * 2 * THIRD
        bend = self._bend(far, lambda: self.first(far) - 2 * far * (expm1(part) / part - 1) * first_bend)
        return self.first(after) - 1.5 * after * (expm1(length) / length - 1) * bend

    def _level(self, length: float) -> float:
        return self._sigma * exp(-length)

    def _bend(self, level: float, x: Callable[[], Tensor]) -> Tensor:
        """Return the difference of the slope dx/dsigma at a level from the one at the start."""
        if level not in self._bends:
            there = x()
            self._bends[level] = (there - self._denoise(there, level)) / level - self._slope
        return self._bends[level]


def _ends(sigmas: Sequence[float]) -> tuple[float, float, int, bool]:
    """The first level, the last above 0, the number of levels from there on, and whether 0 follows."""
    to_zero = bool(sigmas[-1] == 0)
    return float(sigmas[0]), float(sigmas[-2] if to_zero else sigmas[-1]), len(sigmas) - 1, to_zero


def _down_to(sigma: float, after: float, eta: float, last: float) -> tuple[float, float]:
    """Like `ancestral`, but not below the last level."""
    down = max(last, ancestral(sigma, after, eta)[0])
    return down, max(0.0, after**2 - down**2) ** 0.5


def _largest(a: Tensor, b: Tensor) -> Tensor:
    """Return the elementwise maximum, for any type of arrays."""
    return (a + b + abs(a - b)) / 2
