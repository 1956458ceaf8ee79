"""The Model Context Protocol, tested with its reference client over HTTP and standard input and output."""

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import httpx
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ImageContent, ResourceLink, TextContent
from PIL import Image, ImageDraw

from pochade.images.embedded_text import mark_of, text_of
from pochade.images.marks import GENERATED
from pochade.jobs.orders import Order
from pochade.jobs.storage import Storage, alive, is_dead
from pochade.server.dialects.mcp import tools
from pochade.server.submission import SubmittedOrder
from tests.server.conftest import ANNS_KEY, BOBS_KEY, ROOT, Served, Start, encoded

T = TypeVar("T")

SIDE = 128
FEW = {"prompt": "a red apple", "seed": 7, "steps": 2}
ERAS = ("auto", "legacy")
"""The protocol of 2026-07-28, which has no sessions, and those before it."""

JSON_RPC = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def picture() -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(image).ellipse((32, 32, 96, 96), fill="red")
    return image


def with_client(served: Served, ask: Callable[[Client], Awaitable[T]], era: str = "auto") -> T:
    """Return the result of `ask` with a client of this server."""

    async def asking() -> T:
        async with Client(f"{served.url}/mcp", mode=era) as client:
            return await ask(client)

    return asyncio.run(asking())


def call_tool(served: Served, tool: str, arguments: dict[str, Any], era: str = "auto") -> CallToolResult:
    return with_client(served, lambda client: client.call_tool(tool, arguments), era)


def unpacked(result: CallToolResult) -> tuple[bytes, str, str]:
    """Return the file, its link and its text."""
    assert not result.is_error, result.content
    image, link, text = result.content
    assert isinstance(image, ImageContent) and isinstance(link, ResourceLink)
    return base64.b64decode(image.data), link.uri, content_text(text)


def content_text(content: object) -> str:
    assert isinstance(content, TextContent)
    return content.text


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


# --- drawing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_a_picture_with_progress_and_a_link(studio: Served, era: str) -> None:
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    arguments = {**FEW, "steps": 6, "negative_prompt": "blurry"}
    result = with_client(
        studio,
        lambda client: client.call_tool("generate_image", arguments, progress_callback=hear),
        era,
    )
    file, link, text = unpacked(result)
    native = studio.until(studio.submit(**arguments)["id"])["pictures"][0]
    same = studio.http.get(native["url"]).content
    assert opened(file).size == (SIDE, SIDE) and opened(file).tobytes() == opened(same).tobytes()
    assert text_of(file) == native["text"] and native["text"] in text and mark_of(file) == GENERATED
    assert httpx.get(link).content == file
    shares = [progress for progress, _, _ in heard]
    assert shares == sorted(set(shares)) and shares[0] >= 0 and len(shares) > 2 and shares[-1] < 100
    assert "step 5 of 6" in [message for _, _, message in heard]
    found = text.split()[0].removeprefix("picture:")
    assert studio.http.get(f"/api/v1/pictures/{found}/about").json()["seed"] == 7


def test_over_a_picture_and_inside_a_mask(studio: Served) -> None:
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (0, 0, SIDE, 30))
    arguments = {**FEW, "prompt": "a blue sky", "image": encoded(picture()), "mask": encoded(mask)}
    first, _, text = unpacked(call_tool(studio, "edit_image", arguments))
    below = (0, 60, SIDE, SIDE)
    assert opened(first).crop(below).tobytes() == picture().crop(below).tobytes()
    assert opened(first).tobytes() != picture().tobytes()
    own = text.split()[0]
    assert own.startswith("picture:")
    still, _, _ = unpacked(call_tool(studio, "edit_image", {**FEW, "image": own, "strength": 0.3}))
    assert opened(still).size == (SIDE, SIDE) and "Denoising strength: 0.3" in text_of(still)
    two = call_tool(studio, "generate_image", {**FEW, "count": 2, "width": 64, "height": 64})
    assert [type(each) for each in two.content] == [ImageContent, ResourceLink, TextContent] * 2


