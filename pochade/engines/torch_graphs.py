"""CUDA graphs: a function's kernels, recorded once and replayed as one, without `torch.compile`.

A UNet launches some two thousand kernels, most of them shorter than the launch. Replaying a recording takes
one launch; it needs static shapes, which all functions here have, and memory that stays where it is.
"""

import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

Tensor = torch.Tensor
Run = Callable[..., Any]

Record = Callable[[Run, Mapping[str, Tensor]], tuple[Callable[[], None], Any]]
"""Records a function on inputs that stay where they are: what replays it, and the results, which each replay
writes anew."""

WARM_UPS = 2
"""Calls before a recording, in which cuDNN and cuBLAS look for kernels and take their memory."""


class Recorded:
    """A function of tensors that is called as it is the first time, then recorded, and replayed from then on.

    What is called once, as for a single step, is not worth a recording. Threads may share it; they take
    turns. Where recording fails, a warning says so, and the function is called as it is.
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
            warnings.warn(f"no CUDA graph, which costs speed alone: {error}", RuntimeWarning, stacklevel=4)
            self._failed = True
            return False
        self._inputs = inputs
        return True


class CudaRecorder:
    """Records on a CUDA device. All its recordings share the memory of what is in between, since they are
    replayed one after another, on one stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, run: Run, inputs: Mapping[str, Tensor]) -> tuple[Callable[[], None], Any]:
        with torch.cuda.device(self._device):
            return self._recorded(run, inputs)

    def _recorded(self, run: Run, inputs: Mapping[str, Tensor]) -> tuple[Callable[[], None], Any]:
        current = torch.cuda.current_stream()
        beside = torch.cuda.Stream()
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                run(**inputs)
        current.wait_stream(beside)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Another thread may move the decoder's weights at this time.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            results = run(**inputs)
        return graph.replay, results
