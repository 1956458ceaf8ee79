"""The OpenVINO engine: a model function becomes a graph, straight from memory-mapped weights.

Nothing is traced or converted. The function runs once with `OpenVinoOps`, whose tensors are graph nodes;
that takes about a tenth of a second for the UNet of Stable Diffusion 1.5, so a graph with static shapes is
built for every picture size. Compiling it takes seconds; `openvino_cache` keeps the result on disk.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pochade.engines.openvino_cache import BlobFolder
from pochade.engines.openvino_quiet import op, ov
from pochade.errors import InvalidRequest
from pochade.mapping import let_go
from pochade.ops import Padding, Shape
from pochade.settings import CACHE_BUDGET_BYTES
from pochade.weights import View

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Shape, str]]

INPUT_TYPES: Mapping[str, type[np.generic]] = {"f32": np.float32, "i64": np.int64}
DEVICES: Mapping[str, str] = {"cpu": "CPU", "gpu": "GPU"}
TUPLE = "pochade:tuple"
BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
NARROW_TYPES: tuple[np.dtype[Any], ...] = (BFLOAT16, np.dtype(np.float16))
PRECISIONS: Mapping[str, ov.Type] = {"f32": ov.Type.f32, "bf16": ov.Type.bf16, "f16": ov.Type.f16}


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the graph, with the arithmetic of `pochade.ops`.

    OpenVINO's own nodes have these operators too, but refuse plain numbers.
    """

    graph: Any  # openvino.Node

    __array_ufunc__ = None  # so that `np.float32(2) * node` is left to __rmul__

    def __add__(self, other: "Node | float") -> "Node":
        return Node(op.add(self.graph, _operand(other)))

    def __sub__(self, other: "Node | float") -> "Node":
        return Node(op.subtract(self.graph, _operand(other)))

    def __rsub__(self, other: float) -> "Node":
        return Node(op.subtract(_operand(other), self.graph))

    def __mul__(self, other: "Node | float") -> "Node":
        return Node(op.multiply(self.graph, _operand(other)))

    def __truediv__(self, other: "Node | float") -> "Node":
        return Node(op.divide(self.graph, _operand(other)))

    def __rtruediv__(self, other: float) -> "Node":
        return Node(op.divide(_operand(other), self.graph))

    __radd__ = __add__
    __rmul__ = __mul__


def _operand(value: Node | float) -> Any:
    return value.graph if isinstance(value, Node) else op.constant(np.float32(value))


