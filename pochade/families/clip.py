"""Prompts through CLIP's text encoders, as Stable Diffusion 1.x, 2.x and XL read them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.families.family import Architecture, Conditioning, Configs, Encoder, Inputs
from pochade.models.config import TextEncoderConfig
from pochade.models.read_config import text_encoder_config
from pochade.models.text_encoder import text_encoder
from pochade.prompts.clip import clip_tokenizer
from pochade.prompts.layout import ChunkLayout, end_positions, lay_out, rows
from pochade.prompts.tokenizer import Tokenizer
from pochade.prompts.tokenizer_files import load_tokenizer
from pochade.request import EMPHASES

Floats = NDArray[np.float32]

MAX_TOKENS = 4800
"""In whole chunks. Attention to the text grows with it: 64 of 75 take a gigabyte in SD 1.5's first level."""

ORIGINAL, NO_NORM, IGNORED, NO_EMPHASIS = EMPHASES

LEGACY_END_TOKEN = 2
"""What configurations of before 2023 say; the tokenizer's own end token is meant."""

OPENCLIP_H_LAYERS = 23
"""Of SD 2.x's text encoder, as it is stored: of OpenCLIP's 24 the last one is never used."""


def _inputs(config: TextEncoderConfig) -> Inputs:
    return {"ids": ((1, config.positions), "i64"), "end": ((1,), "i64")}


CLIP = Architecture(config=text_encoder_config, function=text_encoder, inputs=_inputs)


# --- tokenizers -------------------------------------------------------------------------------------------


def tokenizers_of(checkpoint: Checkpoint) -> list[Tokenizer]:
    """One for each text encoder."""
    return [
        clip_tokenizer(checkpoint.pad_ids[i]) if folder is None else load_tokenizer(folder)
        for i, folder in enumerate(checkpoint.tokenizers)
    ]


def check_vocabularies(configs: Configs, tokenizers: Sequence[Tokenizer], path: str) -> None:
    """Each tokenizer's words must have rows in its text encoder's table. Raises InvalidCheckpoint."""
    for tokenizer, config in zip(tokenizers, configs.text_encoders, strict=False):
        ids = [*tokenizer.vocabulary.values(), *(special.id for special in tokenizer.specials)]
        if max(ids) >= config.vocabulary:
            raise InvalidCheckpoint(
                f"'{path}': its text encoder has {config.vocabulary:,} words, its tokenizer numbers"
                f" them up to {max(ids):,}: they are of different models, or the file is incomplete"
            )


# --- encoding ---------------------------------------------------------------------------------------------


def encode_last_layer(
    encoders: Sequence[Encoder],
    tokenizers: Sequence[Any],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str,
) -> list[Conditioning]:
    """`Family.encode` of SD 1.x and 2.x: the last layer, after the final norm."""
    return _encode(encoders, tokenizers, prompts, clip_skip, emphasis, wide=False)


def encode_penultimate_layer(
    encoders: Sequence[Encoder],
    tokenizers: Sequence[Any],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str,
) -> list[Conditioning]:
    """`Family.encode` of SDXL: the layer before the last, without the final norm (Podell et al. 2023)."""
    return _encode(encoders, tokenizers, prompts, clip_skip, emphasis, wide=True)


def _encode(
    encoders: Sequence[Encoder],
    tokenizers: Sequence[Tokenizer],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str,
    *,
    wide: bool,
) -> list[Conditioning]:
    """Each prompt in the chunks that it fills.

    Emphasis and BREAK are read (`prompts.attention`). The conditionings of several encoders stand side by
    side, and the pooled vector is the last one's, of the first chunk. A text that fills more chunks for one
    of them gets empty ones for the other.
    """
    skips = [skipped_layers(clip_skip, encoder.config, wide=wide) for encoder in encoders]
    laid_out = [layouts_of(prompt, tokenizers, emphasis) for prompt in prompts]
    encoded = []
    for layouts in laid_out:
        chunks = max(len(layout.chunks) for layout in layouts)
        contexts, pooled = [], np.zeros((1, 0), np.float32)
        for encoder, tokenizer, layout, skip in zip(encoders, tokenizers, layouts, skips, strict=True):
            ids, weights = rows(layout, tokenizer, chunks)
            end = end_positions(ids, _end_token(encoder.config, tokenizer))
            function = partial(text_encoder, skip=skip, final_norm=not wide)
            context, vectors = encoder.run(function, ids=ids, end=end)
            context = emphasize(context, weights, emphasis)
            contexts.append(context.reshape(1, -1, context.shape[-1]))
            pooled = vectors[:1]
        context = np.concatenate(contexts, axis=-1)
        encoded.append(Conditioning(context, pooled, layouts[0].tokens, chunks))
    return encoded


def layouts_of(prompt: str, tokenizers: Sequence[Tokenizer], emphasis: str = ORIGINAL) -> list[ChunkLayout]:
    """A text laid out for each encoder. emphasis: a name of `request.EMPHASES`.

    Raises InvalidRequest for one that is too long.
    """
    literal = emphasis == NO_EMPHASIS
    return [_checked(lay_out(prompt, tokenizer, literal=literal), tokenizer) for tokenizer in tokenizers]


def context_length(prompt: str, tokenizers: Sequence[Tokenizer], emphasis: str) -> int:
    """Tokens of the context of a prompt, in whole chunks. Raises InvalidRequest for one that is too long."""
    layouts = layouts_of(prompt, tokenizers, emphasis)
    return max(len(layout.chunks) for layout in layouts) * tokenizers[0].max_length


def skipped_layers(clip_skip: int, config: TextEncoderConfig, *, wide: bool) -> int:
    """How many of a text encoder's last layers the conditioning is read before.

    clip_skip: counted from the encoder's end, as everybody counts: 1 is the last layer, 2 the one before. A
        family that by itself reads the last layer but one (XL; SD 2.x, whose files do without the last one)
        reads nothing later: 1 and 2 are the same there.
    wide: XL's rule.

    Raises InvalidRequest if there are not so many layers.
    """
    dropped = 1 if config.layers == OPENCLIP_H_LAYERS else 0
    skip = max(clip_skip, 2) - 1 if wide else max(clip_skip - dropped, 1) - 1
    if skip >= config.layers:
        raise InvalidRequest(
            f"clip_skip is {clip_skip}; this model's text encoder has {config.layers} layers"
        )
    return skip


def emphasize(context: Floats, weights: Floats, emphasis: str = ORIGINAL) -> Floats:
    """Multiply each token's vector by its weight, then the whole chunk so that its mean is what it was.

    context: (chunks, T, D), of one encoder; weights: (chunks, T). A chunk whose weights are all 1 is left as
    it is. emphasis: "Original" does this, as in A1111's web UI; "No norm" leaves the mean as it has become:
    that of XL's encoders lies near zero, so restoring it may change the vectors much more than the weights
    do. "Ignore" and "None" leave the vectors alone.
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
    """Raises InvalidRequest for more than anybody's memory holds."""
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
