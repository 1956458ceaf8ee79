"""UniPC: a predictor, and a corrector that costs no further evaluation (Zhao et al. 2023)."""

from collections.abc import Iterator, Sequence
from math import expm1, log

from pochade.diffusion.parametrization import Denoise
from pochade.diffusion.samplers.step import Evaluation, Noise, Step, approach, midway, transitions
from pochade.ops import Tensor


def unipc(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Iterator[Step]:
    """UniPC-2 with B(h) = exp(h) - 1 ('bh2'), predicting data: Zhao et al. 2023, algorithms 1 and 2.

    Its predictor UniP-2 is the step of DPM++ 2M. The evaluation at the predicted point serves twice: it
    corrects the step that led there, and it starts the next. Draws no noise.
    """
    before: Evaluation | None = None
    last: Evaluation | None = None
    start = x
    for index, sigma, after in transitions(sigmas):
        now = sigma, denoise(x, sigma)
        if last is not None:
            x = _corrected(start, now, last, before)
        start = x
        x = approach(x, midway(now, last, after), after / sigma)
        before, last = last, now
        yield Step(index, len(sigmas) - 1, x, now[1])


def _corrected(start: Tensor, now: Evaluation, last: Evaluation, before: Evaluation | None) -> Tensor:
    """UniC: the step from `start` (at `last`'s noise level) taken again, knowing the evaluation at its end.

    The weights solve the order conditions R rho = b of section 3.2, for the points r = (-previous / h, 1).
    """
    sigma, denoised = now
    last_sigma, last_denoised = last
    gain = denoised - last_denoised
    if before is None:
        mean = last_denoised + 0.5 * gain
    else:
        before_sigma, before_denoised = before
        h = log(last_sigma / sigma)
        r = log(before_sigma / last_sigma) / h
        first = expm1(-h) / -h - 1
        b1 = first / expm1(-h)
        b2 = 2 * (first / -h - 0.5) / expm1(-h)
        rho = (b1 - b2) / (1 + r)
        mean = last_denoised + rho / r * (last_denoised - before_denoised) + (b1 - rho) * gain
    return approach(start, mean, sigma / last_sigma)
