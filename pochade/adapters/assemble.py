"""Builds the delta of a layer from the factors in an adapter's file."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pochade.adapters.deltas import DoraDelta, FullDelta, Hadamard, Kronecker, LinearDelta, LowRank
from pochade.errors import InvalidCheckpoint
from pochade.ops import Shape

Array = NDArray[Any]

SCALE = Callable[[int], float]
"""Rank -> the scale of the product of the factors."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "LoRA": ("up", "down", "middle"),
    "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    "LoKr": ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    "difference": ("diff",),
}
LENGTHS = ("dora_scale", "magnitude")


class Factors:
    """The factors of one layer, with checks that name what is wrong with them."""

    def __init__(self, layer: str, parts: Mapping[str, Array], keys: Mapping[str, str], scale: SCALE) -> None:
        """layer: its name in the file. parts: factor -> array; keys: factor -> its key in the file.

        scale: for a layer without an `alpha` of its own.
        """
        self.layer, self.parts, self.keys, self._scale = layer, parts, keys, scale

    def delta(self) -> LinearDelta | None:
        """Return what is added to the weight, without DoRA's magnitudes; None if nothing is."""
        kinds = {kind for kind, names in KINDS.items() if any(name in self.parts for name in names)}
        if len(kinds) > 1:
            self.refuse(f"is changed in {len(kinds)} ways at once, {' and '.join(sorted(kinds))}")
        if not kinds:
            lonely = next((name for name in ("alpha", *LENGTHS) if name in self.parts), None)
            if lonely is not None:
                self.refuse(f"has '{self.keys[lonely]}' and none of the factors that belong to it")
            return None
        makers: Mapping[str, Callable[[], LinearDelta]] = {
            "LoRA": self._low_rank,
            "LoHa": self._hadamard,
            "LoKr": self._kronecker,
            "difference": self._whole,
        }
        return makers[kinds.pop()]()

    def decomposed(self, delta: LinearDelta, shape: Shape) -> LinearDelta | DoraDelta:
        """Apply DoRA's magnitudes to the delta, if there are any. shape: the weight's."""
        name = next((name for name in LENGTHS if name in self.parts), None)
        if name is None:
            return delta
        lengths = self.parts[name]
        outputs, inputs = shape[0], shape[1] if len(shape) > 1 else 0
        by_inputs = name == "dora_scale" and lengths.ndim > 1 and lengths.shape[:2] == (1, inputs)
        if lengths.size != (inputs if by_inputs else outputs):
            self.refuse(
                f"has '{self.keys[name]}' of shape {lengths.shape}, which fits no weight of shape {shape}"
            )
        return DoraDelta(delta, lengths, of_outputs=not by_inputs)

    def refuse(self, why: str) -> NoReturn:
        raise InvalidCheckpoint(f"the layer '{self.layer}' {why}")

    # --- inside -----------------------------------------------------------------------------------------

    def _low_rank(self) -> LowRank:
        up, down = self._pair("up", "down")
        middle = self.parts.get("middle")
        up, down = self._flat("up", up), down.reshape(len(down), -1)
        if middle is not None:
            down = self._flat("down", down)
        self._check_rank("up", up, "down", down, middle)
        return LowRank(up, down, self._scaled(len(down)), middle)

    def _whole(self) -> FullDelta:
        return FullDelta(self.parts["diff"])

    def _hadamard(self) -> Hadamard:
        first, second = (self._product(f"hada_w{side}", f"hada_t{side}") for side in "12")
        if first.size != second.size:
            self.refuse(f"multiplies {first.size} numbers by {second.size}, one by one")
        return Hadamard(first, second, self._scaled(len(self.parts["hada_w1_b"])))

    def _kronecker(self) -> Kronecker:
        sides: list[LowRank | FullDelta] = []
        scale = self._scale(0)  # two full matrices; alpha does not apply to them
        for side in "12":
            whole = f"lokr_w{side}"
            if whole in self.parts:
                sides.append(FullDelta(self._at_least_2d(whole)))
            else:
                sides.append(self._product(whole, f"lokr_t{side}"))
                scale = self._scaled(len(self.parts[f"{whole}_b"]))
        return Kronecker(sides[0], sides[1], scale)

    def _product(self, name: str, between: str) -> LowRank:
        """name_a @ name_b; with a factor between them, name_a is stored transposed: (r, O)."""
        a, b = f"{name}_a", f"{name}_b"
        first, second = self._pair(a, b)
        middle = self.parts.get(between)
        first, second = self._flat(a, first), second.reshape(len(second), -1)
        up = first if middle is None else first.T
        self._check_rank(a, up, b, second, middle)
        return LowRank(up, second, 1.0, middle)

    def _pair(self, first: str, second: str) -> tuple[Array, Array]:
        for one, other in ((first, second), (second, first)):
            if one not in self.parts:
                there = f"has '{self.keys[other]}' but not" if other in self.parts else "lacks"
                self.refuse(f"{there} the factor '{one}' that belongs to it; the file is not whole")
        return self._at_least_2d(first), self._at_least_2d(second)

    def _at_least_2d(self, name: str) -> Array:
        array = self.parts[name]
        if array.ndim < 2 or array.size == 0:
            fault = "has the rank 0" if array.ndim > 1 else "is not a matrix"
            self.refuse(f"has '{self.keys[name]}' of shape {array.shape}, which {fault}")
        return array

    def _flat(self, name: str, array: Array) -> Array:
        """(O, r, 1, 1) -> (O, r)."""
        if array[0, 0].size != 1:
            self.refuse(f"has '{self.keys[name]}' of shape {array.shape}, where a matrix belongs")
        return array.reshape(array.shape[:2])

    def _check_rank(self, a: str, up: Array, b: str, down: Array, middle: Array | None) -> None:
        ranks = [up.shape[1], len(down)]
        if middle is None:
            fits = ranks[0] == ranks[1]
        else:
            fits = middle.ndim == 4 and middle.size > 0 and list(middle.shape[:2]) == ranks
        if not fits:
            between = "" if middle is None else f" with {middle.shape} between them"
            self.refuse(
                f"has '{self.keys[a]}' of rank {ranks[0]} and '{self.keys[b]}' of rank {ranks[1]}{between}:"
                " they are not of one file"
            )

    def _scaled(self, rank: int) -> float:
        alpha = self.parts.get("alpha")
        if alpha is None:
            return self._scale(rank)
        if alpha.size != 1:
            self.refuse(f"has '{self.keys['alpha']}' of shape {alpha.shape}; it is one number")
        return float(np.asarray(alpha, np.float32).reshape(())) / rank
