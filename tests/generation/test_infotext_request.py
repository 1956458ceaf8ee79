"""Parsing parameters texts to requests, and two other tools that read them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import pochade
from pochade.diffusion.samplers import SAMPLERS
from pochade.diffusion.schedule import SCHEDULES
from pochade.errors import InvalidRequest
from pochade.generation.infotext import ModelInfo, infotext
from pochade.generation.infotext_request import has_source, request_from
from pochade.generation.infotext_unsupported import not_followed
from pochade.images.embedded_text import read_text
from pochade.images.files import save_picture
from pochade.images.metadata import read_parameters
from pochade.request import EMPHASES, FILLED, RNGS, Request, Settled
from pochade.request_options import Blend, Hires, Refiner, Source, Variation
from pochade.speed import SPEEDS

MAKER = ModelInfo(
    model="starter",
    hash="0123456789",
    refiner="xl refiner_1.0 [0123456789]",
    hires="detail_2 [0123456789]",
)

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60).map(str.strip)
sizes = st.integers(8, 1024).map(lambda side: side * 8)
shares = st.integers(1, 100).map(lambda share: share / 100)
pairs_of_sizes = st.none() | st.tuples(sizes, sizes)
variations = st.builds(Variation, seed=st.integers(0, 2**32), strength=shares, size=pairs_of_sizes)
passes = st.builds(
    Hires,
    scale=st.integers(10, 40).map(lambda scale: scale / 10),
    upscaler=st.sampled_from(["Latent", "Lanczos", "Latent (nearest)"]),
    steps=st.none() | st.integers(1, 150),
    denoising_strength=shares,
    prompt=st.none() | words,
    negative_prompt=st.none() | words,
    sampler=st.none() | st.sampled_from(sorted(SAMPLERS)),
    schedule=st.none() | st.sampled_from(["Automatic", *SCHEDULES]),
    cfg_scale=st.none() | st.integers(0, 300).map(lambda scale: scale / 10),
    model=st.none() | st.just("detail_2"),
)
requests = st.builds(
    lambda hires, blend, **given: Request(
        hires=hires, blend=blend if hires is None or hires.prompt is None else None, **given
    ),
    prompt=words,
    negative_prompt=words,
    seed=st.integers(0, 2**64 - 100),
    steps=st.integers(1, 1000),
    cfg_scale=st.integers(0, 300).map(lambda scale: scale / 10),
    width=sizes,
    height=sizes,
    sampler=st.sampled_from(sorted(SAMPLERS)),
    schedule=st.sampled_from(["Automatic", *SCHEDULES]),
    clip_skip=st.integers(1, 12),
    guidance_rescale=st.just(0.0) | shares,
    eta=st.none() | shares,
    speed=st.sampled_from(sorted(SPEEDS)),
    tiling=st.booleans(),
    rng=st.sampled_from(RNGS),
    emphasis=st.sampled_from(EMPHASES),
    blend=st.none() | st.builds(Blend, prompt=words.filter(bool), share=shares),
    variation=st.none() | variations,
    hires=st.none() | passes,
    refiner=st.none() | st.builds(Refiner, model=st.just("xl refiner_1.0"), switch=shares),
)


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests)
def test_any_request_comes_back(request: Request) -> None:
    text = infotext(request, MAKER)
    assert request_from(text) == request
    assert not_followed(read_parameters(text).values) == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_picture_is_drawn_again(tmp_path: Path, suffix: str) -> None:
    pipeline = pochade.load(device="cpu", precision="f32")
    first = pipeline.txt2img("a red apple", negative_prompt="leaf", seed=4, steps=3, cfg_scale=4.5)
    path = tmp_path / f"apple{suffix}"
    save_picture(first.images[0], path, first.infotexts[0])
    *_, last = pipeline.stream(request_from(read_text(path)))
    assert last.result is not None
    assert last.result.images == first.images
    assert last.result.infotexts == first.infotexts


def test_texts_of_other_tools() -> None:
    request = request_from(
        "a castle\nNegative prompt: people\nSteps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 12, "
        "Size: 512x768, Model hash: abc, Denoising strength: 0.4, Hires upscale: 2, Hires upscaler: Latent, "
        "Hires steps: 0, Version: v1.6.0"
    )
    assert (request.sampler, request.schedule) == ("DPM++ 2M", "Karras")
    assert request.hires == Hires(scale=2.0, denoising_strength=0.4)
    assert (request.width, request.height, request.seed) == (512, 768, 12)


def settled(request: Request, **changes: Any) -> Settled:
    return Settled(**{**vars(request), **changes})


def test_a_size_that_a_picture_lent_is_left_open() -> None:
    """Nothing is drawn from nothing in it; over the picture it is that picture's in any case."""
    source = Source(image=Image.new("RGB", (107, 91)))
    plain = Request(prompt="", seed=1, width=112, height=96)
    odd = infotext(settled(plain, source=source, framing=FILLED), MAKER)
    assert "Size: 107x91," in odd
    assert (request_from(odd).width, request_from(odd).height) == (None, None)
    even = infotext(settled(plain, source=source), MAKER)
    assert (request_from(even).width, request_from(even).height) == (112, 96)


