"""Shape inference: runs a model function on shapes alone, without weights.

It finds the parameters that the function asks for, the shapes it returns and the number of multiplications.
Training creates its parameters from the result, and key maps are checked against it. An operation whose
shapes do not fit raises an error that names it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pochade.ops import Padding, Shape
from pochade.weights import View


@dataclass(frozen=True)
class ModelSummary:
    """The shapes and the cost of a model function.

    parameters: name -> shape of every tensor that the function asks for, in the order of first use.
    outputs: the shapes of the returned tensors.
    products: multiply-accumulates of one evaluation, by operation: 'linear', 'conv2d', 'attention'.
    largest: number of elements in the largest tensor that an operation creates.
    """

    parameters: Mapping[str, Shape]
    outputs: tuple[Shape, ...]
    products: Mapping[str, int]
    largest: int = 0

    @property
    def parameter_count(self) -> int:
        return sum(math.prod(shape) for shape in self.parameters.values())


def infer_shapes(function: Callable[..., object], inputs: Mapping[str, tuple[Shape, str]]) -> ModelSummary:
    """Summarise `function(ops, w, **inputs)`; inputs: argument name -> (static shape, 'f32' or 'i64').

    Raises ValueError, naming the operation and the shapes, if shapes do not fit.
    """
    ops = ShapeOps()
    weights = ParameterRecorder(tensors={})
    returned = function(
        ops, weights, **{name: ShapeTensor(tuple(shape)) for name, (shape, _) in inputs.items()}
    )
    outputs = returned if isinstance(returned, tuple) else (returned,)
    shapes = tuple(ops.shape(output) for output in outputs)
    return ModelSummary(weights.parameters, shapes, dict(ops.products), ops.largest)


@dataclass(frozen=True)
class ShapeTensor:
    """A tensor that has only a shape, with the arithmetic of `pochade.ops`."""

    shape: Shape

    __array_ufunc__ = None  # so that `np.float32(2) * sketch` is left to __rmul__

    def _joined(self, other: "ShapeTensor | float") -> "ShapeTensor":
        if not isinstance(other, ShapeTensor):
            return self
        try:
            return ShapeTensor(np.broadcast_shapes(self.shape, other.shape))
        except ValueError:
            raise ValueError(f"arithmetic: {self.shape} and {other.shape} do not broadcast") from None

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _joined


@dataclass(frozen=True)
class ParameterRecorder(View):
    """A view that has every tensor it is asked for, and records their names and shapes."""

    parameters: dict[str, Shape] = field(default_factory=dict)

    def __call__(self, name: str, shape: Shape, rows: slice | None = None) -> ShapeTensor:
        full = self.prefix + name
        known = self.parameters.setdefault(full, shape)
        if known != shape:
            raise ValueError(f"tensor '{full}' is asked for as {shape}, and elsewhere as {known}")
        if rows is None:
            return ShapeTensor(shape)
        return ShapeTensor((len(range(*rows.indices(shape[0]))), *shape[1:]))


class ShapeOps:
    """`pochade.ops.Ops` on `ShapeTensor`.

    products: multiply-accumulates so far, by operation. largest: elements of the largest tensor so far.
    """

    def __init__(self) -> None:
        self.products: Counter[str] = Counter()
        self.largest = 0

    def _made(self, shape: Shape) -> ShapeTensor:
        self.largest = max(self.largest, math.prod(shape))
        return ShapeTensor(shape)

    def linear(self, x: ShapeTensor, weight: ShapeTensor, bias: ShapeTensor | None = None) -> ShapeTensor:
        fits = len(x.shape) >= 1 and len(weight.shape) == 2 and x.shape[-1] == weight.shape[1]
        _expect(fits and _is_vector(bias, weight.shape[0]), "linear", x=x, weight=weight, bias=bias)
        y = self._made((*x.shape[:-1], weight.shape[0]))
        self.products["linear"] += math.prod(y.shape) * weight.shape[1]
        return y

    def conv2d(
        self,
        x: ShapeTensor,
        weight: ShapeTensor,
        bias: ShapeTensor | None,
        stride: int = 1,
        padding: Padding = (0, 0, 0, 0),
    ) -> ShapeTensor:
        fits = len(x.shape) == len(weight.shape) == 4 and x.shape[1] == weight.shape[1] and stride >= 1
        _expect(fits and _is_vector(bias, weight.shape[0]), "conv2d", x=x, weight=weight, bias=bias)
        batch, channels, height, width = x.shape
        top, bottom, left, right = padding
        spare_height = height + top + bottom - weight.shape[2]
        spare_width = width + left + right - weight.shape[3]
        fits = min(spare_height, spare_width, *padding) >= 0
        _expect(fits, f"conv2d, padding {padding}", x=x, weight=weight)
        y = self._made((batch, weight.shape[0], spare_height // stride + 1, spare_width // stride + 1))
        self.products["conv2d"] += math.prod(y.shape) * channels * math.prod(weight.shape[2:])
        return y

    def conv2d_doubled(self, x: ShapeTensor, weight: ShapeTensor, bias: ShapeTensor | None) -> ShapeTensor:
        _, _, height, width = self.shape(x)
        return self.conv2d(self.resize_nearest(x, 2 * height, 2 * width), weight, bias, 1, (1, 1, 1, 1))

    def attention(
        self, query: ShapeTensor, key: ShapeTensor, value: ShapeTensor, *, causal: bool = False
    ) -> ShapeTensor:
        fits = len(query.shape) == 4 and key.shape == value.shape and len(key.shape) == 4
        fits = fits and query.shape[:2] == key.shape[:2] and query.shape[3] == key.shape[3]
        fits = fits and (not causal or query.shape == key.shape)
        _expect(fits, "causal attention" if causal else "attention", query=query, key=key, value=value)
        self.products["attention"] += 2 * math.prod(query.shape) * key.shape[2]  # scores, then the mixture
        return query

    def group_norm(
        self, x: ShapeTensor, weight: ShapeTensor, bias: ShapeTensor, groups: int, eps: float
    ) -> ShapeTensor:
        fits = len(x.shape) == 4 and groups >= 1 and x.shape[1] % groups == 0
        fits = fits and weight.shape == bias.shape == (x.shape[1],)
        _expect(fits, f"group_norm, {groups} groups", x=x, weight=weight, bias=bias)
        return x

    def group_statistics(self, x: ShapeTensor, groups: int, eps: float) -> tuple[ShapeTensor, ShapeTensor]:
        fits = len(x.shape) == 4 and groups >= 1 and x.shape[1] % groups == 0
        _expect(fits, f"group_statistics, {groups} groups", x=x)
        return ShapeTensor((x.shape[0], groups)), ShapeTensor((x.shape[0], groups))

    def layer_norm(self, x: ShapeTensor, weight: ShapeTensor, bias: ShapeTensor, eps: float) -> ShapeTensor:
        _expect(weight.shape == bias.shape == x.shape[-1:] != (), "layer_norm", x=x, weight=weight, bias=bias)
        return x

    def silu(self, x: ShapeTensor) -> ShapeTensor:
        return x

    def gelu(self, x: ShapeTensor) -> ShapeTensor:
        return x

    def quick_gelu(self, x: ShapeTensor) -> ShapeTensor:
        return x

    def leaky_relu(self, x: ShapeTensor, slope: float) -> ShapeTensor:
        return x

    def tanh(self, x: ShapeTensor) -> ShapeTensor:
        return x

    def shape(self, x: ShapeTensor) -> Shape:
        return x.shape

    def reshape(self, x: ShapeTensor, shape: Shape) -> ShapeTensor:
        known = math.prod(side for side in shape if side != -1)
        total = math.prod(x.shape)
        whole = tuple(total // known if side == -1 and known else side for side in shape)
        fits = shape.count(-1) <= 1 and min(whole, default=0) >= 0 and math.prod(whole) == total
        _expect(fits, f"reshape to {shape}", x=x)
        return ShapeTensor(whole)

    def transpose(self, x: ShapeTensor, axes: Shape) -> ShapeTensor:
        _expect(sorted(axes) == list(range(len(x.shape))), f"transpose by {axes}", x=x)
        return ShapeTensor(tuple(x.shape[axis] for axis in axes))

    def concat(self, parts: Sequence[ShapeTensor], axis: int) -> ShapeTensor:
        named = {f"parts[{i}]": part for i, part in enumerate(parts)}
        first = parts[0].shape
        in_range = -len(first) <= axis < len(first)
        _expect(in_range, f"concat along {axis}", **named)
        axis %= len(first)
        rest = {(len(part.shape), part.shape[:axis], part.shape[axis + 1 :]) for part in parts}
        _expect(len(rest) == 1, f"concat along {axis}", **named)
        return self._made((*first[:axis], sum(part.shape[axis] for part in parts), *first[axis + 1 :]))

    def narrow(self, x: ShapeTensor, axis: int, start: int, stop: int) -> ShapeTensor:
        fits = -len(x.shape) <= axis < len(x.shape) and 0 <= start <= stop <= x.shape[axis]
        _expect(fits, f"narrow to {start}..{stop} along {axis}", x=x)
        axis %= len(x.shape)
        return ShapeTensor((*x.shape[:axis], stop - start, *x.shape[axis + 1 :]))

    def resize_nearest(self, x: ShapeTensor, height: int, width: int) -> ShapeTensor:
        _expect(len(x.shape) == 4 and height > 0 and width > 0, f"resize_nearest to {height} x {width}", x=x)
        return self._made((*x.shape[:2], height, width))

    def embedding(self, ids: ShapeTensor, table: ShapeTensor) -> ShapeTensor:
        _expect(len(ids.shape) == 2 and len(table.shape) == 2, "embedding", ids=ids, table=table)
        return ShapeTensor((*ids.shape, table.shape[1]))

    def pick(self, x: ShapeTensor, positions: ShapeTensor) -> ShapeTensor:
        _expect(len(x.shape) == 3 and positions.shape == x.shape[:1], "pick", x=x, positions=positions)
        return ShapeTensor((x.shape[0], x.shape[2]))


def _is_vector(bias: ShapeTensor | None, length: int) -> bool:
    return bias is None or bias.shape == (length,)


def _expect(fits: bool, operation: str, **sketches: ShapeTensor | None) -> None:
    if not fits:
        shapes = ", ".join(f"{name} {sketch.shape}" for name, sketch in sketches.items() if sketch)
        raise ValueError(f"{operation}: the shapes do not fit: {shapes}")
