"""`threads`: obeyed, refused, or settled by a container's quota."""

import pytest
import torch

import pochade
from pochade.errors import InvalidRequest
from pochade.loading import engine_choice as choosing
from pochade.loading.engine_choice import choose, make_engine, resolve_threads
from pochade.machine import Processors, processors


def allowed(monkeypatch: pytest.MonkeyPatch, quota: float | None) -> None:
    monkeypatch.setattr(choosing, "processors", lambda: Processors(16, 8, quota))


def chosen(device: str, engine: str) -> choosing.EngineChoice:
    return choosing.EngineChoice(engine=engine, device=device, precision="f32", reason="")


@pytest.mark.parametrize(
    ("asked", "quota", "settled"), [(None, None, None), (None, 2.5, 3), (5, None, 5), (5, 2.5, 5)]
)
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_what_is_asked_for_counts_then_the_quota(monkeypatch, asked, quota, settled, engine):
    allowed(monkeypatch, quota)
    assert resolve_threads(chosen("cpu", engine), asked) == settled


def test_a_quota_says_nothing_to_other_devices(monkeypatch):
    allowed(monkeypatch, 1.0)
    assert resolve_threads(chosen("cuda", "torch"), None) is None


@pytest.mark.parametrize(
    ("threads", "device", "engine", "complaint"),
    [
        (0, "cpu", "openvino", "threads is 0; it must lie between 1 and 1024"),
        (-3, "cpu", "torch", "threads is -3"),
        (2000, "cpu", "openvino", "threads is 2000"),
        (1.5, "cpu", "openvino", "threads is 1.5; it must be a whole number"),
        (True, "cpu", "openvino", "threads is True; it must be a whole number"),
        (
            2,
            "cuda",
            "torch",
            "threads applies only to the CPU, but this would run on 'cuda'; omit it, or use device 'cpu'",
        ),
        (2, "cpu", "numpy", "threads is 2, but the numpy engine cannot limit its threads; omit it"),
    ],
)
def test_what_cannot_be_is_refused(threads, device, engine, complaint):
    with pytest.raises(InvalidRequest) as raised:
        resolve_threads(chosen(device, engine), threads)
    assert complaint in str(raised.value)


def test_openvino_computes_with_them():
    engine = make_engine(choose("cpu", "f32", "openvino"), threads=2)
    compiled = engine.compile(lambda ops, w, x: x + 1, {}, {"x": ((1, 2), "f32")})
    assert compiled.model.get_property("INFERENCE_NUM_THREADS") == min(2, processors().allowed)


def test_torch_computes_with_them(monkeypatch):
    allowed(monkeypatch, None)
    before = torch.get_num_threads()
    try:
        make_engine(choose("cpu", "f32", "torch"), threads=3)
        assert torch.get_num_threads() == 3
        make_engine(choose("cpu", "f32", "torch"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_load_takes_them(model):
    pipeline = model("SD 1.5").load("openvino", threads=1)
    assert pipeline.networks.unet.engine._properties["INFERENCE_NUM_THREADS"] == 1
    with pytest.raises(InvalidRequest, match="threads is 0"):
        pochade.load(device="cpu", threads=0)
