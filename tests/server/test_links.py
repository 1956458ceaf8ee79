"""Signed links to pictures for OpenAI's clients."""

import io
import re
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from pochade.server.dialects.openai import schemas
from pochade.server.links import VALID_S, Links
from pochade.server.middleware import ErrorReply
from pochade.server.uploads import Inputs
from tests.server.conftest import ANNS_KEY, Served


@pytest.fixture(scope="module")
def client(shared: Served) -> Any:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key=ANNS_KEY, max_retries=0) as made:
        yield made


@pytest.mark.parametrize(
    ("model", "response_format", "by_url"),
    [
        ("dall-e-3", None, True),
        ("dall-e-2", None, True),
        ("dall-e-3", "b64_json", False),
        ("gpt-image-1", None, False),
        ("starter", None, False),
        (None, None, False),
        (None, "url", True),
    ],
)
def test_what_a_model_answers_with(
    client: openai.OpenAI, model: str | None, response_format: Any, by_url: bool
) -> None:
    more = {name: value for name, value in (("model", model), ("response_format", response_format)) if value}
    reply = client.images.generate(prompt="a", extra_body={"steps": 1}, **more)
    assert reply.data is not None
    assert (reply.data[0].url is not None, reply.data[0].b64_json is None) == (by_url, by_url)


def test_a_link_opens_without_a_key_and_nothing_else_does(client: openai.OpenAI, shared: Served) -> None:
    for kind in ("png", "jpeg", "webp"):
        reply = client.images.generate(
            prompt="a", model="dall-e-3", output_format=kind, extra_body={"steps": 1}
        )  # type: ignore[call-overload]
        url = reply.data[0].url
        opened = httpx.get(url)
        assert opened.status_code == 200 and opened.headers["content-type"] == f"image/{kind}"
        assert Image.open(io.BytesIO(opened.content)).format == kind.upper()
    address = httpx.URL(url)
    for changed in (
        address.copy_set_param("expires", "99999999999"),
        address.copy_set_param("signature", "0" * 64),
        address.copy_set_param("quality", "5"),
        address.copy_with(path=address.path.replace("webp", "png")),
    ):
        assert httpx.get(changed).status_code == 403
    picture = address.path.split("/")[-1].partition(".")[0]
    assert shared.http.get(f"/api/v1/pictures/{picture}").status_code == 401
    own = {"Authorization": f"Bearer {ANNS_KEY}"}
    assert shared.http.delete(f"/api/v1/pictures/{picture}", headers=own).status_code == 204
    assert httpx.get(url).status_code == 404


def test_a_link_ends_after_an_hour_and_with_the_server() -> None:
    now = [1000.0]
    links = Links(lambda: now[0])
    query = dict(httpx.URL(f"http://x{links.path('id')}").params)
    given = "id", "png", int(query["quality"]), int(query["expires"]), query["signature"]
    links.check(*given)
    now[0] += VALID_S + 1
    with pytest.raises(ErrorReply, match="valid for one hour"):
        links.check(*given)
    with pytest.raises(ErrorReply, match="since it started"):
        Links(lambda: 1000.0).check(*given)


def test_assistants_get_links_that_open_without_a_key(shared: Served) -> None:
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    call = {"name": "generate_image", "arguments": {"prompt": "a", "steps": 1}}
    reply = shared.http.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
        headers={
            "Authorization": f"Bearer {ANNS_KEY}",
            "Accept": "application/json, text/event-stream",
            "Mcp-Protocol-Version": "2025-06-18",
        },
    )
    found = re.search(rf"{shared.url}/links/[^\"]+", reply.text)
    assert found is not None, reply.text
    assert httpx.get(found[0]).status_code == 200


def test_what_is_left_out_is_named_in_the_reply(client: openai.OpenAI) -> None:
    reply = client.images.generate(
        prompt="a", quality="hd", style="vivid", user="me", extra_body={"steps": 1, "unheard_of": 1}
    )
    assert reply.model_extra is not None and reply.model_extra["left_out"] == [
        "quality",
        "style",
        "unheard_of",
    ]


def test_files_that_are_not_read_are_refused(client: openai.OpenAI, shared: Served) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    with pytest.raises(openai.BadRequestError, match="markup is not supported; use a mask"):
        client.images.edit(image=("a.png", file.getvalue()), prompt="a", extra_body={"markup": "x"})
    sent = {name: ("a.png", file.getvalue()) for name in ("image", "style_image")}
    key = {"Authorization": f"Bearer {ANNS_KEY}"}
    reply = shared.http.post("/v1/images/edits", data={"prompt": "a"}, files=sent, headers=key)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "style_image"


def test_a_stream_by_address_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="streams carry pictures in base64"):
        client.images.generate(prompt="a", stream=True, response_format="url")


@pytest.mark.parametrize(
    ("size", "asked"), [("107x91", (107, 91)), ("107x90", (104, 88)), (None, (None, None))]
)
def test_an_edit_in_the_size_of_its_picture_is_asked_for_in_just_that(size: Any, asked: Any) -> None:
    from pochade.jobs.catalogue import Folders, scan_folders

    file = io.BytesIO()
    Image.new("RGB", (107, 91)).save(file, "PNG")
    sent = Inputs(lambda own: b"", lambda content: None)
    source = schemas.source_of(file.getvalue(), None, None, sent)
    body = schemas.ImagesBody(prompt="a", size=size)
    request = schemas.submitted_order(body, scan_folders(Folders()), sent, source).order.request
    assert (request.width, request.height) == asked
