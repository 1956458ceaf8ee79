"""Test a GPU with torch in fifteen minutes: pictures, memory, speed.

    python bench/gpu.py [--device cuda] [--precision f16] [--parts parity memory xl speed] [--limit 840]

Each part is a process that ends when its time is up; the results of the other parts are kept.

parity  Every drawing feature with the starter, in f32 and in the precision, against OpenVINO on the CPU.
memory  SD 1.5's shapes at 512 x 512 with 4 GiB of the device's memory, one picture and four.
xl      XL's shapes in f16: finite, with an autoencoder that overflows in f16.
speed   One evaluation of SD 1.5's UNet: Pochade eager, recorded as a CUDA graph, and compiled; diffusers
        eager and compiled. All use the same random weights and take turns in one process; medians. Each
        evaluation starts and ends with a latent on the device and waits for it, as in a denoise loop.

`--quick --eager --device cpu --precision f32` is a small run that tests the script.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from contenders import on_gpu
from contenders.fixture import FULL, QUICK, SEED, TIMESTEP, Scale
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.configs.read_json import unet_config
from pochade.engines.torch import DTYPES, TorchEngine
from pochade.loading.parameter_shapes import with_config
from pochade.models.embedding import embed_timestep
from pochade.models.unet import unet
from pochade.settings import cache_dir

RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
WARM_UP = 3
GOAL = 1.3
"""How many times as fast as diffusers compiled."""
MARK = "found: "

Evaluate = Callable[[], torch.Tensor]


def main() -> None:
    options = _options()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("nothing measured: torch sees no CUDA device; on a processor: --quick --eager --device cpu")
        return
    if options.part:
        print(MARK + json.dumps(PARTS[options.part](options)), flush=True)
        return
    ends = time.monotonic() + options.limit
    found, failed = {}, []
    for part in options.parts:
        print(f"--- {part}", flush=True)
        result, why = _in_a_process(part, ends - time.monotonic())
        found[part] = result
        failed += [f"{part}: {each}" for each in ([why] if why else result.get("failed", []))]
    print("---", *(failed or ["everything as expected"]), sep="\n")
    entry = {
        "benchmark": "gpu",
        "device": _name(options.device),
        "precision": options.precision,
        "batch": options.batch,
        "found": found,
        "failed": failed,
        "machine": describe_machine(),
        "versions": versions(("torch", "diffusers")),
    }
    if not options.quick:
        append(options.results, entry)
    sys.exit(1 if failed else 0)


def _in_a_process(part: str, seconds: float) -> tuple[dict[str, Any], str]:
    """The results of a part, and the reason if it ended early. Its output is shown as it arrives."""
    command = [sys.executable, __file__, *sys.argv[1:], "--part", part]
    began = time.monotonic()
    found: dict[str, Any] = {}
    if seconds <= 0:
        return found, "no time was left"
    with subprocess.Popen(
        ["timeout", f"{seconds:.0f}", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(MARK):
                found = json.loads(line.removeprefix(MARK))
            else:
                print(line, end="", flush=True)
    print(f"{time.monotonic() - began:.0f} s", flush=True)
    return found, "" if process.returncode == 0 else f"ended with status {process.returncode}"


def speed(options: argparse.Namespace) -> dict[str, Any]:
    scale = QUICK if options.quick else FULL
    torch.manual_seed(SEED)
    network: Any = UNet2DConditionModel(sample_size=scale.latent[-1], **scale.options)
    network.eval()
    inputs = _inputs(scale, options.batch)
    contenders: dict[str, Evaluate] = {}
    for kind in ("eager",) if options.eager else ("eager", "recorded", "compiled"):
        contenders[f"pochade {kind}"] = _ours(network, inputs, options, kind)
        if kind != "recorded":
            contenders[f"diffusers {kind}"] = _theirs(network, inputs, options, kind == "compiled")
    results = {}
    for name, evaluate in contenders.items():
        began = time.monotonic()
        results[name] = [evaluate() for _ in range(WARM_UP)][-1].float().cpu().numpy()
        print(f"{name}: ready after {time.monotonic() - began:.0f} s", flush=True)
    seconds = _take_turns(contenders, options)
    reference = results["diffusers eager"]
    rows: dict[str, dict[str, Any]] = {
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
    return {"contenders": rows, "scale": scale.name, "times as fast as diffusers": times_as_fast}


def _inputs(scale: Scale, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(SEED)
    return {
        "x": rng.standard_normal((batch, *scale.latent[1:]), np.float32),
        "context": rng.standard_normal((batch, *scale.context[1:]), np.float32),
    }


def _ours(network: Any, inputs: Mapping[str, Any], options: argparse.Namespace, kind: str) -> Evaluate:
    config = unet_config(dict(network.config))
    tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    engine = TorchEngine(options.device, options.precision, compiled=kind == "compiled")
    if kind == "recorded":
        engine = engine.repeated()
    timesteps = np.full(options.batch, TIMESTEP, np.float32)
    arrays = {**inputs, "time": embed_timestep(config, timesteps)}
    shapes = {name: (array.shape, "f32") for name, array in arrays.items()}
    run = engine.compile(with_config(unet, config), tensors, shapes)
    placed = {name: engine.place(array) for name, array in arrays.items()}
    return lambda: run(**placed)


def _theirs(network: Any, inputs: Mapping[str, Any], options: argparse.Namespace, compiled: bool) -> Evaluate:
    dtype, device = DTYPES[options.precision], torch.device(options.device)
    copy: Any = UNet2DConditionModel.from_config(network.config)
    copy.load_state_dict(network.state_dict())
    copy = copy.eval().to(device, dtype).to(memory_format=torch.channels_last)
    graphs = "reduce-overhead" if device.type == "cuda" else "default"
    call = torch.compile(copy, mode=graphs, dynamic=False) if compiled else copy
    x, context = (torch.from_numpy(inputs[name]).to(device, dtype) for name in ("x", "context"))
    timestep = torch.tensor(TIMESTEP, device=device)

    def evaluate() -> torch.Tensor:
        with torch.inference_mode():
            result: torch.Tensor = call(x, timestep, context, return_dict=False)[0].clone()
            return result

    return evaluate


def _take_turns(contenders: Mapping[str, Evaluate], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each evaluation, including the wait for its result: A B C D A B C D ..."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, evaluate in contenders.items():
            began = time.perf_counter()
            evaluate()
            if options.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def _checked(
    check: Callable[[str, str, str, Path], dict[str, Any]],
) -> Callable[[argparse.Namespace], dict[str, Any]]:
    def run(options: argparse.Namespace) -> dict[str, Any]:
        scale = "quick" if options.quick else "full"
        return check(options.device, options.precision, scale, options.cache)

    return run


PARTS: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "parity": _checked(on_gpu.parity),
    "memory": _checked(on_gpu.memory),
    "xl": _checked(on_gpu.xl),
    "speed": speed,
}


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="f16", choices=DTYPES)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--limit", type=float, default=840.0, help="seconds for all parts")
    parser.add_argument("--batch", type=int, default=2, help="2: a step with guidance; 1: without")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--eager", action="store_true", help="without the recorded and compiled ones")
    parser.add_argument("--quick", action="store_true", help="small networks, nothing is written")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench", help="for models of 4 and 7 GB")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
