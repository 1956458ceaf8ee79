"""CUDA graphs: a function's kernels are recorded once and replayed together, without `torch.compile`.

A UNet launches some two thousand kernels, most of which take less time than their launch. A replay takes one
launch. It needs static shapes, which all functions here have, and fixed memory addresses.
"""

import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

Tensor = torch.Tensor
Run = Callable[..., Any]

Record = Callable[[Run, Mapping[str, Tensor]], tuple[Callable[[], None], Any]]
"""Records a function on inputs at fixed addresses. Returns the replay and the results, which each replay
overwrites."""

WARM_UPS = 2
"""Calls before recording, in which cuDNN and cuBLAS choose kernels and allocate memory."""


class Recorded:
    """A function of tensors that runs directly the first time, is then recorded, and replayed from then on.

    A function that is called once, as for a single step, is not worth recording. Threads may share it; calls
    are serialised. If recording fails, a warning says so and the function runs directly.
    """

    def __init__(self, run: Run, record: Record) -> None:
        self._run, self._record = run, record
        self._called = self._failed = False
        self._inputs: dict[str, Tensor] = {}
        self._replay: Callable[[], None] | None = None
        self._results: Any = None
        self._turn = threading.Lock()

    def __call__(self, **values: Tensor) -> Any:
        with self._turn:
            if self._failed or not self._called:
                self._called = True
                return self._run(**values)
            if self._replay is None and not self._begin(values):
                return self._run(**values)
            assert self._replay is not None
            for name, value in values.items():
                self._inputs[name].copy_(value)
            self._replay()
            if isinstance(self._results, tuple):
                return tuple(result.clone() for result in self._results)
            return self._results.clone()

    def _begin(self, values: Mapping[str, Tensor]) -> bool:
        inputs = {name: value.clone() for name, value in values.items()}
        try:
            self._replay, self._results = self._record(self._run, inputs)
        except RuntimeError as error:  # out of memory, or a kernel that cannot be recorded
            warnings.warn(
                f"recording a CUDA graph failed, so drawing is slower: {error}", RuntimeWarning, stacklevel=4
            )
            self._failed = True
            return False
        self._inputs = inputs
        return True


class CudaRecorder:
    """Records on a CUDA device. All recordings share the memory of intermediate results, since they are
    replayed one after another on one stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, run: Run, inputs: Mapping[str, Tensor]) -> tuple[Callable[[], None], Any]:
        with torch.cuda.device(self._device):
            return self._recorded(run, inputs)

    def _recorded(self, run: Run, inputs: Mapping[str, Tensor]) -> tuple[Callable[[], None], Any]:
        current = torch.cuda.current_stream()
        stream = torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                run(**inputs)
        current.wait_stream(stream)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Another thread may move the decoder's weights at this time.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            results = run(**inputs)
        return graph.replay, results
