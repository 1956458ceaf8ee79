"""Orders outlive their process; names stay names; limits name what is too much."""

from dataclasses import fields
from typing import Any

import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.jobs import limits
from pochade.jobs.catalogue import Folders, scan_folders
from pochade.jobs.errors import without_paths
from pochade.jobs.job_request import JobControl, JobRequest, JobSource, read_job_request
from pochade.jobs.limits import Limits
from pochade.jobs.orders import NOT_DRAWN, Order, Upscale, batches, read_order, request_of
from pochade.jobs.pricing import expected_work, work_of
from pochade.request import Request
from pochade.request_options import Control, Hires, Source

NAMES = scan_folders(Folders())
PICTURE = Image.new("RGB", (64, 48), "red")
REQUEST: dict[str, Any] = {"prompt": "a fox", "negative_prompt": "", "seed": 5, "steps": 4, "batch_size": 2}

LARGE_CONTROL = {"image": 0, "model": "edges", "resolution": 2048}


def order(**changes: Any) -> Order:
    values = {"kind": "txt2img", "model": "starter", "request": REQUEST, **changes}
    return Order(**{**values, "request": read_job_request(values["request"])})


def fetch(number: int) -> Image.Image:
    return Image.new("L", (64, 48), 255) if number else PICTURE


@pytest.mark.parametrize(
    "each",
    [
        order(count=3, expand=True, partials=2),
        Order(kind="upscale", model="", upscale=Upscale(image=0, size=(64, 64), crop=True)),
        order(kind="inpaint", request={**REQUEST, "source": {"image": 0, "mask": 1}}),
    ],
)
def test_an_order_is_the_same_after_it_was_written_and_read(each: Order) -> None:
    assert read_order(each.text()) == each


def test_a_later_version_of_an_order_is_read_as_far_as_it_is_known() -> None:
    assert read_order(order().text()[:-1] + ',"later":1}') == order()


def test_an_order_becomes_a_request_with_pictures() -> None:
    source = {"image": 0, "mask": 1, "denoising_strength": None, "outpaint": None, "fill": "noise"}
    asked = order(
        kind="inpaint",
        request={**REQUEST, "source": source, "variation": {"seed": 1, "strength": 0.5, "size": [64, 64]}},
    )
    request = request_of(asked, fetch, NAMES)
    assert request.source is not None and request.source.image is PICTURE
    assert request.source.mask is not None and request.source.fill == "noise"
    assert request.variation is not None and request.variation.size == (64, 64)
    hires = request_of(order(request={**REQUEST, "hires": {"scale": 2.0, "size": None}}), fetch, NAMES)
    assert hires.hires == Hires()


def test_outpainting_makes_its_own_mask() -> None:
    source = {"image": 0, "outpaint": {"left": 16, "right": 0}}
    request = request_of(order(kind="inpaint", request={**REQUEST, "source": source}), fetch, NAMES)
    assert request.source is not None and request.source.image.size == (80, 48)
    assert request.source.mask is not None and request.source.denoising_strength == 1.0


