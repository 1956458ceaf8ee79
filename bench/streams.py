"""Measure guidance on many cores: one batch on all threads, or each half on half of the threads.

    python bench/streams.py [--threads 2] [--rounds 5] [--prepare] [--quick]

SD 1.5's UNet with random weights. `--prepare` compiles and caches both graphs without measuring, so that the
run that needs a quiet machine takes half a minute. The two variants take turns. Two threads on two cores
simulate many cores only partly: they show the cost of a barrier between threads, but not how long 32 of them
wait for it.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from contenders.models import UNET, tensor_maker
from measure.machine import describe_machine, versions
from measure.record import append
from pochade.checkpoints.keymaps import LazyTensors
from pochade.configs.read_json import unet_config
from pochade.engines.openvino import OpenVinoEngine, device_features
from pochade.loading.parameter_shapes import unet_shapes, with_config
from pochade.machine import processors
from pochade.models.unet import unet
from pochade.settings import cache_dir

RESULTS = Path(__file__).parent / "results" / "streams.jsonl"
SMALL = {**UNET, "block_out_channels": [64, 128, 128, 128], "cross_attention_dim": 64}


def main() -> None:
    options = _options()
    config = unet_config(dict(SMALL if options.quick else UNET))
    tensors = LazyTensors({name: tensor_maker(name, shape) for name, shape in unet_shapes(config).items()})
    side, width = (16, 64) if options.quick else (64, 768)
    precision = device_features().best_precision

    def requests(batch: int, streams: int) -> list[Any]:
        """One inference request per stream, for a graph of this batch size."""
        engine = OpenVinoEngine(precision=precision, cache_dir=options.cache, threads=options.threads)
        if streams > 1:
            engine._properties = {**engine._properties, "NUM_STREAMS": streams}
            del engine._properties["PERFORMANCE_HINT"]
        inputs = {
            "x": ((batch, 4, side, side), "f32"),
            "time": ((batch, config.widths[0]), "f32"),
            "context": ((batch, 77, width), "f32"),
        }
        graph = engine.compile(with_config(unet, config), tensors, inputs, key=f"streams {config}")
        if graph.model.get_property("NUM_STREAMS") != streams:
            print(f"asked for {streams} streams, got {graph.model.get_property('NUM_STREAMS')}")
        kept.append(graph)  # the requests read its memory
        return [graph.model.create_infer_request() for _ in range(streams)]

    kept: list[Any] = []
    (whole,), halves = requests(2, 1), requests(1, 2)
    if options.prepare:
        print(f"both graphs are in {options.cache}")
        return
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 4, side, side), "time": (2, config.widths[0]), "context": (2, 77, width)}
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    parts = [{name: array[i : i + 1].copy() for name, array in arrays.items()} for i in range(2)]

    def one_batch() -> Any:
        return whole.infer(arrays)[0].copy()

    def two_streams() -> Any:
        for request, part in zip(halves, parts, strict=True):
            request.start_async(part)
        for request in halves:
            request.wait()
        return np.concatenate([request.get_output_tensor(0).data for request in halves])

    ways = {"one batch": one_batch, "two streams": two_streams}
    results = [evaluate() for evaluate in ways.values()]
    difference = float(np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0]))
    print(f"difference of the two: {difference:.1e}", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, evaluate in ways.items():
            began = time.perf_counter()
            evaluate()
            seconds[name].append(time.perf_counter() - began)
            print(f"{name:12}{seconds[name][-1]:8.3f} s", flush=True)
    ratio = median(seconds["two streams"]) / median(seconds["one batch"])
    print(f"two streams take {ratio:.3f} of one batch, {options.threads} threads, {precision}")
    entry = {
        "benchmark": "streams",
        "precision": precision,
        "threads": options.threads,
        "seconds": seconds,
        "ratio": ratio,
        "difference": difference,
        "machine": describe_machine(),
        "versions": versions(("openvino",)),
    }
    if not options.quick:
        append(options.results, entry)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=max(2, processors().cores), help="of both ways")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prepare", action="store_true", help="compile and keep the graphs, and end")
    parser.add_argument("--quick", action="store_true", help="a small network, nothing is written")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "bench" / "streams")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
