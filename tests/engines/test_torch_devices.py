"""Device handling of the torch engine, tested on torch's CPU device with a fake CUDA graph recorder."""

import threading
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pochade.engines.numpy import NumpyEngine
from pochade.engines.openvino import OpenVinoEngine
from pochade.engines.torch import MOST_AT_ONCE, TorchEngine, at_once
from pochade.engines.torch_graphs import Recorded
from pochade.weights import Parts, View

GIB = 2**30


def line(ops: Any, w: Any, x: Any) -> Any:
    return ops.linear(x, w("weight", (3, 3)))


def both(ops: Any, w: Any, x: Any) -> Any:
    return x * 2.0, x + 1.0


TENSORS = {"weight": np.arange(9, dtype=np.float32).reshape(3, 3)}
INPUTS = {"x": ((1, 3), "f32")}
X = np.array([[1, 2, 3]], np.float32)


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_results_are_where_inputs_were(precision: str) -> None:
    engine = TorchEngine("cpu", precision)
    run = engine.compile(line, TENSORS, INPUTS)
    there = engine.place(X)
    assert isinstance(there, torch.Tensor) and there.dtype == torch.float32
    result = run(x=there)
    assert isinstance(result, torch.Tensor) and result.dtype == torch.float32
    host = run(x=X)
    assert isinstance(host, np.ndarray) and host.dtype == np.float32
    np.testing.assert_array_equal(engine.fetch(result), host)
    assert all(isinstance(each, torch.Tensor) for each in engine.compile(both, {}, INPUTS)(x=there))


@pytest.mark.parametrize("make", [NumpyEngine, lambda: OpenVinoEngine(threads=1), TorchEngine])
def test_arrays_between_evaluations(make: Callable[[], Any]) -> None:
    engine = make()
    placed = [engine.place(array) for array in (np.ones((1, 2)), np.zeros((2, 2), np.float32))]
    joined = engine.fetch(engine.join(placed))
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined, [[1, 1], [0, 0], [0, 0]])
    wide = engine.fetch(engine.join([placed[1], placed[1] + 2.0], axis=1))
    np.testing.assert_array_equal(wide, [[0, 0, 2, 2]] * 2)
    np.testing.assert_array_equal(engine.place(engine.place(X)), X)
    assert engine.pictures_at_once(10**9) == 1
    assert engine.repeated() is engine


def test_parts_are_one_set_of_tensors_and_share_what_is_on_the_device() -> None:
    engine = TorchEngine("cpu", "bf16")
    other = {"weight": np.eye(3, dtype=np.float32)}

    def chain(ops: Any, w: View, x: Any) -> Any:
        return line(ops, w / "b", line(ops, w / "a", x))

    alone = engine.compile(line, TENSORS, INPUTS)
    parts = Parts({"a": TENSORS, "b": other})
    together = engine.compile(chain, parts, INPUTS)
    np.testing.assert_array_equal(together(x=X), alone(x=X))
    assert len(engine._placed) == 2
    assert engine._placed[id(TENSORS)].keys() == TENSORS.keys()
    assert list(parts) == ["a.weight", "b.weight"] and len(parts) == 2
    assert parts.get("c.weight") is None and parts.get("a.bias") is None


# --- recordings ---------------------------------------------------------------------------


