"""Predicts the memory that a picture needs, and plans how to fit it into a budget.

Only the process's own memory is counted. Pages of mapped files (the model, cached graphs) come on top; the
system evicts them when it needs memory. The constants were measured (docs/performance.md) with OpenVINO on a
processor, which keeps a reordered copy of each network's weights and its activations.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from pochade.configs.networks import TinyAutoencoderConfig
from pochade.engines.shape_inference import infer_shapes
from pochade.errors import InvalidRequest
from pochade.families.family import Architecture
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.loading.parameter_shapes import architecture_shapes, autoencoder_shapes, with_config
from pochade.loading.tiling import TILE

BYTES: Mapping[str, tuple[float, float]] = {"f32": (4.0, 4.0), "bf16": (4.0, 2.0), "f16": (2.0, 2.0)}
"""Precision -> bytes of a weight and of an activation. Other precisions count as f32.

In bf16 the weights are held twice while a network is first compiled: rounded and reordered.
"""
IN_BYTES = 1.2
"""Bytes per weight of UNet and decoder in int8, including weights that stay wide. During compilation the
rounded weights are in files. Other networks have no 8-bit grids."""

PROCESS = 0.08e9
"""The memory of Python, numpy and OpenVINO, and of a drawing besides the networks."""
NETWORK = 0.06e9
"""The memory of any network besides weights and activations."""
COPIES = 1.14
"""A factor for weights, some of which are held in two layouts."""
UNET_VALUES = 16.0
"""Activations of the UNet: numbers per channel of the first level, row and latent pixel."""
CODER_VALUES = 6.25
"""Activations of the autoencoder: numbers per channel and picture pixel."""
TILES = (TILE, 64, 48, 32)
"""Sides of decoding tiles, in latent pixels; the first that fits is used."""
SMALLEST = 64


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How a picture is drawn, and the memory that it needs.

    width, height: px. parts: bytes of each network with its activations. one_by_one: each network is released
    before the next is loaded. tile: side of the decoding tiles, in latent pixels; None: no tiles.
    """

    width: int
    height: int
    parts: Mapping[str, float]
    one_by_one: bool = False
    tile: int | None = None

    @property
    def peak(self) -> float:
        """Bytes."""
        taken = self.parts.values()
        return PROCESS + (max(taken) if self.one_by_one else sum(taken))

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in self.parts.items())
        how = [parts, "one at a time" if self.one_by_one else "all kept"]
        if self.tile is not None:
            how.append("decoded in parts")
        return f"{self.width}x{self.height} takes about {format_bytes(self.peak)} ({'; '.join(how)})"


