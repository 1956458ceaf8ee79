"""The scripts in `examples/`, run as their docstrings say, each in an empty folder."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.server.conftest import Served, environment, studio  # noqa: F401 - fixtures

EXAMPLES = Path(__file__).parent.parent / "examples"
STARTER = (128, 128)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was compiled, which the scripts share."""
    return tmp_path_factory.mktemp("cache")


def run(name: str, folder: Path, cache: Path, *arguments: str, **variables: str) -> str:
    """Run a script in `folder`; what it prints."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith("POCHADE_")}
    root = str(EXAMPLES.parent)
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=folder,
        env={**outside, "PYTHONPATH": root, "POCHADE_CACHE": str(cache), "no_proxy": "*", **variables},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def opened(path: Path) -> Image.Image:
    """A picture that shows something."""
    with Image.open(path) as image:
        image.load()
    assert np.asarray(image.convert("L")).std() > 5, path.name
    return image


def test_every_script_is_run_here_and_says_how() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 5
    for script in scripts:
        assert f'run("{script.stem}"' in tests
        said = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
        assert said is not None and f"python examples/{script.name}" in said


def test_the_first_picture_and_its_parameters_text(tmp_path: Path, cache: Path) -> None:
    printed = run("first_picture", tmp_path, cache, "a green apple, 3d style")
    assert written(tmp_path) == {"first_picture.png"}
    image = opened(tmp_path / "first_picture.png")
    assert image.size == STARTER
    assert image.info["parameters"] == printed.rstrip("\n")
    assert printed.startswith("a green apple, 3d style\n") and "Seed: 7," in printed


def test_inpainting_keeps_what_is_outside_of_the_mask(tmp_path: Path, cache: Path) -> None:
    source = Image.new("RGB", STARTER, (200, 40, 30))
    source.paste((20, 60, 200), (32, 32, 96, 96))
    source.save(tmp_path / "photo.png")
    run("inpainting", tmp_path, cache, "photo.png")
    assert written(tmp_path) == {"photo.png", "img2img.png", "inpainting.png"}
    before, changed, half = (
        np.asarray(opened(tmp_path / name).convert("RGB"), np.float32)
        for name in ("photo.png", "img2img.png", "inpainting.png")
    )
    difference = np.abs(half - before).mean(axis=(0, 2))  # of each column
    assert difference[:32].max() <= 1, "far from the mask's soft edge"
    assert difference[96:].mean() > 10
    assert np.abs(changed - before)[:, :32].mean() > 1, "img2img draws over all of it"


def test_progress_has_a_preview_after_every_fifth_step(tmp_path: Path, cache: Path) -> None:
    printed = run("progress", tmp_path, cache)
    assert printed.splitlines() == [f"step {step} of 20" for step in range(1, 21)]
    assert written(tmp_path) == {"progress.png", "preview-05.png", "preview-10.png", "preview-15.png"}
    assert opened(tmp_path / "progress.png").size == STARTER
    opened(tmp_path / "preview-15.png")


def test_drafts_are_nine_pictures_on_one_sheet(tmp_path: Path, cache: Path) -> None:
    printed = run("drafts", tmp_path, cache)
    assert [int(seed) for seed in printed.split()] == list(range(100, 109))
    sheet = opened(tmp_path / "drafts.png")
    assert sheet.size == (384, 384)
    parts = {
        sheet.crop((left, top, left + 128, top + 128)).tobytes()
        for left in (0, 128, 256)
        for top in (0, 128, 256)
    }
    assert len(parts) == 9


def test_the_client_of_the_server(tmp_path: Path, cache: Path, studio: Served) -> None:  # noqa: F811
    printed = run("server_client", tmp_path, cache, "a green apple, 3d style", POCHADE_SERVER=studio.url)
    assert printed.splitlines()[-1].strip() == "finished"
    image = opened(tmp_path / "server_client.png")
    assert image.size == STARTER
    assert image.info["parameters"].startswith("a green apple, 3d style\n")
    imported = ast.parse((EXAMPLES / "server_client.py").read_text(encoding="utf-8"))
    names = {
        name
        for node in ast.walk(imported)
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
