"""From prompts to what the UNet is conditioned on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm

import numpy as np
from numpy.typing import NDArray

from pochade.checkpoints.folder import Checkpoint
from pochade.errors import InvalidRequest
from pochade.models.config import TextEncoderConfig
from pochade.pipeline.drawing.pictures import check_finite
from pochade.pipeline.drawing.wording import Wording
from pochade.pipeline.loading.network import Network
from pochade.pipeline.loading.networks import Networks
from pochade.pipeline.results.result import PromptSize
from pochade.prompts.layout import Layout, end_positions, lay_out, rows
from pochade.prompts.tokenizer import Tokenizer
from pochade.request import EMPHASES

Floats = NDArray[np.float32]

MAX_TOKENS = 4800
"""In whole chunks. Attention to the text grows with it: 64 of 75 take a gigabyte in SD 1.5's first level."""

LONGEST = 64 * 77
"""Tokens, with starts and ends: contexts are repeated up to here, or up to the longest text."""

ORIGINAL, NO_NORM, IGNORED, NO_EMPHASIS = EMPHASES

LEGACY_END_TOKEN = 2
"""What configurations of before 2023 say; the tokenizer's own end token is meant."""

OPENCLIP_H_LAYERS = 23
"""Of SD 2.x's text encoder, as it is stored: of OpenCLIP's 24 the last one is never used."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """context: (1, 77 * chunks, D), maybe repeated (see `even`). pooled: (1, P), of the encoder that has it
    last (XL needs it).

    tokens: in the text; chunks: that it fills.
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

    Those of a wording have contexts of one length, and so have all wordings, as far as `even` brings them to
    one: the UNet's graph then fits at every step. emphasis: as in `condition`.
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
    return even(result)


def condition(
    networks: Networks,
    tokenizers: Sequence[Tokenizer],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str = ORIGINAL,
) -> list[Conditioning]:
    """Encode prompts, equal ones once, each in the chunks that it fills.

    Emphasis and BREAK are read (`prompts.attention`) and count as `emphasis` says, a name of
    `request.EMPHASES`. XL reads one layer before the last, without the final
    norm, and a pooled vector of the first chunk; its base has two encoders, whose conditionings stand side by
    side, and the pooled vector is the second's (Podell et al. 2023, section 2.1). A text that fills more
    chunks for one of the two gets empty ones for the other.
    """
    encoders = [networks.text_encoder]
    if networks.text_encoder_2 is not None:
        encoders.append(networks.text_encoder_2)
    wide = networks.unet_config.added_width is not None
    skips = [skipped_layers(clip_skip, _config(encoder), wide=wide) for encoder in encoders]
    laid_out = {prompt: layouts_of(prompt, tokenizers, emphasis) for prompt in prompts}
    encoded = {}
    for prompt, layouts in laid_out.items():
        chunks = max(len(layout.chunks) for layout in layouts)
        contexts, pooled = [], np.zeros((1, 0), np.float32)
        for encoder, tokenizer, layout, skip in zip(encoders, tokenizers, layouts, skips, strict=True):
            ids, weights = rows(layout, tokenizer, chunks)
            ends = end_positions(ids, _end_token(_config(encoder), tokenizer))
            context, vectors = networks.encode_text(encoder, ids, ends, skip=skip, final_norm=not wide)
            check_finite(context, "the text encoder", encoder.engine.precision)
            context = emphasize(context, weights, emphasis)
            contexts.append(context.reshape(1, -1, context.shape[-1]))
            pooled = vectors[:1]
        encoded[prompt] = Conditioning(np.concatenate(contexts, axis=-1), pooled, layouts[0].tokens, chunks)
    return [encoded[prompt] for prompt in prompts]


def layouts_of(prompt: str, tokenizers: Sequence[Tokenizer], emphasis: str = ORIGINAL) -> list[Layout]:
    """A text laid out for each encoder. emphasis: as in `condition`.

    Raises InvalidRequest for one that is too long.
    """
    literal = emphasis == NO_EMPHASIS
    return [_checked(lay_out(prompt, tokenizer, literal=literal), tokenizer) for tokenizer in tokenizers]


def skipped_layers(clip_skip: int, config: TextEncoderConfig, *, wide: bool) -> int:
    """How many of a text encoder's last layers the conditioning is read before.

    clip_skip: counted from the encoder's end, as everybody counts: 1 is the last layer, 2 the one before. A
        family that by itself reads the last layer but one (XL; SD 2.x, whose files do without the last one)
        reads nothing later: 1 and 2 are the same there.
    wide: the model is of the XL family.

    Raises InvalidRequest if there are not so many layers.
    """
    dropped = 1 if config.layers == OPENCLIP_H_LAYERS else 0
    skip = max(clip_skip, 2) - 1 if wide else max(clip_skip - dropped, 1) - 1
    if skip >= config.layers:
        raise InvalidRequest(
            f"clip_skip is {clip_skip}; this model's text encoder has {config.layers} layers"
        )
    return skip


