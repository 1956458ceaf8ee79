"""Configurations of networks, as frozen dataclasses.

Only `configs.read_json` and `configs.write_json` know the names of diffusers' JSON.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """CLIP's text transformer (Radford et al. 2021, section 2.4)."""

    vocabulary: int = 49408
    positions: int = 77
    width: int = 768
    feed_forward_width: int = 3072
    layers: int = 12
    heads: int = 12
    activation: str = "quick_gelu"
    norm_eps: float = 1e-5
    end_token: int = 49407
    projection_width: int | None = None  # of the pooled vector; None = not projected


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The conditional UNet (Rombach et al. 2022). One tuple entry per level, the largest picture first."""

    in_channels: int = 4
    out_channels: int = 4
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    down_depths: tuple[tuple[int, ...], ...]  # transformer blocks after each residual block; 0 = none
    mid_depth: int | None  # None = no middle block, 0 = one residual block alone
    up_depths: tuple[tuple[int, ...], ...]  # from the smallest picture to the largest
    heads: tuple[int, ...] = (8, 8, 8, 8)
    context_width: int = 768
    linear_projection: bool = False  # of tokens around the transformer; SD 1.x stores a 1x1 convolution
    groups: int = 32
    norm_eps: float = 1e-5
    added_width: int | None = None  # XL: pooled text and the embedded sizes
    added_time_width: int | None = None  # XL: width of each embedded size, of which the base has six
    guidance_width: int | None = None  # LCM: width of the embedded guidance scale
    flip_sin_to_cos: bool = True
    frequency_shift: float = 0.0
    sample_size: int = 64  # the latent side that the model was trained at

    @property
    def time_width(self) -> int:
        """Width of the embedded timestep inside the model."""
        return self.widths[0] * 4


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The KL autoencoder (Rombach et al. 2022, section 3.1)."""

    picture_channels: int = 3
    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    groups: int = 32
    scale: float = 0.18215  # latent = scale * (posterior mean - shift)
    shift: float = 0.0
    attention: bool = True
    quant_conv: bool = True
    post_quant_conv: bool = True
    force_upcast: bool = True  # f16 is too narrow for its activations; has an effect beside XL's UNet alone

    @property
    def factor(self) -> int:
        """Pixels of the picture per latent pixel, along each side."""
        return 1 << (len(self.widths) - 1)


@dataclass(frozen=True, kw_only=True)
class ControlNetConfig:
    """A ControlNet (Zhang et al. 2023): a copy of the UNet's way down and middle, and a network before it.

    unet: of the copied part; its way up is empty.
    """

    unet: UNetConfig
    picture_channels: int = 3
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)  # one per size of the picture, each half the last
    blue_first: bool = False  # the picture's channels in the order blue, green, red

    @property
    def factor(self) -> int:
        """Pixels of the picture per latent pixel, along each side."""
        return 1 << (len(self.hint_widths) - 1)


@dataclass(frozen=True, kw_only=True)
class TinyAutoencoderConfig:
    """The autoencoder of TAESD and TAESDXL, which imitates the large one of its family.

    encoder_blocks, decoder_blocks: residual blocks at each size, in the order of the way.
    """

    picture_channels: int = 3
    latent_channels: int = 4
    encoder_width: int = 64
    decoder_width: int = 64
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    scale: float = 1.0
    shift: float = 0.0

    @property
    def factor(self) -> int:
        """Pixels of the picture per latent pixel, along each side."""
        return 1 << (len(self.encoder_blocks) - 1)


@dataclass(frozen=True, kw_only=True)
class RrdbConfig:
    """ESRGAN's network (Wang et al. 2018).

    doublings: of the picture's size, before it leaves. unshuffle: side of the squares of pixels that it reads
    as channels, so that it begins with a smaller picture.
    """

    picture_channels: int = 3
    width: int = 64
    growth: int = 32
    blocks: int = 23
    doublings: int = 2
    unshuffle: int = 1

    @property
    def scale(self) -> int:
        """How much larger a picture becomes, along each side."""
        return (1 << self.doublings) // self.unshuffle


AnyAutoencoderConfig = AutoencoderConfig | TinyAutoencoderConfig