@pytest.mark.parametrize("count", [1, 4])
def test_large_pictures_are_shown_small_and_say_the_same_of_themselves(count: int) -> None:
    from pochade.images.files import encoded as file_of
    from pochade.server.dialects.mcp.tools import LARGEST_BYTES, SIDES, _smaller

    noise = Image.effect_noise((2000, 1000), 100).convert("RGB")
    large = file_of(noise, "PNG", "a fox\nSteps: 2")
    small = _smaller(large, "a fox\nSteps: 2", LARGEST_BYTES // count)
    assert len(large) > LARGEST_BYTES >= count * len(small)
    picture = opened(small)
    assert picture.format == "JPEG" and picture.width in SIDES and picture.width == 2 * picture.height
    assert (picture.width == SIDES[0]) == (count == 1)
    assert text_of(small) == "a fox\nSteps: 2" and mark_of(small) == GENERATED


# --- telling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_what_there_is(studio: Served, era: str) -> None:
    async def look(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"generate_image", "edit_image", "list_models", "read_parameters"}
        for tool in tools.values():
            assert tool.description and tool.input_schema["additionalProperties"] is False
        assert tools["edit_image"].input_schema["required"] == ["prompt", "image"]
        told = await client.call_tool("list_models", {})
        names = json.loads(content_text(told.content[0]))
        assert [model["name"] for model in names["models"]] == ["starter"]
        assert "DPM++ 2M" in names["samplers"] and "Karras" in names["schedules"] and names["loras"] == []
        image = base64.b64encode(studio.http.get(picture_of(studio)["url"]).content).decode()
        read = await client.call_tool("read_parameters", {"image": image})
        parameters = json.loads(content_text(read.content[0]))
        assert parameters["prompt"] == "a red apple" and parameters["values"]["Seed"] == "7"

    with_client(studio, look, era)


def picture_of(served: Served) -> dict[str, Any]:
    return dict(served.until(served.submit(**FEW)["id"])["pictures"][0])


# --- what goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("generate_image", {}, "prompt"),
        ("generate_image", {"prompt": "x", "step": 2}, "step"),
        ("generate_image", {"prompt": "x", "width": 100}, "multiple of 8"),
        ("generate_image", {"prompt": "x", "steps": 100_000}, "steps is 100000"),
        ("generate_image", {"prompt": "x", "model": "nope"}, "model 'nope' is unknown; one of: starter"),
        ("generate_image", {"prompt": "x", "sampler": "nope"}, "sampler 'nope' is unknown"),
        ("generate_image", {"prompt": "<lora:no:1>"}, "LoRA 'no' is unknown"),
        ("generate_image", {"prompt": "bug"}, "ZeroDivisionError"),
        ("edit_image", {"prompt": "x", "image": "https://example.org/a.png"}, "URLs are not fetched"),
        ("edit_image", {"prompt": "x", "image": "/etc/passwd"}, "not a picture"),
        ("edit_image", {"prompt": "x", "image": "picture:20261124-0000000000-0"}, "of yours"),
        ("read_parameters", {"image": "aGVsbG8="}, "picture"),
        ("list_models", {"all": True}, "all"),
    ],
)
def test_a_tool_that_fails_says_why(
    quick: Served, tool: str, arguments: dict[str, Any], message: str
) -> None:
    result = call_tool(quick, tool, arguments)
    assert result.is_error and message in content_text(result.content[0]), result.content
    assert "/secret" not in content_text(result.content[0])


@pytest.mark.parametrize("era", ERAS)
def test_an_unknown_tool_is_an_error_of_the_protocol(quick: Served, era: str) -> None:
    async def ask(client: Client) -> None:
        with pytest.raises(MCPError, match="there is no tool 'nope'; one of: generate_image"):
            await client.call_tool("nope", {})

    with_client(quick, ask, era)


@asynccontextmanager
async def with_key(served: Served, key: str) -> AsyncIterator[Client]:
    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60)
    async with http, Client(streamable_http_client(f"{served.url}/mcp", http_client=http)) as client:
        yield client


