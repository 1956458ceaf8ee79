"""Tensor names in the files, and what they are called here.

A key map is a list of templates, tried from the top; the first that fits decides:

    `{}`    stands for one part between dots (a block's index, `weight` or `bias`)
    `{*}`   stands for one or more parts

What the placeholders caught is filled in on the other side in the same order. `None` as the new name says
that a tensor is dropped on purpose. `inverted` gives the way back. The canonical names are those that
diffusers and transformers write today, the latter without the `text_model.` that only some versions put in
front.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
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


def _check_placeholders(old: str, new: str) -> None:
    if PLACEHOLDER.findall(old) != PLACEHOLDER.findall(new):
        raise ValueError(f"'{old}' and '{new}' must have the same placeholders in order")


SAME = Change(_same, _same)
LINEAR_FROM_CONVOLUTION = Change(_without_kernel, _with_kernel)

Maker = Callable[[Mapping[str, Array]], Array]
"""Makes one renamed tensor from those of the file."""


@dataclass(frozen=True)
class Rule:
    """One line of a key map: tensors called `old` are called `new` here; None drops them."""

    old: str
    new: str | None
    change: Change = SAME

    def __post_init__(self) -> None:
        if self.new is not None:
            _check_placeholders(self.old, self.new)

    def place(self, name: str) -> list[tuple[str | None, Maker]] | None:
        """What becomes of a tensor: (new name, how it is made); None if the rule does not speak of it."""
        parts = _match(self.old, name)
        if parts is None:
            return None
        return [(None if self.new is None else _fill(self.new, parts), partial(_changed, self.change, name))]

    def inverse(self) -> "Rule | None":
        """The rule back. What was dropped has none."""
        if self.new is None:
            return None
        return Rule(self.new, self.old, Change(self.change.backward, self.change.forward))


@dataclass(frozen=True)
class Fused:
    """Tensors that the file keeps one above the other in one: equal parts of its rows, as views."""

    old: str
    new: tuple[str, ...]

    def __post_init__(self) -> None:
        for new in self.new:
            _check_placeholders(self.old, new)

    def place(self, name: str) -> list[tuple[str | None, Maker]] | None:
        """As `Rule.place`: several tensors from one."""
        parts = _match(self.old, name)
        if parts is None:
            return None
        count = len(self.new)
        return [(_fill(new, parts), partial(_rows, name, i, count)) for i, new in enumerate(self.new)]

    def inverse(self) -> "Joined":
        """The rule back."""
        return Joined(self.new, self.old)


@dataclass(frozen=True)
class Joined:
    """The way back of `Fused`: several tensors are put one above the other, which copies them."""

    old: tuple[str, ...]
    new: str

    def place(self, name: str) -> list[tuple[str | None, Maker]] | None:
        """As `Rule.place`: the first of the parts stands for all of them."""
        for i, old in enumerate(self.old):
            parts = _match(old, name)
            if parts is not None:
                names = tuple(_fill(each, parts) for each in self.old)
                return [(_fill(self.new, parts), partial(_stacked, names))] if i == 0 else []
        return None

    def inverse(self) -> Fused:
        """The rule back."""
        return Fused(self.new, self.old)


KeyMap = tuple[Rule | Fused | Joined, ...]

LEFT_OVERS = ("position_ids", "logit_scale", "logit_bias", "attn_mask")
"""The last parts of names that text encoders' files carry and no reader needs: the positions 0, 1, 2, ... and
the causal mask, buffers that old versions saved, and what only comparing pictures with texts takes."""

PICTURE_TOWERS = ("visual", "vision_model", "visual_projection")
"""The half of CLIP that reads pictures, which some files were saved with."""

DROPPED_FROM_TEXT_ENCODERS: KeyMap = (
    *(Rule(f"{before}{name}", None) for name in LEFT_OVERS for before in ("", "{*}.")),
    *(Rule(f"{name}.{{*}}", None) for name in PICTURE_TOWERS),
)

TEXT_ENCODER: KeyMap = (
    *DROPPED_FROM_TEXT_ENCODERS,
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


def translate(name: str, rules: KeyMap) -> list[tuple[str | None, Maker]] | None:
    """(new name, or None for what is dropped on purpose; how it is made) of all that a tensor becomes; None
    if no rule speaks of it."""
    for rule in rules:
        placed = rule.place(name)
        if placed is not None:
            return placed
    return None


def inverted(rules: KeyMap) -> KeyMap:
    """The map back, for writing. What was dropped stays away; where two rules meet, the upper one wins."""
    return tuple(back for rule in rules if (back := rule.inverse()) is not None)


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


def rename(
    tensors: Mapping[str, Array], rules: KeyMap, where: Path | str, *, prefix: str = "", strict: bool = False
) -> LazyTensors:
    """The tensors whose names begin with `prefix`, under canonical names: the rules speak of what follows it.

    A name of which no rule speaks stays as it is; with `strict` it raises InvalidCheckpoint. So does it if
    two tensors of `where` would end up under one name.
    """
    origins: dict[str, str] = {}
    makers: dict[str, Callable[[], Array]] = {}
    inside = Below(tensors, prefix)
    for name in inside:
        placed = translate(name, rules)
        if placed is None:
            if strict:
                raise InvalidCheckpoint(
                    f"'{where}' holds the tensor '{prefix}{name}', which is not part of a model that is read"
                    " here; it belongs to another kind of model, or to an addition that is not supported"
                )
            placed = [(name, partial(_changed, SAME, name))]
        for new, make in placed:
            if new is None:
                continue
            if new in origins:
                raise InvalidCheckpoint(
                    f"'{where}' holds both '{prefix}{origins[new]}' and '{prefix}{name}', two names of one"
                    " tensor; remove one"
                )
            origins[new] = name
            makers[new] = partial(make, inside)
    return LazyTensors(makers)


@dataclass(frozen=True, eq=False, repr=False)
class Below(Mapping[str, Array]):
    """The tensors whose names begin with `prefix`, without it."""

    tensors: Mapping[str, Array]
    prefix: str

    def __getitem__(self, name: str) -> Array:
        return self.tensors[self.prefix + name]

    def __iter__(self) -> Iterator[str]:
        length = len(self.prefix)
        return (name[length:] for name in self.tensors if name.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _match(template: str, name: str) -> tuple[str, ...] | None:
    """What the placeholders of a template stand for in a name; None if it does not fit."""
    begin, pattern = _compiled(template)
    if not name.startswith(begin):
        return None  # most rules part from most names here, long before a pattern is tried
    found = pattern.fullmatch(name)
    return None if found is None else found.groups()


def _fill(template: str, parts: Sequence[str]) -> str:
    remaining = iter(parts)
    return PLACEHOLDER.sub(lambda _: next(remaining), template)


@lru_cache(maxsize=4096)
def _compiled(template: str) -> tuple[str, re.Pattern[str]]:
    """(what stands before the first placeholder, the whole as a pattern)."""
    escaped = re.escape(template).replace(r"\{\*\}", "(.+)").replace(r"\{\}", r"([^.]+)")
    return template.partition("{")[0], re.compile(escaped)


def _changed(change: Change, name: str, tensors: Mapping[str, Array]) -> Array:
    return change.forward(tensors[name])


def _rows(name: str, i: int, count: int, tensors: Mapping[str, Array]) -> Array:
    tensor = tensors[name]
    rows, rest = divmod(len(tensor), count)
    if rest:
        raise InvalidCheckpoint(
            f"tensor '{name}' has {len(tensor)} rows, which do not divide into {count} parts; it is damaged,"
            " or of another kind of model"
        )
    return tensor[i * rows : (i + 1) * rows]


def _stacked(names: tuple[str, ...], tensors: Mapping[str, Array]) -> Array:
    return np.concatenate([tensors[name] for name in names])
