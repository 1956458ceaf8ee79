"""A model with the starter's architecture, small enough for training in tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pochade.configs.networks import AutoencoderConfig, UNetConfig
from pochade.training import sample_sheets, starter
from pochade.training.starter import STAGES, Run, examples, write_model
from pochade.training.starter_config import StarterConfig
from tests.training.data.test_scenes import CORPUS

AUTOENCODER = AutoencoderConfig(widths=(8, 8, 8, 16), layers=1, groups=4)
UNET = UNetConfig(
    widths=(8, 16),
    down_depths=((0,), (1,)),
    mid_depth=1,
    up_depths=((1, 1), (0, 0)),
    heads=(2, 2),
    context_width=256,
    groups=4,
    sample_size=16,
)


TINY = StarterConfig(side=128, crop_side=64, autoencoder=AUTOENCODER, unet=UNET)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, after a few training steps of every network."""
    torch.set_num_threads(1)
    run = Run(corpus=CORPUS, folder=tmp_path_factory.mktemp("run"), config=TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starter, "SCENES", 6)
        patch.setattr(starter, "MEASURED", 4)
        patch.setattr(sample_sheets, "STEPS", 2)
        patch.setattr(starter, "SAMPLES", ("a fox", "a kite"))
        for name, stage in STAGES.items():
            # before the UNet uses the text, the text encoder gets no gradient
            count = 20 if name == "diffusion" else 2
            steps = [progress.step for progress in stage(run, batch=4).train(count, sample_every=count)]
            assert steps[-1] == count, name
            if name != "text":
                with Image.open(run.folder / name / "samples" / f"{count:06d}.png") as sheet:
                    assert sheet.width > 128
        latents, captions = examples(run).batch(10, np.random.default_rng(0))
        assert latents.shape == (10, 4, 16, 16) and all(captions)
        write_model(run, run.folder / "model")
    return run.folder / "model"
