"""A full disk: every dialect reports it in its format, and the server recovers once there is space."""

import errno
import json
import os
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException

from pochade.errors import OutputError
from pochade.jobs.database import StoreBusy, StoreFailed
from pochade.server.errors import error_reply
from tests.server.conftest import Served, servers
from tests.server.dialects.test_mcp import call_tool

LARGE = "fox " * 4000
"""More than is left of a page."""


class Disk:
    """Where a server keeps its things; `full` lets it take no more, `free` ends that."""

    def __init__(self, folder: Path, server: "Callable[[], Served]") -> None:
        self.folder, self.server = folder, server

    def full(self) -> None:
        with suppress(OSError), (self.folder / "filler").open("ab", buffering=0) as filler:
            for size in (65536, 4096, 1):
                with suppress(OSError):
                    while filler.write(b"x" * size):
                        pass

    def free(self) -> None:
        (self.folder / "filler").unlink()


class LimitedFiles(Disk):
    """Where nothing can be mounted: no file of the server's may grow, which is an error of the disk too."""

    def _limit(self, limit: int) -> None:
        served = self.server()
        for process in (served.process.pid, *served.workers()):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def full(self) -> None:
        self._limit(0)

    def free(self) -> None:
        self._limit(resource.RLIM_INFINITY)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "pochade-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=["a small disk", "limited files"])
def crowded(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Served, Disk]]:
    """A server that pretends to draw, and the disk that its things are on."""

    def command(port: int, data: Path) -> list[str]:
        return ["tests.server.launch", str(port), str(tmp_path / "data")]

    mounted = request.param == "a small disk"
    disk = small_disk(tmp_path) if mounted else nullcontext()
    with disk, servers(environment, tmp_path_factory, command) as start:
        served = start("{}")
        kind = Disk if mounted else LimitedFiles
        yield served, kind(tmp_path, lambda: served)


def errors(served: Served, picture: str) -> dict[str, httpx.Response]:
    """What each of these answers: whatever must be kept for it finds no room."""
    post = served.http.post
    return {
        "jobs": post("/api/v1/jobs", json={"prompt": LARGE}),
        "pin": post(f"/api/v1/pictures/{picture}/pin", json={"pinned": True}),
        "txt2img": post("/sdapi/v1/txt2img", json={"prompt": LARGE}),
        "options": post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2}),
        "generations": post("/v1/images/generations", json={"prompt": LARGE}),
        "streamed": post("/v1/images/generations", json={"prompt": LARGE, "stream": True}),
    }


@pytest.mark.slow
def test_a_full_disk_is_told_in_every_shape_and_what_waits_goes_on_later(
    crowded: tuple[Served, Disk],
) -> None:
    served, disk = crowded
    first = served.until(served.submit(prompt="fox")["id"])
    slow = served.submit(prompt="0.05 fox", steps=20)
    served.until(slow["id"], "running")
    waiting: list[httpx.Response] = []
    client = threading.Thread(
        target=lambda: waiting.append(
            httpx.post(f"{served.url}/sdapi/v1/txt2img", json={"prompt": "0.01 fox"}, timeout=100)
        )
    )
    client.start()
    while served.http.get("/api/v1/status").json()["queue"]["queued"] < 1:
        pass
    disk.full()
    with suppress(AssertionError):  # what little room is left
        for _ in range(50):
            served.submit(prompt="fox")
    replies = errors(served, first["pictures"][0]["id"])
    assert {name: reply.status_code for name, reply in replies.items()} == dict.fromkeys(replies, 507)
    native: Any = replies["jobs"].json()["error"]
    assert native["code"] == "no_room" and "disk is full" in native["message"]
    assert replies["pin"].json()["error"]["code"] == "no_room"
    for name in ("txt2img", "options"):
        body = replies[name].json()
        assert set(body) == {"error", "detail", "body", "errors"} and "disk is full" in body["detail"]
    for name in ("generations", "streamed"):
        error = replies[name].json()["error"]
        assert error["type"] == "server_error" and error["code"] == "no_room"
        assert "disk is full" in error["message"]
    told = call_tool(served, "generate_image", {"prompt": LARGE})
    assert told.is_error and "disk is full" in told.content[0].text  # type: ignore[union-attr]
    gone = served.http.delete(f"/api/v1/jobs/{first['id']}")  # there is a reserve for it
    if isinstance(disk, LimitedFiles):
        assert gone.status_code == 507 and gone.json()["error"]["code"] == "no_room"
    else:
        assert gone.status_code == 204
        assert served.http.get(f"/api/v1/jobs/{first['id']}").status_code == 404
    disk.free()
    done = served.until(slow["id"])
    assert done["state"] == "finished" or "on the server's disk" in done["error"]
    assert "OperationalError" not in json.dumps(done)
    client.join()
    assert waiting[0].status_code in (200, 507)
    assert served.until(served.submit(prompt="fox")["id"])["state"] == "finished"
    assert served.http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2}).status_code == 200
    log = served.log.read_text()
    assert "Traceback" not in log
    if not isinstance(disk, LimitedFiles):  # which takes no log either
        assert "disk is full" in log


def test_a_picture_that_finds_no_room_is_the_disks_fault_for_who_waits_too() -> None:
    from pochade.jobs.live import LiveJob
    from pochade.server.await_job import failure

    live = LiveJob("1", "ann", 1, 0.0, 1.0, "starter", "", no_room=True)
    trouble = failure(live, "on the server's disk: 'a.png' could not be written: No space left on device")
    assert (trouble.status, trouble.code) == (507, "no_room") and "No space left" in trouble.message


def after(cause: BaseException) -> HTTPException:
    """What FastAPI raises for a form whose parts it cannot keep in the temporary folder."""
    try:
        raise HTTPException(400, "There was an error parsing the body") from cause
    except HTTPException as error:
        return error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreFailed(Path("/a/jobs"), "could not be written", "the disk is full"), 507, "no_room"),
        (StoreBusy(Path("/a/jobs"), "could not be written", "try again"), 503, "busy"),
        (OutputError("'/a/inputs/1-0' could not be written"), 507, "no_room"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "no_room"),
        (after(OSError(errno.ENOSPC, "No space left on device")), 507, "no_room"),
        (after(ValueError("no boundary")), 400, "malformed"),
        (ZeroDivisionError(), 500, "internal"),
    ],
)
def test_only_what_the_disk_refuses_is_said_to_be_so(error: Exception, status: int, code: str) -> None:
    trouble = error_reply(error)
    assert (trouble.status, trouble.code) == (status, code) and "/a/" not in trouble.message
