"""A fake Hugging Face hub: the routes for pulling, simulated network faults, and a request log."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from pochade.checkpoints import safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"
LARGE = (".safetensors", ".bin", ".ckpt")


@dataclass
class FakeHub:
    """A fake hub. files: path -> content. Large ones are redirected to a store at another port, as on the
    hub.

    repo: its id. cuts: bytes after which the next responses of the store are cut off. ranges: whether the
    store supports them. damaged: paths whose content has a flipped bit. gated: require `token`. log: (server,
    path, headers) of each request.
    """

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=lambda: {"license": "openrail++"})
    commit: str = COMMIT
    repo: str = REPO
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    damaged: set[str] = field(default_factory=set)
    gated: bool = False
    token: str | None = None
    broken: int | None = None
    log: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    address: str = ""
    store: str = ""

    def requests(self, where: str, ending: str = "") -> list[Mapping[str, str]]:
        """Return the headers of the requests to "hub" or "store" whose path has this suffix."""
        return [headers for place, path, headers in self.log if place == where and path.endswith(ending)]

    def info(self) -> dict[str, Any]:
        siblings = []
        for path, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            about: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
            if path.endswith(LARGE):
                digest = hashlib.sha256(content).hexdigest()
                about["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 130}
            siblings.append(about)
        return {
            "id": self.repo,
            "sha": self.commit,
            "private": False,
            "gated": "auto" if self.gated else False,
            "tags": [],
            "downloads": 0,
            "siblings": siblings,
            "cardData": self.card,
        }


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Run the hub and its store during the block, at the URLs `address` and `store`."""
    hubs, stores = (
        ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, respond)) for respond in (_hub, _store)
    )
    servers = [hubs, stores]
    hub.address, hub.store = (f"http://127.0.0.1:{each.server_address[1]}" for each in servers)
    threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def tiny_model(variants: tuple[str, ...] = ("",)) -> dict[str, bytes]:
    """Return the files of a diffusers folder whose networks have one tensor each, and files that are not
    used."""
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": [None, None],
    }
    files = {
        "model_index.json": json.dumps(index).encode(),
        "LICENSE.md": b"Be good.",
        "README.md": b"# A model",
        "scheduler/scheduler_config.json": b"{}",
        "tokenizer/vocab.json": b"{}",
        "tokenizer/merges.txt": b"#version: 0.2",
        "safety_checker/model.safetensors": b"s" * 1000,
        "unet/flax_model.msgpack": b"f" * 1000,
        "unet/model.onnx": b"o" * 1000,
    }
    for number, part in enumerate(("text_encoder", "unet", "vae")):
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        files[f"{part}/config.json"] = json.dumps({"_class_name": part}).encode()
        for variant in variants:
            files[f"{part}/{stem}{variant}.safetensors"] = tensors(number)
            files[f"{part}/{stem}{variant}.bin"] = b"p" * 1000
    return files


def tensors(number: int = 0, count: int = 4000) -> bytes:
    """Return a safetensors file of about `count` * 4 bytes."""
    header = {"weight": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    raw = json.dumps(header).encode()
    data = np.random.default_rng(number).standard_normal(count, np.float32).tobytes()
    return len(raw).to_bytes(8, "little") + raw + data


def write_tensors(path: Path, *names: str, shape: tuple[int, ...] = (2, 3)) -> Path:
    """Write a safetensors file with these tensor names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.write(path, {name: np.zeros(shape, np.float32) for name in names})
    return path


# --- answers ----------------------------------------------------------------------------------------------


def _handler(hub: FakeHub, respond: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.log.append((respond.__name__.strip("_"), path, headers))
            respond(hub, self, path, headers)

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    return Handler


def _answer(to: Any, status: int, body: bytes = b"", **headers: str) -> None:
    to.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        to.send_header(name.replace("_", "-"), value)
    to.end_headers()
    to.wfile.write(body)


def _hub(hub: FakeHub, to: Any, path: str, headers: Mapping[str, str]) -> None:
    if hub.broken is not None:
        _answer(to, hub.broken)
    elif re.fullmatch(rf"/api/models/{re.escape(hub.repo)}(/revision/(main|v1|{hub.commit}))?", path):
        _answer(to, 200, json.dumps(hub.info()).encode(), Content_Type="application/json")
    elif path.startswith(f"/api/models/{hub.repo}/"):
        _answer(to, 404, b'{"error":"Invalid rev id"}', X_Error_Code="RevisionNotFound")
    elif path.startswith("/api/models/"):
        _answer(to, 401, b'{"error":"Invalid username or password."}')
    elif hub.gated and headers.get("authorization") != f"Bearer {hub.token}":
        _answer(to, 401 if "authorization" not in headers else 403, b"no", X_Error_Code="GatedRepo")
    elif path.startswith(f"/{hub.repo}/resolve/{hub.commit}/"):
        name = path.removeprefix(f"/{hub.repo}/resolve/{hub.commit}/")
        if name not in hub.files:
            _answer(to, 404, X_Error_Code="EntryNotFound")
        elif name.endswith(LARGE):
            _answer(to, 302, Location=f"{hub.store}/{name}?signature=secret")
        else:
            _answer(to, 200, hub.files[name])
    else:
        _answer(to, 404, X_Error_Code="EntryNotFound")


def _store(hub: FakeHub, to: Any, path: str, headers: Mapping[str, str]) -> None:
    content = hub.files[path[1:]]
    if path[1:] in hub.damaged:
        content = content[:-1] + bytes([content[-1] ^ 1])
    begin = int(headers.get("range", "bytes=0-")[6:-1]) if hub.ranges else 0
    body = content[begin:]
    to.send_response(206 if begin else 200)
    to.send_header("Content-Length", str(len(body)))
    if begin:
        to.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    to.end_headers()
    to.wfile.write(body[: hub.cuts.pop(0)] if hub.cuts else body)


def sizes_below(folder: Path, pattern: str) -> set[int]:
    """Return the sizes of files that another process may rename at any time."""
    sizes = set()
    for path in folder.rglob(pattern):
        with suppress(FileNotFoundError):
            sizes.add(path.stat().st_size)
    return sizes
