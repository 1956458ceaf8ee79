"""What a runner knows of the folders: a file that came since it last looked is found."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.jobs.catalogue import Catalogue, Folders, ListedModel, scan_folders
from pochade.jobs.job_request import read_job_request
from pochade.jobs.orders import Order
from pochade.jobs.runner import Event, JobRunner
from pochade.pipeline import Result
from tests.server.conftest import content

CONTROL = {"image": 0, "model": "late", "preprocessor": "canny"}
HIRES = {"upscaler": "late", "scale": 2.0}


class Quick(JobRunner):
    """Draws nothing; remembers what was asked of it."""

    def __init__(self, folders: Folders) -> None:
        super().__init__(folders)
        self.requests: list[Any] = []

    def _load(self, model: ListedModel) -> Iterator[Any]:
        self._loaded = model, self  # type: ignore[assignment]
        yield from ()

    def stream(self, request: Any) -> Iterator[Any]:
        self.requests.append(request)
        yield SimpleNamespace(result=Result([Image.new("RGB", (8, 8))], [1], ["a fox\nSteps: 1"]))


def drawn(runner: JobRunner, **request: Any) -> list[Event]:
    picture = content(Image.new("RGB", (8, 8)))
    order = Order(
        kind="txt2img",
        model="starter",
        request=read_job_request({"prompt": "a fox", "seed": 1, "steps": 1, **request}),
    )
    return list(runner.draw(order, lambda number: picture, lambda: None))


@pytest.mark.parametrize(
    ("kind", "asked"), [("controlnets", {"controls": [CONTROL]}), ("upscalers", {"hires": HIRES})]
)
def test_what_came_since_the_first_drawing_is_known(
    kind: str, asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: dict[str, dict[str, Path]] = {"controlnets": {}, "upscalers": {}}

    def looked(folders: Folders) -> Catalogue:
        found = scan_folders(folders)
        files = {"controlnets": dict(there["controlnets"]), "upscaler_files": dict(there["upscalers"])}
        return Catalogue(folders=folders, models=found.models, default=found.default, **files)  # type: ignore[arg-type]

    monkeypatch.setattr("pochade.jobs.runner.scan_folders", looked)
    runner = Quick(Folders())
    drawn(runner)
    with pytest.raises(InvalidRequest, match="'late' is unknown"):
        drawn(runner, **asked)
    there[kind]["late"] = tmp_path / "late.safetensors"
    drawn(runner, **asked)
    assert len(runner.requests) == 2
    there[kind]["late"] = tmp_path / "moved" / "late.safetensors"
    runner.forget()  # as after each refresh: what was moved is not sought in its old place
    drawn(runner, **asked)
    request = runner.requests[-1]
    used = request.controls[0].model if request.controls else request.hires.upscaler
    assert Path(used) == tmp_path / "moved" / "late.safetensors"
