"""A compiled OpenVINO graph as a callable on host arrays."""

import threading
import weakref
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from pochade.engines.openvino_attention import Operations, cut_off
from pochade.engines.openvino_cache import Sink
from pochade.engines.openvino_import import ov
from pochade.engines.openvino_ops import INPUT_TYPES, TUPLE, Array, Constants, Inputs, fits
from pochade.engines.openvino_rounded import Rounded

DESCRIPTION_BYTES = 2**21
"""Bytes reserved for a graph's nodes; those of SD 1.5's UNet take 1.4 MB."""


class Compiled:
    """A compiled graph. It takes keyword host arrays and returns f32 arrays that belong to the caller.

    Threads may share it; calls are serialised. once_used: called in its own thread after the first result.
    """

    once_used: Callable[[], object] | None = None

    def __init__(
        self,
        model: ov.CompiledModel,
        inputs: Inputs,
        keep: Constants | ov.Tensor,
        operations: Operations | None = None,
        rounded: Rounded | None = None,
    ) -> None:
        """operations: the graph's Python operations. rounded: weights that may be stored on disk."""
        weakref.finalize(self, cut_off, operations or []).atexit = False
        self.model = model
        self.restored = not isinstance(keep, Constants)  # from the disk: it holds no rounded weights beside
        self._storing: threading.Thread | None = None
        self._request = model.create_infer_request()
        self._outputs = len(model.outputs)
        self._is_tuple = TUPLE in model.outputs[0].get_names()
        self._inputs = inputs
        self.takes = frozenset(inputs)
        self._keep = keep  # the mapped memory that the compiled model reads its constants from
        self._rounded = rounded
        self._turn = threading.Lock()

    def __call__(self, **arrays: Any) -> Any:
        """Compute the graph. Raises ValueError, naming the input, if one is missing, unknown or misshapen."""
        results = self.all_results(**arrays)
        return results if self._is_tuple else results[0]

    def all_results(self, **arrays: Any) -> tuple[Array, ...]:
        """Compute every result of the graph, in order. Raises ValueError as `__call__` does."""
        if arrays.keys() != self._inputs.keys():
            raise ValueError(f"inputs are {sorted(arrays)}; the graph takes {sorted(self._inputs)}")
        host = {}
        for name, (shape, kind) in self._inputs.items():
            host[name] = np.asarray(arrays[name], INPUT_TYPES[kind], order="C")
            if not fits(host[name].shape, shape):
                raise ValueError(f"input '{name}' is {host[name].shape}; the graph takes {shape}")
        with self._turn:
            # Inputs are read where they lie; outputs are copied, for the next call writes over them.
            results = self._request.infer(host, share_inputs=True, share_outputs=False)
            once_used, self.once_used = self.once_used, None
        if once_used is not None:
            self._storing = threading.Thread(target=once_used, name="keeping a compiled graph", daemon=False)
            self._storing.start()
        return tuple(results[i] for i in range(self._outputs))

    def wait_stored(self) -> None:
        """Wait until the thread that writes this graph to disk, if any, has finished: it holds the graph
        too."""
        if self._storing is not None:
            self._storing.join()

    def take_rounded(self) -> Rounded | None:
        """Return the weights that were rounded for this graph and forget them, so that they can be freed."""
        rounded, self._rounded = self._rounded, None
        return rounded

    @property
    def export_bytes(self) -> int:
        """An upper estimate of what `export` writes: the constants and the nodes."""
        if not isinstance(self._keep, Constants):
            return 0
        return self._keep.held_bytes * 21 // 20 + DESCRIPTION_BYTES

    def export(self, file: IO[bytes]) -> None:
        """Write the compiled graph. Raises OSError if the file cannot take it."""
        sink = Sink(file)
        self.model.export_model(sink)
        if isinstance(self._keep, Constants):
            self._keep.release_pages()  # the graph's own weights were read again for it
        if sink.error is not None:
            raise sink.error