def test_a_picture_that_was_drawn_over_is_known() -> None:
    plain = Request(prompt="", seed=1, width=64, height=64)
    over = settled(plain, source=Source(image=Image.new("RGB", (8, 8))))
    assert has_source(read_parameters(infotext(over, MAKER)))
    assert not has_source(read_parameters(infotext(plain, MAKER)))
    assert not has_source(read_parameters(infotext(replace(plain, hires=Hires()), MAKER)))


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        ("Seed: many", "'Seed: many', which is not a number"),
        ("CFG scale: inf", "'CFG scale: inf', which is not finite"),
        ("Size: huge", "'Size: huge'; a size is WIDTHxHEIGHT"),
        ("Size: 1x1", "width is 1"),
        ("Steps: 99999", "steps is 99999"),
        ("Seed: " + "9" * 6000, "which is not a number"),
    ],
)
def test_values_that_cannot_be(pair: str, fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        request_from(f"a fox\nSteps: 4, Sampler: Euler, {pair}, Version: x")


@pytest.mark.parametrize(
    ("pair", "field", "value"),
    [
        ("RNG: CPU", "rng", "CPU"),
        ("RNG: NV", "rng", "NV"),
        ("RNG: GPU", "rng", "NV"),
        ("Emphasis: No norm", "emphasis", "No norm"),
        ("Emphasis: none", "emphasis", "None"),
        ("Tiling: True", "tiling", True),
        ("CFG Rescale: 0.7", "guidance_rescale", 0.7),
    ],
)
def test_what_is_followed(pair: str, field: str, value: object) -> None:
    text = f"a fox\nSteps: 4, Sampler: Euler, {pair}, Version: v1.10.0"
    assert getattr(request_from(text), field) == value
    assert not_followed(read_parameters(text).values) == []


@pytest.mark.parametrize(
    "pair",
    [
        "ENSD: 31337",
        "RNG: XPU",
        "Emphasis: Squared",
        "Speed: hyper",
        "Tiling: X axis",
        "VAE: other.safetensors",
        "VAE Decoder: TAESD",
        "Token merging ratio: 0.5",
        "NGMS: 1.5",
        "Pad conds: True",
        "Noise multiplier: 0",
        "Conditional mask weight: 0.5",
        "Sigma churn: 3",
        "Schedule rho: 5",
        "Discard penultimate sigma: True",
        "Downcast alphas_cumprod: True",
        "Face restoration: CodeFormer",
        "Refiner switch by sampling steps: True",
        "ADetailer model: face_yolov8n.pt",
        "FreeU Stages: 3",
        "Hypernet: anime",
    ],
)
def test_what_cannot_be_followed_is_told(pair: str) -> None:
    """Of what changes the picture, whoever writes it: a name that nobody here knows counts."""
    text = f"a fox\nSteps: 4, Sampler: Euler, Seed: 3, {pair}, Version: v1.10.0"
    assert not_followed(read_parameters(text).values) == [pair.partition(":")[0]]
    assert request_from(text) == Request(
        prompt="a fox", steps=4, sampler="Euler", schedule="Automatic", seed=3
    )


@pytest.mark.parametrize(
    ("pairs", "sampler", "left_out"),
    [
        ("UniPC variant: bh1, UniPC order: 3", "UniPC", []),
        ("UniPC variant: bh2", "UniPC bh2", []),
        ("UniPC variant: bh2, UniPC order: 2", "UniPC order 2", []),
        ("UniPC variant: vary_coeff", "UniPC", ["UniPC variant"]),
        ("UniPC order: 5", "UniPC", ["UniPC order"]),
        ("UniPC skip type: logSNR", "UniPC", ["UniPC skip type"]),
        ("UniPC lower order final: False", "UniPC", ["UniPC lower order final"]),
        ("UniPC skip type: time_uniform, UniPC lower order final: True", "UniPC", []),
    ],
)
def test_the_options_of_unipc(pairs: str, sampler: str, left_out: list[str]) -> None:
    text = f"a fox\nSteps: 4, Sampler: UniPC, {pairs}, Version: v1.10.0"
    assert request_from(text).sampler == sampler
    assert not_followed(read_parameters(text).values) == left_out


def test_what_changes_nothing_is_not_told() -> None:
    text = (
        "a fox\nSteps: 4, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 3, Size: 512x512, "
        "Model hash: 0123456789, Model: m, VAE hash: 01, VAE: Automatic, Denoising strength: 0.5, ENSD: 0, "
        "Clip skip: 2, Batch size: 4, Batch pos: 1, Noise multiplier: 1.0, Conditional mask weight: 1.0, "
        'VAE Encoder: Full, Token merging ratio: 0, Pad conds: 0, Lora hashes: "a: 1", TI hashes: "b: 2", '
        "Mask blur: 4, Inpaint area: Only masked, Masked area padding: 32, Masked content: fill, Eta: 0.5, "
        'ControlNet 0: "Module: canny", Face restoration: None, User: me, Version: v1.10.0'
    )
    assert not_followed(read_parameters(text).values) == []


TEXT = """a fox (red:1.2), snow
Negative prompt: blurry, grey
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x768, \
Model hash: 0123456789, Model: starter, RNG: NV, Version: pochade 0.1.0"""


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_other_tools_read_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fox{suffix}"
    save_picture(Image.new("RGB", (16, 16)), path, TEXT)
    sd_parsers = pytest.importorskip("sd_parsers")
    found = sd_parsers.ParserManager().parse(path)
    assert [prompt.value for prompt in found.prompts] == ["a fox (red:1.2), snow"]
    assert [prompt.value for prompt in found.negative_prompts] == ["blurry, grey"]
    (sampler,) = found.samplers
    assert (sampler.name, sampler.parameters["seed"]) == ("DPM++ 2M", "1")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_reader_with_a_window_reads_it(tmp_path: Path, suffix: str) -> None:
    module = pytest.importorskip("sd_prompt_reader.image_data_reader")
    path = tmp_path / f"fox{suffix}"
    save_picture(Image.new("RGB", (16, 16)), path, TEXT)
    with path.open("rb") as file:
        found = module.ImageDataReader(file)
    assert found.tool == "A1111 webUI"
    assert (found.positive, found.negative) == ("a fox (red:1.2), snow", "blurry, grey")
    assert found.parameter["seed"] == "1"
