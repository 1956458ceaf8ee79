"""Second passes with their own settings: equal to img2img on the upscaled first picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.generation.infotext_request import request_from
from pochade.images.metadata import read_parameters
from pochade.images.upscaling import upscaled_latent
from pochade.pipeline import Pipeline
from pochade.pipeline.pipeline import finish
from pochade.request import Request
from pochade.request_options import Blend, Control, Hires
from tests.generation.test_controlnet import controlnet, drawing, family  # noqa: F401
from tests.loading.test_adapters import LAYERS
from tests.loading.test_adapters import write as write_lora

PROMPT, NEGATIVE = "a photograph of a red fox in the snow!", "the 4k cat"
SIZE, LARGER = (40, 24), (60, 36)
FIRST: dict[str, Any] = {
    "prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": 5, "steps": 4, "cfg_scale": 7.0,
    "sampler": "Euler", "schedule": "Karras", "width": SIZE[0], "height": SIZE[1],
}  # fmt: skip
TWICE: dict[str, Any] = {"scale": 1.5, "upscaler": "Lanczos", "steps": 5, "denoising_strength": 0.5}


@pytest.fixture
def pipeline(model) -> Pipeline:
    return model("SD 1.5").load()


def drawn(pipeline: Pipeline, **options: Any) -> Image.Image:
    return pipeline.txt2img(**{**FIRST, **options}).images[0]


def over(pipeline: Pipeline, first: Image.Image, **options: Any) -> np.ndarray:
    """What the second pass should give: of ten levels the last five, as `TWICE` says."""
    large = first.resize(LARGER, Image.Resampling.LANCZOS)
    request = {**FIRST, "steps": 10, "width": LARGER[0], "height": LARGER[1], **options}
    return np.asarray(pipeline.img2img(image=large, denoising_strength=0.4, **request).images[0])


OWN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "prompt": {"prompt": "an owl"},
    "no prompt": {"prompt": ""},
    "negative prompt": {"negative_prompt": "snow"},
    "sampler": {"sampler": "Heun"},
    "stochastic sampler": {"sampler": "euler_ancestral"},
    "schedule": {"schedule": "Exponential"},
    "guidance": {"cfg_scale": 2.5},
    "no guidance": {"cfg_scale": 1.0},
    "all": {
        "prompt": "an owl", "negative_prompt": "snow", "sampler": "DPM++ 2M", "schedule": "Uniform",
        "cfg_scale": 3.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_it_draws_with_its_own_settings(pipeline: Pipeline, own: dict[str, Any]) -> None:
    expected = over(pipeline, drawn(pipeline), **own)
    np.testing.assert_array_equal(np.asarray(drawn(pipeline, hires=Hires(**TWICE, **own))), expected)
    if own:
        assert not np.array_equal(expected, over(pipeline, drawn(pipeline)))


@pytest.mark.parametrize("upscaler", ["Lanczos", "Latent"])
@pytest.mark.parametrize("sampler", ["Euler", "DPM adaptive", "UniPC"])
def test_at_strength_0_the_picture_is_enlarged_only(pipeline: Pipeline, upscaler: str, sampler: str) -> None:
    """As in A1111, whose sampler then has no level to go through."""
    asked = Request(
        **{**FIRST, "sampler": sampler, "batch_size": 2, "cfg_scale": 1.5},
        hires=Hires(scale=1.5, upscaler=upscaler, denoising_strength=0.0, sampler="Euler a"),
    )
    progress = list(pipeline.stream(asked))
    plain = replace(asked, hires=None, batch_size=1)
    latent = np.concatenate([finish_latent(pipeline, replace(plain, seed=seed)) for seed in (5, 6)])
    latent_px = pipeline.networks.autoencoder_config.factor
    if upscaler == "Latent":
        expected = pipeline.decode(upscaled_latent(latent, *(side // latent_px for side in LARGER), "Latent"))
    else:
        pictures = [each.resize(LARGER, Image.Resampling.LANCZOS) for each in pipeline.decode(latent)]
        expected = pipeline.decode(pipeline.encode_image(pictures))
    result = progress[-1].result
    assert result is not None and len(result.images) == 2
    for ours, theirs in zip(result.images, expected, strict=True):
        assert ours.size == LARGER
        assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1
    assert "Denoising strength: 0, Hires upscale: 1.5" in result.infotexts[0]
    again = request_from(result.infotexts[0]).hires
    assert again is not None and again.denoising_strength == 0


def finish_latent(pipeline: Pipeline, request: Request) -> np.ndarray:
    """(B, C, h, w), scaled, as the UNet leaves it."""
    return [each.denoised for each in pipeline.stream(request)][-1]


def test_the_least_strength_is_no_fault(pipeline: Pipeline) -> None:
    least = Hires(**{**TWICE, "denoising_strength": 5e-324, "steps": 1})
    assert drawn(pipeline, hires=least).size == LARGER


def test_a_schedule_in_the_samplers_name_and_the_first_ones_where_none_is_said(pipeline: Pipeline) -> None:
    fused = drawn(pipeline, hires=Hires(**TWICE, sampler="DPM++ 2M Exponential"))
    expected = over(pipeline, drawn(pipeline), sampler="DPM++ 2M", schedule="Exponential")
    np.testing.assert_array_equal(np.asarray(fused), expected)
    plain = drawn(pipeline, hires=Hires(**TWICE, sampler="DPM++ 2M"))
    expected = over(pipeline, drawn(pipeline), sampler="DPM++ 2M", schedule="Karras")
    np.testing.assert_array_equal(np.asarray(plain), expected)


def test_eta_counts_in_the_pass_whose_sampler_has_one(pipeline: Pipeline) -> None:
    request = Request(**FIRST, eta=0.0, hires=Hires(**TWICE, sampler="Euler a"))
    result = finish(pipeline.stream(request))
    assert read_parameters(result.infotexts[0]).values["Eta"] == "0"
    np.testing.assert_array_equal(
        np.asarray(result.images[0]), over(pipeline, drawn(pipeline), sampler="Euler a", eta=0.0)
    )


@pytest.mark.parametrize("other", ["SD 2.1", "inpainting", "SDXL"])
def test_another_model_draws_it(model, pipeline: Pipeline, other: str) -> None:
    """Latents of SD 1 and SDXL mean different things, which pictures between the passes make no matter."""
    folder = model(other).folder
    expected = over(model(other).load(), drawn(pipeline))
    result = finish(pipeline.stream(Request(**FIRST, hires=Hires(**TWICE, model=folder))))
    np.testing.assert_array_equal(np.asarray(result.images[0]), expected)
    values = read_parameters(result.infotexts[0]).values
    assert values["Model"] == values["Hires checkpoint"].partition(" [")[0] == "saved"


def test_previews_and_early_ends_are_of_the_model_that_draws(model, pipeline: Pipeline) -> None:
    request = Request(**FIRST, hires=Hires(**TWICE, model=model("SDXL").folder))
    for progress in pipeline.stream(request):
        size = SIZE if progress.step <= 4 else LARGER
        assert progress.now().images[0].size == size
        assert progress.preview()[0].size <= size
        by = pipeline if progress.step <= 4 else model("SDXL").load()
        assert progress.now().images[0] == by.decode(progress.denoised)[0]


def test_latents_are_not_enlarged_for_a_model_of_others(model, pipeline: Pipeline) -> None:
    stream = pipeline.stream(Request(**FIRST, hires=Hires(model=model("SDXL").folder)))
    with pytest.raises(
        InvalidRequest, match=r"second pass, 'saved', is SDXL, .* use an upscaler for pictures"
    ):
        next(stream)


def test_the_model_itself_is_not_loaded_twice(model, pipeline: Pipeline) -> None:
    asked = Hires(**TWICE, model=str(model("SD 1.5").folder))
    assert drawn(pipeline, hires=asked) == drawn(pipeline, hires=Hires(**TWICE))
    assert not pipeline._others


def test_the_starter_by_its_name(model, pipeline: Pipeline) -> None:
    result = finish(pipeline.stream(Request(**FIRST, hires=Hires(**TWICE, model="starter"))))
    assert read_parameters(result.infotexts[0]).values["Hires checkpoint"].startswith("starter")


def test_names_of_nothing_are_refused_before_the_first_step(pipeline: Pipeline) -> None:
    for own, fault in (
        ({"sampler": "magic"}, "sampler 'magic' is unknown"),
        ({"schedule": "magic"}, "schedule 'magic' is unknown"),
        ({"prompt": "<lora:magic:1>"}, "<lora:magic>"),
    ):
        with pytest.raises(InvalidRequest, match=fault):
            next(pipeline.stream(Request(**FIRST, hires=Hires(**TWICE, **own))))


def test_its_prompt_names_adapters_of_its_own(pipeline: Pipeline, tmp_path: Path) -> None:
    ink = write_lora(tmp_path / "ink.safetensors", LAYERS)
    library = pipeline.with_library(tmp_path)
    tagged = f"{PROMPT} <lora:{ink.stem}:1>"
    expected = over(library, drawn(pipeline), prompt=tagged)
    assert not np.array_equal(expected, over(library, drawn(pipeline)))
    request = Request(**FIRST, hires=Hires(**TWICE, prompt=tagged))
    result = finish(library.stream(request))
    np.testing.assert_array_equal(np.asarray(result.images[0]), expected)
    assert "ink: " in read_parameters(result.infotexts[0]).values["Lora hashes"]
    kept = list(library._latest)
    assert finish(library.stream(request)).images == result.images and list(library._latest) == kept
    without = Request(**{**FIRST, "prompt": tagged}, hires=Hires(**TWICE, prompt=PROMPT))
    np.testing.assert_array_equal(
        np.asarray(finish(library.stream(without)).images[0]),
        over(pipeline, drawn(library, prompt=tagged)),
    )


def test_adapters_that_were_given_work_in_both_passes_and_both_models(
    model, pipeline: Pipeline, tmp_path: Path
) -> None:
    ink = write_lora(tmp_path / "ink.safetensors", LAYERS)
    given, other = pipeline.with_adapters([ink]), model("SD 1.5").load().with_adapters([ink])
    copy = tmp_path / "copy"
    copy.symlink_to(model("SD 1.5").folder)
    expected = over(other, drawn(given))
    for asked in (Hires(**TWICE), Hires(**TWICE, model=copy)):
        np.testing.assert_array_equal(np.asarray(drawn(given, hires=asked)), expected)
    result = finish(given.stream(Request(**FIRST, hires=Hires(**TWICE, prompt="an owl"))))
    assert read_parameters(result.infotexts[0]).values["Hires prompt"] == "an owl <lora:ink:1>"


def test_its_text_and_the_way_back(model, pipeline: Pipeline) -> None:
    own = {**OWN["all"], "prompt": 'an owl, "wise"\nand old'}
    asked = Hires(**TWICE, **own, model=model("SD 2.1").folder)
    result = finish(pipeline.stream(Request(**FIRST, hires=asked)))
    values = read_parameters(result.infotexts[0]).values
    assert {name: values[f"Hires {name}"] for name in ("prompt", "negative prompt", "sampler")} == {
        "prompt": own["prompt"], "negative prompt": "snow", "sampler": "DPM++ 2M",
    }  # fmt: skip
    assert values["Hires schedule type"] == "Uniform" and values["Hires CFG Scale"] == "3"
    again = request_from(result.infotexts[0]).hires
    assert again == Hires(**TWICE, **own, model="saved")


def test_what_is_as_in_the_first_pass_is_not_told(pipeline: Pipeline) -> None:
    same = {name: FIRST[name] for name in ("prompt", "negative_prompt", "sampler", "schedule", "cfg_scale")}
    text = finish(pipeline.stream(Request(**FIRST, hires=Hires(**TWICE, **same)))).infotexts[0]
    assert text == finish(pipeline.stream(Request(**FIRST, hires=Hires(**TWICE)))).infotexts[0]


def test_the_texts_of_a1111() -> None:
    text = (
        "a fox\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x512, Denoising strength: 0.5, "
        'Hires prompt: "an owl, wise", Hires negative prompt: snow, Hires sampler: Use same sampler, '
        "Hires schedule type: Use same scheduler, Hires checkpoint: Use same checkpoint, Hires upscale: 2"
    )
    assert request_from(text).hires == Hires(
        denoising_strength=0.5, prompt="an owl, wise", negative_prompt="snow"
    )
    text = text.replace("Use same sampler", "DPM++ 2M").replace("Use same scheduler", "Karras")
    text = text.replace("Use same checkpoint", "dream_8.safetensors [abcdef0123]")
    found = request_from(f"{text}, Hires CFG Scale: 4.5").hires
    assert found is not None
    assert (found.sampler, found.schedule, found.model, found.cfg_scale) == (
        "DPM++ 2M", "Karras", "dream_8.safetensors", 4.5,
    )  # fmt: skip


def test_a_batch_whose_second_pass_draws_one_by_one(pipeline: Pipeline) -> None:
    asked = Hires(**TWICE, sampler="DPM adaptive")
    both = pipeline.txt2img(**FIRST, batch_size=2, hires=asked).images
    assert both == [drawn(pipeline, seed=seed, hires=asked) for seed in (5, 6)]


def test_a_blend_has_no_second_prompt() -> None:
    with pytest.raises(InvalidRequest, match="leave out the prompt of hires"):
        Request(**FIRST, blend=Blend(prompt="b", share=0.5), hires=Hires(prompt="c"))


# --- ControlNets in one of the two passes -------------------------------------------------------------------


def test_a_controlnet_steers_the_passes_that_it_is_for(model, controlnet) -> None:  # noqa: F811
    pipeline = family(model, "SD 1.5").load()
    path = controlnet("SD 1.5").folder

    def steered(passes: str) -> Control:
        return Control(image=drawing(), model=path, passes=passes)

    plain, first = drawn(pipeline), drawn(pipeline, controls=(steered("both"),))
    alone = Control(image=drawing(), model=path)
    for passes, begin, controls in (
        ("both", first, (alone,)), ("first", first, ()), ("second", plain, (alone,)),
    ):  # fmt: skip
        image = drawn(pipeline, hires=Hires(**TWICE), controls=(steered(passes),))
        np.testing.assert_array_equal(np.asarray(image), over(pipeline, begin, controls=controls))
    # Without a second pass the one that there is counts, as in the extension.
    for passes in ("first", "second"):
        assert drawn(pipeline, controls=(steered(passes),)) == first


def test_a_controlnet_of_another_family_is_refused_before_the_first_pass(model, controlnet) -> None:  # noqa: F811
    pipeline, path = family(model, "SD 1.5").load(), controlnet("SD 1.5").folder
    other = Hires(**TWICE, model=model("SDXL").folder)
    control = Control(image=drawing(), model=path)
    with pytest.raises(InvalidRequest, match="made for the model's family"):
        next(pipeline.stream(Request(**FIRST, hires=other, controls=(control,))))
    first = Control(image=drawing(), model=path, passes="first")
    assert finish(pipeline.stream(Request(**FIRST, hires=other, controls=(first,)))).images
