"""Requests that must not block others: body limits, and work in threads."""

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from pochade.adapters import library
from pochade.errors import InvalidRequest
from pochade.jobs import limits
from pochade.jobs.catalogue import Folders, scan_folders
from pochade.jobs.job_request import JobRequest
from pochade.jobs.limits import Limits
from pochade.jobs.live import LiveJobs
from pochade.jobs.orders import TXT2IMG, Order
from pochade.server import request_bodies, submission
from pochade.server.app import BODIES
from pochade.server.config import Options
from pochade.server.receive import SMALL_BYTES, BodyLimits
from pochade.server.request_bodies import LARGE_BYTES, MAX_VALUES, Body, Route
from pochade.server.service import Service
from pochade.server.submission import SubmittedOrder
from tests.fake_hub import write_tensors
from tests.server.conftest import ANNS_KEY, Served
from tests.server.in_process import served

ANN = {"Authorization": f"Bearer {ANNS_KEY}"}
JSON = {"content-type": "application/json"}


# --- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_login_is_as_small_as_a_key(shared: Served, chunked: bool) -> None:
    body = b'{"key": "' + b"x" * SMALL_BYTES + b'"}'
    sent: Any = iter([body]) if chunked else body
    reply = shared.http.post("/api/v1/login", content=sent, headers=JSON)
    assert reply.status_code == 413 and reply.json()["error"]["code"] == "too_large"
    assert shared.http.post("/api/v1/login", json={"key": "x" * 900}).status_code in (401, 429)


def test_what_needs_no_large_body_takes_none(shared: Served) -> None:
    paths = shared.http.get("/api/v1/openapi.json", headers=ANN).json()["paths"]
    asked = 0
    for path, methods in paths.items():
        if "post" not in methods or path in BODIES:
            continue
        body = {"key": "wrong key", "pad": "x" * SMALL_BYTES}
        reply = shared.http.post(
            path.replace("{job_id}", "x").replace("{picture_id}", "x"), json=body, headers=ANN
        )
        assert reply.status_code == 413, path
        asked += 1
    assert asked > 12
    for path in BODIES:
        assert path in (*paths, "/mcp"), f"{path} is no route"


def test_a_servers_own_limit_counts_where_it_is_the_lower_one() -> None:
    given = BodyLimits(1000, {"/a": None, "/b": 5000})
    assert [given.of(path) for path in ("/a", "/a/", "/b", "/c")] == [1000] * 4
    wide = BodyLimits(10**6, {"/a": None, "/b": 5000})
    assert [wide.of(path) for path in ("/a", "/a/", "/b", "/c")] == [10**6, 10**6, 5000, SMALL_BYTES]


@pytest.mark.parametrize(
    ("path", "shape"),
    [("/api/v1/jobs", "error"), ("/sdapi/v1/txt2img", "detail"), ("/v1/images/generations", "error")],
)
def test_a_body_of_very_many_values_is_not_gone_through(shared: Served, path: str, shape: str) -> None:
    body = b'{"prompt": "x", "extra": [' + b"0," * MAX_VALUES + b"0,0]}"
    reply = shared.http.post(path, content=body, headers={**ANN, **JSON})
    assert reply.status_code == 413 and shape in reply.json()
    assert f"{MAX_VALUES:,} values" in reply.text


def test_assistants_have_the_same_bound(shared: Served) -> None:
    pytest.importorskip("mcp")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"x": [0] * (MAX_VALUES + 2)}}
    headers = {**ANN, **JSON, "accept": "application/json, text/event-stream"}
    reply = shared.http.post("/mcp", content=json.dumps(call), headers=headers)
    assert reply.status_code == 413, reply.text
    del call["params"]
    assert shared.http.post("/mcp", content=json.dumps(call), headers=headers).status_code == 200


