"""Tiny models of each family, as diffusers' pipelines and as the folders that those write.

The fixture `model` makes them. They are here so that tests without diffusers do not import it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """A tiny model. theirs: diffusers' pipeline. folder: where it is saved."""

    theirs: Any
    folder: Path

    def load(self, engine: str = "torch", precision: str = "f32", **options: Any) -> Pipeline:
        return pochade.load(self.folder, device="cpu", engine=engine, precision=precision, **options)


def make_model(family: str, folder: Path) -> Model:
    """Make a model with random weights, saved in `folder`/saved."""
    theirs = make_pipeline(family, folder)
    theirs.save_pretrained(folder / "saved")
    return Model(theirs, folder / "saved")
