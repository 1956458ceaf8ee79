"""Applies adapters and embeddings to a model's networks.

    loaded networks --- with_additions(networks, additions) ---> networks that share everything unchanged

Files are given by the caller (`Pipeline.with_adapters`) or named in a prompt (`Library`), as
`<lora:name:0.8>` or by an embedding's name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pochade.adapters.embeddings import TABLE, Embedding, ExtendedEmbedding, OtherFamily, read_embedding
from pochade.adapters.keys import TEXTS, UNET
from pochade.adapters.library import find, named_in, names, pick_named
from pochade.adapters.read import Adapter, read_adapter
from pochade.adapters.view import WeightedDeltas, adapted, factors, fingerprint
from pochade.checkpoints.check import FiniteTensors
from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.library import find as find_by_content
from pochade.checkpoints.library import folders, matching_entries, shortest_names
from pochade.configs.networks import TextEncoderConfig
from pochade.errors import InvalidCheckpoint, InvalidRequest, expect
from pochade.families.registry import family_of
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.prompts.extra_networks import ExtraNetwork
from pochade.prompts.parse import ParsedPrompt, as_parsed
from pochade.prompts.tokenizer import Tokenizer, normalize, with_phrases

LARGEST = 100.0
LETTER = r"[^\W\d_]"


@dataclass(frozen=True)
class Lora:
    """An adapter's file or folder with its weights in the UNet and in the text encoders (None: the same
    weight).

    name: its name in prompts; empty: the file's name. in_prompt: whether a prompt names it.
    """

    path: Path | str
    weight: float = 1.0
    text_weight: float | None = None
    name: str = ""
    in_prompt: bool = False

    def __post_init__(self) -> None:
        for weight in (self.weight, self.in_text):
            expect(f"the weight of '{self.path}'", weight, -LARGEST, LARGEST)

    @property
    def in_text(self) -> float:
        return self.weight if self.text_weight is None else self.text_weight

    def tag(self, name: str) -> str:
        """Return the tag for a prompt."""
        weights = [self.weight] if self.text_weight is None else [self.in_text, self.weight]
        return f"<lora:{name}:{':'.join(f'{weight:g}' for weight in weights)}>"


CHANGES_MUCH = 0.5
"""The weight from which an adapter's few-step settings apply to the model."""


@dataclass(frozen=True, eq=False)
class Additions:
    """The adapters and embeddings of a model."""

    adapters: tuple[tuple[Lora, Adapter], ...] = ()
    embeddings: tuple[Embedding, ...] = ()

    @property
    def few_steps(self) -> FewSteps | None:
        """The settings of the last adapter for few steps that has enough weight."""
        found = [adapter.few_steps for lora, adapter in self.adapters if lora.weight >= CHANGES_MUCH]
        return next((each for each in reversed(found) if each is not None), None)

    def __add__(self, other: "Additions") -> "Additions":
        return Additions(self.adapters + other.adapters, self.embeddings + other.embeddings)


NOTHING = Additions()


@dataclass(frozen=True)
class Library:
    """Looks up the adapters and embeddings that prompts name.

    loras, embeddings: folders. None: the folders for this kind in the folders of models, `roots`
        (`checkpoints.library`).
    """

    loras: Path | None = None
    embeddings: Path | None = None
    roots: tuple[Path, ...] = ()

    def requested_by(self, *prompts: str | ParsedPrompt) -> tuple[tuple[Lora, ...], tuple[Path, ...]]:
        """Return the adapters and embeddings that prompts name.

        Raises InvalidRequest for an unknown adapter. A word is an embedding only if there is a file for it.
        """
        parsed = [as_parsed(prompt) for prompt in prompts]
        loras = [self._lora(network) for prompt in parsed for network in prompt.extra_networks]
        folders = self._folders(self.embeddings, "embedding")
        if not folders:
            return tuple(loras), ()
        known = names(folders, "embeddings")
        texts = [normalize(prompt.plain) for prompt in parsed]
        spoken = [name for name in known if any(_speaks_of(text, name) for text in texts)]
        return tuple(loras), tuple(find(folders, name, "embeddings") for name in spoken)

    def _folders(self, given: Path | None, kind: str) -> list[Path]:
        if given is not None:
            return [given]
        roots = [root for root in self.roots if root.is_dir()]
        return folders(roots, kind) if roots else []

    def _lora(self, network: ExtraNetwork) -> Lora:
        tag = f"<{network.kind}:{network.name}>"
        if network.kind == "hypernet":
            raise InvalidRequest(f"the prompt contains {tag}, but hypernetworks are not supported: remove it")
        folders = self._folders(self.loras, "lora")
        if not folders:
            raise InvalidRequest(
                f"the prompt contains {tag}, but no folder of adapters was given (--lora-dir), and no folder"
                " of models has one (--models)"
            )
        text, unet = weights_of(network)
        path = find(folders, network.name, "adapters")
        return Lora(path, unet, None if text == unet else text, name=network.name, in_prompt=True)

    def adapter(self, requested: Path | str) -> tuple[Path, str]:
        """Return (path, name in prompts) of an adapter given by path or by name, as in a prompt.

        Raises InvalidRequest or InvalidCheckpoint for an unknown or ambiguous name.
        """
        folders = self._folders(self.loras, "lora")
        known, name = named_in(folders, "adapters"), str(requested)
        if not Path(requested).exists():
            if self.loras is None and not matching_entries(name, known):
                return find_by_content(requested, self.roots, "lora"), ""
            requested = pick_named(known, folders, name, "adapters").path
        shortest = dict(zip((entry.path.resolve() for entry in known), shortest_names(known), strict=True))
        return Path(requested), shortest.get(Path(requested).resolve(), "")


