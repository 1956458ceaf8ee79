"""Encodes the prompts of all steps into conditionings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidRequest
from pochade.families.family import Conditioning, Family
from pochade.generation.decoding import check_finite
from pochade.generation.prompt_plan import StepPrompts
from pochade.generation.result import PromptSize
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.request import EMPHASES

Floats = NDArray[np.float32]

LONGEST = 64 * 77
"""The number of tokens up to which contexts are repeated to a common length, unless a text is longer."""

ORIGINAL = EMPHASES[0]


@dataclass(frozen=True, eq=False)
class PromptPlan:
    """The encoded prompts for every step: for each step's prompts, the conditionings of its parts, then that
    of the negative prompt if there is one."""

    steps: Sequence[StepPrompts]
    conditionings: Mapping[StepPrompts, Sequence[Conditioning]]


def condition_steps(
    networks: Networks,
    tokenizers: Sequence[Any],
    steps: Sequence[StepPrompts],
    clip_skip: int,
    emphasis: str = ORIGINAL,
    *,
    zeros_for_no_text: bool,
) -> Mapping[StepPrompts, list[Conditioning]]:
    """Encode the prompts of all steps: the conditionings of the parts, then that of the negative prompt if
    any.

    Contexts of one step have the same length, and so have those of all steps if `even` can make them equal,
    so that one UNet graph serves all steps. emphasis: as in `encode_prompts`.
    zeros_for_no_text: use zeros for an empty negative prompt instead of encoding the text "".
    """
    distinct = list(dict.fromkeys(steps))
    texts = [part.prompt for step_prompts in distinct for part in step_prompts.parts]
    texts += [step_prompts.negative for step_prompts in distinct if step_prompts.negative is not None]
    texts += [step_prompts.blend_with for step_prompts in distinct if step_prompts.blend_with is not None]
    by_text = dict(zip(texts, encode_prompts(networks, tokenizers, texts, clip_skip, emphasis), strict=True))
    result = {}
    for step_prompts in distinct:
        found = [by_text[part.prompt] for part in step_prompts.parts]
        if step_prompts.blend_with is not None:
            found = [blended(found[0], by_text[step_prompts.blend_with], step_prompts.share)]
        if step_prompts.negative is not None:
            negative = by_text[step_prompts.negative]
            nothing = zeros_for_no_text and not step_prompts.negative
            found.append(without_text(negative) if nothing else negative)
        result[step_prompts] = found
    return even(result)


def encode_prompts(
    networks: Networks,
    tokenizers: Sequence[Any],
    prompts: Sequence[str],
    clip_skip: int,
    emphasis: str = ORIGINAL,
) -> list[Conditioning]:
    """Encode prompts with `Family.encode`, equal ones once. emphasis: a name of `request.EMPHASES`."""
    distinct = list(dict.fromkeys(prompts))
    encoders = [LoadedEncoder(networks, each) for each in networks.text_encoders]
    encoded = networks.family.encode(encoders, tokenizers, distinct, clip_skip, emphasis)
    by_prompt = dict(zip(distinct, encoded, strict=True))
    return [by_prompt[prompt] for prompt in prompts]


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """A loaded text encoder, as passed to `Family.encode` (`families.family.Encoder`)."""

    networks: Networks
    network: Network

    @property
    def config(self) -> Any:
        return self.network.config

    def run(self, function: Callable[..., Any], **arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Run a function on the encoder. Raises InvalidRequest if the result is not finite."""
        found = self.networks.encode_text(self.network, function, **arrays)
        check_finite(found[0], "the text encoder", self.network.engine.precision)
        return found


def even(groups: Mapping[StepPrompts, Sequence[Conditioning]]) -> dict[StepPrompts, list[Conditioning]]:
    """Repeat contexts to one length within each group, and if possible in all groups.

    Attention is a weighted mean over the tokens, so repeating the whole context does not change its result,
    while adding empty chunks would. A group without a common length (`common_length`) is unchanged, and its
    conditionings are evaluated one by one.
    """
    lengths = common_lengths([[each.context.shape[1] for each in group] for group in groups.values()])
    return {
        step_prompts: [repeated(each, length) for each in group]
        for (step_prompts, group), length in zip(groups.items(), lengths, strict=True)
    }


def common_lengths(groups: Sequence[Sequence[int]]) -> list[int | None]:
    """Return for each group of lengths the common length; None if the group has none.

    It is the same for all groups if all of them together have one.
    """
    of_all = common_length([length for group in groups for length in group])
    return [common_length(group) if of_all is None else of_all for group in groups]


def common_length(lengths: Sequence[int]) -> int | None:
    """Return the least common multiple; None if it exceeds twice the longest or LONGEST."""
    longest, multiple = max(lengths), lcm(*lengths)
    return multiple if multiple <= max(longest, min(2 * longest, LONGEST)) else None


def context_shapes(
    family: Family, tokenizers: Sequence[Any], steps: Sequence[StepPrompts], emphasis: str = ORIGINAL
) -> set[tuple[int, int]]:
    """Return the rows and the length in tokens of each context for a picture, without encoding anything.

    emphasis: as in `encode_prompts`.

    Raises InvalidRequest for a text that is too long.
    """

    def length(prompt: str) -> int:
        return family.length(prompt, tokenizers, emphasis)

    groups = []
    for step_prompts in steps:
        first, *others = [length(part.prompt) for part in step_prompts.parts]
        if step_prompts.blend_with is not None:
            first = lcm(first, length(step_prompts.blend_with))
        negative = [] if step_prompts.negative is None else [length(step_prompts.negative)]
        groups.append([first, *others, *negative])
    found = zip(groups, common_lengths(groups), strict=True)
    return {
        shape
        for group, common in found
        for shape in ([(1, length) for length in group] if common is None else [(len(group), common)])
    }


def repeated(given: Conditioning, length: int | None) -> Conditioning:
    """Repeat the context to this length in tokens; None leaves it unchanged."""
    times = 1 if length is None else length // given.context.shape[1]
    return given if times == 1 else replace(given, context=np.tile(given.context, (1, times, 1)))


def prompt_size(conditionings: Mapping[StepPrompts, Sequence[Conditioning]]) -> PromptSize:
    """Return the size of the longest prompts."""
    prompts = [
        each.tokens
        for step_prompts, given in conditionings.items()
        for each in given[: len(step_prompts.parts)]
    ]
    negatives = [
        given[-1].tokens for step_prompts, given in conditionings.items() if step_prompts.negative is not None
    ]
    chunks = max(each.chunks for given in conditionings.values() for each in given)
    return PromptSize(max(prompts), max(negatives, default=0), chunks)


def blended(one: Conditioning, other: Conditioning, share: float) -> Conditioning:
    """Interpolate linearly from `one` (share 0) to `other` (share 1), with contexts repeated to one length.

    Raises InvalidRequest if the common length is too long.
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
    """Return zeros in place of the text, with which SDXL was trained for an empty prompt."""
    return replace(given, context=np.zeros_like(given.context), pooled=np.zeros_like(given.pooled))