class OpenVinoOps:
    """`pochade.ops.Ops` on graph nodes."""

    def linear(self, x: Node, weight: Node, bias: Node | None = None) -> Node:
        y = Node(op.matmul(x.graph, weight.graph, transpose_a=False, transpose_b=True))
        return y if bias is None else y + bias

    def conv2d(
        self, x: Node, weight: Node, bias: Node | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Node:
        top, bottom, left, right = padding
        strides, begin, end, dilations = [stride, stride], [top, left], [bottom, right], [1, 1]
        y = Node(op.convolution(x.graph, weight.graph, strides, begin, end, dilations))
        return y if bias is None else y + self._per_channel(bias)

    def conv2d_doubled(self, x: Node, weight: Node, bias: Node | None) -> Node:
        # One 2x2 kernel for each of the four places within a doubled pixel, then interleaved: 0.94 of the
        # time of a whole UNet of SD 1.5 with doubled pixels.
        batch, _, height, width = self.shape(x)
        channels = self.shape(weight)[0]
        places = [
            self.conv2d(x, kernel, bias, 1, (1 - row, row, 1 - column, column))
            for row, tall in enumerate(self._merged(weight, axis=2))
            for column, kernel in enumerate(self._merged(tall, axis=3))
        ]
        y = self.reshape(self.concat(places, 1), (batch, 2, 2, channels, height, width))
        return self.reshape(self.transpose(y, (0, 3, 4, 1, 5, 2)), (batch, channels, 2 * height, 2 * width))

    def attention(self, query: Node, key: Node, value: Node, *, causal: bool = False) -> Node:
        return Node(op.scaled_dot_product_attention(query.graph, key.graph, value.graph, causal=causal))

    def group_norm(self, x: Node, weight: Node, bias: Node, groups: int, eps: float) -> Node:
        shape = self.shape(x)
        normal = _normalise(self.reshape(x, (shape[0], groups, -1)), eps)
        return self.reshape(normal, shape) * self._per_channel(weight) + self._per_channel(bias)

    def layer_norm(self, x: Node, weight: Node, bias: Node, eps: float) -> Node:
        return _normalise(x, eps) * weight + bias

    def silu(self, x: Node) -> Node:
        return Node(op.swish(x.graph))

    def gelu(self, x: Node) -> Node:
        return Node(op.gelu(x.graph, approximation_mode="erf"))

    def quick_gelu(self, x: Node) -> Node:
        return Node(op.swish(x.graph, op.constant(np.float32(1.702))))

    def leaky_relu(self, x: Node, slope: float) -> Node:
        if slope == 0:
            return Node(op.relu(x.graph))
        return Node(op.prelu(x.graph, op.constant(np.array([slope], np.float32))))

    def tanh(self, x: Node) -> Node:
        return Node(op.tanh(x.graph))

    def shape(self, x: Node) -> Shape:
        return tuple(x.graph.get_output_shape(0))

    def reshape(self, x: Node, shape: Shape) -> Node:
        return Node(op.reshape(x.graph, _integers(shape), special_zero=False))

    def transpose(self, x: Node, axes: Shape) -> Node:
        return Node(op.transpose(x.graph, _integers(axes)))

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        return Node(op.concat([part.graph for part in parts], axis))

    def narrow(self, x: Node, axis: int, start: int, stop: int) -> Node:
        return Node(op.slice(x.graph, *(_integers([n]) for n in (start, stop, 1, axis))))

    def resize_nearest(self, x: Node, height: int, width: int) -> Node:
        _, _, rows, columns = self.shape(x)
        if (height, width) == (2 * rows, 2 * columns):
            # Keeps the memory layout of the convolutions around it; doubling is exact in floating point.
            size = _integers([height, width])
            modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return Node(op.interpolate(x.graph, size, "nearest", "sizes", axes=_integers([2, 3]), **modes))
        tall = op.gather(x.graph, _integers(np.arange(height) * rows // height), _integers(2))
        return Node(op.gather(tall, _integers(np.arange(width) * columns // width), _integers(3)))

    def embedding(self, ids: Node, table: Node) -> Node:
        return Node(op.gather(table.graph, ids.graph, _integers(0)))

    def pick(self, x: Node, positions: Node) -> Node:
        return Node(op.gather(x.graph, positions.graph, _integers(1), batch_dims=1))

    def _merged(self, kernel: Node, axis: int) -> list[Node]:
        """Three entries along an axis to two, as the first and the second of two equal pixels meet them."""
        a, b, c = (self.narrow(kernel, axis, i, i + 1) for i in range(3))
        return [self.concat([a, b + c], axis), self.concat([a + b, c], axis)]

    def _per_channel(self, vector: Node) -> Node:
        return self.reshape(vector, (1, -1, 1, 1))


def _normalise(x: Node, eps: float) -> Node:
    """Zero mean and unit variance over the last axis."""
    return Node(op.mvn(x.graph, _integers([-1]), normalize_variance=True, eps=eps, eps_mode="inside_sqrt"))


def _integers(values: Any) -> Any:
    return op.constant(np.asarray(values, np.int64))


class Constants:
    """Turns stored tensors into f32 nodes, and holds the memory that those share.

    f32, f16 and bf16 are shared where they lie. 8-bit numbers pass as bf16, which holds every one of them
    exactly; other types as f32. round_to_bf16: store f32 matrices and kernels as bf16, as compiling for
    bf16 does anyway, so that a blob takes half the space; vectors stay as they are.
    """

    def __init__(self, *, round_to_bf16: bool = False) -> None:
        self._round = round_to_bf16
        self._memory: list[Array] = []

    def let_go(self) -> None:
        """The compiler has copied what it rearranged: pages of mapped files need not stay; they come back."""
        for array in self._memory:
            let_go(array)

    def __call__(self, stored: Array) -> Node:
        array = np.asarray(stored, self._kept_as(stored), order="C")
        if not array.flags.writeable:  # OpenVINO shares no memory that it might not write to
            array = array.copy()
        self._memory.append(array)
        if array.dtype != BFLOAT16:
            node = op.constant(array, shared_memory=True)
        else:  # numpy has no such type, so the bits travel as 16-bit integers
            bits = ov.Tensor(array.view(np.uint16), list(array.shape), ov.Type.bf16)
            node = op.constant(bits, shared_memory=True)
        if array.dtype == np.float32:
            return Node(node)
        widened = op.convert(node, "f32")
        widened.get_rt_info()["decompression_0"] = ""  # OpenVINO's mark for weights that are stored narrower
        return Node(widened)

    def _kept_as(self, stored: Array) -> np.dtype[Any]:
        if stored.dtype.itemsize == 1 or (self._round and stored.dtype == np.float32 and stored.ndim >= 2):
            return BFLOAT16
        return stored.dtype if stored.dtype in NARROW_TYPES else np.dtype(np.float32)


def build(function: Callable[..., Any], weights: View, inputs: Inputs) -> ov.Model:
    """The graph of a model function. If that returns a tuple, the first result bears the name TUPLE."""
    parameters = {}
    for name, (shape, kind) in inputs.items():
        parameters[name] = op.parameter(list(shape), INPUT_TYPES[kind])
        parameters[name].output(0).set_names({name})
    returned = function(OpenVinoOps(), weights, **{name: Node(graph) for name, graph in parameters.items()})
    nodes = returned if isinstance(returned, tuple) else (returned,)
    results = [op.result(node.graph) for node in nodes]
    if isinstance(returned, tuple):
        results[0].output(0).add_names({TUPLE})
    return ov.Model(results, list(parameters.values()))


class Compiled:
    """A compiled graph: takes its inputs as keyword host arrays, returns f32 arrays that are its caller's.

    Threads may share it; they take turns. once_used: is called in a thread of its own after the first result.
    """

    once_used: Callable[[], object] | None = None

    def __init__(self, model: ov.CompiledModel, inputs: Inputs, keep: object) -> None:
        self.model = model
        self._request = model.create_infer_request()
        self._outputs = len(model.outputs)
        self._is_tuple = TUPLE in model.outputs[0].get_names()
        self._inputs = inputs
        self._keep = keep  # the mapped memory that the compiled model reads its constants from
        self._turn = threading.Lock()

    def __call__(self, **arrays: Any) -> Any:
        """Raises ValueError, naming the input, if one is missing, unknown or of another shape."""
        if arrays.keys() != self._inputs.keys():
            raise ValueError(f"inputs are {sorted(arrays)}; the graph takes {sorted(self._inputs)}")
        host = {}
        for name, (shape, kind) in self._inputs.items():
            host[name] = np.asarray(arrays[name], INPUT_TYPES[kind], order="C")
            if host[name].shape != shape:
                raise ValueError(f"input '{name}' is {host[name].shape}; the graph takes {shape}")
        with self._turn:
            # Inputs are read where they lie; outputs are copied, for the next call writes over them.
            results = self._request.infer(host, share_inputs=True, share_outputs=False)
            once_used, self.once_used = self.once_used, None
        if once_used is not None:
            threading.Thread(target=once_used, name="keeping a compiled graph", daemon=False).start()
        return tuple(results[i] for i in range(self._outputs)) if self._is_tuple else results[0]

    def export(self, file: IO[bytes]) -> None:
        """Write the compiled graph. Raises OSError if the file cannot take it."""
        sink = _Sink(file)
        self.model.export_model(sink)
        if isinstance(self._keep, Constants):
            self._keep.let_go()  # the graph's own weights were read again for it
        if sink.error is not None:
            raise sink.error


@dataclass(frozen=True)
class ProcessorFeatures:
    """What a device can do.

    device: 'cpu' or 'gpu'. name: as the maker calls it. precisions: those it computes in natively, of
    'f32', 'bf16' and 'f16'.
    """

    device: str
    name: str
    precisions: tuple[str, ...]

    @property
    def best_precision(self) -> str:
        """What `auto` means: bf16 where it is native; on a GPU without it f16; f32 everywhere else."""
        if "bf16" in self.precisions:
            return "bf16"
        return "f16" if self.device == "gpu" and "f16" in self.precisions else "f32"


def processor_features(device: str = "cpu") -> ProcessorFeatures:
    """Asks OpenVINO. Raises InvalidRequest if there is no such device."""
    core = ov.Core()
    target = _target(core, device)
    listed = core.get_property(target, "OPTIMIZATION_CAPABILITIES")
    # A processor with AVX-512 lists BF16 even where that is only emulated; what OpenVINO would choose by
    # itself it never emulates.
    chosen = core.get_property(target, "INFERENCE_PRECISION_HINT")
    native = {
        "f32": True,
        "bf16": "BF16" in listed and (device != "cpu" or chosen == ov.Type.bf16),
        "f16": "FP16" in listed,
    }
    name = str(core.get_property(target, "FULL_DEVICE_NAME")).strip()
    return ProcessorFeatures(device, name, tuple(precision for precision, here in native.items() if here))


class OpenVinoEngine:
    """Compiles model functions for the processor or an Intel GPU.

    device: 'cpu' or 'gpu'. precision: of weights and arithmetic; inputs and results are f32 all the same.
    cache_dir: where compiled graphs are kept (see `pochade.settings`), None = nowhere, at most
    `cache_budget_bytes` of them. keep_later: write them beside the work, once they have computed something,
    instead of before; a process that ends waits for it. threads: None = OpenVINO's choice, one for each core.

    Raises InvalidRequest if the device is not there, or would only emulate the precision.
    """

    name = "openvino"

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
        features = processor_features(device)
        if precision not in features.precisions:
            raise InvalidRequest(
                f"precision '{precision}' is not native to {features.name}, and emulating it is slower than "
                f"f32; one of: {', '.join(features.precisions)}"
            )
        self._core = ov.Core()
        self._features = features
        self._target = _target(self._core, device)
        self._precision = precision
        self._properties = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
        }
        self._blobs = None if cache_dir is None else BlobFolder(cache_dir / "openvino", cache_budget_bytes)
        self._keep_later = keep_later

    def compile(
        self, function: Callable[..., Any], tensors: Mapping[str, Array], inputs: Inputs, *, key: str = ""
    ) -> Compiled:
        """A callable that takes the inputs as keyword arrays and returns what `function(ops, w, ...)` does.

        inputs: argument name -> (static shape, 'f32' or 'i64'). key: names function and weights uniquely;
        the compiled graph is kept on disk under it, or nowhere if it is ''.
        """
        inputs = {name: (tuple(shape), kind) for name, (shape, kind) in inputs.items()}
        if self._blobs is None or not key:
            return self._compiled(function, tensors, inputs)
        name = self._blob_name(key, inputs)
        restored = self._restore(self._blobs, name, inputs)
        if restored is not None:
            return restored
        compiled = self._compiled(function, tensors, inputs, round_to_bf16=self._precision == "bf16")
        if self._keep_later:
            compiled.once_used = partial(self._blobs.store, name, compiled.export)
            return compiled
        if not self._blobs.store(name, compiled.export):
            return compiled
        # Continue with the mapped file, as every later start does: the rounded weights need no memory then,
        # and the first picture is computed with the very numbers of the second.
        del compiled
        restored = self._restore(self._blobs, name, inputs)
        if restored is None:  # removed or damaged at this moment
            return self._compiled(function, tensors, inputs)
        return restored

    def _compiled(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Array],
        inputs: Inputs,
        *,
        round_to_bf16: bool = False,
    ) -> Compiled:
        constants = Constants(round_to_bf16=round_to_bf16)
        graph = build(function, View(tensors, bind=constants), inputs)
        compiled = self._core.compile_model(graph, self._target, self._properties)
        constants.let_go()
        return Compiled(compiled, inputs, constants)

    def _restore(self, blobs: BlobFolder, name: str, inputs: Inputs) -> Compiled | None:
        blob = blobs.load(name)
        if blob is None:
            return None
        try:
            tensor = ov.Tensor(blob, shared_memory=True)
            model = self._core.import_model(tensor, self._target, self._properties)
            let_go(blob)  # its weights were copied
            return Compiled(model, inputs, tensor)
        except RuntimeError:  # made for another processor, or damaged
            blobs.discard(name)
            return None

    def _blob_name(self, key: str, inputs: Inputs) -> str:
        parts = (key, sorted(inputs.items()), self._precision, self._target, self._features, ov.get_version())
        digest = hashlib.sha256(repr((parts, _release())).encode())
        for path in sorted(_sources()):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def _target(core: ov.Core, device: str) -> str:
    target = DEVICES.get(device, device)
    kinds = {listed.partition(".")[0] for listed in core.available_devices}  # GPUs may be GPU.0, GPU.1, ...
    present = [ours for ours, theirs in DEVICES.items() if theirs in kinds]
    if device not in present:
        raise InvalidRequest(f"OpenVINO sees no device '{device}' here; one of: {', '.join(present)}")
    return target


class _Sink(io.BytesIO):
    """Passes everything on to a file. `export_model` insists on a BytesIO, which would hold it all.

    error: why writing stopped; OpenVINO does not pass an exception on.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file = file

    def write(self, data: Any) -> int:
        return self._attempt(self._file.write, data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._attempt(self._file.seek, offset, whence)

    def _attempt(self, action: Callable[..., int], *arguments: Any) -> int:
        if self.error is None:
            try:
                return action(*arguments)
            except OSError as error:
                self.error = error
        return 0


def _sources() -> list[Path]:
    """The files whose change makes another graph of the same model."""
    package = Path(__file__).parents[1]
    return [*package.glob("models/*.py"), *package.glob("engines/openvino*.py"), package / "ops.py"]


def _release() -> str:
    try:
        return metadata.version("pochade")
    except metadata.PackageNotFoundError:  # run from a checkout
        return ""