def test_keys_and_what_is_everyones_own(shared: Served) -> None:
    async def both() -> str:
        async with with_key(shared, ANNS_KEY) as ann, with_key(shared, BOBS_KEY) as bob:
            _, _, text = unpacked(await ann.call_tool("generate_image", {"prompt": "a fox"}))
            own = text.split()[0]
            mine = await ann.call_tool("edit_image", {"prompt": "a fox", "image": own})
            theirs = await bob.call_tool("edit_image", {"prompt": "a fox", "image": own})
            assert not mine.is_error
            assert theirs.is_error and "of yours" in content_text(theirs.content[0])
            return own

    own = asyncio.run(both()).removeprefix("picture:")
    reply = shared.http.post("/mcp", headers=JSON_RPC, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert reply.status_code == 401 and reply.json()["error"]["data"] == {"code": "unauthorized"}
    for key, status in ((ANNS_KEY, 200), (BOBS_KEY, 404)):
        headers = {"Authorization": f"Bearer {key}"}
        assert shared.http.get(f"/api/v1/pictures/{own}", headers=headers).status_code == status


def test_the_guard_stands_before_it_too(quick: Served) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for headers in ({"origin": "https://example.org"}, {"host": "example.org"}):
        reply = quick.http.post("/mcp", headers={**JSON_RPC, **headers}, json=ping)
        assert reply.status_code == 403 and reply.json()["error"]["code"] == -32600, headers
    for method in ("GET", "DELETE", "PUT"):
        reply = quick.http.request(method, "/mcp", headers=JSON_RPC)
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    reply = quick.http.post("/mcp", headers=JSON_RPC, json=ping)
    assert reply.status_code == 200 and "content-security-policy" in reply.headers


@pytest.mark.parametrize("era", ERAS)
def test_a_client_that_gives_up_takes_its_job_along(quick: Served, era: str) -> None:
    async def give_up(client: Client) -> None:
        with pytest.raises(MCPError):
            await client.call_tool("generate_image", {"prompt": "0.1 slow", "steps": 150}, 0.7)

    before = {job["id"] for job in quick.http.get("/api/v1/jobs").json()["jobs"]}
    with_client(quick, give_up, era)
    (job,) = [each for each in quick.http.get("/api/v1/jobs").json()["jobs"] if each["id"] not in before]
    assert quick.until(job["id"], timeout_s=10)["state"] == "cancelled"


@pytest.mark.slow
def test_a_server_that_stops_lets_go_and_draws_it_after_the_next_start(pretending: Start) -> None:
    served = pretending(grace_s=0.2)

    async def draw() -> CallToolResult:
        async with Client(f"{served.url}/mcp") as client:
            asking = asyncio.create_task(client.call_tool("generate_image", {"prompt": "0.1 slow"}))
            while not served.http.get("/api/v1/jobs?state=running").json()["jobs"]:
                await asyncio.sleep(0.05)
            served.process.send_signal(signal.SIGTERM)
            return await asking

    result = asyncio.run(draw())
    assert result.is_error and "shutting down" in content_text(result.content[0])
    served.http.close()
    assert served.process.wait(15) in (0, -signal.SIGTERM)
    served.start()
    (job,) = served.http.get("/api/v1/jobs").json()["jobs"]
    assert served.until(job["id"])["state"] == "finished"
    assert "Traceback" not in served.log.read_text()


# --- junk ---------------------------------------------------------------------------------------------

METHODS = (
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "server/discover",
    "subscriptions/listen",
    "nope",
)
TOOLS = ("generate_image", "edit_image", "list_models", "read_parameters", "nope")
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(
    st.sampled_from(("prompt", "image", "mask", "steps", "width", "count", "seed", "model", "strength")),
    st.sampled_from(("a fox", encoded(Image.new("RGB", (8, 8))))) | st.integers(-1, 9) | anything,
)
METADATA = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "a", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
parameters = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(TOOLS) | anything,
        "arguments": arguments | anything,
        "_meta": st.just(METADATA) | st.just({**METADATA, "progressToken": 1}) | anything,
        "protocolVersion": st.sampled_from(("2025-06-18", "2026-07-28")) | anything,
    },
)
message = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | anything},
    optional={
        "id": st.integers(0, 9) | anything,
        "method": st.sampled_from(METHODS) | anything,
        "params": parameters | anything,
        "result": anything,
    },
)
header = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=10)
headers = st.fixed_dictionaries(
    {
        "content-type": st.sampled_from(("application/json", "text/plain")) | header,
        "accept": st.just(JSON_RPC["accept"]) | st.just("application/json") | header,
    },
    optional={
        "mcp-protocol-version": st.sampled_from(("2025-06-18", "2025-11-25", "2026-07-28")) | header,
        "mcp-method": st.sampled_from(METHODS) | header,
        "mcp-name": st.sampled_from(TOOLS) | header,
        "mcp-session-id": header,
    },
)
REQUESTS = int(os.environ.get("POCHADE_FUZZ", "600")) // 8


@settings(max_examples=REQUESTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=message | anything, headers=headers, raw=st.binary(max_size=20), whole=st.integers(0, 9))
def send_junk(quick: Served, body: Any, headers: dict[str, str], raw: bytes, whole: int) -> None:
    sent = json.dumps(body).encode() if whole else raw
    reply = quick.http.post("/mcp", content=sent, headers=headers)
    assert reply.status_code < 500, (headers, sent, reply.text)
    assert "Traceback" not in reply.text


def test_junk_gets_an_answer_and_the_server_goes_on(quick: Served) -> None:
    before = len(quick.log.read_text())  # another test asks for a bug
    send_junk(quick)
    quick.http.post("/api/v1/jobs/cancel")
    assert not call_tool(quick, "generate_image", {"prompt": "a fox"}).is_error
    assert "Traceback" not in quick.log.read_text()[before:]


