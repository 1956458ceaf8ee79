"""Measure how long changing adapters takes: reading the file, merging the weights, compiling the graph again.

    python bench/adapters.py [--quick] [--rank 16]

Uses the UNet of Stable Diffusion 1.5 with random bf16 weights, with --quick a tiny one. Adapters: one of the
attention layers, as most LoRAs are, and one of all layers including convolutions. "round" is the change made
by rounding the sum to the weights' own type, relative to the adapter's change.
"""

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from measure.machine import describe_machine, versions
from measure.record import append
from pochade.adapters.read import Adapter, read_adapter
from pochade.adapters.view import WeightedDeltas, adapted
from pochade.checkpoints import safetensors
from pochade.configs.networks import UNetConfig
from pochade.engines.openvino import OpenVinoEngine, device_features
from pochade.loading.parameter_shapes import unet_shapes, with_config
from pochade.models.unet import unet

RESULTS = Path(__file__).parent / "results" / "adapters.jsonl"
ONE, NONE = (1, 1), (0, 0)
SD15 = UNetConfig(down_depths=(ONE, ONE, ONE, NONE), mid_depth=1, up_depths=((0,) * 3, *[(1,) * 3] * 3))
TINY = UNetConfig(
    widths=(32, 64),
    down_depths=(ONE, NONE),
    mid_depth=1,
    up_depths=((0,) * 3, (1,) * 3),
    heads=(4, 4),
    context_width=48,
)
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
STRENGTH = 0.02
"""How large a change is against the weight that it is added to, both as root mean squares."""


def main() -> None:
    options = _options()
    config, side = (TINY, 16) if options.quick else (SD15, 64)
    shapes = unet_shapes(config)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        base = safetensors.read(_model(Path(folder) / "unet.safetensors", shapes))
        plain_s = _compile_s(config, base, side)
        rows = {
            "attention": _measure(Path(folder), base, shapes, config, side, options.rank, ATTENTION),
            "all layers": _measure(Path(folder), base, shapes, config, side, options.rank, None),
        }
    size, precision = sum(map(np.prod, shapes.values())) / 1e6, device_features().best_precision
    print(f"UNet of {size:.0f} M parameters, computed in {precision}; rank {options.rank}")
    print(f"without adapter: compile {plain_s:.2f} s")
    for name, row in rows.items():
        print(f"{name:12s}", "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if not options.quick:
        about = {"machine": describe_machine(), "versions": versions(("numpy", "openvino"))}
        append(
            options.results,
            {"benchmark": "adapters", "rank": options.rank, "plain_s": plain_s, **rows, **about},
        )


def _measure(
    folder: Path,
    base: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    config: UNetConfig,
    side: int,
    rank: int,
    layers: tuple[str, ...] | None,
) -> dict[str, float]:
    path = _adapter(folder / "adapter.safetensors", base, shapes, rank, layers)
    read_s, adapter = _timed(lambda: read_adapter(path, {"unet": shapes}))
    view = adapted(base, _strengths(adapter))
    touched = list(adapter.deltas["unet"])
    sum_s, _ = _timed(lambda: [view[name] for name in touched])
    return {
        "MB": path.stat().st_size / 1e6,
        "weights": len(touched),
        "read_s": read_s,
        "sum_s": sum_s,
        "compile_s": _compile_s(config, view, side),
        "round": _rounding(base, adapter, touched),
    }


def _strengths(adapter: Adapter) -> list[WeightedDeltas]:
    return [WeightedDeltas(adapter.deltas["unet"], 1.0, adapter.fingerprint)]


def _rounding(base: Mapping[str, Any], adapter: Adapter, touched: list[str]) -> float:
    """|rounded sum - sum| / |change| for some of the weights."""
    wide = {name: base[name].astype(np.float32) for name in touched[:: max(1, len(touched) // 10)]}
    exact = adapted(wide, _strengths(adapter))
    narrow = adapted(base, _strengths(adapter))
    error = sum(float(np.square(narrow[name].astype(np.float32) - exact[name]).sum()) for name in wide)
    change = sum(float(np.square(exact[name] - wide[name]).sum()) for name in wide)
    return float((error / change) ** 0.5)


def _compile_s(config: UNetConfig, tensors: Mapping[str, Any], side: int) -> float:
    """Seconds to build and compile the graph for one picture with guidance, without a cached graph."""
    inputs = {
        "x": ((2, 4, side, side), "f32"),
        "time": ((2, config.widths[0]), "f32"),
        "context": ((2, 77, config.context_width), "f32"),
    }
    gc.collect()
    engine = OpenVinoEngine("cpu", device_features().best_precision)
    return _timed(lambda: engine.compile(with_config(unet, config), tensors, inputs))[0]


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def _model(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    rng = np.random.default_rng(0)
    tensors = {
        name: (rng.standard_normal(shape, np.float32) / np.prod(shape[1:]) ** 0.5).astype(ml_dtypes.bfloat16)
        for name, shape in shapes.items()
    }
    safetensors.write(path, tensors)
    return path


def _adapter(
    path: Path,
    base: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    rank: int,
    layers: tuple[str, ...] | None,
) -> Path:
    """f16 factors for the layers whose names have one of these endings, or for all that have a matrix."""
    rng, tensors = np.random.default_rng(1), {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if len(shape) < 2 or (layers is not None and not module.endswith(layers)):
            continue
        ones = (1,) * (len(shape) - 2)
        size = STRENGTH / (np.prod(shape[1:]) * rank) ** 0.25
        up = rng.standard_normal((shape[0], rank, *ones), np.float32) * size
        down = rng.standard_normal((rank, *shape[1:]), np.float32) / (np.prod(shape[1:]) * rank) ** 0.25
        tensors[f"unet.{module}.lora_B.weight"] = up.astype(np.float16)
        tensors[f"unet.{module}.lora_A.weight"] = down.astype(np.float16)
    safetensors.write(path, tensors)
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny network; nothing is recorded")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where 2 GB are written for the time of the run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that gets a line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
