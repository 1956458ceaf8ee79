"""Records which functions are called in a block, in this thread and in threads that it starts."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def calls_of(*functions: Callable[..., Any]) -> Iterator[dict[str, list[Any]]]:
    """Record calls: name of each function -> the first argument of each call, in order."""
    found: dict[str, list[Any]] = {function.__name__: [] for function in functions}
    names = {function.__code__: function.__name__ for function in functions}  # type: ignore[attr-defined]

    def note(frame: FrameType, event: str, _: object) -> None:
        name = names.get(frame.f_code) if event == "call" else None
        if name is not None:
            found[name].append(frame.f_locals[frame.f_code.co_varnames[0]])

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
