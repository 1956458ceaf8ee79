"""`pochade evaluate`: report, pictures, and errors for invalid input."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pochade.evaluation.scorer_model import scorer_folder
from tests.cli.conftest import Command

pytestmark = pytest.mark.skipif(
    not scorer_folder().exists(), reason="the scorer is not in the package yet: it is being trained"
)


def test_judges_the_model_in_the_package(pochade: Command, tmp_path: Path) -> None:
    done = pochade(
        "evaluate", "--only", "held-out", "composed", "sheet", "autoencoder",
        "--limit", "4", "--steps", "2", "--style", "3d style", "-o", "judged",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "judged"
    assert done.stdout.splitlines()[-1] == str(Path("judged", "evaluation.md"))
    report = (folder / "evaluation.md").read_text("utf-8")
    assert report in done.stdout
    assert "| concept, top-5 | " in report and "| style | " in report
    assert "autoencoder: skipped" in report and "--corpus" in report
    found = json.loads((folder / "evaluation.json").read_text("utf-8"))
    assert found["settings"] == {"guidance": 7.0, "limit": 4, "seed": 0, "steps": 2, "styles": "3d style"}
    assert {figure["name"] for figure in found["figures"]} >= {"concept, top-1", "style", "colour", "count"}
    assert len(found["judged"]["held-out"]) == len(found["judged"]["composed"]) == 4
    for verdict in found["judged"]["held-out"]:
        assert verdict["prompt"].endswith(", 3d style") and verdict["rank"] >= 0
    assert len(list((folder / "pictures" / "held-out").iterdir())) == 4
    with Image.open(folder / "sheet.png") as page:
        assert page.width > page.height


BAD = {
    "no model": (["nowhere"], "'nowhere' does not exist"),
    "no corpus": (["--corpus", "nowhere"], "'nowhere' is not a training set"),
    "limit": (["--limit", "0"], "limit is 0"),
    "style": (["--style", "cubism"], "'cubism'; one of: 3d style, flat style, noto style"),
    "steps": (["--steps", "0"], "steps is 0"),
    "guidance": (["--guidance", "nan"], "cfg_scale is nan"),
    "engine": (["--engine", "steam"], "engine 'steam' is unknown"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(pochade: Command, name: str, tmp_path: Path) -> None:
    arguments, expected = BAD[name]
    done = pochade("evaluate", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("pochade: error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_an_unknown_measure_is_answered_with_the_known_ones(pochade: Command) -> None:
    done = pochade("evaluate", "--only", "beauty")
    assert done.returncode == 2
    assert "beauty" in done.stderr and "held-out" in done.stderr


def test_a_folder_that_cannot_be_written_is_found_before_the_work(pochade: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = pochade("evaluate", "-o", "file/judged", "--limit", "1")
    assert done.returncode == 1
    assert "file/judged" in done.stderr
    assert "Traceback" not in done.stderr
