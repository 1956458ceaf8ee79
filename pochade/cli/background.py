"""Runs work in a thread, so that the main thread can handle Ctrl-C while native code computes."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

ANSWER_S = 0.1
"""Polling interval of the main thread, s: the longest delay before Ctrl-C is noticed."""


def in_background(work: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Iterate `work()` in a daemon thread and yield its items here; exceptions are raised here too."""
    items: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            for item in work():
                items.put((item,))
            items.put(None)
        except BaseException as error:  # re-raised in the main thread
            items.put(error)

    threading.Thread(target=run, daemon=True, name="pochade-draw").start()
    while True:
        try:
            item = items.get(timeout=ANSWER_S)
        except queue.Empty:
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item[0]
