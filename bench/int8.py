"""Measure int8: errors by noise level, similarity of pictures, time of an evaluation.

    python bench/int8.py [--prompts 100] [--rounds 7] [--model PATH]

Compared with the same model in the processor's native precision. Errors: the UNet's outputs in int8, relative
to the exact ones, on noised latents of drawn pictures. Time: one guided evaluation (batch 2), both taking
turns. `--model`: the file of `bench/first_step.py` has the shapes of SD 1.5; its numbers are random, so use
it with --prompts 0 --steps 2.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import pochade
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.evaluation.likeness import psnr, ssim
from pochade.pipeline.pipeline import Pipeline
from speed import prompts_spread

RESULTS = Path(__file__).parent / "results" / "int8.jsonl"
TIMESTEPS = (980, 800, 600, 400, 200, 100, 20)
SUBJECTS = ("a red fox", "a blue house under a tree", "two green apples", "a sailing ship")


def main() -> None:
    options = _options()
    exact = pochade.load(options.model, device="cpu", engine="openvino")
    int8 = pochade.load(options.model, device="cpu", engine="openvino", precision="int8")
    subjects = SUBJECTS if options.prompts else SUBJECTS[:1]
    measured: dict[str, Any] = {"error": errors(exact, int8, subjects, options.steps)}
    print("relative error of the UNet by timestep:", _texts(measured["error"]), flush=True)
    if options.rounds:
        measured |= times(exact, int8, options.rounds)
        print(f"one evaluation: {measured['ratio']:.2f} of {exact.choice.precision}", flush=True)
    if options.prompts:
        measured |= likeness(exact, int8, prompts_spread(options.prompts), options.steps)
        print(_texts({name: measured[name] for name in ("ssim", "tenth lowest", "psnr")}), flush=True)
    entry = {
        "benchmark": "int8",
        "model": str(exact.checkpoint.name),
        "precision": exact.choice.precision,
        "prompts": options.prompts,
        "rounds": options.rounds,
        "measured": measured,
        "machine": describe_machine(),
        "versions": versions(("numpy", "openvino")),
    }
    append(options.results, entry)


def errors(exact: Pipeline, int8: Pipeline, subjects: tuple[str, ...], steps: int) -> dict[str, float]:
    """By timestep: root mean square of the difference, divided by that of the exact output."""
    found: dict[int, list[tuple[float, float]]] = {timestep: [] for timestep in TIMESTEPS}
    for seed, subject in enumerate(subjects):
        clean = exact.encode_image(exact.txt2img(subject, seed=seed, steps=steps).images[0])
        context = exact.encode_prompt(subject)
        assert not isinstance(context, tuple)
        noise = np.random.default_rng(seed).standard_normal(clean.shape).astype(np.float32)
        for timestep in TIMESTEPS:
            left = np.float32(exact.schedule.alphas_cumprod[timestep])
            noised = np.sqrt(left) * clean + np.sqrt(1 - left) * noise
            at = np.full(1, timestep, np.float32)
            right, off = (pipe.unet(noised, at, context) for pipe in (exact, int8))
            found[timestep].append((float(np.square(off - right).mean()), float(np.square(right).mean())))
    return {
        str(timestep): float(np.sqrt(np.mean([a for a, _ in pairs]) / np.mean([b for _, b in pairs])))
        for timestep, pairs in found.items()
    }


def times(exact: Pipeline, int8: Pipeline, rounds: int) -> dict[str, Any]:
    """Seconds of each evaluation, taking turns, after one warm-up; and the ratio of the medians."""
    config = exact.networks.unet_config
    rng = np.random.default_rng(0)
    context = np.repeat(exact.encode_prompt("a red fox"), 2, axis=0)
    side = config.sample_size
    x = rng.standard_normal((2, config.in_channels, side, side), np.float32)
    spent: dict[str, list[float]] = {"exact seconds": [], "int8 seconds": []}
    for round_ in range(rounds + 1):
        for name, pipe in zip(spent, (exact, int8), strict=True):
            began = time.perf_counter()
            pipe.unet(x, np.full(2, 500, np.float32), context)
            if round_:
                spent[name].append(time.perf_counter() - began)
    return {**spent, "ratio": median(spent["int8 seconds"]) / median(spent["exact seconds"])}


def likeness(exact: Pipeline, int8: Pipeline, prompts: list[str], steps: int) -> dict[str, float]:
    """Similarity of whole pictures, including the decoder."""
    pairs = [
        [np.asarray(pipe.txt2img(prompt, seed=seed, steps=steps).images[0]) for pipe in (exact, int8)]
        for seed, prompt in enumerate(prompts)
    ]
    alike = [ssim(one, other) for one, other in pairs]
    return {
        "ssim": float(np.mean(alike)),
        "tenth lowest": float(np.percentile(alike, 10)),
        "psnr": float(np.mean([psnr(one, other) for one, other in pairs])),
    }


def _texts(numbers: dict[str, float]) -> str:
    return json.dumps({name: round(number, 4) for name, number in numbers.items()})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="default: the starter")
    parser.add_argument("--prompts", type=int, default=100, help="0: no pictures are compared")
    parser.add_argument("--steps", type=int, default=20, help="of the pictures")
    parser.add_argument("--rounds", type=int, default=7, help="0: nothing is timed")
    parser.add_argument("--quick", action="store_true", help="8 prompts, 3 rounds, nothing is written")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.prompts, options.rounds, options.results = 8, 3, Path("/dev/null")
    return options


if __name__ == "__main__":
    main()
