"""What the pipeline asks of a kind of models: a `Family`, and the `Traits` of one model of it.

A family is data and plain functions. It names the networks, says how prompts become what the denoiser is
conditioned on and what else the denoiser takes, and how the model was trained: noise schedule and
parametrization. Networks are run by the pipeline; nothing here compiles or computes on an engine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.readers import Reader
from pochade.diffusion.parametrization import Parametrization
from pochade.diffusion.schedule import Levels, NoiseSchedule
from pochade.models.coders import Coders, coders_of
from pochade.models.config import AnyAutoencoderConfig
from pochade.models.read_config import any_autoencoder_config
from pochade.ops import Shape
from pochade.request import DEFAULTS, Defaults

Array = NDArray[Any]
Floats = NDArray[np.float32]
Json = Mapping[str, Any]
Inputs = Mapping[str, tuple[Shape, str]]
"""Name of an input -> its shape, and 'f32' or 'i64'."""


# --- networks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network: its model function, and how its configuration is read.

    config: from a component's `config.json`. function: `function(ops, config, w, **inputs)`.
    inputs: small inputs, for a configuration, with which the function asks for every weight.
    """

    config: Callable[[Json], Any]
    function: Callable[..., Any]
    inputs: Callable[[Any], Inputs]


@dataclass(frozen=True, kw_only=True)
class Denoiser(Architecture):
    """The network that is evaluated at every step. Its inputs begin with `x` (B, C, h, w), the latent.

    controlled, with_controlnets: the same with ControlNets (`models.controlnet`). with_features, again: the
    two halves of
        which `speed` skips the first one (`models.deepcache`). None: the family has no such form.
    seamless: whether pictures that go round its convolutions' edges are seamless (`models.seamless`).
    """

    controlled: Callable[..., Any] | None = None
    with_controlnets: Callable[..., Any] | None = None
    with_features: Callable[..., Any] | None = None
    from_features: Callable[..., Any] | None = None
    seamless: bool = False


@dataclass(frozen=True, kw_only=True)
class Configs:
    """The configurations of one model's networks, as its family reads them."""

    denoiser: Any
    text_encoders: tuple[Any, ...]
    autoencoder: AnyAutoencoderConfig


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is known of one model by its configurations.

    side: of the square pictures that it was trained at, px. multiple: px, of which width and height must be
        whole multiples.
    channels: of the latent that the denoiser takes, with whatever stands beside it.
    activation: numbers per latent pixel in the denoiser's largest activation, of one picture.
    takes_guidance: the guidance scale is an input of the denoiser, and no negative prompt is computed.
    reads_mask: the denoiser takes a mask and the masked picture's latent beside the latent (inpainting).
    reads_pooled: the denoiser takes the pooled text (SDXL).
    needs_picture: what it is, if it draws over pictures only, as a clause: "SDXL's refiner, which ..."; else
        empty.
    """

    side: int
    multiple: int
    channels: int
    activation: int
    takes_guidance: bool = False
    reads_mask: bool = False
    reads_pooled: bool = False
    needs_picture: str = ""


# --- prompts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the text encoders make of one prompt.

    context: (1, T, D), its tokens. pooled: (1, P), one vector for all of it; P may be 0.
    tokens: in the text; chunks: pieces that the encoders read one by one.
    """

    context: Floats
    pooled: Floats
    tokens: int
    chunks: int


class Encoder(Protocol):
    """A text encoder of a loaded model, as a family uses it."""

    @property
    def config(self) -> Any: ...

    def run(self, function: Callable[..., Any], **arrays: Array) -> tuple[Array, ...]:
        """`function(ops, config, w, **arrays)` for each row by itself; rows that were met lately are not
        computed again. A `partial` may fix further keywords. Raises InvalidRequest for numbers that are not
        finite."""
        ...


class Encode(Protocol):
    """Encodes prompts. The results are in their order.

    encoders, tokenizers: of the model, in the order of `Family.text_encoders`. clip_skip, emphasis: as in
    `pochade.request.Request`.

    Raises InvalidRequest for a prompt that is too long, before any is encoded.
    """

    def __call__(
        self,
        encoders: Sequence[Encoder],
        tokenizers: Sequence[Any],
        prompts: Sequence[str],
        clip_skip: int,
        emphasis: str,
    ) -> list[Conditioning]: ...


@dataclass(frozen=True, kw_only=True)
class Conditioned:
    """The rows of one call of the denoiser: what they are conditioned on, and what is drawn.

    prompts: how many of the rows, from the first, are no negative prompt's. width, height: px.
    """

    conditionings: Sequence[Conditioning]
    prompts: int
    width: int
    height: int


# --- a family ---------------------------------------------------------------------------------------------


def with_data(sigma: float) -> float:
    """Of data and noise together, both of unit variance: what models were trained on at this level."""
    return float((1 + sigma**2) ** 0.5)


def _never(*_: Any) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of models.

    label: as users know it, and what `Checkpoint.family` says. reader: finds and reads its files; None: the
        reader of Stable Diffusion does.
    latents: names what its latents mean; models of the same latents can continue each other's pictures.
    defaults: what is drawn with where a request leaves it open.

    Networks:
    denoiser, text_encoders: the latter in the order of `Checkpoint.text_encoders`.
    autoencoder, coders: its configuration, and the functions that encode and decode.
    needs_range: whether the autoencoder's activations pass what f16 holds.
    traits: of one model.
    tokenizers: one for each text encoder. Raises InvalidCheckpoint.
    check: Raises InvalidCheckpoint, beginning with the path, for a model that cannot be drawn.

    Prompts:
    encode: see `Encode`. length: tokens of context that a prompt will have, by what it is encoded with, and
        without encoding it; arguments are the prompt, the tokenizers and `emphasis`.
    no_text: whether an empty negative prompt is zeros in place of the text "".
    learns_words: whether its tokenizers are `prompts.tokenizer.Tokenizer`, to which embeddings add words.

    The denoiser's inputs besides `x`:
    constant_inputs: those that are the same at every step. step_inputs: those of a step, from the denoiser's
        configuration, the timestep of the parametrization, the number of rows and the guidance scale.

    Training:
    schedule, parametrization: from the content of `scheduler_config.json`.
    starting_scale: sigma -> factor of the unit noise that a drawing from nothing begins with.
    levels: schedules by label that mean something else for this family.
    trained_here: whether `pochade train` knows it.
    """

    label: str
    latents: str
    reader: Reader | None = None
    defaults: Defaults = DEFAULTS
    denoiser: Denoiser
    text_encoders: tuple[Architecture, ...]
    autoencoder: Callable[[Json], AnyAutoencoderConfig] = any_autoencoder_config
    coders: Callable[[AnyAutoencoderConfig], Coders] = coders_of
    needs_range: Callable[[AnyAutoencoderConfig], bool] = _never
    traits: Callable[[Configs], Traits]
    tokenizers: Callable[[Checkpoint], Sequence[Any]]
    check: Callable[[Configs, Sequence[Any], str], None]
    encode: Encode
    length: Callable[[str, Sequence[Any], str], int]
    no_text: Callable[[Checkpoint], bool] = _never
    learns_words: bool = False
    constant_inputs: Callable[[Configs, Conditioned], dict[str, Floats]]
    step_inputs: Callable[[Any, float, int, float], dict[str, Floats]]
    schedule: Callable[[Json], NoiseSchedule]
    parametrization: Callable[[Json], Parametrization]
    starting_scale: Callable[[float], float] = with_data
    levels: Mapping[str, Levels] = field(default_factory=dict)
    trained_here: bool = False