NO_LIBRARY = Library()


def read_additions(
    checkpoint: Checkpoint,
    loras: Sequence[Lora],
    embeddings: Sequence[Path | str],
    *,
    skip_other_families: bool = False,
) -> Additions:
    """Read the files. Raises InvalidCheckpoint if one is damaged or for other models.

    skip_other_families: ignore embeddings for other models. In a folder with embeddings for several families,
        a word in a prompt may match one by accident.
    """
    texts = dict(zip(TEXTS, checkpoint.text_encoders, strict=False))
    shapes = {
        name: {tensor: part.tensors[tensor].shape for tensor in part.tensors}
        for name, part in {UNET: checkpoint.unet, **texts}.items()
    }
    family = family_of(checkpoint)
    if embeddings and not family.learns_words:
        if skip_other_families:
            embeddings = ()
        else:
            raise InvalidCheckpoint(
                f"the embedding '{embeddings[0]}' cannot be used: the text encoders of '{checkpoint.name}',"
                f" {family.label}, take no new words"
            )
    widths = {name: shapes[name][TABLE][1] for name in texts} if family.learns_words else {}
    return Additions(
        tuple((lora, read_adapter(lora.path, shapes)) for lora in loras),
        tuple(_embeddings(embeddings, widths, skip_other_families)),
    )


def _embeddings(
    paths: Sequence[Path | str], widths: Mapping[str, int], skip_other_families: bool
) -> Iterator[Embedding]:
    for path in paths:
        try:
            yield read_embedding(path, widths)
        except OtherFamily:
            if not skip_other_families:
                raise


def stamps(paths: Sequence[Path | str]) -> tuple[object, ...]:
    """Return a value that changes when any of the files changes."""
    files = (file for path in map(Path, paths) for file in (path, *sorted(path.rglob("*"))))
    found = (file.stat() for file in files)
    return tuple((status.st_size, status.st_mtime_ns) for status in found)


def with_additions(networks: Networks, additions: Additions, *, fold: bool = False) -> Networks:
    """Return the networks with adapters and embeddings; unchanged networks are the same objects.

    fold: add adapters to the weights even if a graph could take them as inputs.
    """

    def text(name: str, network: Network) -> Network:
        adapted = _adapted(network, name, additions, fold)
        return _extended(adapted, [each.vectors[name] for each in additions.embeddings], additions)

    encoders = networks.text_encoders
    return replace(
        networks,
        unet=_adapted(networks.unet, UNET, additions, fold),
        text_encoders=tuple(text(name, each) for name, each in zip(TEXTS, encoders, strict=False)),
    )


def with_words(
    tokenizers: Sequence[Tokenizer], networks: Networks, embeddings: Sequence[Embedding]
) -> list[Tokenizer]:
    """Return tokenizers with the embeddings' names. networks: the loaded ones, without additional rows."""
    if not networks.family.learns_words:  # `read_additions` has refused embeddings
        return list(tokenizers)
    result = []
    for tokenizer, encoder in zip(tokenizers, networks.text_encoders, strict=True):
        assert isinstance(encoder.config, TextEncoderConfig)
        phrases: dict[str, range] = {}
        first = encoder.config.vocabulary
        for each in embeddings:
            if each.count > tokenizer.max_length - 2:
                raise InvalidCheckpoint(
                    f"the embedding '{each.path}' has {each.count} vectors; a chunk of a prompt has room for"
                    f" {tokenizer.max_length - 2}"
                )
            phrases.update(dict.fromkeys(each.names, range(first, first + each.count)))
            first += each.count
        result.append(with_phrases(tokenizer, phrases))
    return result


