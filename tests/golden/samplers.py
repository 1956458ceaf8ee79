"""Final latents of k-diffusion's samplers, and how they were made.

`samplers.json` was written by this file, run as a script where k-diffusion 0.1.1 is installed; it needs no
more than that package and torch:

    python -m tests.golden.samplers

The tests run our samplers on the same toy, the same levels and the same noise, in float64.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FILE = Path(__file__).with_suffix(".json")
SHAPE = 1, 2, 3, 4
LEVELS = 14.6, 8.1, 4.9, 3.0, 1.7, 0.95, 0.5, 0.27, 0.12, 0.05
"""Those above 0. Samplers that choose their own steps get the first and the last."""

Case = tuple[str, str, dict[str, Any]]

CASES: dict[str, Case] = {
    "LMS": ("LMS", "sample_lms", {}),
    "DPM2": ("DPM2", "sample_dpm_2", {}),
    "DPM2 a": ("DPM2 a", "sample_dpm_2_ancestral", {}),
    "DPM2 a, eta 0.6": ("DPM2 a", "sample_dpm_2_ancestral", {"eta": 0.6}),
    "DPM++ 2S a": ("DPM++ 2S a", "sample_dpmpp_2s_ancestral", {}),
    "DPM++ 2S a, eta 0.6": ("DPM++ 2S a", "sample_dpmpp_2s_ancestral", {"eta": 0.6}),
    "DPM++ 2M": ("DPM++ 2M", "sample_dpmpp_2m", {}),
    "DPM++ 2M SDE": ("DPM++ 2M SDE", "sample_dpmpp_2m_sde", {}),
    "DPM++ 2M SDE Heun": ("DPM++ 2M SDE Heun", "sample_dpmpp_2m_sde", {"solver_type": "heun"}),
    "DPM++ 2M SDE Heun, eta 0.6": (
        "DPM++ 2M SDE Heun",
        "sample_dpmpp_2m_sde",
        {"solver_type": "heun", "eta": 0.6},
    ),
    "DPM++ 3M SDE": ("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {}),
    "DPM++ 3M SDE, eta 0": ("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {"eta": 0.0}),
    "DPM++ 3M SDE, eta 0.6": ("DPM++ 3M SDE", "sample_dpmpp_3m_sde", {"eta": 0.6}),
    **{
        f"DPM fast, {steps} steps, eta {eta:g}": ("DPM fast", "sample_dpm_fast", {"n": steps, "eta": eta})
        for steps in (1, 2, 3, 7, 8, 9)
        for eta in (0.0, 1.0)
    },
    "DPM adaptive": ("DPM adaptive", "sample_dpm_adaptive", {}),
    "DPM adaptive, eta 0.6": ("DPM adaptive", "sample_dpm_adaptive", {"eta": 0.6}),
    "DPM adaptive, eta 1": ("DPM adaptive", "sample_dpm_adaptive", {"eta": 1.0}),
}
"""Name -> our label, k-diffusion's function, its options."""


def start() -> Floats:
    return LEVELS[0] * np.sin(1.0 + np.arange(24.0) ** 1.3).reshape(SHAPE)


def denoise(x: Any, sigma: float) -> Any:
    """A nonlinear toy denoiser that depends on the noise level, for numpy and torch."""
    return 0.8 / (1 + sigma * sigma) * x * (1 + 0.5 * x / (1 + x * x)) + 0.2 / (1 + sigma)


def noises() -> Iterator[Floats]:
    """Return the same noise at each call, of about unit size."""
    draw = 0
    while True:
        draw += 1
        yield 1.4 * np.cos(draw * 1.7 + np.arange(24.0) * (1 + 0.37 * draw)).reshape(SHAPE)


def main() -> None:
    import k_diffusion.sampling as reference
    import torch

    def model(x: Any, sigma: Any) -> Any:
        return denoise(x, float(sigma[0]))

    results = {}
    for name, (_, function, options) in CASES.items():
        stream = noises()
        draw: Callable[..., Any] = lambda *levels, stream=stream: torch.tensor(next(stream))  # noqa: E731
        given = dict(options)
        if "DPM fast" in name or "DPM adaptive" in name:
            given |= {"sigma_min": LEVELS[-1], "sigma_max": LEVELS[0], "noise_sampler": draw}
        else:
            end = [] if name == "LMS" else [0.0]  # its last step to 0 differs from Pochade's
            given |= {"sigmas": torch.tensor([*LEVELS, *end], dtype=torch.float64)}
            given |= {} if name in ("LMS", "DPM2", "DPM++ 2M") else {"noise_sampler": draw}
        torch.set_default_dtype(torch.float64)
        x = getattr(reference, function)(model, torch.tensor(start()), disable=True, **given)
        results[name] = x.flatten().tolist()
    FILE.write_text(json.dumps(results, indent=0) + "\n")


if __name__ == "__main__":
    main()
