"""The torch engine: CPU, CUDA, ROCm and MPS, eager or with `torch.compile`. Training differentiates it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
import torch.nn.functional as F

from pochade.engines.torch_graphs import CudaRecorder, Record, Recorded
from pochade.errors import InvalidRequest
from pochade.ops import Padding, Shape
from pochade.weights import Parts, View

Tensor = torch.Tensor
Array = np.ndarray[Any, Any]

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}

ACTIVATIONS = 40
"""How many tensors of the largest activation's size a UNet is assumed to hold; OpenVINO needs 16."""
MOST_AT_ONCE = 8
"""The most pictures evaluated together: more do not speed up a GPU, and long steps delay cancelling."""


class TorchOps:
    """`pochade.ops.Ops` on torch tensors of any floating dtype."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)

    def conv2d(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Tensor:
        top, bottom, left, right = padding
        if top == bottom and left == right:
            return F.conv2d(x, weight, bias, stride, (top, left))
        return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride)

    def conv2d_doubled(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        _, _, height, width = self.shape(x)
        return self.conv2d(self.resize_nearest(x, 2 * height, 2 * width), weight, bias, 1, (1, 1, 1, 1))

    def attention(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)

    def group_norm(self, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        return F.group_norm(x, groups, weight, bias, eps)

    def group_statistics(self, x: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x.reshape(x.shape[0], groups, -1), dim=-1, correction=0)
        return mean, torch.sqrt(variance + eps)

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def silu(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def gelu(self, x: Tensor) -> Tensor:
        return F.gelu(x)

    def quick_gelu(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)

    def leaky_relu(self, x: Tensor, slope: float) -> Tensor:
        return F.leaky_relu(x, slope) if slope else F.relu(x)

    def tanh(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def shape(self, x: Tensor) -> Shape:
        return tuple(x.shape)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        return x.reshape(shape)

    def transpose(self, x: Tensor, axes: Shape) -> Tensor:
        return x.permute(axes)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(parts), dim=axis)

    def narrow(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        return x.narrow(axis, start, stop - start)

    def resize_nearest(self, x: Tensor, height: int, width: int) -> Tensor:
        return F.interpolate(x, size=(height, width), mode="nearest")

    def embedding(self, ids: Tensor, table: Tensor) -> Tensor:
        return F.embedding(ids, table)

    def pick(self, x: Tensor, positions: Tensor) -> Tensor:
        return x[torch.arange(x.shape[0], device=x.device), positions]


def to_torch(array: Array) -> Tensor:
    """A tensor that shares the memory of a host array; bfloat16, which numpy lacks, is passed as raw bits.

    8-bit floats are converted to f32, since not all devices and versions of torch support them. So is f64,
    which Metal does not support.
    """
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    if array.dtype.name.startswith("float8") or array.dtype == np.float64:
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array)


@dataclass(frozen=True, eq=False)
class DeviceWeights(Mapping[str, Tensor]):
    """Weights on the device; each is moved when it is first used, once for all sizes."""

    tensors: Mapping[str, Array]
    place: Callable[[Array], Tensor]
    _there: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._there:
            self._there[name] = self.place(self.tensors[name])
        return self._there[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def best_device() -> str:
    """The best device that torch finds: 'cuda', 'mps' or 'cpu'."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class TorchEngine:
    """Runs model functions on a torch device.

    device: 'cpu', 'cuda', 'cuda:1', 'mps'. precision: of weights and activations. compiled: use
    `torch.compile`, which takes a minute of warm-up and pays for many pictures on a GPU. threads: CPU
    threads, a setting that torch has once per process; None does not change it.

    Inputs and results are host arrays, or f32 tensors on the device: if any input is a device tensor, so are
    the results.
    """

    name = "torch"
    joins = True

    def __init__(
        self,
        device: str = "cpu",
        precision: str = "f32",
        *,
        compiled: bool = False,
        threads: int | None = None,
    ) -> None:
        if precision not in DTYPES:
            raise InvalidRequest(
                f"precision '{precision}' is unknown to torch here; one of: {', '.join(DTYPES)}"
            )
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InvalidRequest(f"device '{device}': torch sees no CUDA device; use --device cpu")
        if device == "mps" and not torch.backends.mps.is_available():
            raise InvalidRequest("device 'mps': torch sees no Metal device; use --device cpu")
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = torch.device(device)
        self.precision = precision
        self.compiled = compiled
        self._record: Record | None = None
        # By the id of what they hold, which cannot be used again as long as they do: until the last function
        # that uses them goes, as those of an adapter that was taken away.
        self._placed: WeakValueDictionary[int, DeviceWeights] = WeakValueDictionary()

    def with_f32_range(self) -> "TorchEngine":
        """Return this engine in a precision with the range of f32: itself, unless it computes in f16."""
        if self.precision != "f16":
            return self
        native = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return TorchEngine(str(self.device), "bf16" if native else "f32", compiled=self.compiled)

    def repeated(self) -> "TorchEngine":
        """Return this engine for functions that are called many times with inputs of the same shapes: on CUDA
        they are recorded as CUDA graphs. The weights are shared."""
        if self.device.type != "cuda" or self.compiled:  # the compiler records by itself
            return self
        other = copy(self)
        other._record = CudaRecorder(self.device)
        return other

    # --- arrays between evaluations ---------------------------------------------------------------------

    def place(self, array: Any) -> Tensor:
        """Copy a host array to the device, as f32."""
        tensor = array if isinstance(array, Tensor) else _from_host(array)
        return tensor.to(self.device, torch.float32)

    def fetch(self, array: Any) -> Array:
        """Copy a tensor back to the host. Waits for the device."""
        host: Array = array.float().cpu().numpy()
        return host

    def join(self, parts: Sequence[Tensor], axis: int = 0) -> Tensor:
        """Concatenate placed arrays along an axis."""
        return torch.cat(list(parts), axis)

    def pictures_at_once(self, numbers: int) -> int:
        """How many pictures of a batch to evaluate together: those whose activations fit a quarter of a CUDA
        device's memory.

        numbers: elements of the largest activation for one picture, all of its conditionings included. The
        total memory counts, not what is free now, so that pictures do not depend on other uses of the device.
        """
        if self.device.type != "cuda":
            return 1
        total = torch.cuda.get_device_properties(self.device).total_memory
        share = total * torch.cuda.get_per_process_memory_fraction(self.device)
        return at_once(share, numbers * DTYPES[self.precision].itemsize)

    # --- functions ----------------------------------------------------------------------------------------

    def compile(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Array],
        inputs: Mapping[str, tuple[Shape, str]],
        *,
        key: str = "",
        weights_key: str = "",
        on_second_use: bool = False,
    ) -> Callable[..., Any]:
        """Return a callable that takes the inputs as keyword arrays and calls `function(ops, w, ...)`.

        inputs, the keys and on_second_use serve other engines, which build and cache graphs.
        """
        dtype = DTYPES[self.precision]
        placed = self._on_device(tensors, dtype)
        ops = TorchOps()
        if self.compiled:
            run = _compiled(function, ops, placed, self.device)
        else:
            view = View(placed)

            def run(**values: Tensor) -> Any:
                return function(ops, view, **values)

            if self._record is not None:
                run = Recorded(run, self._record)

        def call(*, _shared: Mapping[str, Tensor] = placed, **arrays: Any) -> Any:
            on_device = any(isinstance(array, Tensor) for array in arrays.values())
            with torch.inference_mode(), self._settings():
                values = {name: self._input(array, dtype) for name, array in arrays.items()}
                return _each(run(**values), _widened if on_device else self.fetch)

        return call

    def _settings(self) -> AbstractContextManager[None]:
        """cuDNN settings during a call: no TF32 for f32, and a search for the fastest kernels for functions
        that are called repeatedly."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(
            enabled=True,
            benchmark=self.compiled or self._record is not None,
            deterministic=False,
            allow_tf32=self.precision != "f32",
        )

    def _on_device(self, tensors: Mapping[str, Array], dtype: torch.dtype) -> Mapping[str, Tensor]:
        """The tensors on the device, shared by all functions of the same tensors; parts are shared one by
        one."""
        if isinstance(tensors, Parts):
            return Parts({name: self._on_device(each, dtype) for name, each in tensors.parts.items()})
        placed = self._placed.get(id(tensors))
        if placed is None:
            placed = DeviceWeights(tensors, lambda array: self._place(to_torch(array), dtype))
            self._placed[id(tensors)] = placed
        return placed

    def _place(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        tensor = tensor.to(self.device, dtype)
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _input(self, array: Any, dtype: torch.dtype) -> Tensor:
        tensor = array if isinstance(array, Tensor) else _from_host(array)
        return self._place(tensor, dtype) if tensor.is_floating_point() else tensor.to(self.device)


def at_once(device_bytes: float, picture_bytes: int) -> int:
    """How many pictures' activations fit a quarter of a device's memory, at most `MOST_AT_ONCE`.

    picture_bytes: the size of the largest activation for one picture. See `ACTIVATIONS`.
    """
    return max(1, min(MOST_AT_ONCE, int(device_bytes / 4 / (ACTIVATIONS * picture_bytes))))


def _compiled(
    function: Callable[..., Any], ops: TorchOps, placed: Mapping[str, Tensor], device: torch.device
) -> Callable[..., Any]:
    """The function under `torch.compile`, with all weights on the device, since the compiler traces no
    moves."""
    from torch._dynamo import mark_static_address

    there = dict(placed)
    for tensor in there.values():
        # They stay where they are: a recorded graph reads them there, and does not copy them for each call.
        mark_static_address(tensor)
    view = View(there)

    def run(**values: Tensor) -> Any:
        return function(ops, view, **values)

    # On CUDA the kernels of an evaluation are recorded and replayed as one graph.
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    call: Callable[..., Any] = torch.compile(run, mode=mode, dynamic=False)
    return call


def _from_host(array: Any) -> Tensor:
    """Convert a host array to an f32 or int64 tensor, since not every device supports f64."""
    array = np.asarray(array)
    kind = np.int64 if array.dtype.kind in "iu" else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, kind))


def _widened(tensor: Tensor) -> Tensor:
    """Convert to f32 and copy out of memory that the next replay of `torch.compile` would overwrite."""
    return tensor.to(torch.float32, copy=True)


def _each(result: Any, change: Callable[[Tensor], Any]) -> Any:
    return tuple(map(change, result)) if isinstance(result, tuple) else change(result)
