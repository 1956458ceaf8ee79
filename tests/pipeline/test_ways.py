"""Drawing over pictures, parts of pictures, larger ones, variations, tiles."""

from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

import pochade
from pochade.diffusion.schedule import sigmas
from pochade.errors import InvalidRequest
from pochade.pipeline.drawing import hires
from pochade.pipeline.drawing.canvas import Canvas, over
from pochade.pipeline.drawing.one_pass import Pass, denoise, levels_of
from pochade.pipeline.drawing.pictures import from_image, to_images
from pochade.pipeline.drawing.settling import settle
from pochade.pipeline.drawing.whole import told_of
from pochade.pipeline.pipeline import finish
from pochade.request import USUAL, Request
from pochade.ways import Hires, Source, Variation
from tests.pipeline.measure import SAMPLERS, draw_theirs, least_psnr, starting_noise
from tests.reference import FACTOR, psnr

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "a red fox in the snow", "the 4k cat"
WIDTH, HEIGHT = 10 * FACTOR, 6 * FACTOR
STEPS, STRENGTH, THEIR_STRENGTH = 20, 0.6, 0.65  # both do 13 of the steps


def photo(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Something with colours and edges."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 3), np.cos(y / 4), np.sin((x + y) / 5)], axis=-1)
    return Image.fromarray((127.5 + 100 * waves).astype(np.uint8))


def part(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    mask = Image.new("L", size)
    for box in boxes:
        mask.paste(255, box)
    return mask


LEFT = part((0, 0, WIDTH // 2, HEIGHT))


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@contextmanager
def their_noise(module: str, noise: np.ndarray):
    """The pipelines over pictures draw their noise themselves."""
    with patch(
        f"diffusers.pipelines.stable_diffusion.{module}.randn_tensor", lambda *_, **__: torch.tensor(noise)
    ):
        yield


def theirs_over(model, pipeline, module, label, noise, **inputs):
    with their_noise(module, noise):
        return draw_theirs(
            pipeline, label, noise, (5,), steps=STEPS, prompt=PROMPT, negative_prompt=NEGATIVE,
            strength=THEIR_STRENGTH, **inputs,
        )  # fmt: skip


@pytest.mark.parametrize("label", ["Euler", "DPM++ 2M", "DDIM"])
def test_over_a_picture_as_diffusers(model, label):
    made, noise = model("SD 1.5"), starting_noise((5,))
    pipeline = made.load()
    parts = made.theirs.components
    img2img = StableDiffusionImg2ImgPipeline(**parts)
    img2img.set_progress_bar_config(disable=True)
    latent = torch.from_numpy(pipeline.encode_image(photo()))
    with patch_size(img2img):
        theirs = theirs_over(made, img2img, "pipeline_stable_diffusion_img2img", label, noise, image=latent)
    ours = pipeline.img2img(
        PROMPT, image=photo(), denoising_strength=STRENGTH, negative_prompt=NEGATIVE, sampler=label, seed=5,
        schedule=SAMPLERS[label].schedule, steps=STEPS, noise=noise,
    )  # fmt: skip
    assert least_psnr([array(image) for image in ours.images], theirs) > 60


@contextmanager
def patch_size(pipeline):
    """img2img takes neither a size nor latents; `draw_theirs` gives them to every pipeline."""
    original = type(pipeline).__call__

    def call(self, *, latents=None, height=None, width=None, **inputs):
        return original(self, **inputs)

    with patch.object(type(pipeline), "__call__", call):
        yield


def test_an_inpainting_model_is_told_the_mask_and_what_is_left_of_the_picture(model):
    """diffusers do not hold such a model to the old picture, so here ours is not either."""
    made, noise = model("inpainting"), starting_noise((5,))
    pipeline = made.load()
    source = Source(image=photo(), mask=LEFT, mask_blur=0, denoising_strength=STRENGTH)
    hidden = np.where(array(LEFT) > 0, np.float32(0), from_image(photo()))
    left = pipeline.networks.encode(hidden[None])
    with patch_latents(made.theirs):
        theirs = theirs_over(
            made, made.theirs, "pipeline_stable_diffusion_inpaint", "Euler", noise,
            image=torch.from_numpy(pipeline.encode_image(photo())),
            mask_image=torch.from_numpy(array(LEFT)[None, None] / 255).float(),
            masked_image_latents=torch.from_numpy(left),
        )  # fmt: skip
    asked = Request(
        prompt=PROMPT, negative_prompt=NEGATIVE, seed=5, width=WIDTH, height=HEIGHT, source=source,
        steps=STEPS, sampler="Euler", schedule="Karras",
    )  # fmt: skip
    request, sampler = settle(pipeline.networks, asked, USUAL, ())
    canvas = replace(over(pipeline.networks, source, WIDTH, HEIGHT), mask=None)
    one = Pass(
        request=request, canvas=canvas, told=told_of(pipeline.model, request)[0], noise=noise,
        levels=levels_of(pipeline.schedule, pipeline.networks, sampler, request, canvas),
    )  # fmt: skip
    *_, last = denoise(pipeline.networks, pipeline.schedule, pipeline.parametrization, sampler, one)
    ours = to_images(pipeline.networks.decode(last.x))
    assert least_psnr([array(image) for image in ours], theirs) > 60


@contextmanager
def patch_latents(pipeline):
    original = type(pipeline).__call__

    def call(self, *, latents=None, **inputs):
        return original(self, **inputs)

    with patch.object(type(pipeline), "__call__", call):
        yield


# --- what must hold for any model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(model):
    return model("SD 1.5").load()


def test_more_strength_changes_more(pipeline):
    def distance(strength):
        result = pipeline.img2img("", image=photo(), denoising_strength=strength, seed=1, steps=10)
        return np.abs(array(result.images[0]) - kept).mean()

    kept = array(pipeline.decode(pipeline.encode_image(photo()))[0])
    none, some, most = (distance(strength) for strength in (0.0, 0.5, 1.0))
    assert none < some < most


@pytest.mark.parametrize("fill", ["original", "surroundings", "noise", "nothing"])
def test_what_is_not_masked_stays_as_it_is(pipeline, fill):
    result = pipeline.inpaint(
        PROMPT, image=photo(), mask=LEFT, mask_blur=1, fill=fill, seed=1, steps=4, denoising_strength=0.9
    )
    change = np.abs(array(result.images[0]) - array(photo())).max(axis=2)
    assert (change[:, WIDTH // 2 + 8 :] == 0).all()
    assert change[:, : WIDTH // 2 - 4].mean() > 5


def test_fills_differ(pipeline):
    options = {"image": photo(), "mask": LEFT, "seed": 1, "steps": 4}
    drawn = [
        pipeline.inpaint("", fill=fill, **options).images[0]
        for fill in ("original", "surroundings", "noise", "nothing")
    ]
    for i, one in enumerate(drawn):
        assert all(one != other for other in drawn[:i])


def test_only_the_masked_part_is_drawn_and_set_back(pipeline):
    large, box = photo(200, 120), (100, 40, 120, 60)
    result = pipeline.inpaint(
        PROMPT, image=large, mask=part(box, size=(200, 120)), mask_blur=2, only_masked=True, padding=8,
        seed=1, steps=3, width=HEIGHT, height=HEIGHT,
    )  # fmt: skip
    (image,) = result.images
    change = np.abs(array(image) - array(large)).max(axis=2)
    assert image.size == (200, 120)
    assert change[44:56, 104:116].mean() > 5
    change[32:68, 92:128] = 0
    assert not change.any()
    assert "Inpaint area: Only masked, Masked area padding: 8" in result.infotexts[0]


def test_a_picture_keeps_its_shape_and_a_large_one_is_reduced(pipeline):
    side = pipeline.networks.unet_config.sample_size * FACTOR
    same = pipeline.img2img("", image=photo(side + FACTOR, side), steps=1, seed=1).images[0]
    assert same.size == (side + FACTOR, side)
    reduced = pipeline.img2img("", image=photo(8 * side, 2 * side), steps=1, seed=1).images[0]
    assert reduced.size == (2 * side, side // 2)
    asked = pipeline.img2img("", image=photo(), steps=1, seed=1, width=side, height=2 * side).images[0]
    assert asked.size == (side, 2 * side)


def test_masks_that_make_no_sense(pipeline):
    with pytest.raises(InvalidRequest, match=r"the mask has 8 x 8 px, the picture 40 x 24"):
        pipeline.inpaint("", image=photo(), mask=Image.new("L", (8, 8)), steps=1)
    with pytest.raises(InvalidRequest, match="black everywhere"):
        pipeline.inpaint("", image=photo(), mask=part(), steps=1)
    with pytest.raises(
        InvalidRequest, match="fill is 'lava'; one of: original, surroundings, noise, nothing"
    ):
        pipeline.inpaint("", image=photo(), mask=LEFT, fill="lava", steps=1)


# --- variations ---------------------------------------------------------------------------------------------


def test_a_variation_lies_between_two_seeds(pipeline):
    def drawn(seed, variation=None):
        return pipeline.txt2img("", seed=seed, steps=3, variation=variation)

    first, second = drawn(3).images[0], drawn(8).images[0]
    assert drawn(3, Variation(seed=8, strength=0.0)).images[0] == first
    assert drawn(3, Variation(seed=8, strength=1.0)).images[0] == second
    between = drawn(3, Variation(seed=8, strength=0.2))
    assert psnr(array(between.images[0]), array(first)) > psnr(array(between.images[0]), array(second))
    assert "Variation seed: 8, Variation seed strength: 0.2" in between.infotexts[0]


def test_a_batch_of_variations_keeps_the_first_seed(pipeline):
    batch = pipeline.txt2img("", seed=3, steps=2, batch_size=2, variation=Variation(seed=8, strength=0.3))
    alone = pipeline.txt2img("", seed=3, steps=2, variation=Variation(seed=9, strength=0.3))
    assert batch.seeds == [3, 3]
    assert batch.images[1] == alone.images[0]
    assert "Variation seed: 9" in batch.infotexts[1]


def test_a_seed_of_another_size(pipeline):
    """In the middle the noise is that of the other size."""
    size = 4 * FACTOR
    options = {"seed": 3, "steps": 2, "width": 6 * FACTOR, "height": 6 * FACTOR}
    plain = pipeline.txt2img("", **options)
    resized = pipeline.txt2img("", variation=Variation(size=(size, size)), **options)
    assert resized.images[0] != plain.images[0]
    assert "Seed resize from: 16x16" in resized.infotexts[0]


# --- larger, and tiles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("upscaler", ["Latent", "latent (nearest)", "Lanczos"])
def test_a_second_pass_is_larger(pipeline, upscaler):
    request = Request(
        prompt=PROMPT, seed=1, steps=4, width=HEIGHT, height=HEIGHT,
        hires=Hires(scale=1.5, steps=3, upscaler=upscaler, denoising_strength=0.5),
    )  # fmt: skip
    progress = list(pipeline.stream(request))
    assert [each.step for each in progress] == list(range(1, 8))
    assert {each.steps for each in progress} == {7}
    result = progress[-1].result
    assert result.images[0].size == (HEIGHT * 3 // 2, HEIGHT * 3 // 2)
    assert all(each.result is None for each in progress[:-1])
    text = "Denoising strength: 0.5, Hires upscale: 1.5, Hires steps: 3, Hires upscaler: "
    assert text in result.infotexts[0]


@pytest.mark.parametrize(
    ("steps", "strength", "count"),
    [
        (20, 0.7, 28),
        (20, 0.75, 26),
        (20, 0.5, 40),
        (30, 0.55, 54),
        (7, 0.7, 10),
        (20, 1.0, 20),
        (3, 0.01, 300),
    ],
)
@pytest.mark.parametrize("label", ["Euler", "DPM2"])  # the latter leaves out its last level but one
def test_the_levels_of_a_second_pass_are_those_of_a1111(pipeline, steps, strength, count, label):
    """Their `int(steps / min(strength, 0.999))` levels, of which the last `steps` are done."""
    asked = Request(
        prompt="", seed=1, steps=2, width=HEIGHT, height=HEIGHT, sampler=label, schedule="Karras",
        hires=Hires(scale=1.5, steps=steps, denoising_strength=strength),
    )  # fmt: skip
    settled, sampler = settle(pipeline.networks, asked, USUAL, ())
    told, told_later = told_of(pipeline.model, settled)
    first = Pass(request=settled, canvas=Canvas(), told=told, levels=[1.0, 0.0])
    second = hires.second_pass(first, told_later, pipeline.schedule, sampler, pipeline.networks)
    more = count + sampler.discard_penultimate
    expected = sigmas(pipeline.schedule, "Karras", more)[:count]
    np.testing.assert_allclose(second.levels, [*expected[count - steps :], 0.0], rtol=1e-6)
    assert len(second.levels) == steps + 1


def test_a_weaker_second_pass_keeps_more_of_the_first():
    """Of a trained model: a random autoencoder does not give back what it is given."""
    starter = pochade.load(engine="openvino", device="cpu", precision="f32")

    def drawn(**given):
        return starter.txt2img("a red apple", seed=1, steps=8, width=64, height=64, **given).images[0]

    def second(strength):
        return array(drawn(hires=Hires(scale=1.5, upscaler="Lanczos", denoising_strength=strength)))

    larger = array(drawn().resize((96, 96), Image.Resampling.LANCZOS))
    assert psnr(second(0.1), larger) > psnr(second(0.9), larger)


def test_an_unknown_upscaler_is_refused_before_the_first_step(pipeline):
    stream = pipeline.stream(Request(prompt="", hires=Hires(upscaler="magic")))
    with pytest.raises(InvalidRequest, match="upscaler 'magic' is unknown; one of: Lanczos"):
        next(stream)


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
def test_tiles_go_round(model, engine):
    """Noise that is shifted, going round, draws the picture that is shifted: no edge is anything special."""
    pipeline = model("SD 1.5").load(engine)
    noise = starting_noise((5,), (4, 8, 8))
    options = {"seed": 5, "steps": 2, "width": 8 * FACTOR, "height": 8 * FACTOR, "tiling": True}
    whole = array(pipeline.txt2img(PROMPT, noise=noise, **options).images[0])
    moved = array(pipeline.txt2img(PROMPT, noise=np.roll(noise, (4, 4), (2, 3)), **options).images[0])
    back = np.roll(moved, (-4 * FACTOR, -4 * FACTOR), (0, 1))
    assert psnr(back, whole) > 50
    plain = array(pipeline.txt2img(PROMPT, noise=noise, **{**options, "tiling": False}).images[0])
    assert psnr(plain, whole) < 45


def test_the_stream_of_a_source_can_be_finished(pipeline):
    source = Source(image=photo(), denoising_strength=0.5)
    result = finish(pipeline.stream(Request(prompt=PROMPT, seed=2, steps=6, source=source)))
    assert "Denoising strength: 0.5" in result.infotexts[0]