def even(groups: Mapping[Wording, Sequence[Conditioning]]) -> dict[Wording, list[Conditioning]]:
    """Conditionings whose contexts have one length within each group, and if it can be in all groups.

    Whole contexts are repeated. Attention is a weighted mean over the tokens, and a text that is there twice
    has the same one as the text alone. So each text means what it means by itself, which it would not if
    empty chunks were added to it. A group without a length in common (`common_length`) is left as it is: its
    conditionings are evaluated one by one.
    """
    lengths = common_lengths([[each.context.shape[1] for each in group] for group in groups.values()])
    return {
        wording: [repeated(each, length) for each in group]
        for (wording, group), length in zip(groups.items(), lengths, strict=True)
    }


def common_lengths(groups: Sequence[Sequence[int]]) -> list[int | None]:
    """For each group of lengths the one that all its texts are repeated to; None leaves them as they are.

    It is the same for all groups if all together have one.
    """
    of_all = common_length([length for group in groups for length in group])
    return [common_length(group) if of_all is None else of_all for group in groups]


def common_length(lengths: Sequence[int]) -> int | None:
    """The least common multiple, or None if it is too long: beyond twice the longest, or LONGEST."""
    longest, multiple = max(lengths), lcm(*lengths)
    return multiple if multiple <= max(longest, min(2 * longest, LONGEST)) else None


def context_shapes(
    tokenizers: Sequence[Tokenizer], wordings: Sequence[Wording], emphasis: str = ORIGINAL
) -> set[tuple[int, int]]:
    """The rows and the length, in tokens, of each context that the UNet will be given for a picture, without
    encoding anything.

    emphasis: as in `condition`.

    Raises InvalidRequest for a text that is too long.
    """
    groups = []
    for wording in wordings:
        first, *others = [_length(part.prompt, tokenizers, emphasis) for part in wording.parts]
        if wording.towards is not None:
            first = lcm(first, _length(wording.towards, tokenizers, emphasis))
        negative = [] if wording.negative is None else [_length(wording.negative, tokenizers, emphasis)]
        groups.append([first, *others, *negative])
    found = zip(groups, common_lengths(groups), strict=True)
    return {
        shape
        for group, common in found
        for shape in ([(1, length) for length in group] if common is None else [(len(group), common)])
    }


def repeated(given: Conditioning, length: int | None) -> Conditioning:
    """The context as often as makes this length, in tokens; None: as it is."""
    times = 1 if length is None else length // given.context.shape[1]
    return given if times == 1 else replace(given, context=np.tile(given.context, (1, times, 1)))


def prompt_size(conditionings: Mapping[Wording, Sequence[Conditioning]]) -> PromptSize:
    """Of the longest texts that are drawn with."""
    prompts = [
        each.tokens for wording, given in conditionings.items() for each in given[: len(wording.parts)]
    ]
    negatives = [given[-1].tokens for wording, given in conditionings.items() if wording.negative is not None]
    chunks = max(each.chunks for given in conditionings.values() for each in given)
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
    """From `one` (share 0) to `other` (share 1) along a straight line, their contexts repeated to one length.

    Raises InvalidRequest if that would be too long.
    """
    weights = np.float32(1 - share), np.float32(share)
    length = lcm(one.context.shape[1], other.context.shape[1])
    if length > max(one.context.shape[1], other.context.shape[1], LONGEST):
        raise InvalidRequest(
            f"a blend is of two prompts, and these fill {one.chunks} and {other.chunks} chunks: lengthen or"
            " shorten one, so that both fill as many"
        )
    one, other = repeated(one, length), repeated(other, length)
    return Conditioning(
        context=weights[0] * one.context + weights[1] * other.context,
        pooled=weights[0] * one.pooled + weights[1] * other.pooled,
        tokens=max(one.tokens, other.tokens),
        chunks=max(one.chunks, other.chunks),
    )


def without_text(given: Conditioning) -> Conditioning:
    """Zeros in place of the text: what SDXL was trained with when it was to go without a prompt."""
    return replace(given, context=np.zeros_like(given.context), pooled=np.zeros_like(given.pooled))


def zeros_for_no_text(checkpoint: Checkpoint) -> bool:
    """Whether an empty negative prompt is no text at all, rather than the text ""; so in SDXL's base."""
    wide = checkpoint.unet.config.get("addition_embed_type") == "text_time"
    return wide and bool(checkpoint.model_index.get("force_zeros_for_empty_prompt", True))


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


def _length(prompt: str, tokenizers: Sequence[Tokenizer], emphasis: str) -> int:
    layouts = layouts_of(prompt, tokenizers, emphasis)
    return max(len(layout.chunks) for layout in layouts) * tokenizers[0].max_length


def _end_token(config: TextEncoderConfig, tokenizer: Tokenizer) -> int:
    return tokenizer.end_id if config.end_token == LEGACY_END_TOKEN else config.end_token


def _config(encoder: Network) -> TextEncoderConfig:
    assert isinstance(encoder.config, TextEncoderConfig)
    return encoder.config
