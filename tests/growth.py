"""Measures how the work of a function grows with its input, independent of the machine's load."""

import gc
import time
from collections.abc import Callable

LINEAR = 2.5
"""Twice the input takes twice the time, and some more where it no longer fits into a cache. Quadratic work
takes four times as long."""
TRIES, MOST_TRIES = 3, 15
LEAST_S = 1e-3
"""Of processor time; what takes less is lost in the clock's own steps."""


def grows_linearly(work: Callable[[int], object], size: int) -> None:
    """Assert that `work(2 * size)` takes at most 2.5 times the CPU time of `work(size)`.

    The minimum of several tries is used, of this thread only; further tries are made only if it is too large.
    """
    small = large = float("inf")
    for i in range(MOST_TRIES):
        small, large = min(small, _spent(work, size)), min(large, _spent(work, 2 * size))
        if i + 1 >= TRIES and large <= LINEAR * max(small, LEAST_S):
            return
    raise AssertionError(f"{size} takes {small:.4f} s of the processor, {2 * size} takes {large:.4f} s")


def _spent(work: Callable[[int], object], size: int) -> float:
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = time.thread_time()
        work(size)
        return time.thread_time() - begin
    finally:
        if collecting:
            gc.enable()
