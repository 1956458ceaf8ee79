"""Where the time of one UNet evaluation goes: products by kind of layer, and OpenVINO's time by kind of node.

    python bench/unet_layers.py [--quick] [--precision bf16] [--rounds 5]

OpenVINO's counters cost time themselves, so `bench/unet.py` says how long an evaluation takes; this says
in what proportion. Needs the folder that `bench/unet.py` made.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from contenders.fixture import FULL, QUICK
from contenders.ours import Loaded, load
from measure.machine import describe_machine, versions
from measure.record import append
from measure.tables import table
from pochade.engines.outline import OutlineOps, RecordingView, Sketch
from pochade.ops import Padding
from pochade.settings import cache_dir

RESULTS = Path(__file__).parent / "results" / "unet_layers.jsonl"


class KindsOps(OutlineOps):
    """Counts products by a finer division: kinds, multiply-accumulates of one evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: Counter[str] = Counter()

    def linear(self, x: Sketch, weight: Sketch, bias: Sketch | None = None) -> Sketch:
        before = self.products["linear"]
        y = super().linear(x, weight, bias)
        self.kinds["linear"] += self.products["linear"] - before
        return y

    def conv2d(
        self, x: Sketch, weight: Sketch, bias: Sketch | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Sketch:
        before = self.products["conv2d"]
        y = super().conv2d(x, weight, bias, stride, padding)
        self.kinds["x".join(map(str, weight.shape[2:])) + " convolution"] += self.products["conv2d"] - before
        return y

    def attention(self, query: Sketch, key: Sketch, value: Sketch, *, causal: bool = False) -> Sketch:
        before = self.products["attention"]
        y = super().attention(query, key, value, causal=causal)
        kind = "self-attention" if query.shape == key.shape else "cross-attention"
        self.kinds[kind] += self.products["attention"] - before
        return y


def products(network: Loaded) -> Mapping[str, int]:
    """Multiply-accumulates of one evaluation, by kind of layer."""
    ops = KindsOps()
    sketches = {name: Sketch(shape) for name, (shape, _) in network.shapes.items()}
    network.function(ops, RecordingView(tensors={}), **sketches)
    return ops.kinds


def node_seconds(network: Loaded, precision: str, threads: int, rounds: int) -> Mapping[str, float]:
    """OpenVINO's seconds by kind of node: of each node the fastest of `rounds` evaluations, then summed.

    The fastest, since whatever else runs on the machine can only add.
    """
    from pochade.engines.openvino_ops import Constants, build
    from pochade.engines.openvino_quiet import ov
    from pochade.weights import View

    constants = Constants()
    graph = build(network.function, View(network.tensors, bind=constants), network.shapes)
    hints = {
        "INFERENCE_PRECISION_HINT": {"f32": ov.Type.f32, "bf16": ov.Type.bf16}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    request = ov.Core().compile_model(graph, "CPU", hints).create_infer_request()
    fastest: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        request.infer(network.inputs, share_inputs=True)
        for node in request.profiling_info:
            seconds = node.real_time.total_seconds()
            key = (_kind(node.node_type, node.exec_type, node.node_name), node.node_name)
            fastest[key] = min(seconds, fastest.get(key, seconds))
    total: dict[str, float] = {}
    for (kind, _), seconds in fastest.items():
        total[kind] = total.get(kind, 0.0) + seconds
    return dict(sorted(total.items(), key=lambda pair: -pair[1]))


def main() -> None:
    options = _options()
    network = load(options.cache / (QUICK if options.quick else FULL).name)
    kinds = products(network)
    whole = sum(kinds.values())
    rows = [
        (kind, f"{count / 1e9:.1f}", f"{count / whole:.1%}") for kind, count in Counter(kinds).most_common()
    ]
    print(table([("layer", "10^9 products", "share"), *rows, ("all", f"{whole / 1e9:.1f}", "100.0%")]), "\n")
    seconds = node_seconds(network, options.precision, options.threads, options.rounds)
    total = sum(seconds.values())
    shares = [
        (kind, f"{part * 1e3:.0f}", f"{part / total:.1%}") for kind, part in seconds.items() if part > 0
    ]
    print(table([("node", "ms", "share"), *shares, ("all", f"{total * 1e3:.0f}", "100.0%")]))
    if not options.quick:
        entry = {
            "benchmark": "unet_layers",
            "precision": options.precision,
            "threads": options.threads,
            "rounds": options.rounds,
            "products": kinds,
            "node_s": seconds,
            "machine": describe_machine(),
            "versions": versions(("openvino",)),
        }
        append(RESULTS, entry)


def _kind(node: str, implementation: str, name: str) -> str:
    """OpenVINO's name for a kind of node, where that does not say enough with what it stands for."""
    if node == "Subgraph":
        return "attention, fused" if "ScaledDotProductAttention" in name else "elementwise, fused"
    if node == "Convolution":
        return "Convolution 1x1" if "1x1" in implementation else "Convolution 3x3"
    return node


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tiny network; nothing is recorded")
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
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
