"""One evaluation of SD 1.5's UNet on a device of torch: Pochade and diffusers, eager and compiled.

    python bench/gpu.py [--device cuda] [--precision f16] [--batch 2] [--rounds 20] [--quick]

The same random weights in all four, which take turns in one process; medians, and evaluations a second. Every
evaluation begins and ends with host arrays, as in Pochade's denoise loop, so that the device is waited for.
`--quick --eager --device cpu --precision f32` is a small form that shows whether the script works.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from contenders.fixture import FULL, QUICK, SEED, TIMESTEP, Scale
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.engines.torch import DTYPES, TorchEngine
from pochade.models.config import unet_config
from pochade.models.embedding import embed_timestep
from pochade.models.unet import unet
from pochade.pipeline.loading.shapes import with_config

RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
WARM_UP = 3
GOAL = 1.3
"""How many times as fast as diffusers compiled."""

Evaluate = Callable[[], np.ndarray[Any, Any]]


def main() -> None:
    options = _options()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("nothing measured: torch sees no CUDA device; on a processor: --quick --eager --device cpu")
        return
    scale = QUICK if options.quick else FULL
    torch.manual_seed(SEED)
    network: Any = UNet2DConditionModel(sample_size=scale.latent[-1], **scale.options).eval()
    inputs = _inputs(scale, options.batch)
    contenders: dict[str, Evaluate] = {}
    for compiled in (False,) if options.eager else (False, True):
        kind = "compiled" if compiled else "eager"
        contenders[f"pochade {kind}"] = _ours(network, inputs, options, compiled)
        contenders[f"diffusers {kind}"] = _theirs(network, inputs, options, compiled)
    results = {name: [evaluate() for _ in range(WARM_UP)][-1] for name, evaluate in contenders.items()}
    seconds = _take_turns(contenders, options.rounds)
    reference = results["diffusers eager"]
    rows = {
        name: {
            "seconds": spent,
            "a second": 1 / median(spent),
            "difference": float(np.linalg.norm(results[name] - reference) / np.linalg.norm(reference)),
        }
        for name, spent in seconds.items()
    }
    for name, row in rows.items():
        print(f"{name:20} {row['a second']:8.2f} a second, {row['difference']:.1e} from diffusers eager")
    peer = rows["diffusers eager" if options.eager else "diffusers compiled"]
    best = max(row["a second"] for name, row in rows.items() if name.startswith("pochade"))
    times_as_fast = best / peer["a second"]
    print(f"{times_as_fast:.2f} times as fast as diffusers (goal {GOAL}, against it compiled)")
    entry = {
        "benchmark": "gpu",
        "device": _name(options.device),
        "precision": options.precision,
        "batch": options.batch,
        "scale": scale.name,
        "contenders": rows,
        "times as fast as diffusers": times_as_fast,
        "machine": describe_machine(),
        "versions": versions(("torch", "diffusers")),
    }
    if not options.quick:
        append(options.results, entry)


def _inputs(scale: Scale, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(SEED)
    return {
        "x": rng.standard_normal((batch, *scale.latent[1:]), np.float32),
        "context": rng.standard_normal((batch, *scale.context[1:]), np.float32),
    }


def _ours(network: Any, inputs: Mapping[str, Any], options: argparse.Namespace, compiled: bool) -> Evaluate:
    config = unet_config(dict(network.config))
    tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    engine = TorchEngine(options.device, options.precision, compiled=compiled)
    timesteps = np.full(options.batch, TIMESTEP, np.float32)
    arrays = {**inputs, "time": embed_timestep(config, timesteps)}
    shapes = {name: (array.shape, "f32") for name, array in arrays.items()}
    run = engine.compile(with_config(unet, config), tensors, shapes)
    return lambda: run(**arrays)


def _theirs(network: Any, inputs: Mapping[str, Any], options: argparse.Namespace, compiled: bool) -> Evaluate:
    dtype, device = DTYPES[options.precision], torch.device(options.device)
    copy: Any = UNet2DConditionModel.from_config(network.config)
    copy.load_state_dict(network.state_dict())
    copy = copy.eval().to(device, dtype).to(memory_format=torch.channels_last)
    graphs = "reduce-overhead" if device.type == "cuda" else "default"
    call = torch.compile(copy, mode=graphs, dynamic=False) if compiled else copy

    def evaluate() -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            x, context = (torch.from_numpy(inputs[name]).to(device, dtype) for name in ("x", "context"))
            timestep = torch.tensor(TIMESTEP, device=device)
            result: np.ndarray[Any, Any] = (
                call(x, timestep, context, return_dict=False)[0].float().cpu().numpy()
            )
            return result

    return evaluate


def _take_turns(contenders: Mapping[str, Evaluate], rounds: int) -> dict[str, list[float]]:
    """Seconds of each evaluation: A B C D A B C D ..."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, evaluate in contenders.items():
            began = time.perf_counter()
            evaluate()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="f16", choices=DTYPES)
    parser.add_argument("--batch", type=int, default=2, help="2: a step with guidance; 1: without")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--eager", action="store_true", help="without the compiled ones")
    parser.add_argument("--quick", action="store_true", help="a small network, nothing is written")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    return options


if __name__ == "__main__":
    main()
