"""The OpenVINO engine: model functions build graphs directly from memory-mapped weights.

Nothing is traced or converted. A function runs once with `OpenVinoOps`, whose tensors are graph nodes. That
takes about a tenth of a second for the UNet of Stable Diffusion 1.5, so a graph with static shapes is built
for every picture size. Compiling it takes seconds; `openvino_cache` stores the result on disk.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pochade.engines.attention_kernel import load_kernel
from pochade.engines.cpu_features import sums_bytes_in_int32
from pochade.engines.host import HostArrays
from pochade.engines.openvino_attention import KernelUse, TokenAttention, collecting
from pochade.engines.openvino_cache import BlobFolder, release, sources
from pochade.engines.openvino_compiled import Compiled
from pochade.engines.openvino_import import ov
from pochade.engines.openvino_lora import LoraOps
from pochade.engines.openvino_observer import observe, record_input
from pochade.engines.openvino_ops import Array, Constants, Inputs, build, fixed
from pochade.engines.openvino_rounded import Rounded, bytes_of_rounded, read_rounded, write_rounded
from pochade.errors import InvalidRequest
from pochade.int8 import ALL_BITS, SAFE_BITS, Grids, Observations, digest
from pochade.mapping import release_pages
from pochade.settings import CACHE_BUDGET_BYTES
from pochade.weights import View

DEVICES: Mapping[str, str] = {"cpu": "CPU", "gpu": "GPU"}
PRECISIONS: Mapping[str, ov.Type] = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


@dataclass(frozen=True)
class DeviceFeatures:
    """The features of a device.

    device: 'cpu' or 'gpu'. name: the manufacturer's name. precisions: natively supported ones of 'f32',
    'bf16' and 'f16'. default: the precision that OpenVINO chooses by itself.
    """

    device: str
    name: str
    precisions: tuple[str, ...]
    default: str = "f32"

    @property
    def sums_bytes_in_int32(self) -> bool:
        """Whether products of bytes may use all bits of the weights."""
        return self.device != "cpu" or sums_bytes_in_int32()

    @property
    def best_precision(self) -> str:
        """The precision for `auto`: bf16 if it is native; f16 on a GPU without bf16, and on a processor where
        it is OpenVINO's default, such as ARM; otherwise f32."""
        if "bf16" in self.precisions:
            return "bf16"
        narrow = self.device == "gpu" or self.default == "f16"
        return "f16" if narrow and "f16" in self.precisions else "f32"


def device_features(device: str = "cpu") -> DeviceFeatures:
    """Query OpenVINO. Raises InvalidRequest if the device does not exist."""
    core = ov.Core()
    target = _target(core, device)
    name = str(core.get_property(target, "FULL_DEVICE_NAME")).strip()
    listed = core.get_property(target, "OPTIMIZATION_CAPABILITIES")
    return features_of(device, name, listed, core.get_property(target, "INFERENCE_PRECISION_HINT"))


def features_of(device: str, name: str, listed: Sequence[str], chosen: ov.Type) -> DeviceFeatures:
    """Derive the features from OpenVINO's list of capabilities and its default precision."""
    # A processor with AVX-512 lists BF16 even if that is only emulated; OpenVINO's default is never emulated.
    native = {
        "f32": True,
        "bf16": "BF16" in listed and (device != "cpu" or chosen == ov.Type.bf16),
        "f16": "FP16" in listed,
    }
    present = tuple(precision for precision, here in native.items() if here)
    default = next((name for name, kind in PRECISIONS.items() if kind == chosen), "f32")
    return DeviceFeatures(device, name, present, default)


