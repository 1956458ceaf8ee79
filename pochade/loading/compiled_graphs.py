"""The memory cache of compiled graphs, within a budget in bytes; the least recently used are dropped first.

Each set of input shapes has its own graph (size, number of rows, number of chunks, variant of the UNet), and
on a processor each graph holds its own copy of the weights. All networks of a pipeline, including those with
adapters and ControlNets, share one `CompiledGraphs`.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

from pochade.engines.engine import Engine, QuantizingEngine
from pochade.engines.shape_inference import infer_shapes
from pochade.loading.process_memory import release
from pochade.machine import usable_memory_bytes
from pochade.ops import Shape

Graph = Callable[..., Any]
Inputs = Mapping[str, tuple[Shape, str]]

DEFAULT_SHARE = 0.5
"""The share of the memory that the process may use."""
UNKNOWN_MEMORY = 4 * 10**9
"""The budget in bytes if the system does not report its memory."""

VALUE_BYTES: Mapping[str, float] = {"f32": 4.0, "bf16": 2.0, "f16": 2.0}
"""Precision -> bytes of a compiled weight and of an activation."""
COPIES = 1.14
"""A factor for compiled weights: the engine keeps some in two layouts (measured, as in `memory_plan`)."""
ACTIVATIONS = 3.2
"""The size of all activations relative to the largest tensor. Measured: 2.0 for SD 1.5's UNet, 3.1 for its
decoder."""
GRAPH_BYTES = 0.06e9
"""The size of any graph besides weights and activations."""


def default_budget() -> int:
    """Return the default budget in bytes: half of the memory that this process may use."""
    memory = usable_memory_bytes()
    return UNKNOWN_MEMORY if memory is None else int(memory * DEFAULT_SHARE)


def graph_bytes(engine: Engine, function: Graph, inputs: Inputs, *, restored: bool) -> int:
    """Estimate the process memory of a compiled graph in bytes.

    function: `f(ops, w, **inputs)`. restored: whether it was read from disk; a graph that was compiled in
    this process also holds the weights that were rounded for it. The result is 0 for engines whose functions
    share one copy of the weights (torch, numpy).
    """
    if not getattr(engine, "copies_weights", False):
        return 0
    try:
        shape = infer_shapes(function, inputs)
    except ValueError:  # the engine will report the error
        return 0
    value = VALUE_BYTES[engine.precision]
    in_bytes = {name.partition("[")[0] for name in cast(QuantizingEngine, engine).grids}
    weights = 0.0
    for name, sides in shape.parameters.items():
        size = 1.0 if name in in_bytes else value
        rounded = name in in_bytes or (engine.precision == "bf16" and len(sides) >= 2)
        weights += math.prod(sides) * (size * COPIES + (0 if restored or not rounded else size))
    return int(weights + ACTIVATIONS * shape.largest * value + GRAPH_BYTES)


@dataclass(eq=False)
class _Entry:
    """A graph, or the entry of one that is being compiled."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    graph: Graph | None = None
    size: int = 0
    used: int = 0  # when, by the clock of `CompiledGraphs`
    running: int = 0


class CompiledGraphs:
    """Graphs by owner (a network) and form; a graph is dropped with its owner.

    budget_bytes: None means `default_budget()`. Running graphs are never dropped, nor those that the current
    drawing has used (see `begin_part`), so a single drawing may exceed the budget. Threads may share it.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.budget_bytes = default_budget() if budget_bytes is None else budget_bytes
        self._kept: WeakKeyDictionary[object, dict[object, _Entry]] = WeakKeyDictionary()
        self._lock = threading.RLock()  # a graph's owner may be collected while it is held
        self._clock = 0
        self._part_began = 0

    @property
    def held_bytes(self) -> int:
        """The estimated size of all cached graphs."""
        with self._lock:
            return sum(each.size for forms in self._kept.values() for each in forms.values())

    def of(self, owner: object) -> Mapping[object, Graph]:
        """Return the graphs of one owner, by form."""
        with self._lock:
            forms = self._kept.get(owner, {})
            return {form: each.graph for form, each in forms.items() if each.graph is not None}

    def begin_part(self) -> None:
        """Begin a drawing, or a part of one that does not need the graphs of earlier parts.

        Graphs used before may be dropped from now on. Without this, a drawing that alternates between two
        graphs could drop each for the other at every step.
        """
        with self._lock:
            self._clock += 1
            self._part_began = self._clock

    @contextmanager
    def using(
        self, owner: object, form: object, size: Callable[[bool | None], int], make: Callable[[], Graph]
    ) -> Iterator[Graph]:
        """Provide the graph, created if it is not cached.

        size: estimates bytes from whether the graph was restored from disk (None: not created yet). Other
        graphs are dropped until it fits. Raises what `make` raises.
        """
        with self._lock:
            entry = self._kept.setdefault(owner, {}).setdefault(form, _Entry())
            entry.running += 1
            self._touch(entry)
        try:
            with entry.lock:
                if entry.graph is None:
                    self._make(owner, form, entry, size, make)
                graph = entry.graph
            assert graph is not None
            yield graph
        finally:
            with self._lock:
                entry.running -= 1

    def drop(self, owner: object) -> None:
        """Drop the graphs of one owner; they are created again when they are next used."""
        with self._lock:
            self._kept.pop(owner, None)

    # --- inside -------------------------------------------------------------------------------------------

    def _make(
        self,
        owner: object,
        form: object,
        entry: _Entry,
        size: Callable[[bool | None], int],
        make: Callable[[], Graph],
    ) -> None:
        expected = size(None)
        with self._lock:
            entry.size = expected
        self._make_room()
        try:
            entry.graph = make()
        except BaseException:
            with self._lock:
                entry.size = 0
                self._kept.get(owner, {}).pop(form, None)
            raise
        found = size(getattr(entry.graph, "restored", False))
        with self._lock:
            entry.size = found

    def _touch(self, entry: _Entry) -> None:
        self._clock += 1
        entry.used = self._clock

    def _make_room(self) -> None:
        """Drop the least recently used graphs until the rest, including those being created, fit."""
        with self._lock:
            over = self.held_bytes - self.budget_bytes
            idle = [
                (each.used, forms, form)
                for forms in self._kept.values()
                for form, each in forms.items()
                if each.graph is not None and not each.running and each.used < self._part_began
            ]
            dropped = []
            for _, forms, form in sorted(idle, key=lambda found: found[0]):
                if over <= 0:
                    break
                dropped.append(forms.pop(form))
                over -= dropped[-1].size
        if not dropped:
            return
        for each in dropped:
            wait_stored = getattr(each.graph, "wait_stored", None)
            if wait_stored is not None:  # a thread that writes the graph to the disk holds it too
                wait_stored()
            each.graph = None
        release()
