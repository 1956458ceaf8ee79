"""Compare the compiled attention kernel with OpenVINO's fused attention: time and accuracy.

    python bench/attention.py [--rounds 9] [--prompts 12] [--side 512]

Layers: the self-attentions of SD 1.5, SD 2 and XL at their usual sizes, OpenVINO in the processor's fastest
precision and each of the kernel's paths that the processor can run, used or not, taking turns; errors
relative to f64.
Pictures: the starter's, large enough for its attention to use the kernel, with and without the kernel, in
that precision and in int8.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measure.machine import describe_machine, versions
from measure.record import append
from measure.tables import table
from pochade.engines.attention_kernel import DISABLED, describe_kernel, load_kernel
from pochade.engines.openvino import device_features
from pochade.engines.openvino_import import op, ov
from pochade.evaluation.likeness import psnr, ssim

RESULTS = Path(__file__).parent / "results" / "attention.jsonl"
LAYERS = {
    "SD 1.5, 512 px, level 1": (2, 8, 4096, 4096, 40),
    "SD 1.5, 512 px, level 2": (2, 8, 1024, 1024, 80),
    "SD 1.5, 512 px, level 3": (2, 8, 256, 256, 160),
    "SD 2, 768 px, level 1": (2, 5, 9216, 9216, 64),
    "XL, 1024 px, level 2": (2, 10, 4096, 4096, 64),
    "XL, 1024 px, level 3": (2, 20, 1024, 1024, 64),
}
"""(batch, heads, queries, keys, dimensions of a head)."""

Sizes = tuple[int, int, int, int, int]
Arrays = list[NDArray[np.float32]]


def main() -> None:
    options = _options()
    kernel = load_kernel()
    if kernel is None:
        sys.exit(f"there is nothing to measure: attention is {describe_kernel()}")
    entry = {
        "benchmark": "attention",
        "rounds": options.rounds,
        "layers": {name: layer(sizes, options.rounds) for name, sizes in LAYERS.items()},
        "pictures": pictures(options.prompts, options.side) if options.prompts else {},
        "side": options.side,
        "machine": describe_machine(),
        "versions": versions(("numpy", "openvino")),
    }
    paths = sorted(kernel.supported)
    rows: list[tuple[str, ...]] = [
        ("layer", "OpenVINO ms", *(title for path in paths for title in (f"{path} ms", "ratio")), "errors")
    ]
    for name, measured in entry["layers"].items():
        ms = {way: 1e3 * median(seconds) for way, seconds in measured["seconds"].items()}
        base = ms["openvino"]
        times = (cell for path in paths for cell in (f"{ms[path]:.1f}", f"{ms[path] / base:.2f}"))
        errors = " ".join(f"{error:.2g}" for error in measured["errors"].values())
        rows.append((name, f"{base:.1f}", *times, errors))
    print(table(rows))
    for name, measured in entry["pictures"].items():
        print(name, ", ".join(f"{key} {value:.3f}" for key, value in measured.items()))
    append(options.results, entry)


def layer(sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Seconds of each variant, taking turns after one warm-up, and errors on the first 64 queries."""
    batch, heads, queries, keys, dim = sizes
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((batch, n, heads * dim), np.float32) for n in (queries, keys, keys)]
    query, key, value = given
    kernel = load_kernel()
    assert kernel is not None
    ways: dict[str, Callable[[], NDArray[Any]]] = {
        "openvino": fused(given, heads),
        **{
            path: partial(kernel.attention, query, key, value, heads, products=path)
            for path in kernel.supported
        },
    }
    expected = exact(given, heads, 64)
    errors = {name: relative(way()[0, :64], expected) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {"seconds": seconds, "errors": errors}


def fused(given: Arrays, heads: int) -> Callable[[], NDArray[Any]]:
    """OpenVINO's fused attention in the fastest precision, as the engine would compile it."""
    parameters = [op.parameter(list(x.shape), np.float32) for x in given]
    shapes = [[*x.shape[:2], heads, x.shape[2] // heads] for x in given]
    split = [
        op.transpose(op.reshape(x, shape, False), [0, 2, 1, 3])
        for x, shape in zip(parameters, shapes, strict=True)
    ]
    joined = op.transpose(op.scaled_dot_product_attention(*split), [0, 2, 1, 3])
    graph = ov.Model([op.reshape(joined, list(given[0].shape), False)], parameters)
    precision = getattr(ov.Type, device_features().best_precision)
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(graph, "CPU", hints).create_infer_request()

    def run() -> NDArray[Any]:
        result: NDArray[Any] = request.infer(given, share_inputs=True, share_outputs=True)[0]
        return result

    return run


def exact(given: Arrays, heads: int, queries: int) -> NDArray[Any]:
    """The result for the first queries of the first picture in f64: (queries, heads * D)."""
    query, key, value = (x[0].reshape(x.shape[1], heads, -1).astype(np.float64) for x in given)
    result = np.empty_like(query[:queries])
    for head in range(heads):
        scores = query[:queries, head] @ key[:, head].T / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        result[:, head] = weights / weights.sum(-1, keepdims=True) @ value[:, head]
    rows: NDArray[Any] = result.reshape(queries, -1)
    return rows


def relative(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def pictures(prompts: int, side: int) -> dict[str, dict[str, float]]:
    """Similarity of the pictures. Each variant has its own process, because a process chooses the kernel
    once."""
    drawn, native = {}, device_features().best_precision
    with TemporaryDirectory() as folder:
        for precision in (native, "int8"):
            for kernel in ("without", "with"):
                to = Path(folder, f"{precision}-{kernel}.npy")
                environment = {**os.environ, **({DISABLED: "1"} if kernel == "without" else {})}
                command = [sys.executable, __file__, "--draw", str(to), "--precision", precision]
                command += ["--prompts", str(prompts), "--side", str(side)]
                subprocess.run(command, env=environment, check=True)
                drawn[precision, kernel] = np.load(to)
    pairs = {
        f"{native}, with the kernel and without": ((native, "without"), (native, "with")),
        f"int8 with the kernel, {native} without": ((native, "without"), ("int8", "with")),
        f"int8 and {native}, both without": ((native, "without"), ("int8", "without")),
    }
    return {
        name: {
            "ssim": float(np.mean([ssim(a, b) for a, b in zip(drawn[one], drawn[other], strict=True)])),
            "psnr": float(np.mean([psnr(a, b) for a, b in zip(drawn[one], drawn[other], strict=True)])),
        }
        for name, (one, other) in pairs.items()
    }


def draw(to: Path, precision: str, prompts: int, side: int) -> None:
    import pochade
    from speed import prompts_spread

    pipeline = pochade.load(device="cpu", precision=precision)
    images = [
        np.asarray(pipeline.txt2img(prompt, seed=seed, steps=20, width=side, height=side).images[0])
        for seed, prompt in enumerate(prompts_spread(prompts))
    ]
    np.save(to, np.stack(images))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompts", type=int, default=12, help="0: no pictures are compared")
    parser.add_argument("--side", type=int, default=512, help="of the starter's pictures, px")
    parser.add_argument("--quick", action="store_true", help="2 prompts, 2 rounds, nothing is written")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="f32", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw:
        draw(options.draw, options.precision, options.prompts, options.side)
        sys.exit()
    if options.quick:
        options.prompts, options.rounds, options.results = 2, 2, Path("/dev/null")
    return options


if __name__ == "__main__":
    main()
