"""Pictures with ControlNets, compared with diffusers' pipelines, and general properties."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    MultiControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from PIL import Image
from safetensors.torch import save_file

from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.generation import conditioning
from pochade.generation.controlnet import control_picture
from pochade.request_options import Control, Hires
from tests.pipeline.measure import SAMPLERS, draw_ours, draw_theirs, least_psnr, starting_noise
from tests.reference import FACTOR, make_controlnet, psnr

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "a red fox in the snow", "the 4k cat"
SEED, WIDTH, HEIGHT = 5, 10 * FACTOR, 6 * FACTOR
ALIKE, OTHER = 50, 45  # dB


def drawing(seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Something to steer by: blobs of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)


@pytest.fixture(scope="session")
def controlnet(tmp_path_factory):
    """`controlnet(family, seed)`: diffusers' own, and the folder that it saved."""
    made = {}

    def make(family, seed=0):
        if (family, seed) not in made:
            theirs = make_controlnet(family, seed, gain=1.0)
            folder = tmp_path_factory.mktemp("controlnet")
            theirs.save_pretrained(folder)
            made[family, seed] = SimpleNamespace(theirs=theirs, folder=folder)
        return made[family, seed]

    return make


def theirs_of(model, controlnets, label="Euler", **options):
    kind = StableDiffusionXLControlNetPipeline if model.load_xl else StableDiffusionControlNetPipeline
    parts = dict(model.theirs.components)
    for unused in ("image_encoder", "feature_extractor") if model.load_xl else ():
        parts.pop(unused, None)
    pipeline = kind(**parts, controlnet=controlnets, **({"add_watermarker": False} if model.load_xl else {}))
    pipeline.set_progress_bar_config(disable=True)
    return draw_theirs(
        pipeline, label, starting_noise((SEED,)), (SEED,), prompt=[PROMPT], negative_prompt=[NEGATIVE],
        **{"steps": 6, **options},
    )  # fmt: skip


def ours_of(model, *controls, engine="torch", label="Euler", **options):
    return draw_ours(
        model.load(engine), label, starting_noise((SEED,)), (SEED,), PROMPT, negative_prompt=NEGATIVE,
        controls=controls, **{"steps": 6, **options},
    )  # fmt: skip


def family(model, name):
    made = model(name)
    return SimpleNamespace(theirs=made.theirs, load=made.load, load_xl=name == "SDXL")


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("SD 1.5", "torch"),
        ("SD 1.5", "openvino"),
        ("SD 1.5", "numpy"),
        ("SD 2.1", "torch"),
        ("SDXL", "torch"),
    ],
)
def test_a_picture_as_diffusers(model, controlnet, name, engine):
    made, net = family(model, name), controlnet(name)
    theirs = theirs_of(made, net.theirs, image=drawing(), controlnet_conditioning_scale=0.8)
    control = Control(image=drawing(), model=net.folder, strength=0.8)
    assert least_psnr(ours_of(made, control, engine=engine), theirs) > ALIKE
    assert least_psnr(ours_of(made), theirs) < OTHER


def test_texts_that_are_evaluated_one_by_one_are_steered_alike(model, controlnet, monkeypatch):
    pipeline = model("SD 1.5").load()
    control = Control(image=drawing(), model=controlnet("SD 1.5").folder)
    options = {
        "seed": SEED,
        "steps": 4,
        "width": HEIGHT,
        "height": HEIGHT,
        "negative_prompt": "the fox " * 80,
    }
    drawn = [pipeline.txt2img(PROMPT, **options).images[0]]
    drawn.append(pipeline.txt2img(PROMPT, controls=(control,), **options).images[0])
    monkeypatch.setattr(conditioning, "common_length", lambda _: None)
    drawn.append(pipeline.txt2img(PROMPT, controls=(control,), **options).images[0])
    plain, at_once, apart = map(np.asarray, drawn)
    assert psnr(apart, at_once) > 60 > psnr(plain, at_once)