# --- a program that is started by its client -----------------------------------------------------------


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Iterator[StdioServerParameters]:
    yield StdioServerParameters(
        command=sys.executable,
        args=["-m", "pochade", "mcp", "--data", str(tmp_path / "data")],
        cwd=ROOT,
        env=environment,
    )


def test_over_standard_input_and_output(command: StdioServerParameters, tmp_path: Path) -> None:
    async def draw() -> tuple[bytes, str, str]:
        async with Client(command) as client:
            assert (await client.list_tools()).tools
            return unpacked(await client.call_tool("generate_image", FEW))

    file, link, text = asyncio.run(draw())
    path = Path(link.removeprefix("file://"))
    assert path.is_relative_to(tmp_path / "data") and path.read_bytes() == file
    assert "Seed: 7" in text
    assert is_dead(tmp_path / "data" / "lock")


def test_each_of_several_takes_a_folder_of_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    own = {**environment, "XDG_DATA_HOME": str(tmp_path)}
    storage = tmp_path / "pochade" / "assistants"
    held = Storage(storage / "1").make()
    with alive(held.root / "lock"):
        command = [sys.executable, "-m", "pochade", "mcp"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=own, cwd=ROOT
        )
    assert done.returncode == 0, done.stderr
    assert sorted(folder.name for folder in storage.iterdir()) == ["1", "2"]


@pytest.mark.slow
def test_it_ends_with_its_input_or_a_signal(command: StdioServerParameters, tmp_path: Path) -> None:
    arguments = [command.command, *command.args]
    out = subprocess.PIPE
    options: dict[str, Any] = {"cwd": ROOT, "env": command.env, "stdout": out, "stderr": out}
    first = subprocess.Popen(arguments, stdin=subprocess.PIPE, **options)
    assert first.stdin is not None and first.stdout is not None and first.stderr is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    first.stdin.write(line.encode() + b"\n")
    first.stdin.flush()
    assert json.loads(first.stdout.readline())["result"]["serverInfo"]["name"] == "pochade"
    second = subprocess.run(arguments, stdin=subprocess.DEVNULL, check=False, **options)
    assert second.returncode == 1 and b"is in use by another server" in second.stderr
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 128 + signal.SIGINT  # at once, where nothing else is to be done
    assert b"Traceback" not in first.stderr.read()
    third = subprocess.run(arguments, input=line.encode(), check=False, **options)
    assert third.returncode == 0 and third.stderr == b""
    for stream in (first.stdin, first.stdout, first.stderr):
        stream.close()


# --- without the extra ----------------------------------------------------------------------------------


def test_without_the_extra_there_is_no_such_route(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    from starlette.testclient import TestClient

    from pochade.cli.main import main
    from pochade.server.app import make_app
    from pochade.server.config import Options
    from pochade.server.dialects.mcp import routes
    from pochade.server.service import Service

    real = importlib.util.find_spec

    def absent(name: str, package: str | None = None) -> Any:
        return None if name in routes.PACKAGES else real(name, package)

    for place in (routes, importlib.util):
        monkeypatch.setattr(place, "find_spec", absent)
    with TestClient(make_app(Service(Options(data=tmp_path))), base_url="http://localhost") as client:
        reply = client.post("/mcp", headers=JSON_RPC, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert reply.status_code == 404 and reply.json()["error"]["data"] == {"code": "not_found"}
    assert main(["mcp"]) == 1
    assert "pip install 'pochade[mcp]'" in capsys.readouterr().err


def test_a_client_that_gives_up_while_its_job_is_kept_takes_it_along() -> None:
    """It has no number for it yet."""
    cancelled: list[tuple[str, str]] = []
    go_on, order = asyncio.Event(), SubmittedOrder(order=Order(kind="txt2img", model="starter"))

    class Slow:
        catalogue = None
        tasks: ClassVar[list[Any]] = []

        async def submit(self, owner: str, order: Any) -> Any:
            await go_on.wait()
            return SimpleNamespace(owner=owner, id="7")

        async def cancel(self, owner: str, job: str) -> None:
            cancelled.append((owner, job))

        def later(self, work: Any) -> None:
            self.tasks.append(asyncio.ensure_future(work))

    async def run() -> None:
        service: Any = Slow()
        call: Any = SimpleNamespace(service=service, owner="ann", inputs=lambda: None)
        arguments: Any = SimpleNamespace(submitted_order=lambda catalogue, inputs: order)
        drawing = asyncio.ensure_future(tools.draw(call, arguments))
        while not any("submit" in str(task.get_coro()) for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        go_on.set()
        await asyncio.gather(*service.tasks)

    asyncio.run(run())
    assert cancelled == [("ann", "7")]
