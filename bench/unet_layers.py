"""Where the time of one UNet evaluation goes: products by kind of layer, and OpenVINO's time by kind of node.

    python bench/unet_layers.py [--quick] [--precision bf16] [--rounds 5]

OpenVINO's counters cost time themselves, so `bench/unet.py` says how long an evaluation takes; this says
in what proportion. Needs the folder that `bench/unet.py` made.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from contenders.fixture import FULL, QUICK
from contenders.ours import Loaded, load
from measure.machine import busy_seconds, describe_machine, versions
from measure.record import append, table

from pochade.engines.outline import OutlineOps, RecordingView, Sketch
from pochade.ops import Padding

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
