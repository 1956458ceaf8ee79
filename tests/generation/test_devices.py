"""Drawing on a device: arrays that stay on it, batches in one call, joined ControlNets.

Uses torch's CPU device; tests that need a GPU are in `bench/gpu.py`.
"""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pochade.engines.torch import TorchEngine
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.request_options import Control
from tests.reference import FACTOR, make_controlnet, psnr

OPTIONS: dict[str, Any] = {"width": 10 * FACTOR, "height": 6 * FACTOR, "cfg_scale": 5.0, "steps": 6}
PROMPT = "a red fox in the snow"
ALIKE = 55  # dB


@pytest.fixture
def three_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each evaluation of a UNet, which takes three pictures at a time."""
    monkeypatch.setattr(TorchEngine, "pictures_at_once", lambda engine, numbers: 3)
    rows: list[int] = []
    run = Network.run

    def watched(self: Network, function: Any, **arrays: Any) -> Any:
        if "time" in arrays:
            rows.append(len(arrays["x"]))
        return run(self, function, **arrays)

    monkeypatch.setattr(Network, "run", watched)
    return rows


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("SD 1.5", {"sampler": "DPM++ 2M"}),
        ("SD 1.5", {"sampler": "Euler a", "speed": "fast"}),
        ("SD 1.5", {"prompt": "a red fox AND the snow :0.7 AND a cat", "sampler": "Euler"}),
        ("SD 2.1", {"cfg_scale": 1.0, "sampler": "Euler"}),
        ("SDXL", {"sampler": "DPM++ 2M SDE"}),
        ("inpainting", {"sampler": "Euler"}),
        ("LCM", {"sampler": "LCM", "cfg_scale": 4.0}),
    ],
)
def test_pictures_together_are_the_pictures_alone(model, three_at_once, family, more):
    pipeline = model(family).load("torch")
    options = {"prompt": PROMPT, **OPTIONS, **more}
    batch = pipeline.txt2img(seed=40, batch_size=4, **options)
    assert {3, 6, 9, 12} & set(three_at_once)  # three pictures, each with one row or several
    for i, picture in enumerate(batch.images):
        alone = pipeline.txt2img(seed=40 + i, **options).images[0]
        assert psnr(picture, alone) > ALIKE
    assert psnr(batch.images[0], batch.images[1]) < 35


def drawing(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((OPTIONS["width"], OPTIONS["height"]), Image.Resampling.NEAREST)


@pytest.fixture
def controls(tmp_path):
    def make(family: str, count: int = 2) -> tuple[Control, ...]:
        found = []
        for seed in range(count):
            folder = tmp_path / f"{family} {seed}"
            make_controlnet(family, seed, gain=1.0).save_pretrained(folder)
            found.append(Control(model=folder, image=drawing(seed), strength=0.6 + 0.3 * seed))
        return tuple(found)

    return make


@pytest.mark.parametrize("family", ["SD 1.5", "SDXL"])
def test_joined_controlnets_draw_what_they_draw_one_after_another(
    model, controls, three_at_once, monkeypatch, family
):
    pipeline = model(family).load("torch")
    options = {"prompt": PROMPT, **OPTIONS, "controls": controls(family), "sampler": "Euler", "seed": 3}
    joined = pipeline.txt2img(batch_size=2, **options).images
    assert len(pipeline.networks.controlled_unets) == 1
    monkeypatch.setattr(TorchEngine, "joins", False)
    apart = pipeline.txt2img(batch_size=2, **options).images
    for one, other in zip(joined, apart, strict=True):
        assert psnr(one, other) > ALIKE
    assert psnr(joined[0], pipeline.txt2img(**{**options, "controls": ()}).images[0]) < 40


def test_a_joined_unet_is_made_once_and_goes_with_its_unet(model, controls):
    pipeline = model("SD 1.5").load("torch")
    options = {"prompt": PROMPT, **OPTIONS, "controls": controls("SD 1.5", 1), "seed": 3, "steps": 2}
    pipeline.txt2img(**options)
    (first,) = pipeline.networks.controlled_unets[pipeline.networks.unet].values()
    weaker = tuple(Control(model=each.model, image=each.image, strength=0.2) for each in options["controls"])
    pipeline.txt2img(
        **{**options, "controls": weaker}
    )  # another strength is another number, no other function
    (second,) = pipeline.networks.controlled_unets[pipeline.networks.unet].values()
    assert second is first and len(first.compiled) == 1
    pipeline.networks.release()
    assert not pipeline.networks.controlled_unets


# --- no 64-bit floats, no complex numbers: MPS has neither -----------------------------------------------


class Watching(TorchDispatchMode):
    """Collects the types of all tensors that any operation of torch reads or makes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs, result)):
            if isinstance(each, torch.Tensor):
                self.seen.add(each.dtype)
        return result


ABSENT = {torch.float64, torch.complex32, torch.complex64, torch.complex128}


def watched(pipeline: Any, monkeypatch: pytest.MonkeyPatch, draw: Any) -> set[torch.dtype]:
    """What drawing makes. Other threads have no mode of their own, so the decoder is prepared before."""
    monkeypatch.setattr(Networks, "prepare_decode", lambda self, shape: None)
    with Watching() as mode:
        draw(pipeline)
    return mode.seen


@pytest.mark.parametrize("precision", ["f32", "f16"])
@pytest.mark.parametrize(
    ("family", "sampler"),
    [
        ("SD 1.5", "DPM++ 2M"),
        ("SD 1.5", "DPM adaptive"),
        ("SD 1.5", "DPM++ 2M SDE Heun"),
        ("SD 1.5", "Restart"),
        ("SD 2.1", "UniPC"),
        ("SDXL", "Euler a"),
        ("SDXL", "LMS"),
        ("LCM", "LCM"),
        ("SD 1.5", "TCD"),
        ("inpainting", "DPM++ SDE"),
    ],
)
def test_drawing_makes_nothing_that_metal_has_not(model, monkeypatch, family, sampler, precision):
    pipeline = model(family).load("torch", precision)
    seen = watched(
        pipeline,
        monkeypatch,
        lambda it: it.txt2img(PROMPT, seed=5, batch_size=2, **{**OPTIONS, "sampler": sampler}),
    )
    assert torch.float32 in seen and (precision == "f32" or torch.float16 in seen)
    assert not seen & ABSENT


def test_other_ways_of_drawing_make_nothing_of_it_either(model, monkeypatch, controls):
    pipeline = model("SD 1.5").load("torch")
    size = OPTIONS["width"], OPTIONS["height"]
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))

    def draw(it: Any) -> None:
        options = {**OPTIONS, "seed": 5, "steps": 4}
        it.inpaint(PROMPT, image=drawing(1), mask=mask, fill="noise", **options)
        it.txt2img(PROMPT, controls=controls("SD 1.5"), guidance_rescale=0.5, **options)
        it.txt2img("a fox MASK(0 0.5) AND a cat MASK(0.5 1)", speed="fast", tiling=True, **options)

    assert not watched(pipeline, monkeypatch, draw) & ABSENT


def test_the_watch_sees_what_it_is_to_see() -> None:
    with Watching() as mode:
        torch.ones(2) * torch.ones(2, dtype=torch.float64)
        torch.fft.fft(torch.ones(4))
    assert mode.seen & ABSENT == {torch.float64, torch.complex64}
