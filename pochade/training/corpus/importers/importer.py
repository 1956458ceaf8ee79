"""Import a user's pictures as a training set."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from posixpath import normpath

from pochade.errors import InvalidRequest, MissingDependency
from pochade.training.corpus.assemble import NothingUsable, assemble, check_numbers
from pochade.training.corpus.concepts import name_slug
from pochade.training.corpus.importers.common import ImportSettings, bad_item, composed, pair_key
from pochade.training.corpus.importers.folder import Scan, folder_items, refused_items, scan
from pochade.training.corpus.importers.jsonl import count_lines, line_items, named_in_lines
from pochade.training.corpus.importers.parquet import count_rows, named_in_table, table_items
from pochade.training.corpus.importers.webdataset import count_items, tar_items, tar_members
from pochade.training.corpus.samples import Item, Progress, Stream, silent
from pochade.training.corpus.store import Corpus

SIZE = 512
HELD_OUT = 0.02


def gather(
    folder: str | Path,
    paths: Iterable[str | Path],
    *,
    size: int = SIZE,
    held_out: float = HELD_OUT,
    jobs: int = 1,
    progress: Progress = silent,
) -> Corpus:
    """Store the captioned pictures of `paths` in `folder`, their shorter side being at most `size` px.

    paths: folders, or single .jsonl, .parquet and .tar files.
    held_out: the share of the pictures (0..1) that is excluded from training.
    Unusable pictures are skipped and listed in skipped.jsonl. A second call with the same pictures only
    opens the set; after an interruption, finished shards are kept.
    Raises InvalidRequest (an invalid path or number), NothingUsable (there is no picture with a caption),
    MissingDependency (parquet without pyarrow), OutputError.
    """
    check_numbers(size, jobs)
    if not 0 <= held_out < 1:
        raise InvalidRequest(f"held-out share {held_out} is not between 0 and 1 (1 excluded)")
    folder = Path(folder)
    streams: list[Stream] = []
    for path in map(Path, paths):
        _check_place(path, folder)
        settings = ImportSettings(_new_name(path, {stream.name for stream in streams}), size, held_out)
        streams.append(_stream(path, settings))
    if not streams:
        raise InvalidRequest("no folder of pictures is given")
    return assemble(folder, streams, size=size, kind="given", jobs=jobs, progress=progress)


def _check_place(path: Path, folder: Path) -> None:
    if not path.exists():
        raise InvalidRequest(f"'{path}' does not exist")
    own, target = path.resolve(), folder.resolve()
    if own.is_relative_to(target) or target.is_relative_to(own):
        raise InvalidRequest(
            f"the training set '{folder}' and the pictures '{path}' overlap; choose another folder"
        )


def _new_name(path: Path, taken: set[str]) -> str:
    """Return a new short name of the source for file names."""
    base = name_slug(path.resolve().stem)[:40] or "pictures"
    names = chain([base], (f"{base}-{number}" for number in range(2, len(taken) + 2)))
    return next(name for name in names if name not in taken)


def _stream(path: Path, settings: ImportSettings) -> Stream:
    found = scan(path) if path.is_dir() else _single(path)
    if not (found.pictures or found.lines or found.tables or found.tars):
        raise NothingUsable(_nothing_in(path, found))
    recipe = {"files": _fingerprint(found), "size": settings.size, "held_out": settings.held_out}
    return Stream(
        name=settings.source,
        recipe=recipe,
        about={"from": path.resolve().name, "licence": "", "credit": ""},
        open=partial(_open, found, settings),
    )


def _single(path: Path) -> Scan:
    """Return a scan of a single file, as if it were alone in its folder."""
    found = Scan(path.parent)
    if path.suffix.lower() not in (".jsonl", ".parquet", ".tar"):
        raise InvalidRequest(
            f"'{path}' is neither a folder nor a .jsonl, .parquet or .tar file of captioned pictures"
        )
    found.kind(path.name).append(path.name)
    return found


def _open(found: Scan, settings: ImportSettings) -> tuple[int, Iterator[Item]]:
    """Return the number of items and the items. JSON lines and tables take precedence over text files.

    A file without pictures, such as a log in JSON lines, is listed and has no effect.
    """
    total, strays = 0, list(refused_items(found))
    parts: list[Iterator[Item]] = []
    named: set[str] = set()
    for name in found.lines:
        path, prefix = found.root / name, _prefix(name)
        names = named_in_lines(path)
        if not names and (found.pictures or found.tables or found.tars):
            strays.append(bad_item(name, "a JSON-lines file that names no picture with a caption"))
            continue
        named.update(normpath(prefix + each) for each in names)
        total += count_lines(path)
        parts.append(line_items(path, settings, prefix))
    for name in found.tables:
        path, prefix = found.root / name, _prefix(name)
        try:
            names, count = named_in_table(path), count_rows(path)
        except MissingDependency as missing:
            if not found.captions:
                raise
            strays.append(bad_item(name, "a parquet file, for which a package is missing", str(missing)))
            continue
        named.update(normpath(prefix + each) for each in names)
        total += count
        parts.append(table_items(path, settings, prefix))
    for name in found.tars:
        members, prefix = tar_members(found.root / name), _prefix(name)
        if not count_items(members):
            strays.append(bad_item(name, "an empty tar"))
        total += count_items(members)
        parts.append(tar_items(found.root / name, members, settings, prefix, _sizes(found)))
    items = list(folder_items(found, settings, named))
    parts.append(iter(items))
    return total + len(items) + len(strays), chain(*parts, strays)


def _sizes(found: Scan) -> set[tuple[str, int]]:
    """Return (base name, bytes) of each picture with a text file, to detect copies in tars."""
    captioned = {pair_key(name) for name in found.captions}
    sizes = set()
    for name in found.pictures:
        if pair_key(name) in captioned:
            with suppress(OSError):
                sizes.add((composed(Path(name).name), Path(found.root, name).stat().st_size))
    return sizes


def _prefix(name: str) -> str:
    """Return the folder of a file relative to the root, with a slash."""
    return name.removesuffix(Path(name).name)


def _fingerprint(found: Scan) -> str:
    """Hash the names, sizes and times of all files; equal hashes give equal training sets."""
    names = chain(found.pictures, found.captions, found.lines, found.tables, found.tars)
    total = sha256()
    for name in names:
        try:
            status = Path(found.root, name).stat()
            total.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError:
            total.update(f"{name} ?\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:32]


def _nothing_in(path: Path, found: Scan) -> str:
    """Return a message that lists what a folder without pictures contains."""
    others = Counter(Path(name).suffix.lower() or "without a suffix" for name in found.others)
    others.update({".txt": len(found.captions)} if found.captions else {})
    held = ", ".join(f"{count} x {re.sub(r'[^ -~]', '?', kind)}" for kind, count in others.most_common(8))
    return (
        f"'{path}' contains no pictures ({held or 'it is empty'}); expected: pictures with a text file each "
        "(cat.jpg, cat.txt), a JSON-lines file (file_name, text), parquet files or webdataset tars"
    )
