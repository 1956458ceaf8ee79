"""Fixtures: a real server and a real browser.

Without Chromium these tests are skipped; install it with `apt-get install chromium`.

$POCHADE_CHROMIUM overrides the search in $PATH.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
PATIENCE_MS = 90_000  # on a busy machine


@pytest.fixture(scope="session")
def chromium() -> str:
    named = os.environ.get("POCHADE_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium, or name one in POCHADE_CHROMIUM")
    pytest.importorskip("playwright")
    return found


def serving(data: Path, *options: str) -> AbstractContextManager[str]:
    """Run a server on a free port with a separate data folder; yield its URL."""
    return answering(["pochade", "serve", "--port", "0", "--data", str(data / "studio"), *options], data)


@contextmanager
def answering(command: list[str], data: Path) -> Iterator[str]:
    """Run a Python module with arguments that starts a server on a free port; yield its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POCHADE_")}
    environment.setdefault("HF_HUB_OFFLINE", "1")  # no test contacts the real hub
    server = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**environment, "POCHADE_CACHE": str(data / "cache"), "XDG_DATA_HOME": str(data / "share")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    try:
        said = ""
        for line in server.stdout:
            said += line
            found = re.search(r"http://\S+:\d+", line)
            if found:
                yield found[0].rstrip("/")
                return
        raise AssertionError(f"the server did not start:\n{said}")
    finally:
        server.terminate()
        server.stdout.close()
        assert server.wait(timeout=30) in (0, -15, 143)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    loras, styles = folder / "loras", folder / "styles.csv"
    loras.mkdir()
    styles.write_text('name,prompt,negative_prompt\nflat,"{prompt}, flat style",\n', encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def server(data: Path) -> Iterator[str]:
    with serving(data, "--styles", str(data / "styles.csv")) as address:
        yield address


@pytest.fixture(scope="module")  # it runs an event loop in this thread, which would break other tests
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        yield browser
        browser.close()


@dataclass
class Listener:
    """Records what a page must not do: console errors, failures, or requests to other hosts."""

    address: str
    quiet: bool = True  # False: the test provokes error replies, which the browser logs in the console
    trouble: list[str] = field(default_factory=list)

    def listen(self, context: Any) -> None:
        context.on("request", self._request)
        context.on("response", self._response)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.trouble.append(f"error: {error.error}"))

    def _request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.address).netloc:
            self.trouble.append(f"request to {request.url}")

    def _response(self, response: Any) -> None:
        if self.quiet and response.status >= 400:
            self.trouble.append(f"{response.status} for {response.request.method} {response.url}")

    def _console(self, message: Any) -> None:
        if self.quiet and message.type in ("error", "warning"):
            self.trouble.append(f"console: {message.text}")


Visit = Callable[..., Any]


@contextmanager
def visiting(browser: Any, address: str) -> Iterator[Visit]:
    """`visit("phone")`: a loaded page in a new browser context. At the end, there must be no console errors.

    script: runs before the page's own scripts.
    """
    opened: list[tuple[Any, Listener]] = []

    def open_page(
        size: str = "desktop",
        path: str = "/",
        *,
        quiet: bool = True,
        script: str | None = None,
        **options: Any,
    ) -> Any:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            has_touch=size == "phone",
            accept_downloads=True,
            **{"locale": "en-US", **options},
        )
        if script is not None:
            context.add_init_script(script)
        listener = Listener(address, quiet)
        listener.listen(context)
        opened.append((context, listener))
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address + path)
        page.locator("html[data-ready]").wait_for()
        return page

    yield open_page
    for context, _ in opened:  # jobs of a failed test must not delay the next one
        context.request.post(f"{address}/api/v1/jobs/cancel", data={})
    for context, listener in opened:
        context.close()
        assert listener.trouble == []


@pytest.fixture
def visit(browser: Any, server: str) -> Iterator[Visit]:
    """`visiting` the server that draws with the starter."""
    with visiting(browser, server) as open_page:
        yield open_page


@pytest.fixture(scope="session")
def quick(data: Path) -> Iterator[str]:
    """A server with a fake worker, whose speed is set in the prompt."""
    with answering(["tests.server.launch", "0", str(data / "quick"), "{}"], data) as address:
        yield address


@pytest.fixture
def quick_visit(browser: Any, quick: str) -> Iterator[Visit]:
    """`visiting` the server with a fake worker."""
    with visiting(browser, quick) as open_page:
        yield open_page


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)