@pytest.mark.parametrize("label", ["Euler", "DPM++ 2M"])
def test_from_a_step_to_a_step(model, controlnet, label):
    """diffusers leave out the steps that do not lie between the two shares entirely."""
    made, net = family(model, "SD 1.5"), controlnet("SD 1.5")
    during = {"control_guidance_start": 0.2, "control_guidance_end": 0.7}
    theirs = theirs_of(made, net.theirs, label, image=drawing(), steps=10, **during)
    control = Control(image=drawing(), model=net.folder, start=0.2, end=0.7)
    assert least_psnr(ours_of(made, control, label=label, steps=10), theirs) > ALIKE
    always = replace(control, start=0.0, end=1.0)
    assert least_psnr(ours_of(made, always, label=label, steps=10), theirs) < OTHER


def test_several_at_once(model, controlnet):
    made, nets = family(model, "SD 1.5"), [controlnet("SD 1.5"), controlnet("SD 1.5", 1)]
    images, strengths, ends = [drawing(1), drawing(2)], [0.5, 1.2], [1.0, 0.5]
    theirs = theirs_of(
        made, MultiControlNetModel([net.theirs for net in nets]), image=images,
        controlnet_conditioning_scale=strengths, control_guidance_end=ends,
    )  # fmt: skip
    controls = [
        Control(image=image, model=net.folder, strength=strength, end=end)
        for image, net, strength, end in zip(images, nets, strengths, ends, strict=True)
    ]
    assert least_psnr(ours_of(made, *controls), theirs) > ALIKE
    assert least_psnr(ours_of(made, controls[0]), theirs) < OTHER


def test_without_strength_nothing_changes(model, controlnet):
    made, net = family(model, "SD 1.5"), controlnet("SD 1.5")
    plain = ours_of(made)
    np.testing.assert_array_equal(
        ours_of(made, Control(image=drawing(), model=net.folder, strength=0)), plain
    )
    weak = ours_of(made, Control(image=drawing(), model=net.folder, strength=0.05))
    strong = ours_of(made, Control(image=drawing(), model=net.folder, strength=1.0))
    assert psnr(weak[0], plain[0]) > psnr(strong[0], plain[0])


@pytest.mark.parametrize("sampler", [*SAMPLERS, "DPM adaptive", "Restart", "DPM2 a"])
def test_every_sampler_is_steered(model, controlnet, sampler):
    pipeline, net = model("SD 1.5").load(), controlnet("SD 1.5")
    control = Control(image=drawing(), model=net.folder, end=0.5)
    options = {"seed": 1, "steps": 4, "sampler": sampler, "width": WIDTH, "height": HEIGHT}
    steered = pipeline.txt2img(PROMPT, controls=(control,), **options)
    assert steered.images[0] != pipeline.txt2img(PROMPT, **options).images[0]


def test_what_the_picture_says_of_it(model, controlnet):
    control = Control(image=drawing(), model=controlnet("SD 1.5").folder, end=0.5, preprocessor="canny")
    (text,) = model("SD 1.5").load().txt2img("", steps=1, seed=1, controls=(control,)).infotexts
    assert 'ControlNet 0: "Module: canny, Model: ' in text
    assert "Weight: 1, Resize Mode: Crop and Resize, Guidance Start: 0, Guidance End: 0.5," in text


# --- with the other ways ------------------------------------------------------------------------------------


def test_over_a_picture_and_in_two_passes(model, controlnet):
    pipeline, net = model("SD 1.5").load(), controlnet("SD 1.5")
    controls = (Control(image=drawing(), model=net.folder),)
    options = {"seed": 1, "steps": 3}
    for given, call in (
        ({"image": drawing(3)}, pipeline.img2img),
        ({"hires": Hires(scale=2, steps=2), "width": WIDTH, "height": HEIGHT}, pipeline.txt2img),
        ({"tiling": True}, pipeline.txt2img),
    ):
        plain, steered = call("", **given, **options), call("", controls=controls, **given, **options)
        assert steered.images[0].size == plain.images[0].size
        assert steered.images[0] != plain.images[0]


