"""The torch engine: CPU, CUDA, ROCm and MPS, eagerly or under `torch.compile`; training differentiates it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
import torch.nn.functional as F

from pochade.errors import InvalidRequest
from pochade.ops import Padding, Shape
from pochade.weights import View

Tensor = torch.Tensor
Array = np.ndarray[Any, Any]

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


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
class Placed(Mapping[str, Tensor]):
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
    `torch.compile`, worth its minute of warm-up for many pictures on a GPU.
    """

    name = "torch"

    def __init__(self, device: str = "cpu", precision: str = "f32", *, compiled: bool = False) -> None:
        if precision not in DTYPES:
            raise InvalidRequest(
                f"precision '{precision}' is unknown to torch here; one of: {', '.join(DTYPES)}"
            )
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InvalidRequest(f"device '{device}': torch sees no CUDA device; use --device cpu")
        if device == "mps" and not torch.backends.mps.is_available():
            raise InvalidRequest("device 'mps': torch sees no Metal device; use --device cpu")
        self.device = torch.device(device)
        self.precision = precision
        self.compiled = compiled
        # By the id of what they hold, which cannot be used again as long as they do: until the last function
        # that uses them goes, as those of an adapter that was taken away.
        self._placed: WeakValueDictionary[int, Placed] = WeakValueDictionary()

    def compile(
        self,
        function: Callable[..., Any],
        tensors: Mapping[str, Array],
        inputs: Mapping[str, tuple[Shape, str]],
        *,
        key: str = "",
    ) -> Callable[..., Any]:
        """A callable that takes the inputs as keyword arrays and returns what `function(ops, w, ...)` does.

        inputs and key are what other engines need to build and keep graphs.
        """
        dtype = DTYPES[self.precision]
        placed = self._placed.get(id(tensors))
        if placed is None:
            placed = Placed(tensors, lambda array: self._place(to_torch(array), dtype))
            self._placed[id(tensors)] = placed
        view = View(dict(placed) if self.compiled else placed)  # the compiler follows no moves
        ops = TorchOps()

        def run(**values: Tensor) -> Any:
            return function(ops, view, **values)

        if self.compiled:
            # On CUDA the kernels of an evaluation are recorded and replayed as one graph; results are copied
            # to the host before the next replay writes over them.
            mode = "reduce-overhead" if self.device.type == "cuda" else "default"
            run = torch.compile(run, mode=mode, dynamic=False)

        def call(*, _shared: Placed = placed, **arrays: Any) -> Any:
            with torch.inference_mode():
                values = {name: self._input(array, dtype) for name, array in arrays.items()}
                return _to_host(run(**values))

        return call

    def _place(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        tensor = tensor.to(self.device, dtype)
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def _input(self, array: Any, dtype: torch.dtype) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return self._place(tensor, dtype) if tensor.is_floating_point() else tensor.to(self.device)


def _to_host(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_to_host(part) for part in result)
    return result.float().cpu().numpy()
