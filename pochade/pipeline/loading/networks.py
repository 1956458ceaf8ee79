"""The networks of a checkpoint on an engine: host arrays in, host arrays out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.check import FiniteTensors, check_names
from pochade.checkpoints.folder import Checkpoint, Component
from pochade.engines.outline import outline
from pochade.errors import InvalidCheckpoint
from pochade.models.autoencoder import decode, encode
from pochade.models.config import (
    AnyAutoencoderConfig,
    TinyAutoencoderConfig,
    UNetConfig,
    any_autoencoder_config,
    text_encoder_config,
    unet_config,
)
from pochade.models.controlnet import RESIDUAL, controlled_unet, controlnet, embed_hint
from pochade.models.reuse import unet_again, unet_keeping
from pochade.models.seamless import seamless
from pochade.models.shared_norms import measuring, normalised
from pochade.models.text_encoder import text_encoder
from pochade.models.tiny_autoencoder import decode_tiny, encode_tiny
from pochade.models.unet import unet
from pochade.ops import Shape
from pochade.pipeline.loading.shapes import (
    autoencoder_shapes,
    text_encoder_shapes,
    unet_shapes,
    with_config,
)
from pochade.pipeline.loading.tiles import OVERLAP, TILE, WHOLE, in_tiles, made_small

Array = NDArray[Any]
Inputs = Mapping[str, tuple[Shape, str]]
Norms = Callable[[Callable[..., Any]], Callable[..., Any]]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Network:
    """One model function with its weights, compiled for each set of input shapes when first met."""

    tensors: Mapping[str, Array]
    fingerprint: str
    engine: Any
    config: object
    _compiled: dict[object, Callable[..., Any]]

    def run(self, function: Callable[..., Any], **arrays: Array) -> Any:
        """`function(ops, config, w, **arrays)`. A `partial` may fix further keywords."""
        inputs = {
            name: (tuple(array.shape), "i64" if array.dtype.kind == "i" else "f32")
            for name, array in arrays.items()
        }
        return self.compiled(function, inputs)(**arrays)

    def compiled(self, function: Callable[..., Any], inputs: Inputs) -> Callable[..., Any]:
        """The function for inputs of these shapes. Raises InvalidCheckpoint if weights are not finite."""
        form = (_name(function), tuple(inputs.items()))
        if form not in self._compiled:
            self._compiled[form] = self.engine.compile(
                with_config(function, self.config),
                self.tensors,
                inputs,
                key=f"{self.fingerprint} {form[0]} {self.config}",
            )
        return self._compiled[form]

    def let_go(self) -> None:
        """Forget what was compiled, with its memory; it is compiled again when it is next used."""
        self._compiled.clear()


@dataclass(frozen=True, eq=False)
class Networks:
    """Text encoder(s), UNet and autoencoder. `text_encoder_2` is XL's.

    tiling: pictures and latents go round: what is beyond an edge is what stands at the opposite one.
    whole: latent pixels that the autoencoder takes at once; it does larger pictures in parts, of `tile` along
        a side.
    opened: what is beside these, such as ControlNets, by path.
    """

    unet: Network
    autoencoder: Network
    text_encoder: Network
    text_encoder_2: Network | None
    tiling: bool = False
    whole: int = WHOLE
    tile: int = TILE
    opened: dict[Path, Any] = field(default_factory=dict)

    def let_go(self) -> None:
        """Forget everything that was compiled for a picture, and what was opened beside."""
        self.unet.let_go()
        self.autoencoder.let_go()
        self.opened.clear()

    @cached_property
    def unet_config(self) -> UNetConfig:
        assert isinstance(self.unet.config, UNetConfig)
        return self.unet.config

    @cached_property
    def autoencoder_config(self) -> AnyAutoencoderConfig:
        assert isinstance(self.autoencoder.config, AnyAutoencoderConfig)
        return self.autoencoder.config

    @property
    def reads_mask(self) -> bool:
        """Whether it is an inpainting model, which reads a mask and the masked picture beside the latent."""
        return self.unet_config.in_channels == 2 * self.autoencoder_config.latent_channels + 1

    def encode_text(
        self, encoder: Network, ids: Array, end: Array, *, skip: int, final_norm: bool
    ) -> tuple[Array, Array]:
        """Tokens (B, 77) and end positions (B,) -> conditioning (B, 77, D) and pooled vectors (B, P).

        One chunk at a time, so that a longer prompt needs no other graph.
        """
        function = partial(text_encoder, skip=skip, final_norm=final_norm)
        parts = [encoder.run(function, ids=ids[i : i + 1], end=end[i : i + 1]) for i in range(len(ids))]
        return np.concatenate([tokens for tokens, _ in parts]), np.concatenate(
            [pooled for _, pooled in parts]
        )

    def predict(self, *residuals: Array, **arrays: Array) -> Array:
        """The UNet's raw output; the arguments are those of `models.unet.unet`."""
        named = {f"{RESIDUAL}{i}": residual for i, residual in enumerate(residuals)}
        function = self._around(controlled_unet if named else unet)
        result: Array = self.unet.run(function, **arrays, **named)
        return result

    def predict_keeping(self, layers: int, **arrays: Array) -> tuple[Array, Array]:
        """The UNet's raw output, and what its last layers began with (see `models.reuse`)."""
        function = partial(self._around(unet_keeping), layers=layers)
        result, deep = self.unet.run(function, **arrays)
        return result, deep

    def predict_again(self, layers: int, **arrays: Array) -> Array:
        """The UNet's raw output from its last layers alone; `deep` is what `predict_keeping` returned."""
        result: Array = self.unet.run(partial(self._around(unet_again), layers=layers), **arrays)
        return result

    def beside(self, path: Path, open_on: Callable[[Any, Path], T]) -> T:
        """A further network, such as a ControlNet, or a further model, on the same engine, opened once.

        open_on: makes it, from engine and path. The engine is the text encoder's: that has no 8-bit grids.
        """
        place = path.resolve()
        if place not in self.opened:
            self.opened[place] = open_on(self.text_encoder.engine, path)
        opened: T = self.opened[place]
        return opened

    def embed_hint(self, controlnet: Network, picture: Array) -> Array:
        """What a ControlNet makes of its picture (1, 3, H, W) in 0..1, for all steps: (1, C, h, w)."""
        result: Array = controlnet.run(self._around(embed_hint), picture=picture)
        return result

    def control(self, network: Network, **arrays: Array) -> tuple[Array, ...]:
        """A ControlNet's residuals; the arguments are those of `models.controlnet.controlnet`."""
        result: tuple[Array, ...] = network.run(self._around(controlnet), **arrays)
        return result

    def encode(self, picture: Array) -> Array:
        """(B, 3, H, W) in -1..1 -> the scaled latent (B, C, h, w), the posterior's mean."""
        config, function = self.autoencoder_config, self.coders[0]

        def one(part: Array, norms: Norms = _own, **statistics: Array) -> Array:
            moments: Array = self.autoencoder.run(self._around(norms(function)), picture=part, **statistics)
            return moments

        mean = self._each(one, picture, given=config.factor, made=1)[:, : config.latent_channels]
        return (mean - np.float32(config.shift)) * np.float32(config.scale)

    def prepare_decode(self, shape: Shape) -> None:
        """Compile what `decode` needs for latents (C, h, w), so that its faults show before the drawing."""
        channels, rows, columns = shape
        divided = rows * columns > self.whole
        if divided:
            rows, columns = min(rows, self.tile), min(columns, self.tile)
        inputs: Inputs = {"latent": ((1, channels, rows, columns), "f32")}
        function = self.coders[1]
        if divided and self.shares_norms:
            measured = measuring(function)
            self.autoencoder.compiled(self._around(measured), inputs)
            found = outline(with_config(measured, self.autoencoder_config), inputs).outputs[0]
            function, inputs = normalised(function), {**inputs, "statistics": (found, "f32")}
        self.autoencoder.compiled(self._around(function), inputs)

    def decode(self, latent: Array) -> Array:
        """Scaled latent (B, C, h, w) -> (B, 3, H, W), about -1..1."""
        config, function = self.autoencoder_config, self.coders[1]
        plain = latent / np.float32(config.scale) + np.float32(config.shift)

        def one(part: Array, norms: Norms = _own, **statistics: Array) -> Array:
            picture: Array = self.autoencoder.run(self._around(norms(function)), latent=part, **statistics)
            return picture

        return self._each(one, plain, given=1, made=config.factor)

    def _each(self, one: Callable[..., Array], x: Array, *, given: int, made: int) -> Array:
        """The autoencoder on one picture at a time, and on parts of large ones: it takes the most memory of
        all. Their group norms share the statistics of the whole made small. given, made: as in `in_tiles`."""
        if x.shape[2] * x.shape[3] <= self.whole * given**2:
            return np.concatenate([one(x[i : i + 1]) for i in range(len(x))])
        overlap = min(OVERLAP, self.tile // 4)

        def divided(picture: Array) -> Array:
            part = one
            if self.shares_norms:
                small = made_small(picture, given=given, tile=self.tile)
                part = partial(one, norms=normalised, statistics=one(small, norms=measuring))
            return in_tiles(part, picture, given=given, made=made, tile=self.tile, overlap=overlap)

        return np.concatenate([divided(x[i : i + 1]) for i in range(len(x))])

    @property
    def shares_norms(self) -> bool:
        """Whether the autoencoder has group norms, whose statistics its parts are to share."""
        return not isinstance(self.autoencoder_config, TinyAutoencoderConfig)

    @property
    def coders(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The functions that encode and decode."""
        tiny = isinstance(self.autoencoder_config, TinyAutoencoderConfig)
        return (encode_tiny, decode_tiny) if tiny else (encode, decode)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return seamless(function) if self.tiling else function


def make_networks(checkpoint: Checkpoint, engine: Any) -> Networks:
    """Read the configurations and check that the weights fit them. Nothing is compiled yet.

    Raises InvalidCheckpoint, naming what is missing, unexpected or of another shape. Numbers that are not
    finite are found when a network is first built.
    """

    def text(component: Component) -> Network:
        config = text_encoder_config(component.config)
        return make_network(component, config, text_encoder_shapes(config), engine)

    picture, autoencoder = unet_config(checkpoint.unet.config), any_autoencoder_config(checkpoint.vae.config)
    second = checkpoint.text_encoder_2
    return Networks(
        unet=make_network(checkpoint.unet, picture, unet_shapes(picture), engine),
        autoencoder=make_network(checkpoint.vae, autoencoder, autoencoder_shapes(autoencoder), engine),
        text_encoder=text(checkpoint.text_encoder),
        text_encoder_2=None if second is None else text(second),
    )


def make_network(component: Component, config: object, expected: Mapping[str, Shape], engine: Any) -> Network:
    """One network, whose weights fit its configuration. Raises InvalidCheckpoint as `make_networks` does."""
    where = component.files[0]
    check_names(component.tensors, expected, where)
    _check_shapes(component.tensors, expected, where)
    return Network(FiniteTensors(component.tensors, where), component.fingerprint, engine, config, {})


def _check_shapes(tensors: Mapping[str, Array], expected: Mapping[str, Shape], where: Path) -> None:
    """Reads headers only, so that a wrong model is refused when it is loaded and not minutes later."""
    for name, shape in expected.items():
        found = tensors[name].shape
        if found != shape:
            raise InvalidCheckpoint(
                f"tensor '{name}' in '{where}' has shape {found}; the configuration says {shape}: one of the"
                " two belongs to another model"
            )


def _own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, whose group norms look at what they are given."""
    return function


def _name(function: Callable[..., Any]) -> str:
    """What tells one function from another, its fixed keywords included."""
    if isinstance(function, partial):
        return f"{function.func.__name__} {sorted(function.keywords.items())}"
    return function.__name__