def test_a_large_body_is_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Body):
        text: str

    read_in: list[int] = []
    parsed = request_bodies.parsed

    def reading(content: bytes) -> Any:
        read_in.append(threading.get_ident())
        return parsed(content)

    monkeypatch.setattr(request_bodies, "parsed", reading)
    routes = APIRouter(route_class=Route)

    @routes.post("/told")
    async def told(body: Told) -> int:
        return len(body.text)

    app = FastAPI()
    app.include_router(routes)

    async def ask(count: int) -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.post("/told", json={"text": "x" * count})).json()

    assert asyncio.run(ask(2 * LARGE_BYTES)) == 2 * LARGE_BYTES
    assert read_in and threading.get_ident() not in read_in
    assert asyncio.run(ask(10)) == 10 and read_in[-1] == threading.get_ident()


# --- LoRA tags --------------------------------------------------------------------------------------------


def tags(count: int) -> str:
    return "a fox " + " ".join(f"<lora:ink{number}:0.8>" for number in range(count))


def drawn(prompt: str) -> SubmittedOrder:
    return SubmittedOrder(order=Order(kind=TXT2IMG, model="", request=JobRequest(prompt=prompt)))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    for number in range(3):
        write_tensors(tmp_path / f"ink{number}.safetensors", "lora_unet_x.lora_down.weight")
    return Folders(loras=tmp_path)


def test_folders_are_not_walked_for_each_tag_of_each_job(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue, walks = scan_folders(folders), 0
    walk = library.entries_in

    def counted(folders: Sequence[Path]) -> Any:
        nonlocal walks
        walks += 1
        return walk(folders)

    monkeypatch.setattr(library, "entries_in", counted)
    for _ in range(10):
        submission.settled(drawn(tags(3)), catalogue, lambda count: "00" * count, Limits())
    assert walks <= 3


def test_a_file_that_was_moved_is_found_again(folders: Folders) -> None:
    assert folders.loras is not None
    catalogue = scan_folders(folders)
    catalogue.defaults("starter", tags(1))
    (folders.loras / "below").mkdir()
    (folders.loras / "ink0.safetensors").rename(folders.loras / "below" / "ink0.safetensors")
    catalogue.defaults("starter", tags(1))


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_prompt_has_a_bound_of_loras(name: str) -> None:
    limits.check_prompts(JobRequest(**{name: tags(32)}), Limits())
    with pytest.raises(InvalidRequest, match=f"{name} has 33 LoRAs; at most 32"):
        limits.check_prompts(JobRequest(**{name: tags(33)}), Limits())


def test_a_long_prompt_is_refused_before_its_tags_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "extra_networks", lambda text: pytest.fail("it was gone through"))
    with pytest.raises(InvalidRequest, match="characters"):
        submission.settled(
            drawn(tags(100_000)), scan_folders(Folders()), lambda count: "00" * count, Limits()
        )


def test_names_are_looked_up_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def settled(*arguments: Any) -> Any:
        seen.append(threading.get_ident())
        raise InvalidRequest("seen")

    monkeypatch.setattr(submission, "settled", settled)
    service = Service(Options(data=tmp_path))
    service.live_jobs, service.catalogue = LiveJobs(lambda: 0.0, {}), scan_folders(Folders())
    with pytest.raises(InvalidRequest, match="seen"):
        asyncio.run(service.submit("ann", drawn("x")))
    assert seen and threading.get_ident() not in seen


def test_one_look_through_the_folders_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pochade.server.service as module

    counting, at_once, most = threading.Lock(), 0, 0
    real = module.scan_folders

    def looking(folders: Folders) -> Any:
        nonlocal at_once, most
        with counting:
            at_once += 1
            most = max(most, at_once)
        found = real(folders)
        with counting:
            at_once -= 1
        return found

    monkeypatch.setattr(module, "scan_folders", looking)

    async def ask(service: Service, http: httpx.AsyncClient) -> None:
        await asyncio.gather(*(http.post("/api/v1/models/refresh") for _ in range(8)))

    served(tmp_path, ask)
    assert most == 1