class Recorder:
    """As CUDA records: results stay at one place, and a replay reads its inputs where they were."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(
        self, run: Callable[..., Any], inputs: Mapping[str, torch.Tensor]
    ) -> tuple[Callable[[], None], Any]:
        results = run(**inputs)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            for result, new in zip(_parts(results), _parts(run(**inputs)), strict=True):
                result.copy_(new)

        return replay, results


def _parts(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def test_the_second_call_records_and_further_ones_replay() -> None:
    recorder, called = Recorder(), 0

    def run(x: torch.Tensor) -> torch.Tensor:
        nonlocal called
        called += 1
        return x * 2

    recorded = Recorded(run, recorder)
    inputs = [torch.full((2,), float(i)) for i in range(4)]
    results = [recorded(x=inputs[0])]
    assert (called, recorder.recorded) == (1, 0)
    results += [recorded(x=each) for each in inputs[1:]]
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    # each call has a result of its own, of its own inputs, which stay as they were
    assert [each.tolist() for each in results] == [[0, 0], [2, 2], [4, 4], [6, 6]]
    assert [each.tolist() for each in inputs] == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_several_results_are_recorded_too() -> None:
    recorded = Recorded(lambda x: (x + 1, x + 2), Recorder())
    found = [recorded(x=torch.tensor([float(i)])) for i in range(3)]
    assert [[part.item() for part in each] for each in found] == [[1, 2], [2, 3], [3, 4]]


def test_where_recording_fails_the_function_is_called() -> None:
    def fail(run: Any, inputs: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorded = Recorded(lambda x: x + 1, fail)
    recorded(x=torch.zeros(1))
    with pytest.warns(
        RuntimeWarning, match="recording a CUDA graph failed, so drawing is slower: operation not permitted"
    ):
        assert recorded(x=torch.zeros(1)).item() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recorded(x=torch.ones(1)).item() == 2


def test_threads_take_turns_at_a_recording() -> None:
    recorded = Recorded(lambda x: x * 2, Recorder())
    wrong = []

    def work(number: int) -> None:
        for i in range(50):
            value = float(100 * number + i)
            if recorded(x=torch.full((64,), value)).tolist() != [2 * value] * 64:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_engine_that_records_computes_the_same() -> None:
    engine = TorchEngine("cpu", "f32")
    engine._record = Recorder()
    run = engine.compile(line, TENSORS, INPUTS)
    plain = TorchEngine("cpu", "f32").compile(line, TENSORS, INPUTS)
    for factor in range(4):
        np.testing.assert_array_equal(run(x=factor * X), plain(x=factor * X))
    assert engine._record.recorded == 1


# --- on CUDA, whose properties are made up ----------------------------------------------------------------


def on_cuda(precision: str = "f16", *, compiled: bool = False) -> TorchEngine:
    """An engine that believes to be there, as long as it computes nothing."""
    engine = TorchEngine("cpu", precision, compiled=compiled)
    engine.device = torch.device("cuda")
    return engine


def test_only_what_is_called_step_after_step_is_recorded() -> None:
    engine = on_cuda()
    repeated = engine.repeated()
    assert engine._record is None and repeated._record is not None
    assert repeated._placed is engine._placed  # weights lie on the device once
    compiled = on_cuda(compiled=True)
    assert compiled.repeated() is compiled  # it records by itself


@pytest.mark.parametrize(("precision", "rounded"), [("f32", False), ("f16", True), ("bf16", True)])
def test_cudnn_looks_for_kernels_of_what_is_repeated_and_f32_is_f32(precision: str, rounded: bool) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32, cudnn.enabled
    for engine, benchmark in (
        (on_cuda(precision), False),
        (on_cuda(precision).repeated(), True),
        (on_cuda(precision, compiled=True), True),
    ):
        with engine._settings():
            assert (cudnn.benchmark, cudnn.allow_tf32, cudnn.enabled) == (benchmark, rounded, True)
        assert (cudnn.benchmark, cudnn.allow_tf32, cudnn.enabled) == before


@pytest.mark.slow  # imports the compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_the_compiler_is_told_that_weights_stay_where_they_are() -> None:
    engine = TorchEngine("cpu", "f32", compiled=True)
    run = engine.compile(line, TENSORS, INPUTS)
    (weight,) = engine._placed[id(TENSORS)].values()
    assert weight._dynamo_static_input_type == "unguarded"  # type: ignore[attr-defined]
    assert callable(run)


@pytest.mark.parametrize("native", [True, False])
def test_more_range_is_bf16_where_a_device_has_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_cuda().with_f32_range().precision == ("bf16" if native else "f32")
    engine = on_cuda("bf16")
    assert engine.with_f32_range() is engine


def test_a_share_of_the_device_counts_as_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(total_memory=16 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    for share, pictures in ((1.0, MOST_AT_ONCE), (0.25, 5), (0.01, 1)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device, share=share: share)
        assert on_cuda().pictures_at_once(2 * 320 * 64 * 64) == pictures


# --- batches ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device_gib", "widest", "rows", "pictures"),
    [
        (4, 320 * 64 * 64, 2, 5),  # SD 1.5, f16, with guidance
        (4, 320 * 128 * 128, 2, 1),  # XL
        (8, 320 * 128 * 128, 2, 2),
        (80, 320 * 128 * 128, 2, MOST_AT_ONCE),
        (2, 320 * 256 * 256, 2, 1),
    ],
)
def test_pictures_at_once_fit_into_a_quarter(device_gib: int, widest: int, rows: int, pictures: int) -> None:
    assert at_once(device_gib * GIB, 2 * rows * widest) == pictures
