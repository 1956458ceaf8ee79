"""The page behind a reverse proxy that adds a path prefix and changes the Host header."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.page.conftest import serving

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
PATH = "/studio"
OURS = ("connection", "transfer-encoding", "date", "server")


@contextmanager
def proxied(upstream: str) -> Iterator[str]:
    """The address of a proxy that takes PATH off, and calls the upstream by its own name, as nginx does."""
    netloc = urlsplit(upstream).netloc

    class Proxy(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not self.path.startswith(f"{PATH}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {**dict(self.headers.items()), "Host": netloc, "Connection": "close"}
            connection = http.client.HTTPConnection(netloc, timeout=60)
            try:
                connection.request(self.command, self.path.removeprefix(PATH), body, headers)
                reply = connection.getresponse()
                self.send_response(reply.status)
                for name, value in reply.getheaders():
                    if name.lower() not in OURS:
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while part := reply.read1(65536):
                    self.wfile.write(part)
                    self.wfile.flush()
            except OSError:
                pass  # either side has gone
            finally:
                connection.close()

        do_GET = do_POST = do_DELETE = forward

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}{PATH}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_page_draws_below_a_path_of_a_proxy(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as upstream, proxied(upstream) as address:
        context = browser.new_context(locale="en-US")
        refused: list[str] = []
        context.on("response", lambda reply: refused.append(reply.url) if reply.status >= 400 else None)
        page = context.new_page()
        page.goto(address)
        page.locator("html[data-ready]").wait_for()
        page.keyboard.press("Control+Enter")
        picture = page.locator(".stage .large-picture img")
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert urlsplit(picture.evaluate("image => image.src")).path.startswith(f"{PATH}/api/v1/pictures/")
        context.close()
        assert refused == []
