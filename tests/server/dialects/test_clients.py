"""Real client packages: webuiapi and openai."""

import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
import webuiapi
from PIL import Image, ImageDraw

from pochade.images.embedded_text import text_of
from tests.reference import psnr
from tests.server.conftest import ANNS_KEY, Served, content, decoded, encoded

SIDE = 128


def picture() -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(image).ellipse((32, 32, 96, 96), fill="red")
    return image


@pytest.fixture(scope="module")
def a1111(studio: Served) -> Iterator[webuiapi.WebUIApi]:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=studio.port, sampler="DPM++ 2M", steps=2)
    yield api
    api.session.close()


@pytest.fixture(scope="module")
def images(studio: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{studio.url}/v1", api_key="none", max_retries=0) as client:
        yield client


SMALL = {"prompt": "a red apple", "seed": 7, "steps": 2, "width": SIDE, "height": SIDE}

# --- webuiapi -------------------------------------------------------------------------------------------


def test_txt2img(a1111: webuiapi.WebUIApi) -> None:
    result = a1111.txt2img(**SMALL, sampler_name="DPM++ 2M Karras", n_iter=2, negative_prompt="blurry")
    assert [image.size for image in result.images] == [(SIDE, SIDE)] * 2
    assert result.info["all_seeds"] == [7, 8]
    assert result.info["infotexts"][0] == result.images[0].info["parameters"]
    assert "Schedule type: Karras" in result.info["infotexts"][0]
    assert (result.parameters["steps"], result.parameters["negative_prompt"]) == (2, "blurry")
    assert set(result.info) >= {"prompt", "subseed", "sd_model_name", "job_timestamp", "clip_skip", "version"}


def test_img2img_and_inpainting_with_a_mask(a1111: webuiapi.WebUIApi) -> None:
    over = a1111.img2img(images=[picture()], **SMALL, denoising_strength=0.5)
    assert over.image.size == (SIDE, SIDE)
    assert over.parameters["init_images"] is None and over.info["denoising_strength"] == 0.5
    mask = Image.new("L", (64, 64), 0)  # of another size: it is brought to the picture's
    ImageDraw.Draw(mask).rectangle((0, 0, 64, 20), fill=255)
    options = {"inpaint_full_res": False, "mask_blur": 0, "inpainting_fill": 2, "denoising_strength": 1.0}
    inside = a1111.img2img(images=[picture()], mask_image=mask, **SMALL, **options)
    below = (0, 70, SIDE, SIDE)
    assert inside.image.crop(below).tobytes() == picture().crop(below).tobytes()
    assert inside.image.tobytes() != picture().tobytes()
    other = a1111.img2img(images=[picture()], mask_image=mask, inpainting_mask_invert=1, **SMALL, **options)
    above = (0, 0, SIDE, 30)
    assert other.image.crop(above).tobytes() == picture().crop(above).tobytes()


def turned(image: Image.Image, kind: str) -> str:
    """A file whose header says that the picture lies on its side, in base64."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), kind, exif=exif)


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_a_mask_over_a_picture_that_is_turned_upright(a1111: webuiapi.WebUIApi, kind: str) -> None:
    upright = Image.new("RGB", (SIDE, 64), "white")
    upright.paste("red", (0, 0, 32, 64))
    mask = Image.new("RGBA", (SIDE, 64), (0, 0, 0, 0))  # painted in black on nothing
    mask.paste((0, 0, 0, 255), (64, 0, SIDE, 64))
    body = {
        **SMALL, "height": 64, "init_images": [turned(upright, kind)], "inpaint_full_res": False,
        "mask_blur": 0, "denoising_strength": 1.0, "inpainting_fill": 2,
    }  # fmt: skip
    for given in (encoded(mask), turned(mask, "PNG")):
        reply = a1111.session.post(f"{a1111.baseurl}/img2img", json={**body, "mask": given})
        image = decoded(reply.json()["images"][0])
        assert image.size == (SIDE, 64)
        left, right = (0, 0, 60, 64), (68, 0, SIDE, 64)
        assert image.crop(left).tobytes() == upright.crop(left).tobytes()
        assert image.crop(right).tobytes() != upright.crop(right).tobytes()


@pytest.mark.parametrize("size", [(192, 128), (128, 192), (160, 160)])
def test_a_second_pass_of_another_shape_shows_the_middle(
    a1111: webuiapi.WebUIApi, size: tuple[int, int]
) -> None:
    hires = {"enable_hr": True, "hr_resize_x": size[0], "hr_resize_y": size[1], "hr_upscaler": "Lanczos"}
    options = {**SMALL, **hires, "hr_second_pass_steps": 1, "denoising_strength": 0.01, "steps": 6}
    second = a1111.txt2img(**options).image
    first = a1111.txt2img(**{**SMALL, "steps": 6}).image
    assert second.size == size
    larger = max(size)
    left, top = (larger - size[0]) // 2, (larger - size[1]) // 2
    expected = first.resize((larger, larger)).crop((left, top, left + size[0], top + size[1]))
    squashed = first.resize(size)
    found = np.asarray(second)
    if size[0] != size[1]:
        assert psnr(found, np.asarray(expected)) > psnr(found, np.asarray(squashed)) + 3


def test_progress_and_interrupt(a1111: webuiapi.WebUIApi, studio: Served) -> None:
    results: list[webuiapi.WebUIApiResult] = []
    long = {**SMALL, "steps": 150, "n_iter": 20}
    drawing = threading.Thread(target=lambda: results.append(a1111.txt2img(**long)))
    drawing.start()
    other = webuiapi.WebUIApi(host="127.0.0.1", port=studio.port)
    end = time.monotonic() + 60
    progress = other.get_progress()
    while (
        progress["state"]["sampling_step"] < 3 or not progress["current_image"]
    ) and time.monotonic() < end:
        time.sleep(0.05)
        progress = other.get_progress()
    assert 0 < progress["progress"] < 1 and progress["state"]["job_count"] == 1
    assert progress["state"]["sampling_steps"] == 150 and progress["eta_relative"] > 0
    assert decoded(progress["current_image"]).format == "JPEG"
    assert other.interrupt() == {}
    drawing.join(30)
    other.session.close()
    assert 1 <= len(results[0].images) < 20  # with what there was
    a1111.util_wait_for_ready(0.05)


def test_skip_ends_one_picture(a1111: webuiapi.WebUIApi, quick: Served) -> None:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=quick.port)
    results: list[webuiapi.WebUIApiResult] = []
    request = {**SMALL, "prompt": "0.1 slow", "steps": 100, "n_iter": 2}
    drawing = threading.Thread(target=lambda: results.append(api.txt2img(**request)))
    drawing.start()
    other = webuiapi.WebUIApi(host="127.0.0.1", port=quick.port)
    while other.get_progress()["progress"] == 0:
        time.sleep(0.02)
    skips = 0
    while drawing.is_alive():  # each time the one that is being drawn
        assert other.skip() is None
        skips += 1
        drawing.join(0.5)
    assert len(results[0].images) == 2 and skips < 30  # drawn to their ends they take twenty seconds
    for each in (api, other):
        each.session.close()


def test_options_and_models(a1111: webuiapi.WebUIApi) -> None:
    options = a1111.get_options()
    assert options["sd_model_checkpoint"] == "starter"
    assert a1111.set_options(options) is None  # the whole object, as one client does
    a1111.util_set_model("star")
    assert a1111.util_get_current_model() == "starter"
    a1111.util_wait_for_ready(0.05)
    a1111.set_options({"CLIP_stop_at_last_layers": 2})
    try:
        assert "Clip skip: 2" in a1111.txt2img(**SMALL).info["infotexts"][0]
    finally:
        a1111.set_options({"CLIP_stop_at_last_layers": 1})
    settings = {"randn_source": "CPU", "emphasis": "No norm"}
    assert {**a1111.get_options(), "randn_source": "NV", "emphasis": "Original"} == a1111.get_options()
    once = a1111.txt2img(**SMALL, override_settings=settings)
    assert "RNG: CPU, Emphasis: No norm" in once.info["infotexts"][0]
    gpu = a1111.txt2img(**SMALL, override_settings={"randn_source": "GPU"})
    assert "RNG: NV" in gpu.info["infotexts"][0]
    variant = {"uni_pc_variant": "bh2"}
    assert (
        "Sampler: UniPC bh2"
        in a1111.txt2img(**{**SMALL, "sampler_name": "UniPC"}, override_settings=variant).info["infotexts"][0]
    )
    with pytest.raises(RuntimeError, match="UniPC bh1 of order 2 is not available; one of: bh1 of order 3"):
        a1111.txt2img(**{**SMALL, "sampler_name": "UniPC"}, override_settings={"uni_pc_order": 2})
    with pytest.raises(RuntimeError, match=r"randn_source: rng is .*MPS.*one of: NV, CPU"):
        a1111.txt2img(**SMALL, override_settings={"randn_source": "MPS"})
    once = a1111.txt2img(**SMALL, override_settings={"CLIP_stop_at_last_layers": 3})
    assert once.info["clip_skip"] == 3 and a1111.get_options()["CLIP_stop_at_last_layers"] == 1


def test_what_there_is(a1111: webuiapi.WebUIApi) -> None:
    assert "DPM++ 2M" in a1111.util_get_sampler_names()
    assert {"karras", "automatic"} <= set(a1111.util_get_scheduler_names())
    assert a1111.util_get_model_names() == ["starter"]
    assert [each["name"] for each in a1111.get_upscalers()][:2] == ["None", "Lanczos"]
    assert a1111.get_scripts() == {"txt2img": [], "img2img": []}
    assert a1111.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert "ram" in a1111.get_memory()
    for name in ("sd_vae", "loras", "hypernetworks", "face_restorers", "realesrgan_models", "prompt_styles"):
        assert getattr(a1111, f"get_{name}")() == []
    assert a1111.get_latent_upscale_modes()[0] == {"name": "Latent"}
    assert a1111.refresh_checkpoints() is None
    for name in ("script-info", "extensions"):
        assert a1111.session.get(f"{a1111.baseurl}/{name}").json() == []
    for name in ("refresh-vae", "refresh-loras", "refresh-embeddings"):
        assert a1111.session.post(f"{a1111.baseurl}/{name}").json() is None
    for name in ("unload-checkpoint", "reload-checkpoint"):
        assert a1111.session.post(f"{a1111.baseurl}/{name}").json() == {}


def test_png_info_and_larger_pictures(a1111: webuiapi.WebUIApi) -> None:
    drawn = a1111.txt2img(**SMALL).image
    told = a1111.png_info(drawn)
    assert told.info == drawn.info["parameters"] and told.parameters["Seed"] == "7"
    assert a1111.extra_single_image(picture(), upscaler_1="Lanczos", upscaling_resize=1.5).image.size == (
        192,
        192,
    )
    fitted = a1111.extra_single_image(
        picture(), resize_mode=1, upscaling_resize_w=200, upscaling_resize_h=100, upscaling_crop=True
    )
    assert fitted.image.size == (200, 100)
    two = a1111.extra_batch_images([picture()] * 2, upscaler_1="None", upscaling_resize=2)
    assert [image.size for image in two.images] == [(256, 256)] * 2


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"sampler_name": "Nope"}, 400, "Sampler not found"),
        ({"steps": 0}, 422, "steps"),
        ({"script_name": "x/y/z plot"}, 422, "not found"),
        ({"enable_hr": True, "hr_upscaler": "LDSR"}, 400, "LDSR"),
        ({"override_settings": {"sd_model_checkpoint": "nope"}}, 422, "model 'nope' is unknown"),
    ],
)
def test_errors_in_its_shape(
    a1111: webuiapi.WebUIApi, changes: dict[str, object], status: int, message: str
) -> None:
    reply = a1111.session.post(f"{a1111.baseurl}/txt2img", json={**SMALL, **changes})
    assert reply.status_code == status
    assert set(reply.json()) == {"error", "detail", "body", "errors"} and message in reply.json()["detail"]
    assert (
        a1111.session.post(f"{a1111.baseurl}/img2img", json=SMALL).json()["detail"] == "Init image not found"
    )


# --- openai -----------------------------------------------------------------------------------------------

FEW = {"steps": 2, "seed": 5}


def test_generations(images: openai.OpenAI) -> None:
    reply = images.images.generate(
        prompt="a red apple", model="dall-e-2", n=2, size="128x128", quality="auto",
        response_format="b64_json", extra_body=FEW,
    )  # fmt: skip
    assert reply.data is not None and (reply.size, reply.output_format) == ("128x128", "png")
    first, second = (decoded(each.b64_json or "") for each in reply.data)
    assert first.size == (128, 128) and first.tobytes() != second.tobytes()
    assert "Seed: 5" in str(first.info["parameters"])
    for kind in ("webp", "jpeg"):
        other = images.images.generate(
            prompt="a red apple",
            model="gpt-image-1",
            output_format=kind,
            output_compression=80,
            extra_body=FEW,
        )
        assert other.data is not None and decoded(other.data[0].b64_json or "").format == kind.upper()


def test_a_url_leads_to_the_picture(images: openai.OpenAI) -> None:
    reply = images.images.generate(prompt="a red apple", response_format="url", extra_body=FEW)
    assert reply.data is not None and reply.data[0].url is not None
    assert "Seed: 5" in text_of(httpx.get(reply.data[0].url).content)


def test_edits_with_a_transparent_mask(images: openai.OpenAI) -> None:
    mask = Image.new("RGBA", (SIDE, SIDE), "black")
    mask.paste((0, 0, 0, 0), (0, 0, SIDE, 30))
    files = {"image": ("a.png", content(picture())), "mask": ("m.png", content(mask))}
    reply = images.images.edit(**files, prompt="a blue sky", extra_body={**FEW, "size": "128x128"})
    assert reply.data is not None
    edited = decoded(reply.data[0].b64_json or "").crop((0, 60, SIDE, SIDE))
    assert edited.tobytes() == picture().crop((0, 60, SIDE, SIDE)).tobytes()
    whole = images.images.edit(image=[("a.png", content(picture()))], prompt="a fox", extra_body=FEW)
    assert whole.data is not None and len(whole.data) == 1


def test_streaming_with_pictures_on_the_way(images: openai.OpenAI) -> None:
    events = list(
        images.images.generate(
            prompt="a red apple", stream=True, partial_images=2, extra_body={**FEW, "steps": 6}
        )
    )
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + [
        "image_generation.completed"
    ]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]  # type: ignore[union-attr]
    assert all(decoded(event.b64_json).size == (128, 128) for event in events)
    edit = list(
        images.images.edit(
            image=("a.png", content(picture())),
            prompt="a fox",
            stream=True,
            partial_images=1,
            extra_body={**FEW, "steps": 6},
        )
    )
    assert [event.type for event in edit] == ["image_edit.partial_image", "image_edit.completed"]


def test_models(images: openai.OpenAI) -> None:
    assert [model.id for model in images.models.list()] == ["starter"]
    assert images.models.retrieve("starter").owned_by == "pochade"
    with pytest.raises(openai.NotFoundError):
        images.models.retrieve("nope")


@pytest.mark.parametrize(
    ("changes", "kind", "parameter"),
    [
        ({"size": "huge"}, openai.BadRequestError, "size"),
        ({"n": 11}, openai.BadRequestError, "n"),
        ({"model": "nope"}, openai.NotFoundError, "model"),
        ({"background": "transparent"}, openai.BadRequestError, "background"),
        ({"extra_body": {"steps": 100_000}}, openai.BadRequestError, None),
    ],
)
def test_errors_in_its_own_shape(
    images: openai.OpenAI,
    changes: dict[str, object],
    kind: type[openai.APIStatusError],
    parameter: str | None,
) -> None:
    with pytest.raises(kind) as caught:
        images.images.generate(**{"prompt": "a red apple", **changes})  # type: ignore[call-overload]
    assert caught.value.request_id and caught.value.message
    assert caught.value.param == parameter  # type: ignore[attr-defined]


def test_a_wrong_key_is_said_as_the_clients_know_it(shared: Served) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="wrong horse", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.images.generate(prompt="x")
        assert caught.value.code == "invalid_api_key"
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key=ANNS_KEY, max_retries=0) as client:
        assert client.images.generate(prompt="x", extra_body=FEW).data
    api = webuiapi.WebUIApi(host="127.0.0.1", port=shared.port, username="ann", password=ANNS_KEY)
    assert len(api.txt2img(**SMALL).images) == 1
    api.set_auth("ann", "wrong horse")
    reply = api.session.get(f"{api.baseurl}/options")
    assert reply.status_code == 401 and reply.headers["WWW-Authenticate"].startswith("Basic")
    api.session.close()
