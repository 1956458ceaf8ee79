"""Measure what the settings of --speed skip, and how the pictures change.

    python bench/speed.py [--prompts 100] [--settings exact balanced fast] [--sampler "Euler a"]

For each setting: the fraction of the UNet's multiplications that 20 guided steps still take, counted at the
shapes of SD 1.5 (64x64 latent pixels) and of the starter; and the similarity of the starter's pictures to the
exact ones, for prompts spread over the fixed ones of `pochade evaluate`.
"""

import argparse
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import pochade
from contenders.models import UNET
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.configs.networks import UNetConfig
from pochade.configs.read_json import unet_config
from pochade.diffusion.samplers import Sampler, find_sampler
from pochade.diffusion.schedule import NoiseSchedule, noise_schedule, sigmas
from pochade.engines.shape_inference import infer_shapes
from pochade.evaluation.likeness import psnr, ssim
from pochade.loading.parameter_shapes import with_config
from pochade.models.deepcache import unet_from_features, unet_with_features
from pochade.models.unet import unet
from pochade.speed import SPEEDS, SpeedProfile, progress_of

RESULTS = Path(__file__).parent / "results" / "speed.jsonl"
PROMPTS = Path(pochade.__file__).parent / "evaluation" / "prompts"
STEPS = 20


def main() -> None:
    options = _options()
    pipeline = pochade.load(device="cpu", precision=options.precision)
    shapes: dict[str, tuple[UNetConfig, int, int, NoiseSchedule]] = {
        "SD 1.5": (unet_config(UNET), 64, 77, noise_schedule()),
        "starter": (pipeline.networks.unet_config, 16, 32, pipeline.schedule),
    }
    sampler = find_sampler(options.sampler)
    prompts = prompts_spread(options.prompts)
    exact: list[Any] = []
    rows: dict[str, Mapping[str, float]] = {}
    for name in options.settings:
        began = time.perf_counter()
        drawn = [
            np.asarray(
                pipeline.txt2img(
                    prompt,
                    seed=seed,
                    steps=STEPS,
                    speed=name,
                    sampler=options.sampler,
                    schedule=options.schedule,
                ).images[0]
            )
            for seed, prompt in enumerate(prompts)
        ]
        seconds = time.perf_counter() - began
        exact = drawn if name == "exact" else exact
        alike = [ssim(one, other) for one, other in zip(drawn, exact, strict=True)]
        row = {
            f"work, {kind}": work(SPEEDS[name], *shape, sampler, options.schedule)
            for kind, shape in shapes.items()
        }
        row |= {"ssim": float(np.mean(alike)), "ssim, tenth lowest": float(np.percentile(alike, 10))}
        if name != "exact":
            row["psnr"] = float(np.mean([psnr(a, b) for a, b in zip(drawn, exact, strict=True)]))
        rows[name] = {**row, "seconds": seconds}
        print(name, ", ".join(f"{key} {value:.3f}" for key, value in rows[name].items()), flush=True)
    entry = {
        "benchmark": "speed",
        "prompts": len(prompts),
        "steps": STEPS,
        "sampler": options.sampler,
        "schedule": options.schedule,
        "precision": pipeline.choice.precision,
        "settings": {name: str(SPEEDS[name]) for name in options.settings},
        "measured": rows,
        "machine": describe_machine(),
        "versions": versions(("numpy", "openvino")),
    }
    append(options.results, entry)


def work(
    profile: SpeedProfile,
    config: UNetConfig,
    side: int,
    tokens: int,
    schedule: NoiseSchedule,
    sampler: Sampler,
    spacing: str,
) -> float:
    """The multiplications of a drawing, as a fraction of the exact one's. spacing: of the noise levels."""
    levels = sigmas(schedule, spacing, STEPS, automatic=sampler.schedule)
    inputs = {
        "x": ((1, config.in_channels, side, side), "f32"),
        "time": ((1, config.widths[0]), "f32"),
        "context": ((1, tokens, config.context_width), "f32"),
    }
    whole = sum(infer_shapes(with_config(unet, config), inputs).products.values())
    total = 0.0
    for work in profile.plan(
        [progress_of(level) for level in levels[:-1]], stochastic=sampler.adds_noise(None)
    ):
        part = 0.0 if work.held else 1.0
        if not work.full and not work.held:
            layers = work.layers
            deep = infer_shapes(
                with_config(partial(unet_with_features, layers=layers), config), inputs
            ).outputs[1]
            again = with_config(partial(unet_from_features, layers=layers), config)
            part = sum(infer_shapes(again, {**inputs, "deep": (deep, "f32")}).products.values()) / whole
        total += part * (2 if work.guided else 1)
    return total / (2 * STEPS)


def prompts_spread(count: int) -> list[str]:
    """Prompts spread evenly over both files of fixed prompts."""
    lines = [line for name in ("held_out", "composed") for line in (PROMPTS / f"{name}.jsonl").open("rb")]
    return [json.loads(line)["prompt"] for line in lines[:: max(1, len(lines) // count)][:count]]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--sampler", default="DPM++ 2M")
    parser.add_argument("--schedule", default="Automatic", help="of noise levels")
    parser.add_argument("--settings", nargs="+", default=list(SPEEDS))
    parser.add_argument("--quick", action="store_true", help="8 prompts, nothing is written")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.results = 8, Path("/dev/null")
    return options


if __name__ == "__main__":
    main()
