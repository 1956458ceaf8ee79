"""Sizes of the starter's networks, one configuration for each edition."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pochade.configs.networks import AutoencoderConfig, UNetConfig
from pochade.training.data.selection import STYLES

CONTEXT_WIDTH = 256
"""Width of the text encoder."""


@dataclass(frozen=True, kw_only=True)
class StarterConfig:
    """The networks of one edition, and what they are trained on.

    styles: of the corpus, whose pictures are used. vocabulary: entries of the tokenizer. side: of the
    pictures, px. crop_side: of the crops that the autoencoder is trained on first: less work per step, more
    variety. matrix_rate: see `TrainingPlan`.
    """

    styles: tuple[str, ...] = STYLES
    vocabulary: int = 4000
    side: int
    crop_side: int
    autoencoder: AutoencoderConfig
    unet: UNetConfig
    matrix_rate: float | None = None


def _unet(latent_channels: int) -> UNetConfig:
    return UNetConfig(
        in_channels=latent_channels,
        out_channels=latent_channels,
        # The first level is narrow: it only gathers 2x2 latents, a third of the work for the same loss as
        # with 128.
        widths=(64, 128, 256, 256),
        down_depths=((0,), (1,), (1,), (0,)),
        mid_depth=1,
        up_depths=((0, 0), (1, 1), (1, 1), (0, 0)),
        heads=(2, 4, 8, 8),
        context_width=CONTEXT_WIDTH,
        groups=16,
        sample_size=16,
    )


FIRST = StarterConfig(
    side=128,
    crop_side=64,
    autoencoder=AutoencoderConfig(widths=(24, 48, 96, 128), layers=1, groups=8),
    unet=_unet(4),
)
SECOND = StarterConfig(
    # Not the sets that only the scorer is trained on, so that it stays independent.
    styles=(*STYLES, "twemoji style", "outline style", "clip art style"),
    vocabulary=6000,
    side=256,
    crop_side=128,
    # 16-fold, so that 256 px cost the UNet no more than 128 px did.
    autoencoder=AutoencoderConfig(latent_channels=16, widths=(16, 32, 64, 128, 192), layers=1, groups=8),
    unet=_unet(16),
    matrix_rate=0.01,
)
EDITIONS: Mapping[int, StarterConfig] = MappingProxyType({1: FIRST, 2: SECOND})
