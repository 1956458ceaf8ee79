"""The items of a training set, as passed from its sources to the store."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pochade.training.corpus.store import CorpusEntry


class Unusable(ValueError):
    """A picture or its caption cannot be used; it is skipped, counted and listed.

    reason: the same text for all cases of a kind, so that they can be counted.
    detail: of this case.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Sample:
    """One picture, encoded.

    entry: its metadata, without its position in a shard.
    content, suffix: a picture file and its suffix ("webp", "png", "jpg").
    """

    entry: CorpusEntry
    content: bytes
    suffix: str


class Item(NamedTuple):
    """A candidate for a picture of the set.

    name: of the picture in its source.  make: reads or draws it; raises Unusable.
    """

    name: str
    make: Callable[[], Sample]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One source of a training set.

    name: short; used in file names.
    recipe: everything that determines the result; if it changes, the source is built again.
    about: for the manifest and the notice: style, licence, credit, ...
    open: returns the number of items and the items, always in the same order.
    """

    name: str
    recipe: Mapping[str, Any]
    about: Mapping[str, str]
    open: Callable[[], tuple[int, Iterator[Item]]]


Progress = Callable[[str, int, int], None]
"""Called with the source's name, the number of finished items, and their total."""


def silent(source: str, done: int, total: int) -> None:
    """Report nothing."""
