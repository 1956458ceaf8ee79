"""A model with adapters and new words: what they are asked for as, and the networks that they give.

    loaded networks --- adapted(networks, additions) ---> networks that share whatever is not changed

Files are named by the caller (`Pipeline.with_adapters`) or by a prompt (`Library`), as `<lora:name:0.8>` and
as an embedding's name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pochade.adapters.embeddings import TABLE, Embedding, Extended, OtherFamily, read_embedding
from pochade.adapters.keys import TEXTS, UNET
from pochade.adapters.library import find, named_in, names, pick_named
from pochade.adapters.read import Adapter, read_adapter
from pochade.adapters.view import Strength, adapted, factors, fingerprint
from pochade.checkpoints.check import FiniteTensors
from pochade.checkpoints.few_steps import FewSteps
from pochade.checkpoints.folder import Checkpoint
from pochade.checkpoints.library import find as find_by_content
from pochade.checkpoints.library import folders, meant_by, shortest_names
from pochade.errors import InvalidCheckpoint, InvalidRequest, expect
from pochade.families.registry import family_of
from pochade.loading.network import Network
from pochade.loading.networks import Networks
from pochade.models.config import TextEncoderConfig
from pochade.prompts.extra_networks import ExtraNetwork
from pochade.prompts.parse import ParsedPrompt, as_parsed
from pochade.prompts.tokenizer import Tokenizer, normalize, with_phrases

LARGEST = 100.0
LETTER = r"[^\W\d_]"


@dataclass(frozen=True)
class Lora:
    """An adapter's file, or its folder, and how much of it: of what it does to the UNet, and to the text
    encoders (None: as much).

    name: what prompts call it; empty: by its file. in_prompt: whether one does.
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
        """As a prompt asks for it."""
        weights = [self.weight] if self.text_weight is None else [self.in_text, self.weight]
        return f"<lora:{name}:{':'.join(f'{weight:g}' for weight in weights)}>"


CHANGES_MUCH = 0.5
"""Weight of an adapter from which on the model is what the adapter makes of it."""


@dataclass(frozen=True, eq=False)
class Additions:
    """What a model is drawn with besides itself."""

    adapters: tuple[tuple[Lora, Adapter], ...] = ()
    embeddings: tuple[Embedding, ...] = ()

    @property
    def few_steps(self) -> FewSteps | None:
        """Of the last adapter that was made to draw in a few steps and weighs enough to do so."""
        found = [adapter.few_steps for lora, adapter in self.adapters if lora.weight >= CHANGES_MUCH]
        return next((each for each in reversed(found) if each is not None), None)

    def __add__(self, other: "Additions") -> "Additions":
        return Additions(self.adapters + other.adapters, self.embeddings + other.embeddings)


NOTHING = Additions()


@dataclass(frozen=True)
class Library:
    """Where the names in prompts are looked up.

    loras, embeddings: folders. None: those of their kind in the folders of models, `roots`
        (`checkpoints.library`).
    """

    loras: Path | None = None
    embeddings: Path | None = None
    roots: tuple[Path, ...] = ()

    def asked(self, *prompts: str | ParsedPrompt) -> tuple[tuple[Lora, ...], tuple[Path, ...]]:
        """The adapters and the embeddings that prompts ask for.

        Raises InvalidRequest for an adapter that is not there. A word is only an embedding if its file is.
        """
        parsed = [as_parsed(prompt) for prompt in prompts]
        loras = [self._lora(network) for prompt in parsed for network in prompt.extra_networks]
        places = self._places(self.embeddings, "embedding")
        if not places:
            return tuple(loras), ()
        known = names(places, "embeddings")
        texts = [normalize(prompt.plain) for prompt in parsed]
        spoken = [name for name in known if any(_speaks_of(text, name) for text in texts)]
        return tuple(loras), tuple(find(places, name, "embeddings") for name in spoken)

    def _places(self, given: Path | None, kind: str) -> list[Path]:
        if given is not None:
            return [given]
        roots = [root for root in self.roots if root.is_dir()]
        return folders(roots, kind) if roots else []

    def _lora(self, network: ExtraNetwork) -> Lora:
        tag = f"<{network.kind}:{network.name}>"
        if network.kind == "hypernet":
            raise InvalidRequest(f"the prompt asks for {tag}; hypernetworks are not supported: take it out")
        places = self._places(self.loras, "lora")
        if not places:
            raise InvalidRequest(
                f"the prompt asks for {tag}, but no folder of adapters was given (--lora-dir), and no folder"
                " of models has one (--models)"
            )
        text, unet = weights_of(network)
        path = find(places, network.name, "adapters")
        return Lora(path, unet, None if text == unet else text, name=network.name, in_prompt=True)

    def adapter(self, asked: Path | str) -> tuple[Path, str]:
        """(an adapter's path, what prompts call it), from a path or a name: the same one as in a prompt.

        Raises InvalidRequest or InvalidCheckpoint for one that is not there, or a name that several have.
        """
        places = self._places(self.loras, "lora")
        known, name = named_in(places, "adapters"), str(asked)
        if not Path(asked).exists():
            if self.loras is None and not meant_by(name, known):
                return find_by_content(asked, self.roots, "lora"), ""
            asked = pick_named(known, places, name, "adapters").path
        said = dict(zip((entry.path.resolve() for entry in known), shortest_names(known), strict=True))
        return Path(asked), said.get(Path(asked).resolve(), "")


