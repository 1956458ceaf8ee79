"""Encodes prompts with CLIP's text encoders, for Stable Diffusion 1.x, 2.x and XL."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint
from pochade.configs.networks import TextEncoderConfig
from pochade.configs.read_json import text_encoder_config
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.families.family import Architecture, Conditioning, Configs, Encoder, Inputs
from pochade.models.text_encoder import text_encoder
from pochade.prompts.clip import clip_tokenizer
from pochade.prompts.layout import ChunkLayout, end_positions, lay_out, rows
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.request import EMPHASES

Floats = NDArray[np.float32]

MAX_TOKENS = 4800
"""The largest prompt, in chunks. Cross-attention grows with it: 64 chunks take 1 GB in SD 1.5's first
level."""

ORIGINAL, NO_NORM, IGNORED, NO_EMPHASIS = EMPHASES

LEGACY_END_TOKEN = 2
"""The value in configurations from before 2023, which stands for the tokenizer's own end token."""

OPENCLIP_H_LAYERS = 23
"""Stored layers of SD 2.x's text encoder: the last of OpenCLIP's 24 is never used."""


def _inputs(config: TextEncoderConfig) -> Inputs:
    return {"ids": ((1, config.positions), "i64"), "end": ((1,), "i64")}


CLIP = Architecture(config=text_encoder_config, function=text_encoder, inputs=_inputs)


# --- tokenizers -------------------------------------------------------------------------------------------


def tokenizers_of(checkpoint: Checkpoint) -> list[Tokenizer]:
    """Return one tokenizer for each text encoder."""
    return [
        clip_tokenizer(checkpoint.pad_ids[i]) if folder is None else load_tokenizer(folder)
        for i, folder in enumerate(checkpoint.tokenizers)
    ]


def check_vocabularies(configs: Configs, tokenizers: Sequence[Tokenizer], path: str) -> None:
    """Check that every token has a row in its text encoder's table. Raises InvalidCheckpoint."""
    for tokenizer, config in zip(tokenizers, configs.text_encoders, strict=False):
        ids = [*tokenizer.vocabulary.values(), *(special.id for special in tokenizer.specials)]
        if max(ids) >= config.vocabulary:
            raise InvalidCheckpoint(
                f"'{path}': its text encoder has {config.vocabulary:,} words, its tokenizer numbers"
                f" them up to {max(ids):,}: they are of different models, or the file is incomplete"
            )


# --- encoding ---------------------------------------------------------------------------------------------


def encode(
    encoders: Sequence[Encoder],
    tokenizers: Sequence[Tokenizer],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str,
    *,
    penultimate: bool,
) -> list[Conditioning]:
    """`Family.encode` of Stable Diffusion: encode each prompt in as many chunks as it fills.

    penultimate: read the layer before the last, without the final norm, as SDXL does (Podell et al. 2023);
        otherwise the last layer, after the final norm, as SD 1.x and 2.x do.

    Emphasis and BREAK are parsed (`prompts.attention`). The conditionings of several encoders are
    concatenated; the pooled vector is that of the last encoder's first chunk. If a text fills more chunks for
    one encoder, the other gets empty chunks.
    """
    skips = [skipped_layers(clip_skip, encoder.config, penultimate=penultimate) for encoder in encoders]
    laid_out = [layouts_of(prompt, tokenizers, emphasis) for prompt in prompts]
    encoded = []
    for layouts in laid_out:
        chunks = max(len(layout.chunks) for layout in layouts)
        contexts, pooled = [], np.zeros((1, 0), np.float32)
        for encoder, tokenizer, layout, skip in zip(encoders, tokenizers, layouts, skips, strict=True):
            ids, weights = rows(layout, tokenizer, chunks)
            end = end_positions(ids, _end_token(encoder.config, tokenizer))
            function = partial(text_encoder, skip=skip, final_norm=not penultimate)
            context, vectors = encoder.run(function, ids=ids, end=end)
            context = emphasize(context, weights, emphasis)
            contexts.append(context.reshape(1, -1, context.shape[-1]))
            pooled = vectors[:1]
        context = np.concatenate(contexts, axis=-1)
        encoded.append(Conditioning(context, pooled, layouts[0].tokens, chunks))
    return encoded


def layouts_of(prompt: str, tokenizers: Sequence[Tokenizer], emphasis: str = ORIGINAL) -> list[ChunkLayout]:
    """Return the layout of a text for each encoder. emphasis: a name of `request.EMPHASES`.

    Raises InvalidRequest if it is too long.
    """
    literal = emphasis == NO_EMPHASIS
    return [_checked(lay_out(prompt, tokenizer, literal=literal), tokenizer) for tokenizer in tokenizers]


def context_length(prompt: str, tokenizers: Sequence[Tokenizer], emphasis: str) -> int:
    """Return the context length of a prompt in tokens. Raises InvalidRequest if it is too long."""
    layouts = layouts_of(prompt, tokenizers, emphasis)
    return max(len(layout.chunks) for layout in layouts) * tokenizers[0].max_length


def skipped_layers(clip_skip: int, config: TextEncoderConfig, *, penultimate: bool) -> int:
    """Return how many of a text encoder's last layers are skipped.

    clip_skip: counted from the end: 1 is the last layer, 2 the one before. Families that read the last layer
        but one (XL, and SD 2.x, whose files omit the last one) treat 1 as 2.
    penultimate: XL's rule.

    Raises InvalidRequest if there are too few layers.
    """
    dropped = 1 if config.layers == OPENCLIP_H_LAYERS else 0
    skip = max(clip_skip, 2) - 1 if penultimate else max(clip_skip - dropped, 1) - 1
    if skip >= config.layers:
        raise InvalidRequest(
            f"clip_skip is {clip_skip}; this model's text encoder has {config.layers} layers"
        )
    return skip


def emphasize(context: Floats, weights: Floats, emphasis: str = ORIGINAL) -> Floats:
    """Multiply each token's vector by its weight, then rescale each chunk to its original mean.

    context: (chunks, T, D), of one encoder; weights: (chunks, T). A chunk whose weights are all 1 is not
    changed. emphasis: "Original" does this, as in A1111's web UI; "No norm" does not restore the mean: that
    of XL's encoders is near zero, so restoring it may change the vectors more than the weights do. "Ignore"
    and "None" do not change the vectors.
    """
    if emphasis in (IGNORED, NO_EMPHASIS):
        return context
    result = context.copy()
    for chunk, weight in zip(result, weights, strict=True):
        if (weight == 1).all():
            continue
        mean = chunk.mean(dtype=np.float64)
        chunk *= weight[:, None]
        if emphasis == NO_NORM:
            continue
        weighed = chunk.mean(dtype=np.float64)
        if weighed != 0:
            chunk *= np.float32(mean / weighed)
    return result


def _checked(layout: ChunkLayout, tokenizer: Tokenizer) -> ChunkLayout:
    """Raise InvalidRequest if the prompt is too long."""
    chunks, room = len(layout.chunks), tokenizer.max_length - 2
    most = MAX_TOKENS // room
    if layout.tokens > most * room:
        raise InvalidRequest(
            f"the prompt has {layout.tokens:,} tokens; at most {most * room:,} are read"
            f" ({most} chunks of {room}): shorten it"
        )
    if chunks > most:
        raise InvalidRequest(
            f"the prompt fills {chunks:,} chunks with its {layout.tokens:,} tokens; at most {most} are"
            " read: shorten it, or break it up less"
        )
    return layout


def _end_token(config: TextEncoderConfig, tokenizer: Tokenizer) -> int:
    return tokenizer.end_id if config.end_token == LEGACY_END_TOKEN else config.end_token
