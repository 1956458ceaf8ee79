"""Fixtures: servers on free ports, one that draws with the starter, and fast ones with a fake worker."""

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
START_S = 300.0


@dataclass
class Served:
    """A server in a separate process. http: a client for it."""

    port: int
    data: Path
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes]" = field(init=False)
    http: httpx.Client = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Served":
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self.http = httpx.Client(base_url=self.url, timeout=120)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                self.http.get("/api/v1/session")
                return self
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server did not start")

    def stop(self) -> int:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()

    def submit(self, **body: Any) -> dict[str, Any]:
        reply = self.http.post("/api/v1/jobs", json=body)
        assert reply.status_code == 202, reply.text
        return dict(reply.json())

    def job(self, job: str) -> dict[str, Any]:
        return dict(self.http.get(f"/api/v1/jobs/{job}").json())

    def until(self, job: str, *states: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until the job is in one of these states, by default until it has ended; return it."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            found = self.job(job)
            if found["state"] in (states or ("finished", "failed", "cancelled")):
                return found
            time.sleep(0.02)
        raise AssertionError(f"{job} is {found['state']} after {timeout_s} s\n{self.log.read_text()}")

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        import psutil

        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def processor_s(self) -> float:
        """Return the CPU seconds of the server process, without its workers."""
        import psutil

        spent = psutil.Process(self.process.pid).cpu_times()
        return float(spent.user + spent.system)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The caller's environment, with a separate cache and models folder."""
    folder = tmp_path_factory.mktemp("cache")
    ours = ("POCHADE_", "PYTHONDONTWRITEBYTECODE")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **outside,
        "POCHADE_CACHE": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "HF_HUB_OFFLINE": "1",  # no test contacts the real hub
        "PYTHONWARNINGS": "error",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),  # servers are started often
    }


Start = Callable[..., Served]


@contextmanager
def servers(
    environment: dict[str, str],
    folders: pytest.TempPathFactory,
    command: Callable[[int, Path], list[str]],
) -> Iterator[Callable[..., Served]]:
    """Return a function that starts servers, which are stopped at the end.

    command: returns the command for a port and a folder.
    """
    started: list[Served] = []

    def start(*options: str) -> Served:
        folder, port = folders.mktemp("served"), free_port()
        words = [sys.executable, "-m", *command(port, folder / "data"), *options]
        started.append(Served(port, folder / "data", words, environment, folder / "log"))
        return started[-1].start()

    try:
        yield start
    finally:
        for each in started:
            if each.process.poll() is None:
                each.stop()


def real(port: int, data: Path) -> list[str]:
    return ["pochade", "serve", "--port", str(port), "--data", str(data)]


def pretended(port: int, data: Path) -> list[str]:
    return ["tests.server.launch", str(port), str(data)]


@pytest.fixture(scope="module")
def serving(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`serving(...)` starts `pochade serve` with these options."""
    with servers(environment, tmp_path_factory, real) as start:
        yield start


@pytest.fixture(scope="module")
def pretending(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`pretending(...)` starts a server with `fake_worker`. options: of `Options`."""
    with servers(environment, tmp_path_factory, pretended) as start:
        yield lambda **options: start(json.dumps(options))


@pytest.fixture(scope="session")
def studio(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that draws with the starter, shared by all tests, so it may contain data of other tests."""
    with servers(environment, tmp_path_factory, real) as start:
        yield start()


@pytest.fixture(scope="session")
def quick(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a fake worker, shared by all tests."""
    with servers(environment, tmp_path_factory, pretended) as start:
        yield start("{}")


ANNS_KEY, BOBS_KEY = "ann's long key", "bob's long key"
KEYS = f"# users\nann:{ANNS_KEY}\nbob:{BOBS_KEY}\n"


@pytest.fixture(scope="session")
def shared(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a fake worker and the users Ann and Bob. No test draws anything for Bob."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEYS)
    with servers(environment, tmp_path_factory, pretended) as start:
        yield start(json.dumps({"keys": str(keys)}))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> str:
    """Return a picture file in base64."""
    return base64.b64encode(content(image, kind, **options)).decode()


def content(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image
