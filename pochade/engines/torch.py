"""The torch engine: CPU, CUDA, ROCm and MPS, eagerly or under `torch.compile`; training differentiates it."""

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
"""Largest activations of a UNet that are taken to be held at a time; an estimate: OpenVINO needs 16."""
MOST_AT_ONCE = 8
"""Pictures: beyond that a GPU is busy, and a step should end before somebody wants to cancel."""


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
    """Share the memory of a host array; bfloat16, which numpy cannot name, passes as its bits.

    An array of 8-bit floats becomes one in f32: neither do all devices know them, nor all versions of torch.
    So does one of f64, which Metal does not know.
    """
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    if array.dtype.name.startswith("float8") or array.dtype == np.float64:
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array)


@dataclass(frozen=True, eq=False)
class DeviceWeights(Mapping[str, Tensor]):
    """Weights on the device: each moves when first asked for, once for all sizes that are drawn."""

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
    """'cuda', 'mps' or 'cpu', by what torch sees."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class TorchEngine:
    """Runs a model function on a torch device.

    device: 'cpu', 'cuda', 'cuda:1', 'mps'. precision: of weights and activations. compiled: use
    `torch.compile`, worth its minute of warm-up for many pictures on a GPU. threads: of the processor, which
    torch knows one number of for the whole process; None leaves it alone.

    Inputs and results are arrays of the host, or tensors on the device (f32): if one input is such a tensor,
    so are the results.
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

    def wider(self) -> "TorchEngine":
        """This engine in a precision with the range of f32: itself, unless it computes in f16."""
        if self.precision != "f16":
            return self
        native = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return TorchEngine(str(self.device), "bf16" if native else "f32", compiled=self.compiled)

    def repeated(self) -> "TorchEngine":
        """This engine for functions that are called many times with inputs of the same shapes: on CUDA they
        are recorded. It shares the weights."""
        if self.device.type != "cuda" or self.compiled:  # the compiler records by itself
            return self
        other = copy(self)
        other._record = CudaRecorder(self.device)
        return other

    # --- arrays between evaluations ---------------------------------------------------------------------

    def place(self, array: Any) -> Tensor:
        """An array of the host, as f32, on the device."""
        tensor = array if isinstance(array, Tensor) else _from_host(array)
        return tensor.to(self.device, torch.float32)

    def fetch(self, array: Any) -> Array:
        """The inverse of `place`. Waits for the device."""
        host: Array = array.float().cpu().numpy()
        return host

    def join(self, parts: Sequence[Tensor], axis: int = 0) -> Tensor:
        """Placed arrays, one after another along an axis."""
        return torch.cat(list(parts), axis)

    def pictures_at_once(self, numbers: int) -> int:
        """As many pictures of a batch as keep their activations within a quarter of a CUDA device's memory.

        numbers: in the largest activation of one picture, its conditionings included. By all of the memory,
        not by what is free now, so that a picture does not depend on what else the device does.
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
        """A callable that takes the inputs as keyword arrays and returns what `function(ops, w, ...)` does.

        inputs, the keys and on_second_use are what other engines need to build and keep graphs.
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
        """Of cuDNN, for the time of a call: f32 means f32, and what is called again looks for the fastest
        kernels first."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(
            enabled=True,
            benchmark=self.compiled or self._record is not None,
            deterministic=False,
            allow_tf32=self.precision != "f32",
        )

    def _on_device(self, tensors: Mapping[str, Array], dtype: torch.dtype) -> Mapping[str, Tensor]:
        """The tensors on the device, shared by all functions of the same; each of several parts by itself."""
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
    """Pictures whose activations take a quarter of a device's memory, at most `MOST_AT_ONCE`.

    picture_bytes: of the largest activation of one. See `ACTIVATIONS`.
    """
    return max(1, min(MOST_AT_ONCE, int(device_bytes / 4 / (ACTIVATIONS * picture_bytes))))


def _compiled(
    function: Callable[..., Any], ops: TorchOps, placed: Mapping[str, Tensor], device: torch.device
) -> Callable[..., Any]:
    """Under `torch.compile`, with all weights on the device: the compiler follows no moves."""
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
    """f32 or int64, whatever the host's numbers were: not every device has 64-bit ones."""
    array = np.asarray(array)
    kind = np.int64 if array.dtype.kind in "iu" else np.float32
    return torch.from_numpy(np.ascontiguousarray(array, kind))


def _widened(tensor: Tensor) -> Tensor:
    """f32, and no part of what `torch.compile` recorded, whose next replay writes over it."""
    return tensor.to(torch.float32, copy=True)


def _each(result: Any, change: Callable[[Tensor], Any]) -> Any:
    return tuple(map(change, result)) if isinstance(result, tuple) else change(result)
