"""Reads a tokenizer's folder: `tokenizer.json`, or `vocab.json` with `merges.txt`, and the other files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pochade.errors import InvalidCheckpoint
from pochade.prompts.tokenizer import Merges, Special, Tokenizer

DEFAULTS: Mapping[str, str] = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
POSITIONS = 77
MANY = 1_000_000  # transformers write 10**30 for "no limit"; a text encoder of CLIP always has one


@dataclass(frozen=True)
class _Files:
    """The content of the folder's files; a missing file is empty."""

    folder: Path
    tokenizer: Mapping[str, Any]
    config: Mapping[str, Any]
    special_tokens_map: Mapping[str, Any]
    added_tokens: Mapping[str, Any]


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Read a CLIP tokenizer from a folder, with the same precedence of files as transformers 5.

    Raises InvalidCheckpoint, naming the file, if a file is missing, damaged or of another kind of tokenizer.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InvalidCheckpoint(
            f"the tokenizer's folder '{folder}' does not exist; download all files of the model"
        )
    files = _Files(
        folder,
        *(
            _read_table(folder / f"{name}.json") if (folder / f"{name}.json").exists() else {}
            for name in ("tokenizer", "tokenizer_config", "special_tokens_map", "added_tokens")
        ),
    )
    source, vocabulary, pairs = _vocabulary(files)
    merges = _merges(source, vocabulary, pairs)
    specials, named = _specials(files, vocabulary)
    length = files.config.get("model_max_length", POSITIONS)
    if type(length) not in (int, float) or length < 3:
        raise InvalidCheckpoint(f"'{folder}' sets model_max_length to {length!r}; CLIP's is {POSITIONS}")
    return Tokenizer(
        vocabulary=vocabulary,
        merges=merges,
        specials=specials,
        start_id=named["bos_token"],
        end_id=named["eos_token"],
        pad_id=named["pad_token"],
        unknown_id=named["unk_token"],
        max_length=int(length) if length < MANY else POSITIONS,
    )


def _vocabulary(files: _Files) -> tuple[Path, dict[str, int], list[Sequence[str]]]:
    """(the file for messages, piece -> id, the pairs to merge in their order)."""
    if files.tokenizer:
        source = files.folder / "tokenizer.json"
        model = files.tokenizer.get("model")
        if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
            raise InvalidCheckpoint(f"'{source}' holds no byte-pair encoding, so it is not a CLIP tokenizer")
        pairs = [
            pair.split(" ") if isinstance(pair, str) else pair for pair in _list(source, model, "merges")
        ]
        return source, _checked_ids(source, model.get("vocab")), pairs
    source = files.folder / "vocab.json"
    path = files.folder / "merges.txt"
    vocabulary = _checked_ids(source, _read_table(source))
    lines = _read_text(path).split("\n")
    pairs = [
        line.rstrip("\r").split(" ") for line in lines if line.strip("\r") and not line.startswith("#version")
    ]
    return path, vocabulary, pairs


def _merges(source: Path, vocabulary: Mapping[str, int], pairs: Iterable[Sequence[str]]) -> Merges:
    merges: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, pair in enumerate(pairs):
        if (
            not isinstance(pair, Sequence)
            or len(pair) != 2
            or not all(isinstance(part, str) for part in pair)
        ):
            raise InvalidCheckpoint(
                f"'{source}': merge {rank + 1} is {pair!r} instead of two pieces; it is damaged"
            )
        left, right = pair
        for piece in (left, right, left + right):
            if piece not in vocabulary:
                raise InvalidCheckpoint(
                    f"'{source}': merge {rank + 1}, {left!r} with {right!r}, needs {piece!r}, which the"
                    " vocabulary lacks; the files are of different models, download them again"
                )
        merges[vocabulary[left], vocabulary[right]] = (rank, vocabulary[left + right])
    return merges


def _specials(files: _Files, vocabulary: Mapping[str, int]) -> tuple[tuple[Special, ...], dict[str, int]]:
    """(the special tokens, role -> id).

    A token listed with its id keeps the flags of that listing. The order of roles matters: a role that
    names a token again, as the pad token usually does with the end token, sets its flags.
    """
    listed: dict[str, Special] = {}
    for token_id, token_spec in _listed(files):
        special = _special(files.folder, token_spec, token_id)
        listed[special.content] = special
    roles = {**DEFAULTS, **{role: files.config[role] for role in DEFAULTS if files.config.get(role)}}
    if "added_tokens_decoder" not in files.config:
        roles |= {
            role: value for role, value in files.special_tokens_map.items() if role in DEFAULTS and value
        }
    found = dict(listed)
    ids: dict[str, int] = {}
    for role, token_spec in roles.items():
        content = (
            token_spec
            if isinstance(token_spec, str)
            else token_spec.get("content")
            if isinstance(token_spec, dict)
            else None
        )
        if isinstance(content, str) and content in listed:
            ids[role] = listed[content].id
        elif isinstance(content, str) and content in vocabulary:
            found[content] = _special(files.folder, token_spec, vocabulary[content])
            ids[role] = vocabulary[content]
        else:
            raise InvalidCheckpoint(
                f"'{files.folder}' names {token_spec!r} as its {role}, which the vocabulary lacks"
            )
    return tuple(found.values()), ids


def _listed(files: _Files) -> list[tuple[object, object]]:
    """Return (id, token) of all tokens that are listed with an id, from the file that takes precedence."""
    decoder = files.config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        return [(int(key) if key.isdecimal() else key, token) for key, token in decoder.items()]
    added = [
        (token_id, {"content": content, "normalized": content not in DEFAULTS.values()})
        for content, token_id in files.added_tokens.items()
    ]
    if files.tokenizer:
        tokens = _list(files.folder / "tokenizer.json", files.tokenizer, "added_tokens")
        return [*added, *((token.get("id"), token) for token in tokens if isinstance(token, dict))]
    return list(added)


def _special(folder: Path, token_spec: object, token_id: object) -> Special:
    table = token_spec if isinstance(token_spec, dict) else {"content": token_spec}
    content = table.get("content")
    if not isinstance(content, str) or not content or type(token_id) is not int or token_id < 0:
        raise InvalidCheckpoint(f"'{folder}' lists the special token {token_spec!r} with the id {token_id!r}")
    if table.get("lstrip") or table.get("rstrip") or table.get("single_word"):
        raise InvalidCheckpoint(
            f"'{folder}': special token {content!r} sets lstrip, rstrip or single_word, which CLIP never"
            " uses and which are not supported"
        )
    return Special(content, token_id, bool(table.get("normalized", False)))


def _checked_ids(source: Path, table: object) -> dict[str, int]:
    if not isinstance(table, dict) or not table:
        raise InvalidCheckpoint(f"'{source}' holds no vocabulary; download it again")
    for piece, token_id in table.items():
        if type(token_id) is not int or token_id < 0:
            raise InvalidCheckpoint(f"'{source}' gives {piece!r} the id {token_id!r}; download it again")
    return table


def _list(source: Path, table: Mapping[str, Any], key: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise InvalidCheckpoint(f"'{source}': '{key}' is not a list; download it again")
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidCheckpoint(f"'{path}' is missing; download all files of the model") from error
    except OSError as error:
        raise InvalidCheckpoint(f"'{path}' cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidCheckpoint(f"'{path}' is not UTF-8 text ({error}); download it again") from error


def _read_table(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"'{path}' is not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise InvalidCheckpoint(f"'{path}' contains a {type(content).__name__} instead of a JSON object")
    return content
