"""The interface of a family of models, `Family`, and the `Traits` of a single model.

A family is data and plain functions. It defines the networks, how prompts are encoded, the denoiser's further
inputs, and how models were trained: noise schedule and parametrization. The pipeline runs the networks;
nothing here computes on an engine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.readers import Reader
from pochade.configs.networks import AnyAutoencoderConfig
from pochade.configs.read_json import any_autoencoder_config
from pochade.diffusion.parametrization import Parametrization
from pochade.diffusion.schedule import Levels, NoiseSchedule
from pochade.models.autoencoder import Coders, coders_of
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
    """A network: its model function, and the reader of its configuration.

    config: reads a component's `config.json`. function: `function(ops, config, w, **inputs)`.
    inputs: returns small inputs for a configuration with which the function uses every weight.
    """

    config: Callable[[Json], Any]
    function: Callable[..., Any]
    inputs: Callable[[Any], Inputs]


@dataclass(frozen=True, kw_only=True)
class Denoiser(Architecture):
    """The network that is evaluated at every step. Its first input is the latent `x` (B, C, h, w).

    controlled, with_controlnets: variants with ControlNets (`models.controlnet`). with_features,
        from_features: variants that return and reuse deep features (`models.deepcache`). None: not supported.
    seamless: whether circular padding makes pictures seamless (`models.seamless`).
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
    """Properties of one model, derived from its configurations.

    side: side of the square training pictures, px. multiple: width and height must be multiples of it, px.
    channels: input channels of the denoiser, including those besides the latent.
    activation: elements per latent pixel in the denoiser's largest activation, for one picture.
    takes_guidance: whether the guidance scale is an input, so that no negative prompt is evaluated.
    reads_mask: whether the denoiser takes a mask and the masked picture's latent (inpainting).
    reads_pooled: whether the denoiser takes the pooled text (SDXL).
    needs_picture: a description of a model that needs a source picture, as a clause: "SDXL's refiner, which
        ..."; else "".
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
    """An encoded prompt.

    context: (1, T, D), one vector per token. pooled: (1, P), one vector for the whole prompt; P may be 0.
    tokens: their number in the text; chunks: the number of separately encoded pieces.
    """

    context: Floats
    pooled: Floats
    tokens: int
    chunks: int


class Encoder(Protocol):
    """A text encoder of a loaded model, as passed to `Encode`."""

    @property
    def config(self) -> Any: ...

    def run(self, function: Callable[..., Any], **arrays: Array) -> tuple[Array, ...]:
        """Run `function(ops, config, w, **arrays)` for each row separately; results of recent rows are
        cached.

        `function` may be a `partial` with further keywords. Raises InvalidRequest if results are not finite.
        """
        ...


class Encode(Protocol):
    """Encodes prompts, in order.

    encoders, tokenizers: of the model, in the order of `Family.text_encoders`. clip_skip, emphasis: as in
    `pochade.request.Request`.

    Raises InvalidRequest if a prompt is too long, before any is encoded.
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
    """The rows of one denoiser call: their conditionings and the drawn size.

    prompts: the number of leading rows that do not belong to a negative prompt. width, height: px.
    """

    conditionings: Sequence[Conditioning]
    prompts: int
    width: int
    height: int


# --- a family ---------------------------------------------------------------------------------------------


def with_data(sigma: float) -> float:
    """The standard deviation of data plus noise at this level, for data of unit variance."""
    return float((1 + sigma**2) ** 0.5)


def _never(*_: Any) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    label: its name for users, and the value of `Checkpoint.family`. reader: recognises and reads its files;
        None means the reader of Stable Diffusion.
    latents: an identifier of its latent space; models with the same one can continue each other's pictures.
    defaults: the settings that apply where a request does not set them.

    Networks:
    denoiser, text_encoders: the latter in the order of `Checkpoint.text_encoders`.
    autoencoder, coders: its configuration, and the functions that encode and decode.
    needs_range: whether the autoencoder's activations overflow f16.
    traits: the properties of one model.
    tokenizers: one for each text encoder. Raises InvalidCheckpoint.
    check: raises InvalidCheckpoint, with a message that begins with the path, for an unsupported model.

    Prompts:
    encode: see `Encode`. length: the context length of a prompt in tokens, without encoding it; takes the
        prompt, the tokenizers and `emphasis`.
    no_text: whether an empty negative prompt is encoded as zeros instead of the text "".
    learns_words: whether its tokenizers are `prompts.tokenizer.Tokenizer`, to which embeddings add words.

    The denoiser's inputs besides `x`:
    constant_inputs: inputs that are the same at every step. step_inputs: inputs of a step, from the
    denoiser's
        configuration, the parametrization's timestep, the number of rows and the guidance scale.

    Training:
    schedule, parametrization: from the content of `scheduler_config.json`.
    starting_scale: sigma -> factor of the unit noise that text-to-image starts from.
    levels: schedules, by label, that differ for this family.
    trained_here: whether `pochade train` supports it.
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