def test_a_part_is_steered_by_the_part_of_the_control_that_lies_over_it(model, controlnet):
    pipeline, net = model("SD 1.5").load(), controlnet("SD 1.5")
    size = (80, 48)
    mask = Image.new("L", size)
    mask.paste(255, (8, 8, 32, 40))

    def drawn(control):
        return pipeline.inpaint(
            "", image=drawing(3, size), mask=mask, mask_blur=0, only_masked=True, padding=0, seed=1, steps=3,
            width=HEIGHT, height=HEIGHT, controls=(Control(image=control, model=net.folder),),
        ).images[0]  # fmt: skip

    whole = drawing(4, size)
    elsewhere = whole.copy()
    elsewhere.paste("black", (48, 0, 80, 48))
    here = whole.copy()
    here.paste("black", (8, 8, 32, 40))
    assert drawn(elsewhere) == drawn(whole)
    assert drawn(here) != drawn(whole)
    smaller = drawn(whole.resize((40, 24), Image.Resampling.BOX))
    assert psnr(smaller, drawn(whole)) > psnr(drawn(here), drawn(whole)) + 3


def test_an_inpainting_model_is_steered_by_the_latent_alone(model, controlnet):
    """Its mask and its masked picture are none of a ControlNet's business, which has four channels."""
    pipeline, net = model("inpainting").load(), controlnet("inpainting")  # of as many layers
    control = Control(image=drawing(), model=net.folder)
    options = {"seed": 1, "steps": 2, "width": WIDTH, "height": HEIGHT}
    steered = pipeline.txt2img(PROMPT, controls=(control,), **options)
    assert steered.images[0] != pipeline.txt2img(PROMPT, **options).images[0]


# --- refusals -----------------------------------------------------------------------------------------------


def test_another_family_is_refused_by_the_widths_of_its_text(model, controlnet):
    control = Control(image=drawing(), model=controlnet("SDXL").folder)
    with pytest.raises(InvalidRequest, match=r"reads a text 56 wide, this model one 24 wide"):
        model("SD 1.5").load().txt2img("", steps=1, controls=(control,))


def test_another_number_of_layers_is_refused(model, controlnet):
    control = Control(image=drawing(), model=controlnet("SD 2.1").folder)
    with pytest.raises(InvalidRequest, match=r"layers per level \(1, 1, 1\), the model's \(2, 2, 2\)"):
        model("SD 1.5").load().txt2img("", steps=1, controls=(control,))


def test_what_is_no_controlnet(model, tmp_path):
    pipeline = model("SD 1.5").load()
    adapter = tmp_path / "adapter.safetensors"
    save_file({"body.0.weight": torch.zeros(2)}, adapter)
    for path, fault in (
        (tmp_path / "nowhere", "does not exist"),
        (adapter, "T2I-Adapter"),
        (
            model("SD 1.5").folder / "vae" / "diffusion_pytorch_model.safetensors",
            "is not a ControlNet: none of",
        ),
    ):
        with pytest.raises(InvalidCheckpoint, match=fault):
            pipeline.txt2img("", steps=1, controls=(Control(image=drawing(), model=path),))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"strength": 3}, "strength of a control is 3; it must lie between 0 and 2"),
        ({"start": 0.5, "end": 0.25}, "end of a control is 0.25; it must lie between 0.5 and 1"),
        ({"resize_mode": "bend"}, "resize_mode is 'bend'"),
    ],
)
def test_numbers_that_make_no_sense(options, fault):
    with pytest.raises(InvalidRequest, match=fault):
        Control(image=drawing(), model=Path("x"), **options)


def test_the_control_picture_is_fitted_first_and_between_0_and_1():
    control = Control(image=drawing(size=(100, 100)), model="x", preprocessor="invert")
    pixels = control_picture(control, 40, 24)
    assert pixels.shape == (1, 3, 24, 40)
    plain = control_picture(replace(control, preprocessor="none"), 40, 24)
    np.testing.assert_allclose(pixels + plain, 1, atol=1e-6)
    with pytest.raises(InvalidRequest, match="preprocessor 'magic' is unknown; one of: none, canny, invert"):
        control_picture(replace(control, preprocessor="magic"), 40, 24)