def hashes(additions: Additions, *prompts: ParsedPrompt) -> list[tuple[str, str | None]]:
    """Return "Lora hashes" and, for embeddings in the prompts, "TI hashes" for the parameters text.

    Both have A1111's form: "name: hash, name: hash", with 12 digits.
    """
    loras = {lora.name or adapter.name: adapter.hash for lora, adapter in additions.adapters}
    texts = [normalize(prompt.plain) for prompt in prompts]
    words = {
        name: each.hash
        for each in additions.embeddings
        for name in each.names
        if any(_speaks_of(text, name) for text in texts)
    }
    return [("Lora hashes", _pairs(loras)), ("TI hashes", _pairs(words))]


def tags(additions: Additions) -> str:
    """Return the tags of adapters that no prompt names, each with a leading space.

    Names that cannot be written as a tag are omitted.
    """
    given = [(lora, lora.name or adapter.name) for lora, adapter in additions.adapters if not lora.in_prompt]
    return "".join(f" {lora.tag(name)}" for lora, name in given if not re.search(r"[<>:]", name))


# --- inside -------------------------------------------------------------------------------------------


def _adapted(network: Network, name: str, additions: Additions, fold: bool) -> Network:
    given = [
        WeightedDeltas(
            adapter.deltas[name], lora.weight if name == UNET else lora.in_text, adapter.fingerprint
        )
        for lora, adapter in additions.adapters
        if name in adapter.deltas
    ]
    tensors = adapted(network.tensors, given)
    if tensors is network.tensors:
        return network
    known_as = fingerprint(network.fingerprint, given)
    as_inputs = not fold and getattr(network.engine, "takes_factors", False)
    low_rank = factors(network.tensors, given) if as_inputs else None
    if low_rank is not None:
        return replace(network, fingerprint=known_as, factors=low_rank, plain=network)
    where = " + ".join(str(adapter.files[0].path) for _, adapter in additions.adapters)
    checked = FiniteTensors(tensors, Path(where))
    return replace(network, tensors=checked, fingerprint=known_as, adapted=True)


def _extended(network: Network, rows: Sequence[Any], additions: Additions) -> Network:
    if not rows:
        return network
    assert isinstance(network.config, TextEncoderConfig)
    marks = [f"{each.fingerprint}:{each.count}" for each in additions.embeddings]
    plain = None if network.plain is None else _extended(network.plain, rows, additions)
    return replace(
        network,
        tensors=ExtendedEmbedding(network.tensors, rows),
        fingerprint=f"{network.fingerprint} {' '.join(marks)}",
        config=replace(network.config, vocabulary=network.config.vocabulary + sum(map(len, rows))),
        plain=plain,
    )


def _speaks_of(text: str, name: str) -> bool:
    """Whether a normalised text contains the name outside of other words, where a tokenizer finds it."""
    name = normalize(name)
    before = rf"(?<!{LETTER})" if name[:1].isalpha() else ""
    after = rf"(?!{LETTER})" if name[-1:].isalpha() else ""
    return bool(name) and re.search(before + re.escape(name) + after, text) is not None


def weights_of(network: ExtraNetwork) -> tuple[float, float]:
    """Return the weights (text encoders, UNet) of a tag; the second number is the UNet's, as in A1111."""
    tag = f"<{network.kind}:{network.name}>"
    options = dict(network.options)
    if len(network.numbers) > 2 or set(options) - {"te", "unet"}:
        raise InvalidRequest(
            f"{tag} has more than a name and two weights; write <{network.kind}:{network.name}:0.8>"
        )
    text = _number(options["te"], tag) if "te" in options else (*network.numbers, 1.0)[0]
    unet = network.numbers[1] if len(network.numbers) == 2 else text
    return text, _number(options["unet"], tag) if "unet" in options else unet


def _number(text: str, tag: str) -> float:
    try:
        return float(text)
    except ValueError as wrong:
        raise InvalidRequest(f"'{text}' in {tag} is not a number") from wrong


def _pairs(named: Mapping[str, str]) -> str | None:
    return ", ".join(f"{re.sub('[:,]', '', name)}: {hash}" for name, hash in named.items()) or None