def test_batches_go_on_with_the_seeds_of_the_one_before() -> None:
    asked = order(count=3, expand=True, request={**REQUEST, "prompt": "a {red|blue} fox"})
    drawn = list(batches(asked, request_of(asked, fetch, NAMES), NAMES))
    assert [batch.seed for batch in drawn] == [5, 7, 9]
    assert all(batch.prompt in ("a red fox", "a blue fox") for batch in drawn)
    assert {batch.template for batch in drawn} == {"a {red|blue} fox"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "paint"}, "kind is 'paint'"),
        ({"kind": "img2img"}, "needs a picture"),
        ({"kind": "upscale"}, "upscale.image"),
        ({"kind": "inpaint", "request": {**REQUEST, "source": {"image": 0}}}, "needs a mask"),
        ({"kind": "txt2img", "request": {**REQUEST, "source": {"image": 0}}}, "draws from nothing"),
        ({"count": 0}, "count is 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        order(**changes)


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/etc/passwd", "../../model.safetensors", "model.pth", "", "C:\\x.pth"])
def test_no_name_of_a_client_is_a_path(name: str) -> None:
    with pytest.raises(InvalidRequest, match="is unknown"):
        NAMES.upscaler(name)
    with pytest.raises(InvalidRequest, match="is unknown"):
        NAMES.controlnet(name)
    if name:
        with pytest.raises(InvalidRequest, match="is unknown"):
            NAMES.model(name)


def test_unknown_loras_are_refused_before_anything_is_drawn() -> None:
    with pytest.raises(InvalidRequest, match="LoRA 'ink' is unknown"):
        NAMES.check_prompt("a fox <lora:ink:0.7>")
    with pytest.raises(InvalidRequest, match="hypernetworks are not supported"):
        NAMES.check_prompt("a fox <hypernet:ink:0.7>")
    NAMES.check_prompt("a fox <b>")


def test_a_default_model_that_is_not_there_is_said_at_the_start() -> None:
    with pytest.raises(InvalidRequest, match="--model 'nope'"):
        scan_folders(Folders(model="nope"))


def test_messages_for_strangers_have_no_paths() -> None:
    for message, shown in {
        "'/home/ann/models/x.safetensors' is damaged": "'x.safetensors' is damaged",
        "in /srv/a/b, /srv/c: no": "in b, c: no",
        "C:\\Users\\ann\\x.pt is bad": "x.pt is bad",
        "a 1/2 share; see docs/guide/files.md": "a 1/2 share; see docs/guide/files.md",
        "http://example.org/a/b": "http://example.org/a/b",
    }.items():
        assert without_paths(message) == shown


# --- limits and work ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 151}, "steps is 151"),
        ({"batch_size": 17}, "batch_size is 17"),
        ({"batch_size": 16}, "80 pictures"),
        ({"prompt": "a" * 20_001}, "20,001 characters"),
        ({"width": 4096, "height": 4096}, "4096 x 4096 px"),
        ({"width": 4}, "width is 4"),
        ({"width": 1024, "height": 1024, "hires": {"scale": 4.0}}, "the second pass would have 4096 x 4096"),
        ({"hires": {"size": [4096, 4096]}}, "the second pass"),
        (
            {"width": 2048, "height": 64, "controls": [{"image": 0, "model": "edges", "resolution": 2048}]},
            "picture for a preprocessor",
        ),
        ({"hires": {"prompt": "a" * 20_001}}, r"hires\.prompt has 20,001 characters"),
    ],
)
def test_too_much_is_refused_with_the_limit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        limits.check(order(count=5, request={**REQUEST, **changes}), Limits(), (512, 512))
    limits.check(order(count=5), Limits(), (512, 512))


def test_work_counts_steps_guidance_and_passes() -> None:
    plain = expected_work(order(request={**REQUEST, "cfg_scale": 7.0, "batch_size": 1}), (512, 512))
    assert (plain.evaluations, plain.count, plain.width) == (8.0, 1, 512)
    unguided = expected_work(order(request={**REQUEST, "cfg_scale": 1}), (512, 512))
    assert unguided.evaluations == 4.0
    twice = {**REQUEST, "hires": {"scale": 2.0, "steps": None}, "sampler": "Heun"}
    assert expected_work(order(request=twice), (256, 256)).evaluations == 2 * 8 + 4 * 2 * 8
    enlarged = {**twice, "hires": {**twice["hires"], "denoising_strength": 0}}
    assert expected_work(order(request=enlarged), (256, 256)).evaluations == 2 * 8
    assert work_of(order(), []) is None


def test_a_job_can_have_every_field_of_a_request_that_is_not_refused() -> None:
    names = {each.name for each in fields(Request)}
    expanded = {"template", "negative_template"}  # written when a template is expanded
    assert {each.name for each in fields(JobRequest)} == names - expanded - set(NOT_DRAWN)
    assert {each.name for each in fields(JobSource)} == {each.name for each in fields(Source)} | {"outpaint"}
    assert {each.name for each in fields(JobControl)} == {each.name for each in fields(Control)}


def test_what_another_version_stored_is_read() -> None:
    text = """{"kind": "img2img", "model": "starter", "request": {"prompt": "a fox", "seed": 3, "new": 1,
        "steps": 4, "blend": null, "source": {"image": 0, "mask": null, "denoising_strength": null},
        "hires": null, "variation": {"seed": 2, "strength": 0.5, "size": [64, 48]}, "controls": []},
        "count": 1, "later": true}"""
    request = read_order(text).request
    assert request.source == JobSource(image=0) and request.clip_skip == 1
    assert request.variation is not None and request.variation.size == (64, 48)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hires": {"size": [64]}}, "it takes two numbers"),
        ({"source": {"mask": 1}}, "incomplete: .*'image'"),
        ({"hires": {"scale": 9.0}}, "hires scale"),
    ],
)
def test_a_damaged_request_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_job_request(values)
