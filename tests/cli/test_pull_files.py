"""Known models that are a single file with a hash in the catalogue.

The fake hub does not have the real files, so the catalogue is patched with hashes of small ones.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pochade.cli.main import main
from pochade.hub import known_models
from pochade.hub.known_models import known
from tests.fake_hub import FakeHub
from tests.hub.conftest import hub
from tests.reference import make_tiny_autoencoder

__all__ = ["hub"]


def serve(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    """Let the hub have this file in place of the model's, and the catalogue its hash."""
    model = known(name)
    assert model.file is not None
    hub.repo, hub.files, hub.card = model.repo, {model.file: content}, {"license": model.licence or "none"}
    small = replace(model, sha256={model.file: hashlib.sha256(content).hexdigest()})
    catalogue = tuple(small if each.name == name else each for each in known_models.KNOWN_MODELS)
    monkeypatch.setattr(known_models, "KNOWN_MODELS", catalogue)


@pytest.fixture
def draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """`draw("--model", "sd15")`: the picture's text."""
    monkeypatch.setenv("POCHADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POCHADE_MODELS", str(tmp_path / "models"))

    def run(*options: str) -> str:
        from pochade.images.embedded_text import read_text

        path = tmp_path / "fox.png"
        path.unlink(missing_ok=True)
        arguments = ["draw", "a fox", "--steps", "2", "--size", "16x16", "--seed", "1", "-o", str(path)]
        assert main([*arguments, *options]) == 0, capsys.readouterr().err
        return read_text(path)

    return run


@pytest.mark.parametrize(("name", "family"), [("sd15", "SD 1.5"), ("sdxl", "SDXL")])
def test_a_checkpoint_of_one_file(
    hub: FakeHub,
    whole: Callable[[str], Any],
    draw: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    family: str,
) -> None:
    serve(hub, monkeypatch, name, whole(family).file().read_bytes())
    assert main(["models", "pull", name, "--yes"]) == 0
    assert (tmp_path / "models" / "checkpoints" / f"{name}.safetensors").is_file()
    assert f"Model: {name}" in draw("--model", name)
    assert main(["models", "verify", name]) == 0


def test_an_autoencoder_beside_a_model(
    hub: FakeHub,
    whole: Callable[[str], Any],
    draw: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve(hub, monkeypatch, "sd15", whole("SD 1.5").file().read_bytes())
    assert main(["models", "pull", "sd15", "--yes"]) == 0
    make_tiny_autoencoder(seed=3).save_pretrained(tmp_path / "tiny")
    file = tmp_path / "tiny" / "diffusion_pytorch_model.safetensors"
    serve(hub, monkeypatch, "taesd", file.read_bytes())
    assert main(["models", "pull", "taesd", "--yes"]) == 0
    assert (tmp_path / "models" / "vae" / "taesd.safetensors").is_file()
    draw("--model", "sd15")
    own = (tmp_path / "fox.png").read_bytes()
    draw("--model", "sd15", "--vae", "taesd")
    assert (tmp_path / "fox.png").read_bytes() != own  # it is what decodes
