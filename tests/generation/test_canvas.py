"""img2img, inpainting, outpainting, variations and tiling."""

from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

import pochade
from pochade.diffusion.schedule import noise_schedule, sigmas
from pochade.errors import InvalidRequest
from pochade.generation import controlnet as controlnets
from pochade.generation import denoise_loop, hires
from pochade.generation.canvas import Canvas, blank_canvas, canvas_over
from pochade.generation.decoding import from_image, to_images
from pochade.generation.denoise_loop import Pass, denoise, levels_of
from pochade.generation.generate import prompt_plans
from pochade.generation.pass_settings import size_of_second_pass
from pochade.generation.settle import settle
from pochade.generation.sizes import size_over
from pochade.images.upscaling import upscaled, upscaled_latent
from pochade.pipeline.pipeline import finish
from pochade.request import DEFAULTS, Request, Settled
from pochade.request_options import Control, Hires, Source, Variation
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
    request, sampler = settle(pipeline.networks, asked, DEFAULTS, ())
    canvas = replace(canvas_over(pipeline.networks, source, WIDTH, HEIGHT), mask=None)
    one = Pass(
        request=request, canvas=canvas, prompt_plan=prompt_plans(pipeline.model, request)[0], noise=noise,
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


@pytest.mark.parametrize("size", [(43, 27), (40, 24), (23, 41)])
@pytest.mark.parametrize("fill", ["original", "surroundings", "noise"])
def test_inpainting_keeps_any_size_and_every_old_pixel(pipeline, size, fill):
    """Sizes that are no whole latent pixels are filled up, drawn, and cut back."""
    old, mask = photo(*size), part((0, 0, size[0] // 2, size[1]), size=size)
    result = pipeline.inpaint(PROMPT, image=old, mask=mask, mask_blur=0, fill=fill, seed=1, steps=3)
    (image,) = result.images
    assert image.size == size
    change = np.abs(array(image) - array(old)).max(axis=2)
    assert not change[array(mask) == 0].any()
    assert change[array(mask) > 0].mean() > 5
    assert f"Size: {size[0]}x{size[1]}," in result.infotexts[0]
    asked = {"width": size[0], "height": size[1]}
    again = pipeline.inpaint(PROMPT, image=old, mask=mask, mask_blur=0, fill=fill, seed=1, steps=3, **asked)
    assert again.images[0] == image


def test_the_right_and_lower_edge_of_an_odd_size_can_be_drawn(pipeline):
    size = (43, 27)
    mask = part((30, 20, 43, 27), size=size)
    image = pipeline.inpaint(PROMPT, image=photo(*size), mask=mask, mask_blur=0, seed=1, steps=3).images[0]
    change = np.abs(array(image) - array(photo(*size))).max(axis=2)
    assert change[20:, 30:].mean() > 5 and change[-1].any() and change[:, -1].any()
    change[20:, 30:] = 0
    assert not change.any()


def test_over_a_picture_of_an_odd_size(pipeline):
    """Its size is kept, whatever is drawn; another that is asked for is brought to whole latent pixels."""
    (image,) = pipeline.img2img("", image=photo(43, 27), seed=1, steps=1).images
    assert image.size == (43, 27)
    with pytest.raises(InvalidRequest, match="width is 43; this model draws multiples of 4: try 40 or 44"):
        pipeline.img2img("", image=photo(), width=43, height=24, steps=1)


def test_the_edges_of_an_odd_size_fit_together(pipeline):
    """It is drawn in whole latent pixels and brought back over the edges, not cut back."""
    old, options = photo(43, 27), {"tiling": True, "denoising_strength": 1.0, "seed": 1, "steps": 3}
    (image,) = pipeline.img2img(PROMPT, image=old, **options).images
    (even,) = pipeline.img2img(PROMPT, image=upscaled(old, 44, 28, tiling=True), **options).images
    assert image.size == (43, 27) and even.size == (44, 28)
    assert image == upscaled(even, 43, 27, tiling=True)
    mask = part((16, 0, 32, 27), size=(43, 27))
    (inside,) = pipeline.inpaint(PROMPT, image=old, mask=mask, mask_blur=0, **options).images
    change = np.abs(array(inside) - array(old)).max(axis=2)
    assert inside.size == (43, 27) and change[:, 16:32].mean() > 5
    change[:, 16:32] = 0
    assert not change.any()


@pytest.mark.parametrize("size", [(160, 96), (6, 10)])
def test_a_mask_in_a_picture_of_quite_another_size(pipeline, size):
    """It is drawn in the model's size, and what is new set into the picture in its own."""
    old, mask = photo(*size), part((0, 0, size[0] // 2, size[1]), size=size)
    progress = list(pipeline.stream(Request(
        prompt=PROMPT, seed=1, steps=2, source=Source(image=old, mask=mask, mask_blur=0)
    )))  # fmt: skip
    rows, columns = progress[-1].denoised.shape[2:]
    side = pipeline.networks.unet_config.sample_size
    assert 0.8 < rows * columns / side**2 < 1.25
    (image,) = progress[-1].result.images
    assert image.size == size
    change = np.abs(array(image) - array(old)).max(axis=2)
    assert not change[:, size[0] // 2 :].any() and change[:, : size[0] // 2].mean() > 5


@pytest.mark.parametrize("margins", [{"left": 16, "top": 16, "right": 16, "bottom": 16}, {"right": 7}])
def test_outpainting_makes_the_old_size_and_its_margins(pipeline, margins):
    side = pipeline.networks.unet_config.sample_size * FACTOR
    old = photo(side, side)
    image = pipeline.outpaint(PROMPT, image=old, seed=1, steps=2, mask_blur=0, **margins).images[0]
    left, top = margins.get("left", 0), margins.get("top", 0)
    assert image.size == (side + left + margins["right"], side + top + margins.get("bottom", 0))
    inside = np.s_[8:-8, 8:-8]
    kept = array(image)[top : top + side, left : left + side]
    np.testing.assert_array_equal(kept[inside], array(old)[inside])


@pytest.mark.parametrize(
    ("picture", "masked", "drawn", "framing"),
    [
        ((107, 91), True, (112, 96), "filled"),
        ((107, 91), False, (112, 96), "filled"),
        ((256, 256), True, (256, 256), "filled"),  # 128 x 128 by 64 px all round
        ((256, 256), False, (128, 128), "fitted"),
        ((1024, 512), True, (184, 88), "set back"),
        ((30, 20), True, (160, 104), "set back"),
        ((30, 20), False, (160, 104), "fitted"),
    ],
)
def test_the_size_over_a_picture(picture, masked, drawn, framing):
    assert size_over(picture, (128, 128), 8, masked=masked) == (drawn, framing)


def test_a_control_picture_lies_over_a_picture_that_is_filled_up(monkeypatch, pipeline):
    """Pixel on pixel, not resized with what was added."""
    seen = []
    monkeypatch.setattr(
        controlnets, "controlnet_passes", lambda _, controls, *size: seen.append((controls, size)) or []
    )
    control = Control(image=photo(43, 27), model="none")
    source = Source(image=photo(43, 27))
    settled, _ = settle(pipeline.networks, Request(prompt="", source=source), DEFAULTS, ())
    canvas = canvas_over(pipeline.networks, source, settled.width, settled.height, settled.framing)
    request = replace(settled, controls=(control,))
    one = Pass(request=request, canvas=canvas, prompt_plan=None, levels=[1.0, 0.0], controls=(control,))
    denoise_loop._controlnet_passes(pipeline.networks, one)
    (((laid,), size),) = seen
    assert laid.image.size == size == (44, 28)
    np.testing.assert_array_equal(array(laid.image)[:27, :43], array(photo(43, 27)))
    denoise_loop._controlnet_passes(pipeline.networks, replace(one, request=replace(request, tiling=True)))
    (stretched,) = seen[1][0]
    assert stretched.image == upscaled(photo(43, 27), 44, 28, tiling=True)


@pytest.mark.parametrize(
    "options",
    [
        {"mask_blur": 30.0},
        {"mask_blur": 30.0, "only_masked": True},
        {"mask_blur": 0.0, "width": 8, "height": 8},
    ],
)
def test_a_mask_of_which_nothing_is_left_is_said(pipeline, options):
    dot = part((100, 60, 102, 62), size=(160, 96))
    with pytest.raises(
        InvalidRequest, match=r"white part, 2 x 2 of 160 x 96 px, fades away with a mask blur"
    ):
        pipeline.inpaint("", image=photo(160, 96), mask=dot, steps=1, **options)
    closer = {"mask_blur": 0.0, "only_masked": True}
    assert pipeline.inpaint("", image=photo(160, 96), mask=dot, steps=1, **closer).images[0].size == (160, 96)


def test_masks_that_make_no_sense(pipeline):
    with pytest.raises(InvalidRequest, match=r"the mask has 8 x 8 px and the picture 40 x 24"):
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
    settled, sampler = settle(pipeline.networks, asked, DEFAULTS, ())
    told, told_later = prompt_plans(pipeline.model, settled)
    first = Pass(request=settled, canvas=Canvas(), prompt_plan=told, levels=[1.0, 0.0])
    second = hires.second_pass(first, told_later, pipeline.model, pipeline.networks)
    more = count + sampler.discard_penultimate
    expected = sigmas(pipeline.schedule, "Karras", more)[:count]
    np.testing.assert_allclose(second.levels, [*expected[count - steps :], 0.0], rtol=1e-6)
    assert len(second.levels) == steps + 1


def test_a_second_pass_has_no_more_levels_than_the_model(pipeline):
    few, asked = noise_schedule(steps=10), Request(prompt="", seed=1, steps=2, hires=Hires(steps=20))
    settled, _ = settle(pipeline.networks, asked, DEFAULTS, ())
    told, told_later = prompt_plans(pipeline.model, settled)
    first = Pass(request=settled, canvas=Canvas(), prompt_plan=told, levels=[1.0, 0.0])
    second = hires.second_pass(first, told_later, replace(pipeline.model, schedule=few), pipeline.networks)
    assert len(second.levels) == 11 and second.levels[0] == pytest.approx(few.sigma_max)


SHAPES = [
    ((64, 64), (96, 64)),
    ((64, 64), (64, 112)),
    ((64, 48), (128, 128)),
    ((64, 96), (136, 128)),
    ((56, 96), (104, 120)),  # whose enlarged sides are no whole latent pixels
    ((64, 64), (128, 128)),
    ((64, 64), (32, 48)),
]


@pytest.mark.parametrize(("own", "size"), SHAPES)
@pytest.mark.parametrize("upscaler", ["Latent", "Latent (bicubic)", "Latent (nearest)"])
def test_a_second_pass_of_another_shape_takes_the_middle(own, size, upscaler):
    """As A1111: enlarged until it covers the new shape, then whole latent pixels are cut off."""
    latent = starting_noise((5,), (4, own[1] // 8, own[0] // 8))
    wider = own[0] / own[1] < size[0] / size[1]
    covering = (size[0], size[0] * own[1] // own[0]) if wider else (size[1] * own[0] // own[1], size[1])
    whole = upscaled_latent(
        latent, covering[0] // 8, covering[1] // 8, upscaler, box=(0, 0, own[0] // 8, own[1] // 8)
    )
    x, y = (covering[0] - size[0]) // 8, (covering[1] - size[1]) // 8
    expected = whole[:, :, y // 2 : whole.shape[2] - (y + 1) // 2, x // 2 : whole.shape[3] - (x + 1) // 2]
    left, top, right, bottom = (side / 8 for side in hires.center_crop(own, size, 8))
    found = upscaled_latent(latent, size[0] // 8, size[1] // 8, upscaler, box=(left, top, right, bottom))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("upscaler", ["Latent", "Lanczos"])
def test_a_second_pass_of_another_shape_is_not_squashed(pipeline, upscaler, monkeypatch):
    """What it draws over is the middle of the first picture; with a scale it is the whole of it."""
    side = 8 * FACTOR
    seen = []
    upscaled_canvas = hires.upscaled_canvas

    def watched(networks, second, first, request, latent):
        seen.append((latent, upscaled_canvas(networks, second, first, request, latent).latent))
        return blank_canvas(networks, request.width, request.height)

    monkeypatch.setattr(hires, "upscaled_canvas", watched)
    options = {"seed": 1, "steps": 1, "width": side, "height": side}
    pipeline.txt2img("", hires=Hires(size=(2 * side, side), upscaler=upscaler), **options)
    ((latent, found),) = seen
    middle = np.ascontiguousarray(latent[:, :, 2:6])
    assert found.shape[2:] == (8, 16)
    if upscaler == "Latent":
        inside = np.s_[:, :, 1:-1]
        np.testing.assert_allclose(found[inside], upscaled_latent(middle, 16, 8)[inside], atol=1e-5)
    else:
        (whole,) = pipeline.decode(latent)
        cut = whole.resize((2 * side, 2 * side), Image.Resampling.LANCZOS).crop((0, 16, 2 * side, 16 + side))
        np.testing.assert_allclose(found, pipeline.encode_image(cut), atol=1e-3)


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


@pytest.mark.parametrize(
    ("size", "scale", "larger"),
    [((504, 512), 1.65, (824, 840)), ((512, 512), 1.5, (768, 768)), ((120, 64), 1.15, (136, 72))],
)
def test_fractions_of_the_second_size_are_cut(size, scale, larger):
    """As in A1111: 504 times 1.65 is 831.6, of which 824 are whole latent pixels; 832 is beyond."""
    settled = Settled(
        prompt="", seed=1, steps=1, cfg_scale=7.0, width=size[0], height=size[1], sampler="Euler",
        schedule="Automatic",
    )  # fmt: skip
    assert size_of_second_pass(settled, Hires(scale=scale), 8) == larger


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


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (bicubic)", "Lanczos"])
def test_tiles_go_round_in_parts_and_in_a_second_pass(pipeline, upscaler, monkeypatch):
    """As above, with pictures that are encoded and decoded in parts, of which the second begins at half."""
    tight = replace(
        pipeline,
        model=replace(pipeline.model, networks=replace(pipeline.networks, untiled_pixels=16, tile=10)),
    )
    side, batch_noise = 8 * FACTOR, denoise_loop.batch_noise
    options = {
        "seed": 5, "steps": 2, "width": side, "height": side, "tiling": True, "sampler": "Euler",
        "hires": Hires(scale=2.0, upscaler=upscaler, denoising_strength=0.4, steps=2),
    }  # fmt: skip
    whole = array(tight.txt2img(PROMPT, **options).images[0])

    def moved(seeds, shape, rng):
        draw = batch_noise(seeds, shape, rng)
        return lambda: np.roll(draw(), (shape[1] // 2, shape[2] // 2), (2, 3))

    monkeypatch.setattr(denoise_loop, "batch_noise", moved)
    back = np.roll(array(tight.txt2img(PROMPT, **options).images[0]), (-side, -side), (0, 1))
    assert whole.shape == (2 * side, 2 * side, 3)
    assert psnr(back, whole) > 50


def test_the_stream_of_a_source_can_be_finished(pipeline):
    source = Source(image=photo(), denoising_strength=0.5)
    result = finish(pipeline.stream(Request(prompt=PROMPT, seed=2, steps=6, source=source)))
    assert "Denoising strength: 0.5" in result.infotexts[0]