NO_LIBRARY = Library()


def read_additions(
    checkpoint: Checkpoint,
    loras: Sequence[Lora],
    embeddings: Sequence[Path | str],
    *,
    skip_other_families: bool = False,
) -> Additions:
    """Read the files. Raises InvalidCheckpoint if one is damaged, or made for other models.

    skip_other_families: leave out embeddings that were made for other models: in a folder for all of them, a
        word that a prompt happens to hold was not meant as theirs.
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
    """What changes when one of the files does."""
    files = (file for path in map(Path, paths) for file in (path, *sorted(path.rglob("*"))))
    found = (file.stat() for file in files)
    return tuple((status.st_size, status.st_mtime_ns) for status in found)


def with_additions(networks: Networks, additions: Additions, *, fold: bool = False) -> Networks:
    """The networks with adapters and with rows for new words; a network that nothing changes stays itself.

    fold: add adapters to the weights even where a graph could take them as inputs.
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
    """Tokenizers that know the embeddings' names. networks: the loaded ones, without further rows."""
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
                    f"the embedding '{each.path}' has {each.count} vectors; a prompt has places for"
                    f" {tokenizer.max_length - 2}"
                )
            phrases.update(dict.fromkeys(each.names, range(first, first + each.count)))
            first += each.count
        result.append(with_phrases(tokenizer, phrases))
    return result


def hashes(additions: Additions, *prompts: ParsedPrompt) -> list[tuple[str, str | None]]:
    """The pairs of the parameters text: "Lora hashes" and, of the words that are in the prompts, "TI hashes".

    Both as A1111 writes them: "name: hash, name: hash", hashes of 12 digits.
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
    """What a prompt would say to ask for the adapters that none names, a space before each.

    A name that cannot be written so is left out.
    """
    given = [(lora, lora.name or adapter.name) for lora, adapter in additions.adapters if not lora.in_prompt]
    return "".join(f" {lora.tag(name)}" for lora, name in given if not re.search(r"[<>:]", name))


# --- inside -------------------------------------------------------------------------------------------


def _adapted(network: Network, name: str, additions: Additions, fold: bool) -> Network:
    given = [
        Strength(adapter.deltas[name], lora.weight if name == UNET else lora.in_text, adapter.fingerprint)
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
        tensors=Extended(network.tensors, rows),
        fingerprint=f"{network.fingerprint} {' '.join(marks)}",
        config=replace(network.config, vocabulary=network.config.vocabulary + sum(map(len, rows))),
        plain=plain,
    )


def _speaks_of(text: str, name: str) -> bool:
    """Whether the name stands in a normalised text, and not within a word: what a tokenizer can find."""
    name = normalize(name)
    before = rf"(?<!{LETTER})" if name[:1].isalpha() else ""
    after = rf"(?!{LETTER})" if name[-1:].isalpha() else ""
    return bool(name) and re.search(before + re.escape(name) + after, text) is not None


def weights_of(network: ExtraNetwork) -> tuple[float, float]:
    """(in the text encoders, in the UNet), as A1111 reads a tag: the second number is the UNet's."""
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
