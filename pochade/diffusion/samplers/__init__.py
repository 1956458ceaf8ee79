"""Samplers: generators `sampler(denoise, x, sigmas, noise, **options)` that yield `SamplerStep`s.

denoise: `(x, sigma) -> denoised`, called only at sigmas above 0.
x:       the latent at sigmas[0]: sigmas[0] * unit noise, plus the picture's latent if there is one.
sigmas:  decreasing floats, usually ending in 0; one step between two of them.
noise:   `() -> ` fresh unit-normal noise shaped like x; deterministic samplers never call it.
"""

from pochade.diffusion.samplers.registry import SAMPLERS, UNIPC, Sampler, find_sampler
from pochade.diffusion.samplers.step import Noise, SamplerStep

__all__ = ["SAMPLERS", "UNIPC", "Noise", "Sampler", "SamplerStep", "find_sampler"]
