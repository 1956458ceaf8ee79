"""Profile one UNet evaluation: products by kind of layer, and OpenVINO's time by kind of node.

    python bench/unet_layers.py [--quick] [--precision bf16] [--rounds 5]

OpenVINO's counters themselves take time, so `bench/unet.py` measures how long an evaluation takes, and this
script how the time is distributed. Layers that multiply are also compared with the ceiling: the rate that a
loop in registers reaches with their numbers. Needs the folder that `bench/unet.py` creates.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from contenders.fixture import FULL, QUICK
from contenders.ours import Loaded, load
from measure.ceiling import register_ceilings
from measure.machine import describe_machine, versions
from measure.record import append
from measure.tables import table
from pochade.engines.openvino import PRECISIONS, OpenVinoEngine, device_features
from pochade.engines.openvino_attention import TokenAttention
from pochade.engines.openvino_import import ov
from pochade.engines.openvino_int8 import Int8Ops
from pochade.engines.openvino_ops import Constants, OpenVinoOps, build
from pochade.int8 import ALL_BITS, SAFE_BITS, Observations
from pochade.quantization.fit_grids import fit
from pochade.settings import cache_dir
from pochade.weights import View

RESULTS = Path(__file__).parent / "results" / "unet_layers.jsonl"
BY_NODE = {
    "FullyConnected": "linear",
    "Reorder": "changes of memory layout",
    "Transpose": "changes of memory layout",
    "Concat": "changes of memory layout",
}
"""What OpenVINO's nodes are that do not say which layer they stand for. A linear layer of f32 is named after
its bias."""


@dataclass(frozen=True)
class Layer:
    """An operation that multiplies: its kind, and its multiply-accumulates in one evaluation."""

    kind: str
    products: int


def graph_of(network: Loaded, precision: str, threads: int) -> tuple[ov.Model, Constants]:
    """The graph as the engine compiles it, and the arrays behind its constants.

    In int8 the grids are fitted to the one evaluation of the case, because only time is measured.
    """
    constants = Constants()
    between = device_features().best_precision if precision == "int8" else precision
    kernel = OpenVinoEngine(precision=between, threads=threads).kernel_use(int8=precision == "int8")
    if precision != "int8":
        view = View(network.tensors, bind=constants)
        return build(network.function, view, network.shapes, OpenVinoOps(kernel)), constants
    observations: Observations = {}
    engine = OpenVinoEngine().observing(observations)
    engine.compile(network.function, network.tensors, network.shapes)(**network.inputs)
    grids = {name: each.grid for name, each in fit(observations).items() if each.used}
    wide = device_features().sums_bytes_in_int32
    ops = Int8Ops(grids, ALL_BITS if wide else SAFE_BITS, constants, as_convolutions=not wide, kernel=kernel)
    return build(network.function, View(network.tensors, bind=ops.bind), network.shapes, ops), constants


def layers(graph: ov.Model) -> dict[str, Layer]:
    """Layers by the operation's name.

    A doubling convolution has 2x2 kernels instead of one of 3x3, and is counted as such. One without height
    may be the engine's form of a linear layer.
    """
    found = {}
    for node in graph.get_ops():
        sort = node.get_type_name()
        if sort not in ("Convolution", "MatMul", "ScaledDotProductAttention", "TokenAttention"):
            continue
        made = node.output(0).get_shape()
        first, second = (node.input_value(i).get_shape() for i in range(2))
        if sort == "Convolution":
            kind = "1x1 convolution" if set(second[2:]) == {1} else "3x3 convolution"
            kind = "linear" if len(second) == 3 else kind
            found[node.get_friendly_name()] = Layer(kind, prod(made) * prod(second[1:]))
        elif sort == "MatMul":
            found[node.get_friendly_name()] = Layer("linear", prod(made) * first[-1])
        else:
            kind = "self-attention" if first == second else "cross-attention"
            found[node.get_friendly_name()] = Layer(kind, 2 * prod(first) * second[-2])  # tokens before D
    return found


def node_seconds(
    graph: ov.Model, inputs: Mapping[str, Any], precision: str, threads: int, rounds: int
) -> dict[str, float]:
    """Seconds by kind: for each node the fastest of `rounds` evaluations, then summed.

    The fastest, because other work on the machine can only add time. A node may combine several operations;
    it counts as the layer among them, if there is one, otherwise by OpenVINO's name for it.
    """
    hints = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    known = layers(graph)
    core = ov.Core()
    core.add_extension(TokenAttention)
    compiled = core.compile_model(graph, "CPU", hints)
    stands_for = {
        node.get_friendly_name(): node.get_rt_info()["originalLayersNames"].astype(str).split(",")
        for node in compiled.get_runtime_model().get_ops()
    }
    request = compiled.create_infer_request()
    fastest: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        request.infer(inputs, share_inputs=True)
        for node in request.profiling_info:
            operations = stands_for.get(node.node_name, [])
            kind = next((known[each].kind for each in operations if each in known), None)
            key = kind or BY_NODE.get(node.node_type, "elementwise and normalisation"), node.node_name
            seconds = node.real_time.total_seconds()
            fastest[key] = min(seconds, fastest.get(key, seconds))
    total: dict[str, float] = {}
    for (kind, _), seconds in fastest.items():
        total[kind] = total.get(kind, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def main() -> None:
    options = _options()
    folder = options.cache / (QUICK if options.quick else FULL).name
    if not folder.exists():
        quick = " --quick" if options.quick else ""
        sys.exit(f"'{folder}' is missing; run 'python bench/unet.py{quick}' first, which creates it")
    network = load(folder)
    graph, constants = graph_of(network, options.precision, options.threads)
    products: Counter[str] = Counter()
    for layer in layers(graph).values():
        products[layer.kind] += layer.products
    between = device_features().best_precision if options.precision == "int8" else options.precision
    seconds = node_seconds(graph, network.inputs, between, options.threads, options.rounds)
    ceiling = register_ceilings(options.threads)
    print(_rows(products, seconds, ceiling, options.precision))
    constants.release_pages()
    if not options.quick:
        entry = {
            "benchmark": "unet_layers",
            "precision": options.precision,
            "threads": options.threads,
            "rounds": options.rounds,
            "products": products,
            "seconds": seconds,
            "ceiling": ceiling,
            "machine": describe_machine(),
            "versions": versions(("openvino",)),
        }
        append(RESULTS, entry)


def _rows(
    products: Mapping[str, int], seconds: Mapping[str, float], ceiling: Mapping[str, float], precision: str
) -> str:
    """A row for each kind. The ceiling of attention is that of f32 or bf16, even if half of it is in int8."""
    between = "bf16" if "bf16" in ceiling else "f32"
    rows = [("layer", "10^9 products", "ms", "share", "10^9 operations/s", "of the ceiling")]
    total = sum(seconds.values())
    for kind, spent in seconds.items():
        if spent == 0:
            continue
        line = [kind, "", f"{spent * 1e3:.0f}", f"{spent / total:.1%}", "", ""]
        if kind in products:
            rate = 2 * products[kind] / spent
            most = ceiling.get(between if "attention" in kind and precision == "int8" else precision)
            line[1], line[4] = f"{products[kind] / 1e9:.1f}", f"{rate / 1e9:.0f}"
            line[5] = "-" if most is None else f"{rate / most:.0%}"
        rows.append((line[0], line[1], line[2], line[3], line[4], line[5]))
    return table(
        [*rows, ("all", f"{sum(products.values()) / 1e9:.1f}", f"{total * 1e3:.0f}", "100%", "", "")]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny network; nothing is recorded")
    parser.add_argument(
        "--precision", choices=("bf16", "f16", "f32", "int8"), default=device_features().best_precision
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="1 (default) is disturbed least on a shared machine"
    )
    parser.add_argument("--rounds", type=int, default=5, help="evaluations; the fastest counts (default 5)")
    parser.add_argument(
        "--cache", type=Path, default=cache_dir() / "bench", help="where bench/unet.py put it"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
