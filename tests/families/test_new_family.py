"""A new family is added by one file and one registration: `tiny_flow`.

The results are compared with a flow matching loop written out here.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pochade
from pochade.checkpoints.contents import contents_of
from pochade.checkpoints.library import entries
from pochade.cli.main import main
from pochade.diffusion.noise import batch_noise
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.families import registry
from pochade.families.stable_diffusion import SD1
from pochade.images.metadata import read_parameters
from pochade.jobs.pricing import likely_size
from pochade.models.embedding import sinusoidal
from pochade.pipeline.pipeline import Pipeline
from pochade.request_options import Control
from tests.additions import write_embedding
from tests.families.tiny_flow import LENGTH, TIME_WIDTH, TINY_FLOW, letters, letters_encoder, write_model
from tests.reference import psnr

PROMPT, NEGATIVE = "a red fox", "blurry"


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    registry.register(TINY_FLOW)
    yield
    registry.remove(TINY_FLOW)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.safetensors")


@pytest.fixture(scope="module")
def pipeline(file: Path) -> Pipeline:
    return pochade.load(file, engine="numpy", device="cpu", precision="f32")


def by_hand(
    pipeline: Pipeline, seed: int, steps: int, scale: float, height: int = 64, width: int = 64
) -> np.ndarray:
    """Euler's method from noise (level 1) to data (level 0): dx/ds is what the transformer says."""
    networks = pipeline.networks
    texts = []
    for prompt in (PROMPT, NEGATIVE):
        ids = np.array([letters(prompt) + [0] * (LENGTH - len(letters(prompt)))])
        texts.append(networks.text_encoder.run(letters_encoder, ids=ids))
    # "Simple": every so many of the 1000 levels that it was trained on, from the last.
    t = np.array([(1000 - int(i * 1000 / steps)) / 1000 for i in range(steps)])
    levels = [*np.minimum(3 * t / (1 + 2 * t), 1 - 2.0**-12), 0.0]
    x = batch_noise([seed], (16, height // 8, width // 8))()
    for s, after in pairwise(levels):
        time = sinusoidal(np.full(1, 1000 * s, np.float32), TIME_WIDTH)
        cond, uncond = (
            networks.unet.run(TINY_FLOW.denoiser.function, x=x, time=time, context=text, pooled=pooled)
            for text, pooled in texts
        )
        x = x + np.float32(after - s) * (uncond + scale * (cond - uncond))
    decoded = networks.autoencoder.run(networks.coders.decode, latent=x / 1.5 + 0.06)
    return np.rint((decoded[0].clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)


def test_the_command_draws_it(
    file: Path, pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Known by its keys, with the family's own defaults, on the engine that is taken by default."""
    path = tmp_path / "drawn.png"
    arguments = [PROMPT, "--negative", NEGATIVE, "--seed", "5", "--precision", "f32"]
    assert main(["draw", *arguments, "--model", str(file), "--output", str(path)]) == 0
    with Image.open(path) as image:
        drawn = np.asarray(image.convert("RGB"))
        said = read_parameters(image.info["parameters"])
    assert drawn.shape == (64, 64, 3) and drawn.std() > 10
    assert psnr(drawn, by_hand(pipeline, seed=5, steps=6, scale=3.0)) > 50
    assert (said.values["Sampler"], said.values["Steps"], said.values["CFG scale"]) == ("Euler", "6", "3")
    assert said.values["Model"] == "tiny" and said.values["Schedule type"] == "Simple"


@pytest.mark.parametrize("engine", ["numpy", "torch", "openvino"])
def test_engines_draw_the_same(file: Path, pipeline: Pipeline, engine: str) -> None:
    ours = pochade.load(file, engine=engine, device="cpu", precision="f32")
    result = ours.txt2img(
        PROMPT, negative_prompt=NEGATIVE, seed=3, steps=4, cfg_scale=2.0, width=96, height=48, batch_size=2
    )
    for i in range(2):
        expected = by_hand(pipeline, seed=3 + i, steps=4, scale=2.0, width=96, height=48)
        assert psnr(np.asarray(result.images[i]), expected) > 50


@pytest.mark.parametrize("sampler", ["Heun", "DPM++ 2M", "Euler a", "DPM++ SDE", "LMS"])
def test_samplers_work_as_they_are(pipeline: Pipeline, sampler: str) -> None:
    """With many steps all of them come near the same picture, those that add noise aside."""
    options = {"seed": 1, "negative_prompt": NEGATIVE, "cfg_scale": 1.5}
    drawn = pipeline.txt2img(PROMPT, sampler=sampler, steps=12, **options).images[0]
    assert np.asarray(drawn).std() > 10
    if sampler not in ("Euler a", "DPM++ SDE"):
        exact = pipeline.txt2img(PROMPT, sampler="Euler", steps=60, **options).images[0]
        assert psnr(np.asarray(drawn), np.asarray(exact)) > 15


def test_over_pictures_inside_masks_and_twice(pipeline: Pipeline) -> None:
    old = Image.new("RGB", (64, 64), (180, 60, 30))
    unchanged = pipeline.img2img(PROMPT, image=old, denoising_strength=0.01, seed=1, steps=8).images[0]
    decoded = pipeline.decode(pipeline.encode_image(old))[0]
    new = pipeline.img2img(PROMPT, image=old, denoising_strength=1.0, seed=1, steps=8).images[0]
    near, far = (psnr(np.asarray(each), np.asarray(decoded)) for each in (unchanged, new))
    assert near > far + 3
    mask = Image.new("L", (64, 64))
    mask.paste(255, (32, 0, 64, 64))
    inpainted = pipeline.inpaint(PROMPT, image=old, mask=mask, mask_blur=0, seed=1, steps=4).images[0]
    np.testing.assert_array_equal(np.asarray(inpainted)[:, :32], np.asarray(old)[:, :32])
    larger = pochade.request_options.Hires(scale=1.6, upscaler="Latent", denoising_strength=0.6)
    twice = pipeline.txt2img(PROMPT, seed=1, steps=4, hires=larger).images[0]
    assert twice.size == (96, 96)  # 102 px, in whole patches of 16


def test_it_is_listed_and_described(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = contents_of(file)
    assert (contents.kind, contents.family) == ("model", "Tiny flow")
    assert [entry.name for entry in entries([file.parent])] == ["tiny"]
    assert likely_size(contents.family) == (64, 64)
    assert main(["models", "info", str(file)]) == 0
    said = capsys.readouterr().out
    assert "family  Tiny flow" in said and "draws  64x64" in said and "transformer" in said
    assert main(["models", "verify", str(file)]) == 0


def test_a_folder_is_known_by_its_pipeline(file: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "TinyFlowPipeline"}')
    shutil.copyfile(file, folder / "model.safetensors")
    contents = contents_of(folder)
    assert (contents.kind, contents.family) == ("model", "Tiny flow")
    drawn = pochade.load(folder, engine="numpy", device="cpu", precision="f32").txt2img(PROMPT, seed=2)
    expected = pipeline.txt2img(PROMPT, seed=2)
    np.testing.assert_array_equal(np.asarray(drawn.images[0]), np.asarray(expected.images[0]))
    (folder / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    assert contents_of(folder).kind == "other"


def test_the_prompt_counts(pipeline: Pipeline) -> None:
    fox, snow = (np.asarray(pipeline.txt2img(each, seed=2).images[0]) for each in (PROMPT, "the snow"))
    assert psnr(fox, snow) < 40


def test_a_budget_counts_it(file: Path) -> None:
    pipeline = pochade.load(file, engine="openvino", device="cpu", precision="f32", memory_budget="2GB")
    plan = pipeline.plan(pochade.Request(prompt=PROMPT))
    assert (plan.width, plan.height) == (64, 64) and plan.parts.keys() == {"text encoder", "UNet", "decoder"}
    assert pipeline.txt2img(PROMPT, steps=1).images[0].size == (64, 64)


def test_what_it_lacks_is_refused(pipeline: Pipeline, file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"width is 72; this model draws multiples of 16: try 64 or 80"):
        pipeline.txt2img(PROMPT, width=72)
    with pytest.raises(InvalidRequest, match=r"tiling is not supported for Tiny flow"):
        pipeline.txt2img(PROMPT, tiling=True)
    edges = tmp_path / "edges.safetensors"
    edges.touch()
    control = Control(image=Image.new("RGB", (64, 64)), model=str(edges))
    with pytest.raises(InvalidRequest, match=r"Tiny flow, for which ControlNets are not supported"):
        pipeline.txt2img(PROMPT, controls=(control,))
    with pytest.raises(InvalidRequest, match=r"30 letters; at most 24"):
        pipeline.txt2img("x" * 30)
    write_embedding(tmp_path / "blob.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"blob.*Tiny flow, take no new words"):
        pipeline.with_adapters(embeddings=[tmp_path / "blob.safetensors"])
    assert main(["models", "convert", str(file), str(tmp_path / "folder")]) != 0


def test_without_its_registration_the_file_is_unknown(file: Path) -> None:
    registry.remove(TINY_FLOW)
    try:
        assert contents_of(file).kind == "other"
        with pytest.raises(InvalidCheckpoint, match=r"is not a checkpoint of Stable Diffusion"):
            pochade.load(file, engine="numpy", device="cpu", precision="f32")
    finally:
        registry.register(TINY_FLOW)


def test_a_label_belongs_to_one_family() -> None:
    registry.register(SD1)  # the same one again
    with pytest.raises(ValueError, match=r"a family 'SD 1\.x' already"):
        registry.register(replace(SD1, latents="others"))
    with pytest.raises(InvalidCheckpoint, match=r"family 'SD 9' is unknown; one of: SD 1\.x, SD 2\.x, SDXL"):
        registry.find_family("SD 9")
