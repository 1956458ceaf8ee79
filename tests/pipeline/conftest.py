"""Tiny models of each family, as diffusers' pipelines and as the folders that those write."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

import pochade
from pochade.pipeline import Pipeline
from tests.reference import make_pipeline

torch.set_num_threads(1)
for logging in (diffusers_logging, transformers_logging):
    logging.disable_progress_bar()


@dataclass(frozen=True)
class Model:
    """theirs: diffusers' pipeline. folder: what it saved."""

    theirs: Any
    folder: Path

    def load(self, engine: str = "torch", precision: str = "f32", **options: Any) -> Pipeline:
        return pochade.load(self.folder, device="cpu", engine=engine, precision=precision, **options)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled graphs of tests stay out of the user's cache, and the user's models out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCHADE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.delenv("POCHADE_MODELS", raising=False)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """`model(family)`, the same for all tests, which leave it as it is."""

    @cache
    def make(family: str) -> Model:
        folder = tmp_path_factory.mktemp("model") / "saved"
        theirs = make_pipeline(family, folder.parent)
        theirs.save_pretrained(folder)
        return Model(theirs, folder)

    return make
