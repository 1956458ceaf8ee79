"""The operations that models are written in and engines implement.

A model is a plain function `model(ops, config, w, ...)`. It uses only the operations below, the operators
`+ - * /` between tensors (with numpy's broadcasting) and with numbers, and weights that it takes from `w`
(see `pochade.weights.View`). So one definition runs with numpy, builds an OpenVINO graph, and is
differentiated by torch in training.

Shapes are always known when a model function runs: engines use static shapes, since building a graph for
another size is cheap. Letters: B batch, C channels, H height, W width, T tokens, D width of a
token, N heads.
"""

from collections.abc import Sequence
from typing import Any, Protocol

Tensor = Any
"""The engine's type of tensor: a numpy array, an OpenVINO node, a torch tensor."""

Shape = tuple[int, ...]

Padding = tuple[int, int, int, int]
"""Zeros added before a convolution: (top, bottom, left, right)."""


class Ops(Protocol):
    """The operations that an engine must implement."""

    # --- products ---------------------------------------------------------------------------------

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """`x @ weight.T + bias`: (..., I), (O, I), (O,) -> (..., O)."""
        ...

    def conv2d(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: Padding = (0, 0, 0, 0)
    ) -> Tensor:
        """Cross-correlation: (B, I, H, W), (O, I, kH, kW), (O,) -> (B, O, H', W')."""
        ...

    def conv2d_doubled(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Every pixel doubled in both directions, then a 3x3 `conv2d` that keeps the size.

        (B, I, H, W), (O, I, 3, 3), (O,) -> (B, O, 2 * H, 2 * W). One operation, because an engine can do it
        with 4/9 of the products: within a doubled picture a 3x3 kernel sees only 2x2 different pixels.
        """
        ...

    def attention(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
        """`softmax(query @ key.T / sqrt(D)) @ value`.

        (B, N, T, D), (B, N, S, D), (B, N, S, D) -> (B, N, T, D).
        With `causal`, token t attends to tokens 0..t only (T = S). Vaswani et al. 2017, equation 1.
        """
        ...

    # --- normalisation ----------------------------------------------------------------------------

    def group_norm(self, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """Zero mean and unit variance per picture and group of channels, then an affine map per channel.

        (B, C, H, W), (C,), (C,) -> (B, C, H, W); `groups` divides C. Wu and He 2018.
        """
        ...

    def group_statistics(self, x: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor]:
        """Return the mean that `group_norm` subtracts from each group, and its divisor sqrt(variance + eps).

        (B, C, H, W) -> two of (B, groups).
        """
        ...

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        """Zero mean and unit variance over the last axis, then an affine map.

        (..., D), (D,), (D,) -> (..., D).
        """
        ...

    # --- nonlinearities, elementwise, any shape -----------------------------------------------------

    def silu(self, x: Tensor) -> Tensor:
        """`x * sigmoid(x)`."""
        ...

    def gelu(self, x: Tensor) -> Tensor:
        """`x * Phi(x)` with the exact normal distribution function Phi (not the tanh approximation)."""
        ...

    def quick_gelu(self, x: Tensor) -> Tensor:
        """`x * sigmoid(1.702 x)`, the approximation that the first CLIP was trained with."""
        ...

    def leaky_relu(self, x: Tensor, slope: float) -> Tensor:
        """x where it is positive, elsewhere `slope * x`; slope 0 is ReLU."""
        ...

    def tanh(self, x: Tensor) -> Tensor:
        """The hyperbolic tangent."""
        ...

    # --- shape ------------------------------------------------------------------------------------

    def shape(self, x: Tensor) -> Shape:
        """The static shape, as a tuple of ints."""
        ...

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        """The same numbers in C order under another shape; at most one entry may be -1."""
        ...

    def transpose(self, x: Tensor, axes: Shape) -> Tensor:
        """Axis i of the result is axis `axes[i]` of x."""
        ...

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """The parts one after another along an axis."""
        ...

    def narrow(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """Entries start..stop-1 along an axis."""
        ...

    def resize_nearest(self, x: Tensor, height: int, width: int) -> Tensor:
        """Each output pixel (i, j) copies input pixel (i * H // height, j * W // width).

        (B, C, H, W) -> (B, C, height, width).
        """
        ...

    # --- look-ups ---------------------------------------------------------------------------------

    def embedding(self, ids: Tensor, table: Tensor) -> Tensor:
        """Row `ids` of the table: (B, T) integers, (V, D) -> (B, T, D)."""
        ...

    def pick(self, x: Tensor, positions: Tensor) -> Tensor:
        """One token of each row: (B, T, D), (B,) integers -> (B, D)."""
        ...
