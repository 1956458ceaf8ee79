"""Key maps from tensor names in files to canonical names.

A key map is a list of templates, tried from the top; the first match decides:

    `{}`    matches one part between dots (a block's index, `weight` or `bias`)
    `{*}`   matches one or more parts

The matched parts are filled into the new name in order. A new name of `None` means that the tensor is
dropped. `inverted` returns the reverse map. The canonical names are those that diffusers and transformers
write today, without the prefix `text_model.` that only some versions of transformers use.
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
    """A change of a tensor's shape that accompanies a new name, and its inverse. Both return views."""

    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array]


def _same(tensor: Array) -> Array:
    return tensor


def _without_kernel(tensor: Array) -> Array:
    """(O, I, 1, 1) -> (O, I); other shapes are unchanged."""
    return tensor.reshape(tensor.shape[:2]) if tensor.shape[2:] == (1, 1) else tensor


def _with_kernel(tensor: Array) -> Array:
    """(O, I) -> (O, I, 1, 1); other shapes are unchanged."""
    return tensor.reshape(*tensor.shape, 1, 1) if tensor.ndim == 2 else tensor


def _check_placeholders(old: str, new: str) -> None:
    if PLACEHOLDER.findall(old) != PLACEHOLDER.findall(new):
        raise ValueError(f"'{old}' and '{new}' must have the same placeholders in order")


SAME = Change(_same, _same)
LINEAR_FROM_CONVOLUTION = Change(_without_kernel, _with_kernel)

Maker = Callable[[Mapping[str, Array]], Array]
"""Creates one renamed tensor from those of the file."""


@dataclass(frozen=True)
class Rule:
    """One line of a key map: tensors named `old` are renamed to `new`; None drops them."""

    old: str
    new: str | None
    change: Change = SAME

    def __post_init__(self) -> None:
        if self.new is not None:
            _check_placeholders(self.old, self.new)

    def place(self, name: str) -> list[tuple[str | None, Maker]] | None:
        """Apply the rule to a tensor's name: (new name, how it is created), or None if the rule does not
        match."""
        parts = _match(self.old, name)
        if parts is None:
            return None
        return [(None if self.new is None else _fill(self.new, parts), partial(_changed, self.change, name))]

    def inverse(self) -> "Rule | None":
        """The reverse rule; None for a rule that drops tensors."""
        if self.new is None:
            return None
        return Rule(self.new, self.old, Change(self.change.backward, self.change.forward))


@dataclass(frozen=True)
class Fused:
    """Tensors that the file stores stacked in one: equal parts of its rows, as views."""

    old: str
    new: tuple[str, ...]

    def __post_init__(self) -> None:
        for new in self.new:
            _check_placeholders(self.old, new)

    def place(self, name: str) -> list[tuple[str | None, Maker]] | None:
        """Like `Rule.place`, but yields several tensors for one."""
        parts = _match(self.old, name)
        if parts is None:
            return None
        count = len(self.new)
        return [(_fill(new, parts), partial(_rows, name, i, count)) for i, new in enumerate(self.new)]

    def inverse(self) -> "Joined":
        """Return the reverse rule."""
        return Joined(self.new, self.old)


@dataclass(frozen=True)
class Joined:
    """The inverse of `Fused`: several tensors are stacked, which copies them."""

    old: tuple[str, ...]
    new: str

    def place(self, name: str) -> list[tuple[str | None, Maker]] | None:
        """Like `Rule.place`; the first tensor represents all of them."""
        for i, old in enumerate(self.old):
            parts = _match(old, name)
            if parts is not None:
                names = tuple(_fill(each, parts) for each in self.old)
                return [(_fill(self.new, parts), partial(_stacked, names))] if i == 0 else []
        return None

    def inverse(self) -> Fused:
        """Return the reverse rule."""
        return Fused(self.new, self.old)


KeyMap = tuple[Rule | Fused | Joined, ...]

IGNORED_SUFFIXES = ("position_ids", "logit_scale", "logit_bias", "attn_mask")
"""Suffixes of ignored tensors in text encoders' files: position ids and the causal mask, which old versions
saved as buffers, and parameters for comparing pictures with texts."""

VISION_PREFIXES = ("visual", "vision_model", "visual_projection")
"""CLIP's vision model, which some files include."""

DROPPED_FROM_TEXT_ENCODERS: KeyMap = (
    *(Rule(f"{before}{name}", None) for name in IGNORED_SUFFIXES for before in ("", "{*}.")),
    *(Rule(f"{name}.{{*}}", None) for name in VISION_PREFIXES),
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
    # Some converters use the new names but keep the 1x1 convolutions of the single file.
    Rule("{*}.attentions.{}.to_q.{}", "{*}.attentions.{}.to_q.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.to_k.{}", "{*}.attentions.{}.to_k.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.to_v.{}", "{*}.attentions.{}.to_v.{}", LINEAR_FROM_CONVOLUTION),
    Rule("{*}.attentions.{}.to_out.0.{}", "{*}.attentions.{}.to_out.0.{}", LINEAR_FROM_CONVOLUTION),
)

UNET: KeyMap = ()
"""The UNet's names in diffusers folders have never changed."""


def translate(name: str, rules: KeyMap) -> list[tuple[str | None, Maker]] | None:
    """Apply the first matching rule: (new name or None if dropped, how it is created) for each resulting
    tensor; None if no rule matches."""
    for rule in rules:
        placed = rule.place(name)
        if placed is not None:
            return placed
    return None


def inverted(rules: KeyMap) -> KeyMap:
    """Return the reverse map, for writing. Dropped tensors stay dropped; of conflicting rules the first
    wins."""
    return tuple(back for rule in rules if (back := rule.inverse()) is not None)


@dataclass(frozen=True, eq=False, repr=False)
class LazyTensors(Mapping[str, Array]):
    """name -> array, created at access, so that renaming the tensors of a mapped file reads none of them."""

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
    """Rename the tensors whose names begin with `prefix`; the rules apply to the rest of the name.

    A name that no rule matches is kept, or raises InvalidCheckpoint with `strict`. Two tensors of
    `where` with the same new name raise InvalidCheckpoint too.
    """
    origins: dict[str, str] = {}
    makers: dict[str, Callable[[], Array]] = {}
    inside = PrefixView(tensors, prefix)
    for name in inside:
        placed = translate(name, rules)
        if placed is None:
            if strict:
                raise InvalidCheckpoint(
                    f"'{where}' holds the tensor '{prefix}{name}', which is not part of a model that is read"
                    " here; it belongs to another kind of model or to an unsupported adapter"
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
class PrefixView(Mapping[str, Array]):
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
    """Return the parts of a name that the template's placeholders match; None if it does not match."""
    begin, pattern = _compiled(template)
    if not name.startswith(begin):
        return None  # fast path: most rules differ in the prefix
    found = pattern.fullmatch(name)
    return None if found is None else found.groups()


def _fill(template: str, parts: Sequence[str]) -> str:
    remaining = iter(parts)
    return PLACEHOLDER.sub(lambda _: next(remaining), template)


@lru_cache(maxsize=4096)
def _compiled(template: str) -> tuple[str, re.Pattern[str]]:
    """(prefix before the first placeholder, the template as a regular expression)."""
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