def format_bytes(size: float) -> str:
    """ "3.4 GB", "340 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def parse_bytes(text: str | float, what: str = "memory budget") -> int:
    """ "4GB", "3.5 g", "800MB" or a number of bytes. what: for messages. Raises InvalidRequest."""
    if isinstance(text, (int, float)):
        number, unit = float(text), 1.0
    else:
        plain = text.strip().lower().removesuffix("b").strip()
        units = {"k": 1e3, "m": 1e6, "g": 1e9}
        unit = units.get(plain[-1:], 1.0)
        try:
            number = float(plain.rstrip("kmg").strip())
        except ValueError:
            raise InvalidRequest(f"{what} '{text}' is not an amount; write 4GB or 800MB") from None
    if not (math.isfinite(number) and 1e6 <= number * unit <= 1e15):
        raise InvalidRequest(f"{what} '{text}' is not between 1MB and 1000000GB; write 4GB or 800MB")
    return int(number * unit)


def budget_from(environ: Mapping[str, str], name: str = "POCHADE_MEMORY_BUDGET") -> int | None:
    """Return the amount in an environment variable, if it is set. Raises InvalidRequest if it is invalid."""
    value = environ.get(name)
    return parse_bytes(value, f"${name}") if value else None


@dataclass(frozen=True, kw_only=True)
class NetworkLoad:
    """What a picture needs from the networks.

    width, height: px. rows: of the UNet's batch. encodes: whether there is a source picture. adapted: the
    number of adapted versions of the weights, which are held besides the model's. sizes: number of sizes that
    the UNet draws. forms: graphs of the UNet per size, such as with and without a ControlNet, or for contexts
    without a common graph. auxiliary_weights: weights of further networks, such as ControlNets.
    """

    width: int
    height: int
    rows: int = 2
    encodes: bool = False
    adapted: int = 0
    sizes: int = 1
    forms: int = 1
    auxiliary_weights: int = 0


def find_plan(networks: Networks, precision: str, budget: int | None, load: NetworkLoad) -> MemoryPlan:
    """Return the first plan that fits: all networks kept, then one by one, then also with decoding tiles.

    budget: bytes; None means unlimited. Raises InvalidRequest, naming a size that would fit, if none fits.
    """
    plans = list(_plans(networks, precision, load))
    for plan in plans:
        if budget is None or plan.peak <= budget:
            return plan
    assert budget is not None
    least = min(plans, key=lambda plan: plan.peak)
    factor = networks.autoencoder_config.factor
    scale, fits = 1.0, None
    while fits is None and min(load.width, load.height) * scale > SMALLEST:
        scale *= 0.9
        width, height = (
            max(factor, int(side * scale) // SMALLEST * SMALLEST) for side in (load.width, load.height)
        )
        tried = _plans(networks, precision, replace(load, width=width, height=height))
        fits = next((plan for plan in tried if plan.peak <= budget), None)
    size = "no size of this model fits" if fits is None else f"{fits.width}x{fits.height} fits"
    raise InvalidRequest(
        f"{least}, and the memory budget is {format_bytes(budget)}: {size}; else give a larger budget, or a"
        " smaller precision where the computer has one"
    )


# --- inside -----------------------------------------------------------------------------------------------


def _plans(networks: Networks, precision: str, load: NetworkLoad) -> Iterator[MemoryPlan]:
    factor = networks.autoencoder_config.factor
    pixels = load.width // factor * (load.height // factor)
    default_tile = None if pixels <= networks.untiled_pixels else TILE
    all_sizes = _parts(networks, precision, load, pixels, default_tile)
    yield MemoryPlan(width=load.width, height=load.height, parts=all_sizes, tile=default_tile)
    one_size = replace(load, sizes=1)  # between two sizes the UNet is released
    for tile in (default_tile, *TILES):
        if tile == default_tile or (
            tile is not None and tile**2 < pixels and (default_tile is None or tile < default_tile)
        ):
            parts = _parts(networks, precision, one_size, pixels, tile)
            yield MemoryPlan(width=load.width, height=load.height, parts=parts, one_by_one=True, tile=tile)


def _parts(
    networks: Networks, precision: str, load: NetworkLoad, pixels: int, tile: int | None
) -> dict[str, float]:
    weight, value = BYTES.get(precision, BYTES["f32"])
    weight *= COPIES
    drawn = IN_BYTES * COPIES if precision == "int8" else weight
    coder_weight, coder_value = weight, value
    if precision == "f16":  # the autoencoder may be in another
        coder_weight, coder_value = BYTES[networks.autoencoder.engine.precision]
        coder_weight *= COPIES
    family, coder = networks.family, networks.autoencoder_config
    once = pixels if tile is None else min(pixels, tile**2)
    first = 64 if isinstance(coder, TinyAutoencoderConfig) else coder.widths[0]
    coding = CODER_VALUES * first * coder.factor**2 * once * coder_value
    both = sum(map(math.prod, autoencoder_shapes(coder, networks.coders).values()))
    decoder = _decoder_weights(networks)
    of_unet = sum(map(math.prod, architecture_shapes(family.denoiser, networks.unet.config).values()))
    parts = {
        "text encoder": sum(
            _text_weights(architecture, each) * weight + NETWORK
            for architecture, each in zip(family.text_encoders, networks.text_encoders, strict=True)
        ),
        # Adapted weights are held as stored, besides the compiled ones.
        "UNet": of_unet * (drawn * load.sizes * load.forms + weight * load.adapted)
        + UNET_VALUES * networks.traits.activation * load.rows * pixels * value
        + NETWORK
        + load.auxiliary_weights * weight,
        "decoder": decoder * (drawn if precision == "int8" else coder_weight) + coding + NETWORK,
    }
    if load.encodes:
        return {"encoder": (both - decoder) * coder_weight + coding + NETWORK, **parts}
    return parts


def _text_weights(architecture: Architecture, encoder: Network) -> int:
    """The weights without the token table, of which only the used rows are read."""
    shapes = architecture_shapes(architecture, encoder.config)
    return sum(math.prod(shape) for name, shape in shapes.items() if "token_embedding" not in name)


def _decoder_weights(networks: Networks) -> int:
    config = networks.autoencoder_config
    function: Callable[..., object] = networks.coders[1]
    latent = {"latent": ((1, config.latent_channels, 1, 1), "f32")}
    return infer_shapes(with_config(function, config), latent).parameter_count
