"""The networks of a checkpoint on an engine: host arrays in, host arrays out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint, Component
from pochade.engines.outline import outline
from pochade.models.autoencoder import decode, encode
from pochade.models.config import (
    AnyAutoencoderConfig,
    AutoencoderConfig,
    ControlNetConfig,
    TinyAutoencoderConfig,
    UNetConfig,
    any_autoencoder_config,
    text_encoder_config,
    unet_config,
)
from pochade.models.controlnet import (
    RESIDUAL,
    SteeredConfig,
    controlled_unet,
    controlnet,
    embed_hint,
    steered_unet,
)
from pochade.models.reuse import unet_again, unet_keeping
from pochade.models.seamless import seamless
from pochade.models.shared_norms import measuring, normalised
from pochade.models.text_encoder import text_encoder
from pochade.models.tiny_autoencoder import decode_tiny, encode_tiny
from pochade.models.unet import unet
from pochade.ops import Shape
from pochade.pipeline.loading.graphs import CompiledGraphs
from pochade.pipeline.loading.network import Inputs, Network, make_network
from pochade.pipeline.loading.shapes import (
    autoencoder_shapes,
    text_encoder_shapes,
    unet_shapes,
    with_config,
)
from pochade.pipeline.loading.texts import EncodedTexts
from pochade.pipeline.loading.tiles import OVERLAP, TILE, WHOLE, form_of, in_tiles, made_small
from pochade.weights import Parts

Array = NDArray[Any]
T = TypeVar("T")

OPENED = 8
"""Networks and models beside a model that stay open. Their compiled graphs are kept with all others."""


@dataclass(frozen=True, eq=False)
class Networks:
    """Text encoder(s), UNet and autoencoder. `text_encoder_2` is XL's.

    tiling: pictures and latents go round: what is beyond an edge is what stands at the opposite one.
    wide_autoencoder: with the range of f32, for what overflows where `autoencoder` computes in f16; None: it
        does not. overflowed: holds something as soon as that happened.
    whole: latent pixels that the autoencoder takes at once; it does larger pictures in parts, of `tile` along
        a side.
    opened: what is beside these, such as ControlNets, by path. steered: UNets joined with ControlNets. texts:
        what was encoded lately.
    """

    unet: Network
    autoencoder: Network
    text_encoder: Network
    text_encoder_2: Network | None
    wide_autoencoder: Network | None = None
    overflowed: set[str] = field(default_factory=set)
    tiling: bool = False
    whole: int = WHOLE
    tile: int = TILE
    opened: dict[Path, Any] = field(default_factory=dict)
    steered: WeakKeyDictionary[Network, dict[tuple[Network, ...], Network]] = field(
        default_factory=WeakKeyDictionary
    )
    texts: EncodedTexts = field(default_factory=EncodedTexts, repr=False)

    @property
    def text_encoders(self) -> tuple[Network, ...]:
        """One, or the two of XL."""
        second = self.text_encoder_2
        return (self.text_encoder,) if second is None else (self.text_encoder, second)

    def let_go(self, *, keep: Collection[Network] = ()) -> None:
        """Forget everything that was compiled, and what was opened beside.

        keep: networks whose graphs stay.
        """
        kept = {network.owner for network in keep}
        for network in (*self.text_encoders, self.unet, self.autoencoder, self.wide_autoencoder):
            if network is not None and network.owner not in kept:
                network.let_go()
        self.opened.clear()
        self.steered.clear()

    @cached_property
    def unet_config(self) -> UNetConfig:
        assert isinstance(self.unet.config, UNetConfig)
        return self.unet.config

    @cached_property
    def autoencoder_config(self) -> AnyAutoencoderConfig:
        assert isinstance(self.autoencoder.config, AnyAutoencoderConfig)
        return self.autoencoder.config

    @property
    def graphs(self) -> CompiledGraphs:
        """Where the compiled graphs of all these are kept."""
        return self.unet.graphs

    @property
    def reads_mask(self) -> bool:
        """Whether it is an inpainting model, which reads a mask and the masked picture beside the latent."""
        return self.unet_config.in_channels == 2 * self.autoencoder_config.latent_channels + 1

    def encode_text(
        self, encoder: Network, ids: Array, end: Array, *, skip: int, final_norm: bool
    ) -> tuple[Array, Array]:
        """Tokens (B, 77) and end positions (B,) -> conditioning (B, 77, D) and pooled vectors (B, P).

        One chunk at a time, so that a longer prompt needs no other graph; one that was encoded lately is not
        encoded again.
        """
        function = partial(text_encoder, skip=skip, final_norm=final_norm)
        by = encoder.engine, encoder.fingerprint, encoder.config, skip, final_norm

        def chunk(i: int) -> tuple[Array, Array]:
            one = {"ids": ids[i : i + 1], "end": end[i : i + 1]}
            told = tuple((array.dtype.str, array.tobytes()) for array in one.values())
            encoded: tuple[Array, Array] = self.texts.of((by, told), lambda: encoder.run(function, **one))
            return encoded

        parts = [chunk(i) for i in range(len(ids))]
        return np.concatenate([tokens for tokens, _ in parts]), np.concatenate(
            [pooled for _, pooled in parts]
        )

    def predict(self, *residuals: Array, **arrays: Array) -> Array:
        """The UNet's raw output; the arguments are those of `models.unet.unet`."""
        named = {f"{RESIDUAL}{i}": residual for i, residual in enumerate(residuals)}
        function = self._around(controlled_unet if named else unet)
        result: Array = self.unet.run(function, **arrays, **named)
        return result

    def predict_steered(self, controlnets: Sequence[Network], **arrays: Array) -> Array:
        """The UNet's raw output with its ControlNets', by an engine that joins them in one function.

        arrays: the inputs of `models.controlnet.steered_unet`.
        """
        of_unet = self.steered.setdefault(self.unet, {})
        chosen = tuple(controlnets)
        if chosen not in of_unet:
            of_unet[chosen] = _joined(self.unet, chosen)
        result: Array = of_unet[chosen].run(self._around(steered_unet), **arrays)
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

    def beside(self, path: Path, open_on: Callable[..., T]) -> T:
        """A further network, such as a ControlNet, or a further model, on the same engine, opened once.

        open_on: makes it, from engine and path, with `graphs`, which it shares with these networks. The
        engine is the text encoder's: that has no 8-bit grids. The last `OPENED` stay open.
        """
        place = path.resolve()
        opened: T = (
            self.opened.pop(place)
            if place in self.opened
            else open_on(self.text_encoder.engine, path, graphs=self.graphs)
        )
        self.opened[place] = opened  # as the latest
        for oldest in list(self.opened)[:-OPENED]:
            del self.opened[oldest]
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
        config = self.autoencoder_config
        moments = self._each(self.coders[0], "picture", picture, given=config.factor, made=1)
        mean = moments[:, : config.latent_channels]
        return (mean - np.float32(config.shift)) * np.float32(config.scale)

    def prepare_decode(self, shape: Shape) -> None:
        """Compile what `decode` needs for latents (C, h, w), so that its faults show before the drawing."""
        channels, rows, columns = shape
        tile, function = self._tile(rows, columns), self.coders[1]
        inputs: Inputs = {"latent": ((1, channels, min(rows, tile), min(columns, tile)), "f32")}
        if max(rows, columns) <= tile:
            self.coder.prepare(self._around(function), inputs)
            return
        if self.shares_norms:
            measured = self._around(measuring(function))
            self.coder.prepare(measured, inputs)
            found = outline(with_config(measured, self.autoencoder_config), inputs).outputs[0]
            function, inputs = normalised(function), {**inputs, "statistics": (found, "f32")}
        form = form_of(function, rows, columns, tile=tile, tiling=self.tiling)
        self.coder.prepare(form, inputs)

    def decode(self, latent: Array) -> Array:
        """Scaled latent (B, C, h, w) -> (B, 3, H, W), about -1..1."""
        config = self.autoencoder_config
        plain = latent / np.float32(config.scale) + np.float32(config.shift)
        return self._each(self.coders[1], "latent", plain, given=1, made=config.factor)

    def _each(self, coder: Callable[..., Any], name: str, x: Array, *, given: int, made: int) -> Array:
        """The autoencoder on one picture at a time, and on parts of large ones: it takes the most memory of
        all. Their group norms share the statistics of the whole made small. name: of its input. given, made:
        as in `in_tiles`."""
        rows, columns = x.shape[2] // given, x.shape[3] // given
        tile = self._tile(rows, columns)

        def divided(picture: Array) -> Array:
            form, further = coder, dict[str, Array]()
            if self.shares_norms:
                small = made_small(picture, given=given, tile=tile)
                # The whole goes round, if it does; its parts do along the sides that are not divided.
                further["statistics"] = self._coded(self._around(measuring(coder)), **{name: small})
                form = normalised(coder)
            function = form_of(form, rows, columns, tile=tile, tiling=self.tiling)
            return in_tiles(
                lambda part: self._coded(function, **{name: part}, **further),
                picture,
                given=given,
                made=made,
                tile=tile,
                overlap=min(OVERLAP, self.tile // 4),
                tiling=self.tiling,
            )

        pictures = [x[i : i + 1] for i in range(len(x))]
        if max(rows, columns) > tile:
            return np.concatenate([divided(picture) for picture in pictures])
        function = self._around(coder)
        return np.concatenate([self._coded(function, **{name: picture}) for picture in pictures])

    @property
    def coder(self) -> Network:
        """The autoencoder that works: the wide one as soon as the other has overflowed."""
        wide = self.wide_autoencoder if self.overflowed else None
        return self.autoencoder if wide is None else wide

    def _coded(self, function: Callable[..., Any], **arrays: Array) -> Array:
        coder = self.coder
        result: Array = coder.run(function, **arrays)
        if self.wide_autoencoder in (None, coder) or np.isfinite(result).all():
            return result
        self.overflowed.add(coder.fingerprint)
        return self._coded(function, **arrays)

    def _tile(self, rows: int, columns: int) -> int:
        """The side of the parts, in latent pixels, in which a picture of this size is encoded and decoded."""
        return max(rows, columns) if rows * columns <= self.whole else self.tile

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


def make_networks(checkpoint: Checkpoint, engine: Any, *, graphs: CompiledGraphs | None = None) -> Networks:
    """Read the configurations and check that the weights fit them. Nothing is compiled yet.

    graphs: where compiled graphs are kept; None: in one place for these networks, within its default budget.

    Raises InvalidCheckpoint, naming what is missing, unexpected or of another shape. Numbers that are not
    finite are found when a network is first built.
    """

    kept = CompiledGraphs() if graphs is None else graphs

    def text(component: Component) -> Network:
        config = text_encoder_config(component.config)
        return make_network(component, config, text_encoder_shapes(config), engine, kept)

    picture, autoencoder = unet_config(checkpoint.unet.config), any_autoencoder_config(checkpoint.vae.config)
    second = checkpoint.text_encoder_2
    coder = make_network(checkpoint.vae, autoencoder, autoencoder_shapes(autoencoder), engine, kept)
    wide = None
    if engine is not None and engine.precision == "f16":
        wide = replace(coder, engine=engine.wider(), _asked={})
    if wide is not None and needs_range(autoencoder, picture):
        coder, wide = wide, None
    return Networks(
        unet=make_network(
            checkpoint.unet,
            picture,
            unet_shapes(picture),
            None if engine is None else engine.repeated(),
            kept,
        ),
        autoencoder=coder,
        text_encoder=text(checkpoint.text_encoder),
        text_encoder_2=None if second is None else text(second),
        wide_autoencoder=wide,
    )


def needs_range(autoencoder: AnyAutoencoderConfig, unet: UNetConfig) -> bool:
    """Whether the autoencoder's activations pass what f16 holds: in XL, unless its configuration denies it.

    Other families' configurations say the same by default, and mean nothing by it, as in diffusers.
    """
    wide = isinstance(autoencoder, AutoencoderConfig) and autoencoder.force_upcast
    return wide and unet.added_width is not None


def _joined(unet: Network, controlnets: Sequence[Network]) -> Network:
    """A UNet and ControlNets as one network, which reads the tensors of all where they are."""
    assert isinstance(unet.config, UNetConfig)
    named = {f"control_{i}": each for i, each in enumerate(controlnets)}
    configs = [each.config for each in controlnets]
    return Network(
        Parts({"unet": unet.tensors, **{name: each.tensors for name, each in named.items()}}),
        " + ".join(each.fingerprint for each in (unet, *controlnets)),
        unet.engine,
        SteeredConfig(unet.config, tuple(each for each in configs if isinstance(each, ControlNetConfig))),
        graphs=unet.graphs,
    )
