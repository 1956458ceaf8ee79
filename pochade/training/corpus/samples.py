"""What every maker of a training set hands to the store: pictures, one after the other."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pochade.training.corpus.store import CorpusEntry


class Unusable(ValueError):
    """A picture or its caption cannot be used; it is skipped, counted and listed.

    reason: the same words for every case of its kind, so that they can be counted.
    detail: what is special about this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Sample:
    """One picture, encoded.

    entry: everything that is known about it, but for its place.
    content, suffix: a picture file and the end of its name ("webp", "png", "jpg").
    """

    entry: CorpusEntry
    content: bytes
    suffix: str


class Item(NamedTuple):
    """Something that may become a picture of the set.

    name: of the picture in its source.  make: reads or draws it; raises Unusable.
    """

    name: str
    make: Callable[[], Sample]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One source of a training set.

    name: short, stands in file names.
    recipe: everything that decides what comes out; with another one, the source is made anew.
    about: for the manifest and the notice: style, licence, credit, ...
    open: how many items there are, and the items, in the same order each time.
    """

    name: str
    recipe: Mapping[str, Any]
    about: Mapping[str, str]
    open: Callable[[], tuple[int, Iterator[Item]]]


Progress = Callable[[str, int, int], None]
"""Told the source's name, how many of its items are done, and how many there are."""


def silent(source: str, done: int, total: int) -> None:
    """Report nothing."""
