"""From prompts to what the UNet is conditioned on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidRequest
from pochade.families.family import Conditioning, Family
from pochade.generation.decoding import check_finite
from pochade.generation.prompt_plan import Wording
from pochade.generation.result import PromptSize
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.request import EMPHASES

Floats = NDArray[np.float32]

LONGEST = 64 * 77
"""Tokens, with starts and ends: contexts are repeated up to here, or up to the longest text."""

ORIGINAL = EMPHASES[0]


@dataclass(frozen=True, eq=False)
class PromptPlan:
    """What the UNet is told: the wording of each step, and for each wording the conditionings of its parts,
    then the negative prompt's if it has one."""

    steps: Sequence[Wording]
    conditionings: Mapping[Wording, Sequence[Conditioning]]


def condition_wordings(
    networks: Networks,
    tokenizers: Sequence[Any],
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
    tokenizers: Sequence[Any],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str = ORIGINAL,
) -> list[Conditioning]:
    """Encode prompts, equal ones once.

    How is the family's matter (`Family.encode`). emphasis: a name of `request.EMPHASES`.
    """
    distinct = list(dict.fromkeys(prompts))
    encoders = [LoadedEncoder(networks, each) for each in networks.text_encoders]
    encoded = networks.family.encode(encoders, tokenizers, distinct, clip_skip, emphasis)
    by_prompt = dict(zip(distinct, encoded, strict=True))
    return [by_prompt[prompt] for prompt in prompts]


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """A text encoder as `Family.encode` uses it (`families.family.Encoder`)."""

    networks: Networks
    network: Network

    @property
    def config(self) -> Any:
        return self.network.config

    def run(self, function: Callable[..., Any], **arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Raises InvalidRequest for numbers that are not finite."""
        found = self.networks.encode_text(self.network, function, **arrays)
        check_finite(found[0], "the text encoder", self.network.engine.precision)
        return found


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
    family: Family, tokenizers: Sequence[Any], wordings: Sequence[Wording], emphasis: str = ORIGINAL
) -> set[tuple[int, int]]:
    """The rows and the length, in tokens, of each context that the UNet will be given for a picture, without
    encoding anything.

    emphasis: as in `condition`.

    Raises InvalidRequest for a text that is too long.
    """

    def length(prompt: str) -> int:
        return family.length(prompt, tokenizers, emphasis)

    groups = []
    for wording in wordings:
        first, *others = [length(part.prompt) for part in wording.parts]
        if wording.towards is not None:
            first = lcm(first, length(wording.towards))
        negative = [] if wording.negative is None else [length(wording.negative)]
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