class OpenVinoEngine(HostArrays):
    """Compiles model functions for the processor or an Intel GPU.

    device: 'cpu' or 'gpu'. precision: of weights and arithmetic; inputs and results are always f32.
    cache_dir: the folder of the disk cache (see `pochade.settings`), None = no cache; it holds at most
    `cache_budget_bytes`. keep_later: write graphs in the background after their first use, instead of before;
    the process waits for it when it exits. threads: None = OpenVINO's default, one per core.

    Raises InvalidRequest if the device does not exist, or would only emulate the precision.
    """

    name = "openvino"
    copies_weights = True
    """Each compiled graph holds its own copy of the weights."""

    def __init__(
        self,
        device: str = "cpu",
        precision: str = "f32",
        *,
        cache_dir: Path | None = None,
        cache_budget_bytes: int = CACHE_BUDGET_BYTES,
        keep_later: bool = False,
        threads: int | None = None,
    ) -> None:
        features = device_features(device)
        if precision not in features.precisions:
            raise InvalidRequest(
                f"precision '{precision}' is not native to {features.name}, and emulating it is slower than "
                f"f32; one of: {', '.join(features.precisions)}"
            )
        self._core = ov.Core()
        self._core.add_extension(TokenAttention)
        self._features = features
        self._threads = threads
        self._target = _target(self._core, device)
        self._precision = precision
        self._properties = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
        }
        self._blobs = None if cache_dir is None else BlobFolder(cache_dir / "openvino", cache_budget_bytes)
        self._keep_later = keep_later
        self._grids: Grids = {}

    @property
    def precision(self) -> str:
        """The precision of weights and arithmetic; with 8-bit products, of everything between them."""
        return self._precision

    def with_f32_range(self) -> "OpenVinoEngine":
        """Return this engine in a precision with the range of f32: itself, unless it computes in f16."""
        if self._precision != "f16":
            return self
        other = copy.copy(self)
        other._precision = "bf16" if "bf16" in self._features.precisions else "f32"
        hint = {"INFERENCE_PRECISION_HINT": PRECISIONS[other._precision]}
        other._properties = {**self._properties, **hint}
        return other

    @property
    def bounds_sides(self) -> bool:
        """Whether a dimension of an input's shape may be -n, which stands for anything from 1 to n."""
        return self._target == "CPU"

    @property
    def takes_factors(self) -> bool:
        """Whether inputs may be LoRA factors (`weights.FACTOR_DOWN`), which might overflow f16."""
        return self._target == "CPU" and self._precision != "f16"

    @property
    def grids(self) -> Grids:
        """The grids of 8-bit products, by the name of the weight."""
        return self._grids

    def quantized(self, grids: Grids) -> "OpenVinoEngine":
        """Return this engine with 8-bit products where there are grids. See `pochade.int8`."""
        other = copy.copy(self)
        other._grids = grids
        return other

    def observing(self, observations: Observations) -> "ObservingEngine":
        """Return this engine, recording the inputs of products. Its graphs are not cached on disk."""
        return ObservingEngine(self, observations)

    def keeps(self, inputs: Inputs, *, key: str) -> bool:
        """Whether `compile` would find such a graph in the disk cache."""
        return (
            self._blobs is not None and bool(key) and self._blobs.holds(self._blob_name(key, fixed(inputs)))
        )

    def compile(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Array],
        inputs: Inputs,
        *,
        key: str = "",
        weights_key: str = "",
        on_second_use: bool = False,
    ) -> Compiled:
        """Compile `function(ops, w, ...)` into a callable that takes its inputs as keyword arrays.

        inputs: argument name -> (static shape, 'f32' or 'i64'). key: identifies function and weights in the
        disk cache; '' means no caching. on_second_use: cache the graph only when it is compiled for the
        second time; the first time leaves a mark. weights_key: identifies the weights alone; under it rounded
        weights are cached for other functions and inputs.
        """
        inputs = fixed(inputs)
        if self._blobs is None or not key:
            return self._compiled(function, tensors, inputs)
        name = self._blob_name(key, inputs)
        restored = self._restore(self._blobs, name, inputs)
        if restored is not None:
            return restored
        rounded = self._rounded_name(weights_key) if weights_key and self._grids else ""
        compiled = self._compiled(
            function, tensors, inputs, round_to_bf16=self._precision == "bf16", rounded=rounded
        )
        passing = on_second_use and not self._blobs.seen_before(name)
        if passing and self._keep_later:
            return compiled
        if self._keep_later:
            compiled.once_used = partial(self._store, self._blobs, name, compiled, rounded)
            return compiled
        if not self._store(self._blobs, name, compiled, "" if passing else rounded):
            return compiled
        # Continue with the mapped file, as later starts do: the rounded weights then need no memory, and the
        # first picture is computed with exactly the numbers of the second.
        del compiled
        restored = self._restore(self._blobs, name, inputs)
        if passing:
            self._blobs.discard(name)  # the mapping stays valid until it is released
        if restored is None:  # removed or damaged meanwhile
            return self._compiled(function, tensors, inputs)
        return restored

    def _compiled(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Array],
        inputs: Inputs,
        *,
        round_to_bf16: bool = False,
        rounded: str = "",
    ) -> Compiled:
        """Compile without the cache. rounded: the name of the file with rounded weights, or ''."""
        constants = Constants(round_to_bf16=round_to_bf16)
        wide = not self._grids or self._features.sums_bytes_in_int32
        largest = ALL_BITS if wide else SAFE_BITS
        scratch_folder = None
        if self._blobs is not None and not self._keep_later:  # memory is short
            scratch_folder = self._blobs.folder
            with suppress(OSError):
                scratch_folder.mkdir(parents=True, exist_ok=True)
        ops = LoraOps(
            self._grids,
            largest,
            constants,
            scratch_folder,
            as_convolutions=not wide,
            kernel=self.kernel_use(),
            known=self._load_rounded(rounded),
        )
        with collecting() as operations:
            graph = build(function, View(tensors, bind=ops.bind), inputs, ops)
            compiled = self.compile_graph(graph)
        constants.release_pages()
        return Compiled(
            compiled, inputs, constants, operations, rounded=ops.rounded_weights if rounded else None
        )

    def _store(self, blobs: BlobFolder, name: str, compiled: Compiled, rounded: str) -> bool:
        """Write the graph, and its rounded weights unless they are cached. Returns whether the graph was
        written."""
        weights = compiled.take_rounded()
        if not blobs.store(name, compiled.export, expected_bytes=compiled.export_bytes):
            return False
        if weights and rounded and not blobs.holds(rounded):
            blobs.store(
                rounded, partial(write_rounded, weights=weights), expected_bytes=bytes_of_rounded(weights)
            )
        return True

    def _load_rounded(self, name: str) -> Rounded | None:
        blobs = self._blobs if name else None
        stored = None if blobs is None else blobs.load(name)
        if blobs is None or stored is None:
            return None
        try:
            return read_rounded(stored)
        except ValueError:
            blobs.discard(name)
            return None

    def _rounded_name(self, weights: str) -> str:
        parts = (
            "rounded",
            weights,
            digest(self._grids),
            self._features.sums_bytes_in_int32,
            release(),
            self._code,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def kernel_use(self, *, int8: bool | None = None) -> KernelUse | None:
        """Return how attention calls the compiled kernel; None if it cannot run or is not exact enough.

        int8: whether products are in 8 bits; None: whether this engine has grids.
        """
        kernel = load_kernel() if self._target == DEVICES["cpu"] else None
        if kernel is None or self._precision not in kernel.paths:
            return None
        int8 = bool(self._grids) if int8 is None else int8
        as_bytes = int8 and self._precision == "bf16" and "bytes" in kernel.paths
        return KernelUse("bytes" if as_bytes else self._precision, self._threads or 0)

    def compile_graph(self, graph: ov.Model) -> ov.CompiledModel:
        """Compile a graph for this device in this precision."""
        return self._core.compile_model(graph, self._target, self._properties)

    def _restore(self, blobs: BlobFolder, name: str, inputs: Inputs) -> Compiled | None:
        blob = blobs.load(name)
        if blob is None:
            return None
        try:
            tensor = ov.Tensor(blob, shared_memory=True)
            with collecting() as operations:
                model = self._core.import_model(tensor, self._target, self._properties)
            release_pages(blob)  # its weights were copied
            return Compiled(model, inputs, tensor, operations)
        except RuntimeError:  # made for another processor, or damaged
            blobs.discard(name)
            return None

    def _blob_name(self, key: str, inputs: Inputs) -> str:
        grids = (digest(self._grids), self._features.sums_bytes_in_int32) if self._grids else ()
        asked = (key, sorted(inputs.items()), self._precision, grids, str(self.kernel_use()))
        parts = (*asked, self._target, self._features, ov.get_version(), release(), self._code)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @cached_property
    def _code(self) -> str:
        """A hash of the code that builds graphs, computed once per process."""
        read = hashlib.sha256()
        for path in sorted(sources()):
            read.update(path.read_bytes())
        return read.hexdigest()


class ObservingEngine(HostArrays):
    """The engine that `OpenVinoEngine.observing` returns: its functions record the inputs of products."""

    def __init__(self, engine: OpenVinoEngine, observations: Observations) -> None:
        self._engine, self._observations = engine, observations
        self.precision = engine.precision

    def with_f32_range(self) -> "ObservingEngine":
        """Return this engine, which always computes in f32 to fit grids."""
        return self

    def compile(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Array],
        inputs: Inputs,
        *,
        key: str = "",
        weights_key: str = "",
        on_second_use: bool = False,
    ) -> Callable[..., Any]:
        """As `OpenVinoEngine.compile`, for functions that return one tensor."""
        graph, reading, constants = observe(function, tensors, inputs)
        compiled = Compiled(self._engine.compile_graph(graph), inputs, constants)

        def run(**arrays: Any) -> Any:
            result, *seen = compiled.all_results(**arrays)
            for i, weights in enumerate(reading):
                record_input(self._observations, weights, *seen[3 * i : 3 * i + 3])
            return result

        return run


def _target(core: ov.Core, device: str) -> str:
    target = DEVICES.get(device, device)
    kinds = {listed.partition(".")[0] for listed in core.available_devices}  # GPUs may be GPU.0, GPU.1, ...
    present = [ours for ours, theirs in DEVICES.items() if theirs in kinds]
    if device not in present:
        raise InvalidRequest(f"OpenVINO finds no device '{device}' here; one of: {', '.join(present)}")
    return target
