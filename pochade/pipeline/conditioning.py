"""From prompts to what the UNet is conditioned on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidRequest
from pochade.models.config import TextEncoderConfig
from pochade.pipeline.networks import Network, Networks
from pochade.prompts.chunks import chunk, chunk_count, end_positions
from pochade.prompts.tokenizer import Tokenizer

Floats = NDArray[np.float32]

MAX_CHUNKS = 64
"""Attention to the text grows with it: this many chunks take a gigabyte in SD 1.5's largest level."""

LEGACY_END_TOKEN = 2
"""What configurations of before 2023 say; the tokenizer's own end token is meant."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """context: (1, 77 * chunks, D). pooled: (1, P), of the encoder that has it last (XL needs it)."""

    context: Floats
    pooled: Floats
    tokens: int
    chunks: int


def condition(
    networks: Networks, tokenizers: Sequence[Tokenizer], prompts: Sequence[str], clip_skip: int
) -> list[Conditioning]:
    """Encode prompts, all to the same number of chunks: guidance subtracts one from another.

    With two encoders (XL) their conditionings stand side by side, both from one layer before the last and
    without the final norm, and the pooled vector is the second's (Podell et al. 2023, section 2.1).
    """
    encoders = [networks.text_encoder]
    if networks.text_encoder_2 is not None:
        encoders.append(networks.text_encoder_2)
    wide = len(encoders) > 1
    skip = clip_skip if wide else clip_skip - 1
    for encoder in encoders:
        layers = _config(encoder).layers
        if skip >= layers:
            raise InvalidRequest(f"clip_skip is {clip_skip}; this model's text encoder has {layers} layers")

    encoded = [[tokenizer.encode(prompt) for tokenizer in tokenizers] for prompt in prompts]
    chunks = max(
        chunk_count(ids, tokenizer)
        for each in encoded
        for ids, tokenizer in zip(each, tokenizers, strict=True)
    )
    if chunks > MAX_CHUNKS:
        room = tokenizers[0].max_length - 2
        tokens = max(len(each[0]) for each in encoded)
        raise InvalidRequest(
            f"the prompt has {tokens:,} tokens; at most {MAX_CHUNKS * room:,} are read"
            f" ({MAX_CHUNKS} chunks of {room}): shorten it"
        )
    result = []
    for each in encoded:
        contexts, pooled = [], np.zeros((1, 0), np.float32)
        for encoder, tokenizer, ids in zip(encoders, tokenizers, each, strict=True):
            rows = chunk(ids, tokenizer, chunks)
            ends = end_positions(rows, _end_token(_config(encoder), tokenizer))
            context, vectors = networks.encode_text(encoder, rows, ends, skip=skip, final_norm=not wide)
            contexts.append(context.reshape(1, -1, context.shape[-1]))
            pooled = vectors[:1]
        result.append(Conditioning(np.concatenate(contexts, axis=-1), pooled, len(each[0]), chunks))
    return result


def without_text(given: Conditioning) -> Conditioning:
    """Zeros in place of the text: what SDXL was trained with when it was to go without a prompt."""
    return replace(given, context=np.zeros_like(given.context), pooled=np.zeros_like(given.pooled))


def _end_token(config: TextEncoderConfig, tokenizer: Tokenizer) -> int:
    return tokenizer.end_id if config.end_token == LEGACY_END_TOKEN else config.end_token


def _config(encoder: Network) -> TextEncoderConfig:
    assert isinstance(encoder.config, TextEncoderConfig)
    return encoder.config
