"""From prompts to what the UNet is conditioned on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidRequest
from pochade.models.config import TextEncoderConfig
from pochade.pipeline.drawing.wording import Wording
from pochade.pipeline.loading.networks import Network, Networks
from pochade.pipeline.results.result import PromptSize
from pochade.prompts.chunks import end_positions
from pochade.prompts.layout import Layout, lay_out, rows
from pochade.prompts.tokenizer import Tokenizer
from pochade.request import EMPHASES

Floats = NDArray[np.float32]

MAX_TOKENS = 4800
"""In whole chunks. Attention to the text grows with it: 64 of 75 take a gigabyte in SD 1.5's first level."""

ORIGINAL, NO_NORM, IGNORED, NO_EMPHASIS = EMPHASES

LEGACY_END_TOKEN = 2
"""What configurations of before 2023 say; the tokenizer's own end token is meant."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """context: (1, 77 * chunks, D). pooled: (1, P), of the encoder that has it last (XL needs it).

    tokens: in the text; chunks: that it was given, some of which may be empty.
    """

    context: Floats
    pooled: Floats
    tokens: int
    chunks: int


@dataclass(frozen=True, eq=False)
class Told:
    """What the UNet is told: the wording of each step, and for each wording the conditionings of its parts,
    then the negative prompt's if it has one."""

    steps: Sequence[Wording]
    conditionings: Mapping[Wording, Sequence[Conditioning]]


def condition_wordings(
    networks: Networks,
    tokenizers: Sequence[Tokenizer],
    wordings: Sequence[Wording],
    clip_skip: int,
    emphasis: str = ORIGINAL,
    *,
    zeros_for_no_text: bool,
) -> Mapping[Wording, list[Conditioning]]:
    """For each wording the conditionings of its parts, then the negative prompt's if it has one.

    All have one number of chunks, so that the UNet's graph fits at every step.
    emphasis: as in `condition`.
    zeros_for_no_text: an empty negative prompt is no text at all, rather than the text "".
    """
    distinct = list(dict.fromkeys(wordings))
    texts = [part.prompt for wording in distinct for part in wording.parts]
    texts += [wording.negative for wording in distinct if wording.negative is not None]
    texts += [wording.towards for wording in distinct if wording.towards is not None]
    by_text = dict(zip(texts, condition(networks, tokenizers, texts, clip_skip, emphasis), strict=True))
    result = {}
    for wording in distinct:
        found = [by_text[part.prompt] for part in wording.parts]
        if wording.towards is not None:
            found = [blended(found[0], by_text[wording.towards], wording.share)]
        if wording.negative is not None:
            negative = by_text[wording.negative]
            nothing = zeros_for_no_text and not wording.negative
            found.append(without_text(negative) if nothing else negative)
        result[wording] = found
    return result


def condition(
    networks: Networks,
    tokenizers: Sequence[Tokenizer],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str = ORIGINAL,
) -> list[Conditioning]:
    """Encode prompts, equal ones once, all to the same number of chunks: guidance subtracts one from another.

    Emphasis and BREAK are read (`prompts.attention`) and count as `emphasis` says, a name of
    `request.EMPHASES`. XL reads one layer before the last, without the final
    norm, and a pooled vector of the first chunk; its base has two encoders, whose conditionings stand side by
    side, and the pooled vector is the second's (Podell et al. 2023, section 2.1).
    """
    encoders = [networks.text_encoder]
    if networks.text_encoder_2 is not None:
        encoders.append(networks.text_encoder_2)
    wide = networks.unet_config.added_width is not None
    skip = clip_skip if wide else clip_skip - 1
    for encoder in encoders:
        layers = _config(encoder).layers
        if skip >= layers:
            raise InvalidRequest(f"clip_skip is {clip_skip}; this model's text encoder has {layers} layers")

    layouts = {
        prompt: [
            _checked(lay_out(prompt, tokenizer, literal=emphasis == NO_EMPHASIS), tokenizer)
            for tokenizer in tokenizers
        ]
        for prompt in dict.fromkeys(prompts)
    }
    chunks = max(len(layout.chunks) for each in layouts.values() for layout in each)
    encoded = {}
    for prompt, each in layouts.items():
        contexts, pooled = [], np.zeros((1, 0), np.float32)
        for encoder, tokenizer, layout in zip(encoders, tokenizers, each, strict=True):
            ids, weights = rows(layout, tokenizer, chunks)
            ends = end_positions(ids, _end_token(_config(encoder), tokenizer))
            context, vectors = networks.encode_text(encoder, ids, ends, skip=skip, final_norm=not wide)
            context = emphasize(context, weights, emphasis)
            contexts.append(context.reshape(1, -1, context.shape[-1]))
            pooled = vectors[:1]
        encoded[prompt] = Conditioning(np.concatenate(contexts, axis=-1), pooled, each[0].tokens, chunks)
    return [encoded[prompt] for prompt in prompts]


def prompt_size(conditionings: Mapping[Wording, Sequence[Conditioning]]) -> PromptSize:
    """Of the longest texts that are drawn with."""
    prompts = [
        each.tokens for wording, given in conditionings.items() for each in given[: len(wording.parts)]
    ]
    negatives = [given[-1].tokens for wording, given in conditionings.items() if wording.negative is not None]
    chunks = next(iter(conditionings.values()))[0].chunks
    return PromptSize(max(prompts), max(negatives, default=0), chunks)


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


def blended(one: Conditioning, other: Conditioning, share: float) -> Conditioning:
    """From `one` (share 0) to `other` (share 1) along a straight line."""
    weights = np.float32(1 - share), np.float32(share)
    return replace(
        one,
        context=weights[0] * one.context + weights[1] * other.context,
        pooled=weights[0] * one.pooled + weights[1] * other.pooled,
        tokens=max(one.tokens, other.tokens),
    )


def without_text(given: Conditioning) -> Conditioning:
    """Zeros in place of the text: what SDXL was trained with when it was to go without a prompt."""
    return replace(given, context=np.zeros_like(given.context), pooled=np.zeros_like(given.pooled))


def _checked(layout: Layout, tokenizer: Tokenizer) -> Layout:
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


def _config(encoder: Network) -> TextEncoderConfig:
    assert isinstance(encoder.config, TextEncoderConfig)
    return encoder.config
