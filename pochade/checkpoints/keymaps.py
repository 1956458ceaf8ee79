"""Tensor names in the files, and what they are called here.

A key map is a list of templates, tried from the top; the first that fits decides:

    `{}`    stands for one part between dots (a block's index, `weight` or `bias`)
    `{*}`   stands for one or more parts

What the placeholders caught is filled in on the other side in the same order. `None` as the new name says
that a tensor is dropped on purpose. The canonical names are those that diffusers and transformers write
today, the latter without the `text_model.` that only some versions put in front.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]

PLACEHOLDER = re.compile(r"\{\*?\}")


@dataclass(frozen=True)
class Change:
    """What happens to a tensor's shape along with its name, and the way back. Both are views, not copies."""

    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array]


def _same(tensor: Array) -> Array:
    return tensor


def _without_kernel(tensor: Array) -> Array:
    """(O, I, 1, 1) -> (O, I); anything else stays as it is."""
    return tensor.reshape(tensor.shape[:2]) if tensor.shape[2:] == (1, 1) else tensor


def _with_kernel(tensor: Array) -> Array:
    """(O, I) -> (O, I, 1, 1); anything else stays as it is."""
    return tensor.reshape(*tensor.shape, 1, 1) if tensor.ndim == 2 else tensor


SAME = Change(_same, _same)
LINEAR_FROM_CONVOLUTION = Change(_without_kernel, _with_kernel)


@dataclass(frozen=True)
class Rule:
    """One line of a key map: tensors called `old` are called `new` here; None drops them."""

    old: str
    new: str | None
    change: Change = SAME

    def __post_init__(self) -> None:
        if self.new is not None and PLACEHOLDER.findall(self.old) != PLACEHOLDER.findall(self.new):
            raise ValueError(f"'{self.old}' and '{self.new}' must have the same placeholders in order")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        escaped = re.escape(self.old).replace(r"\{\*\}", "(.+)").replace(r"\{\}", r"([^.]+)")
        return re.compile(escaped)

    def match(self, name: str) -> tuple[str, ...] | None:
        """What the placeholders of `old` stand for in this name; None if it does not fit."""
        found = self._pattern.fullmatch(name)
        return None if found is None else found.groups()

    def fill(self, parts: Sequence[str]) -> str | None:
        """The new name with these parts in its placeholders."""
        if self.new is None:
            return None
        remaining = iter(parts)
        return PLACEHOLDER.sub(lambda _: next(remaining), self.new)


KeyMap = tuple[Rule, ...]

TEXT_ENCODER: KeyMap = (
    Rule("text_model.embeddings.position_ids", None),  # 0, 1, 2, ...: a buffer that old versions saved
    Rule("embeddings.position_ids", None),
    Rule("text_projection.{}", "text_projection.{}"),
    Rule("text_model.{*}", "{*}"),
)

AUTOENCODER: KeyMap = (
    Rule("{*}.attentions.{}.query.{}", "{*}.attentions.{}.to_q.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.key.{}", "{*}.attentions.{}.to_k.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.value.{}", "{*}.attentions.{}.to_v.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.proj_attn.{}", "{*}.attentions.{}.to_out.0.{}", LINEAR_FROM_CONVOLUTION),
    # Converters exist that took the new names but kept the 1x1 convolutions of the single file.
    Rule("{*}.attentions.{}.to_q.{}", "{*}.attentions.{}.to_q.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.to_k.{}", "{*}.attentions.{}.to_k.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.to_v.{}", "{*}.attentions.{}.to_v.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.to_out.0.{}", "{*}.attentions.{}.to_out.0.{}", LINEAR_FROM_CONVOLUTION),
)

UNET: KeyMap = ()
"""Folders have named the UNet's tensors alike from the first."""


def translate(name: str, rules: KeyMap) -> tuple[str | None, Change] | None:
    """The new name (None: dropped on purpose) and the change of shape; None if no rule fits."""
    for rule in rules:
        parts = rule.match(name)
        if parts is not None:
            return rule.fill(parts), rule.change
    return None


def inverted(rules: KeyMap) -> KeyMap:
    """The map back, for writing. What was dropped stays away; where two rules meet, the upper one wins."""
    return tuple(
        Rule(rule.new, rule.old, Change(rule.change.backward, rule.change.forward))
        for rule in rules
        if rule.new is not None
    )


@dataclass(frozen=True, eq=False, repr=False)
class LazyTensors(Mapping[str, Array]):
    """name -> array, each made when it is asked for: renaming a mapped file reads none of its tensors."""

    makers: Mapping[str, Callable[[], Array]]

    def __getitem__(self, name: str) -> Array:
        return self.makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)

    def __repr__(self) -> str:
        return f"LazyTensors({len(self)} tensors)"


def rename(tensors: Mapping[str, Array], rules: KeyMap, where: Path | str) -> LazyTensors:
    """The same tensors under canonical names. A name of which no rule speaks stays as it is.

    Raises InvalidCheckpoint if two tensors of `where` would end up under one name.
    """
    origins: dict[str, str] = {}
    makers: dict[str, Callable[[], Array]] = {}
    for name in tensors:
        new, change = translate(name, rules) or (name, SAME)
        if new is None:
            continue
        if new in origins:
            raise InvalidCheckpoint(
                f"'{where}' holds both '{origins[new]}' and '{name}', two names of one tensor; remove one"
            )
        origins[new] = name
        makers[new] = _maker(tensors, name, change)
    return LazyTensors(makers)


def _maker(tensors: Mapping[str, Array], name: str, change: Change) -> Callable[[], Array]:
    return lambda: change.forward(tensors[name])
