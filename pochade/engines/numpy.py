"""The reference engine: every operation in plain numpy, in 32-bit floating point.

It is written for clarity, not for speed: it defines what each operation of `pochade.ops` means, and the
other engines are tested against it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pochade.engines.host import HostArrays
from pochade.errors import InvalidRequest
from pochade.ops import Padding, Shape
from pochade.weights import View

Array = NDArray[Any]

INPUT_TYPES: Mapping[str, type[np.generic]] = {"f32": np.float32, "i64": np.int64}


def float32(stored: Array, name: str = "") -> Array:
    """Convert a stored tensor (f32, f16 or bf16) to f32. An f32 tensor is not copied."""
    return np.asarray(stored, dtype=np.float32)


class NumpyOps:
    """`pochade.ops.Ops` on numpy arrays."""

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        y = x @ weight.T
        return y if bias is None else y + bias

    def conv2d(
        self, x: Array, weight: Array, bias: Array | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Array:
        top, bottom, left, right = padding
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = sliding_window_view(padded, weight.shape[2:], axis=(2, 3))  # (B, I, H', W', kH, kW)
        windows = windows[:, :, ::stride, ::stride]
        y = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
        return y if bias is None else y + bias[:, None, None]

    def conv2d_doubled(self, x: Array, weight: Array, bias: Array | None) -> Array:
        _, _, height, width = self.shape(x)
        return self.conv2d(self.resize_nearest(x, 2 * height, 2 * width), weight, bias, 1, (1, 1, 1, 1))

    def attention(self, query: Array, key: Array, value: Array, *, causal: bool = False) -> Array:
        scores = query @ key.swapaxes(-1, -2) / np.float32(math.sqrt(query.shape[-1]))  # (B, N, T, S)
        if causal:
            scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, np.float32(-np.inf))
        weights: Array = np.exp(scores - scores.max(axis=-1, keepdims=True))  # shifted, exp cannot overflow
        weights = weights / weights.sum(axis=-1, keepdims=True)
        return weights @ value

    def group_norm(self, x: Array, weight: Array, bias: Array, groups: int, eps: float) -> Array:
        batch, channels, height, width = x.shape
        grouped = x.reshape(batch, groups, channels // groups * height * width)
        return _normalise(grouped, eps).reshape(x.shape) * weight[:, None, None] + bias[:, None, None]

    def group_statistics(self, x: Array, groups: int, eps: float) -> tuple[Array, Array]:
        grouped = x.reshape(x.shape[0], groups, -1)
        return grouped.mean(axis=-1), np.sqrt(grouped.var(axis=-1) + np.float32(eps))

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        return _normalise(x, eps) * weight + bias

    def silu(self, x: Array) -> Array:
        return x * _sigmoid(x)

    def gelu(self, x: Array) -> Array:
        return x * _normal_distribution(x)

    def quick_gelu(self, x: Array) -> Array:
        return x * _sigmoid(np.float32(1.702) * x)

    def leaky_relu(self, x: Array, slope: float) -> Array:
        return np.where(x > 0, x, np.float32(slope) * x)

    def tanh(self, x: Array) -> Array:
        y: Array = np.tanh(x)
        return y

    def shape(self, x: Array) -> Shape:
        return x.shape

    def reshape(self, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    def transpose(self, x: Array, axes: Shape) -> Array:
        return x.transpose(axes)

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        return np.concatenate(parts, axis)

    def narrow(self, x: Array, axis: int, start: int, stop: int) -> Array:
        return x[(slice(None),) * (axis % x.ndim) + (slice(start, stop),)]

    def resize_nearest(self, x: Array, height: int, width: int) -> Array:
        rows = np.arange(height) * x.shape[2] // height
        columns = np.arange(width) * x.shape[3] // width
        return x[:, :, rows[:, None], columns]

    def embedding(self, ids: Array, table: Array) -> Array:
        return table[ids]

    def pick(self, x: Array, positions: Array) -> Array:
        return x[np.arange(x.shape[0]), positions]


class NumpyEngine(HostArrays):
    """Runs model functions directly, without compiling them.

    device and precision are as in every engine; this one supports only 'cpu' and 'f32'.
    """

    name = "numpy"
    precision = "f32"

    def __init__(self, device: str = "cpu", precision: str = "f32") -> None:
        if (device, precision) != ("cpu", "f32"):
            raise InvalidRequest(
                f"the numpy engine computes on 'cpu' in 'f32', not on '{device}' in '{precision}'; "
                "choose the openvino or the torch engine for those"
            )

    def with_f32_range(self) -> "NumpyEngine":
        """Return this engine, which always computes in f32."""
        return self

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

        Results are f32 arrays. inputs: argument name -> (static shape, 'f32' or 'i64'). key,
        weights_key and on_second_use: not used, since nothing is kept on disk.
        """
        weights = View(tensors, bind=float32)

        def run(**arrays: Array) -> Any:
            host = {name: np.asarray(arrays[name], INPUT_TYPES[kind]) for name, (_, kind) in inputs.items()}
            returned = function(NumpyOps(), weights, **host)
            return tuple(map(float32, returned)) if isinstance(returned, tuple) else float32(returned)

        return run


def _normalise(x: Array, eps: float) -> Array:
    centred: Array = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    normal: Array = centred / np.sqrt(variance + np.float32(eps))
    return normal


def _sigmoid(x: Array) -> Array:
    # exp is only asked for numbers <= 0, where it cannot overflow.
    small = np.exp(-np.abs(x))
    sigmoid: Array = np.where(x >= 0, np.float32(1), small) / (1 + small)
    return sigmoid


def _normal_distribution(x: Array) -> Array:
    """Phi(x) = erfc(-x / sqrt(2)) / 2.

    numpy has no error function; the standard library's is exact to the last bit of a double, and erfc
    (rather than 1 + erf) keeps that in the lower tail, where 1 + erf cancels.
    """
    values = np.fromiter((math.erfc(v) for v in (x.ravel() * -math.sqrt(0.5)).tolist()), np.float64, x.size)
    return (values / 2).astype(np.float32).reshape(x.shape)
