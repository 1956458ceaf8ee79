"""The networks of a model on an engine; they take and return host arrays."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint, Component
from pochade.configs.networks import AnyAutoencoderConfig, AutoencoderConfig, ControlNetConfig, UNetConfig
from pochade.engines.engine import Engine
from pochade.engines.shape_inference import infer_shapes
from pochade.families.family import Architecture, Configs, Family, Traits
from pochade.families.registry import family_of
from pochade.loading.compiled_graphs import CompiledGraphs
from pochade.loading.network import Inputs, Network, function_name, make_network
from pochade.loading.parameter_shapes import architecture_shapes, autoencoder_shapes, with_config
from pochade.loading.text_cache import EncodedTexts
from pochade.loading.tiling import OVERLAP, TILE, WHOLE, downsampled, run_tiled, tile_function
from pochade.models.autoencoder import Coders
from pochade.models.controlnet import RESIDUAL, ControlledConfig, controlnet, embed_hint
from pochade.models.seamless import seamless
from pochade.models.shared_norms import recording_statistics, with_given_statistics
from pochade.ops import Shape
from pochade.weights import Parts

Array = NDArray[Any]
T = TypeVar("T")

OPENED = 8
"""How many auxiliary networks stay open. Their compiled graphs are cached with all others."""


@dataclass(frozen=True, eq=False)
class Networks:
    """Text encoders, denoiser (`unet`, of any kind) and autoencoder of a model.

    tiling: whether convolutions wrap around, so that opposite edges fit together.
    wide_autoencoder: one with the range of f32, used if `autoencoder` overflows in f16; None if it cannot.
        overflowed: not empty as soon as that has happened.
    untiled_pixels: latent pixels that the autoencoder takes at once; it does larger pictures in parts, of
    `tile` along
        a side.
    opened: what is beside these, such as ControlNets, by path. controlled_unets: UNets joined with
    ControlNets. texts:
        what was encoded lately.
    """

    family: Family
    unet: Network
    autoencoder: Network
    text_encoders: tuple[Network, ...]
    wide_autoencoder: Network | None = None
    overflowed: set[str] = field(default_factory=set)
    tiling: bool = False
    untiled_pixels: int = WHOLE
    tile: int = TILE
    opened: dict[Path, Any] = field(default_factory=dict)
    controlled_unets: WeakKeyDictionary[Network, dict[tuple[Network, ...], Network]] = field(
        default_factory=WeakKeyDictionary
    )
    texts: EncodedTexts = field(default_factory=EncodedTexts, repr=False)

    def release(self, *, keep: Collection[Network] = ()) -> None:
        """Drop all compiled graphs and auxiliary networks.

        keep: networks whose graphs stay.
        """
        kept = {network.owner for network in keep}
        for network in (*self.text_encoders, self.unet, self.autoencoder, self.wide_autoencoder):
            if network is not None and network.owner not in kept:
                network.release()
        self.opened.clear()
        self.controlled_unets.clear()

    @property
    def text_encoder(self) -> Network:
        """The first, or the only one."""
        return self.text_encoders[0]

    @property
    def text_encoder_2(self) -> Network | None:
        """The second, if there is one."""
        return self.text_encoders[1] if len(self.text_encoders) > 1 else None

    @property
    def configs(self) -> Configs:
        """The configurations of all networks."""
        return Configs(
            denoiser=self.unet.config,
            text_encoders=tuple(each.config for each in self.text_encoders),
            autoencoder=self.autoencoder_config,
        )

    @cached_property
    def traits(self) -> Traits:
        """The family's traits of this model."""
        return self.family.traits(self.configs)

    @cached_property
    def unet_config(self) -> UNetConfig:
        """The denoiser's configuration, for code that only supports UNets, such as ControlNets and
        training."""
        assert isinstance(self.unet.config, UNetConfig)
        return self.unet.config

    @cached_property
    def autoencoder_config(self) -> AnyAutoencoderConfig:
        assert isinstance(self.autoencoder.config, AnyAutoencoderConfig)
        return self.autoencoder.config

    @property
    def graphs(self) -> CompiledGraphs:
        """The cache of compiled graphs of all these networks."""
        return self.unet.graphs

    def encode_text(
        self, encoder: Network, function: Callable[..., Any], **arrays: Array
    ) -> tuple[Array, ...]:
        """Run a text encoder's function on rows of tokens and its other inputs.

        Rows are encoded one at a time, so that a longer prompt needs no other graph; recent results are
        cached.
        """
        by = encoder.engine, encoder.fingerprint, encoder.config, function_name(function)

        def row(i: int) -> tuple[Array, ...]:
            one = {name: array[i : i + 1] for name, array in arrays.items()}
            key = tuple((name, array.dtype.str, array.shape, array.tobytes()) for name, array in one.items())
            return self.texts.of((by, key), lambda: _as_tuple(encoder.run(function, **one)))

        rows = [row(i) for i in range(len(next(iter(arrays.values()))))]
        return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))

    def predict(self, *residuals: Array, **arrays: Array) -> Array:
        """Return the denoiser's raw output; arrays: the inputs of its function."""
        named = {f"{RESIDUAL}{i}": residual for i, residual in enumerate(residuals)}
        denoiser = self.family.denoiser
        function = self._around(_form(denoiser.controlled) if named else denoiser.function)
        result: Array = self.unet.run(function, **arrays, **named)
        return result

    def predict_with_controlnets(self, controlnets: Sequence[Network], **arrays: Array) -> Array:
        """Return the raw output of the UNet with its ControlNets, computed in one function.

        arrays: the inputs of `models.controlnet.unet_with_controlnets`.
        """
        of_unet = self.controlled_unets.setdefault(self.unet, {})
        chosen = tuple(controlnets)
        if chosen not in of_unet:
            of_unet[chosen] = _joined(self.unet, chosen)
        result: Array = of_unet[chosen].run(
            self._around(_form(self.family.denoiser.with_controlnets)), **arrays
        )
        return result

    def predict_with_features(self, layers: int, **arrays: Array) -> tuple[Array, Array]:
        """Return the UNet's raw output and its deep features (see `models.deepcache`)."""
        function = partial(self._around(_form(self.family.denoiser.with_features)), layers=layers)
        result, deep = self.unet.run(function, **arrays)
        return result, deep

    def predict_from_features(self, layers: int, **arrays: Array) -> Array:
        """The UNet's raw output from its last layers alone; `deep` is what `predict_with_features`
        returned."""
        result: Array = self.unet.run(
            partial(self._around(_form(self.family.denoiser.from_features)), layers=layers), **arrays
        )
        return result

    def auxiliary(self, path: Path, open_network: Callable[..., T]) -> T:
        """Return an auxiliary network or model, such as a ControlNet, on the same engine; it is opened once.

        open_network: opens it from engine and path, with `graphs`, which it shares with these networks. The
        engine is the text encoder's, which has no 8-bit grids. The last `OPENED` stay open.
        """
        place = path.resolve()
        opened: T = (
            self.opened.pop(place)
            if place in self.opened
            else open_network(self.text_encoder.engine, path, graphs=self.graphs)
        )
        self.opened[place] = opened  # as the latest
        for oldest in list(self.opened)[:-OPENED]:
            del self.opened[oldest]
        return opened

    def embed_hint(self, controlnet: Network, picture: Array) -> Array:
        """Embed a control picture (1, 3, H, W) in 0..1 for all steps: (1, C, h, w)."""
        result: Array = controlnet.run(self._around(embed_hint), picture=picture)
        return result

    def control(self, network: Network, **arrays: Array) -> tuple[Array, ...]:
        """Return a ControlNet's residuals; the arguments are those of `models.controlnet.controlnet`."""
        result: tuple[Array, ...] = network.run(self._around(controlnet), **arrays)
        return result

    def encode(self, picture: Array) -> Array:
        """Encode (B, 3, H, W) in -1..1 to the scaled latent (B, C, h, w), the posterior's mean."""
        config = self.autoencoder_config
        moments = self._each(self.coders[0], "picture", picture, in_scale=config.factor, out_scale=1)
        mean = moments[:, : config.latent_channels]
        return (mean - np.float32(config.shift)) * np.float32(config.scale)

    def prepare_decode(self, shape: Shape) -> None:
        """Compile what `decode` needs for latents (C, h, w), so that errors show before drawing."""
        channels, rows, columns = shape
        tile, function = self._tile(rows, columns), self.coders[1]
        inputs: Inputs = {"latent": ((1, channels, min(rows, tile), min(columns, tile)), "f32")}
        if max(rows, columns) <= tile:
            self.coder.prepare(self._around(function), inputs)
            return
        if self.shares_norms:
            measured = self._around(recording_statistics(function))
            self.coder.prepare(measured, inputs)
            found = infer_shapes(with_config(measured, self.autoencoder_config), inputs).outputs[0]
            function, inputs = with_given_statistics(function), {**inputs, "statistics": (found, "f32")}
        form = tile_function(function, rows, columns, tile=tile, tiling=self.tiling)
        self.coder.prepare(form, inputs)

    def decode(self, latent: Array) -> Array:
        """Decode a scaled latent (B, C, h, w) to (B, 3, H, W), about -1..1."""
        config = self.autoencoder_config
        plain = latent / np.float32(config.scale) + np.float32(config.shift)
        return self._each(self.coders[1], "latent", plain, in_scale=1, out_scale=config.factor)

    def _each(
        self, coder: Callable[..., Any], name: str, x: Array, *, in_scale: int, out_scale: int
    ) -> Array:
        """The autoencoder on one picture at a time, and on parts of large ones: it takes the most memory of
        all. Their group norms share the statistics of the whole made small. name: of its input. given, made:
        as in `run_tiled`."""
        rows, columns = x.shape[2] // in_scale, x.shape[3] // in_scale
        tile = self._tile(rows, columns)

        def divided(picture: Array) -> Array:
            form, further = coder, dict[str, Array]()
            if self.shares_norms:
                small = downsampled(picture, in_scale=in_scale, tile=tile)
                # The whole goes round, if it does; its parts do along the sides that are not divided.
                further["statistics"] = self._coded(
                    self._around(recording_statistics(coder)), **{name: small}
                )
                form = with_given_statistics(coder)
            function = tile_function(form, rows, columns, tile=tile, tiling=self.tiling)
            return run_tiled(
                lambda part: self._coded(function, **{name: part}, **further),
                picture,
                in_scale=in_scale,
                out_scale=out_scale,
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
        """The autoencoder to use: the wide one as soon as the other has overflowed."""
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
        """The side of the tiles, in latent pixels, in which a picture of this size is encoded and decoded."""
        return max(rows, columns) if rows * columns <= self.untiled_pixels else self.tile

    @property
    def shares_norms(self) -> bool:
        """Whether the autoencoder has group norms, whose statistics the tiles must share."""
        return isinstance(self.autoencoder_config, AutoencoderConfig)

    @property
    def coders(self) -> Coders:
        """The functions that encode and decode."""
        return self.family.coders(self.autoencoder_config)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return seamless(function) if self.tiling else function


def make_networks(
    checkpoint: Checkpoint, engine: Engine | None, *, graphs: CompiledGraphs | None = None
) -> Networks:
    """Read the configurations and check that the weights fit them. Nothing is compiled yet.

    graphs: the cache of compiled graphs; None creates one for these networks with the default budget.

    Raises InvalidCheckpoint, naming what is missing, unexpected or of another shape. Numbers that are not
    finite are found when a network is first built.
    """

    kept = CompiledGraphs() if graphs is None else graphs

    def network(component: Component, architecture: Architecture, on: Engine | None) -> Network:
        config = architecture.config(component.config)
        return make_network(component, config, architecture_shapes(architecture, config), on, kept)

    family = family_of(checkpoint)
    texts = zip(checkpoint.text_encoders, family.text_encoders, strict=True)
    # Configurations first, so that their errors are reported before anything slow happens.
    denoiser = family.denoiser.config(checkpoint.unet.config)
    autoencoder = family.autoencoder(checkpoint.vae.config)
    shapes = autoencoder_shapes(autoencoder, family.coders(autoencoder))
    coder = make_network(checkpoint.vae, autoencoder, shapes, engine, kept)
    wide = None
    if engine is not None and engine.precision == "f16":
        wide = replace(coder, engine=engine.with_f32_range(), _parameters={})
    if wide is not None and family.needs_range(autoencoder):
        coder, wide = wide, None
    return Networks(
        family=family,
        unet=make_network(
            checkpoint.unet,
            denoiser,
            architecture_shapes(family.denoiser, denoiser),
            None if engine is None else engine.repeated(),
            kept,
        ),
        autoencoder=coder,
        text_encoders=tuple(network(component, each, engine) for component, each in texts),
        wide_autoencoder=wide,
    )


def _as_tuple(returned: Any) -> tuple[Array, ...]:
    return returned if isinstance(returned, tuple) else (returned,)


def _form(function: Callable[..., Any] | None) -> Callable[..., Any]:
    """A variant of the denoiser; callers have checked that the family has it."""
    assert function is not None
    return function


def _joined(unet: Network, controlnets: Sequence[Network]) -> Network:
    """Join a UNet and ControlNets to one network that shares their tensors."""
    assert isinstance(unet.config, UNetConfig)
    named = {f"control_{i}": each for i, each in enumerate(controlnets)}
    configs = [each.config for each in controlnets]
    return Network(
        Parts({"unet": unet.tensors, **{name: each.tensors for name, each in named.items()}}),
        " + ".join(each.fingerprint for each in (unet, *controlnets)),
        unet.engine,
        ControlledConfig(unet.config, tuple(each for each in configs if isinstance(each, ControlNetConfig))),
        graphs=unet.graphs,
    )
