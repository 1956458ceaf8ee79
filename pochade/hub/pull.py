"""Pulls a model from the hub into Pochade's own folder: plans, downloads to a staging folder, and
installs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pochade.atomic import replacing, sync_folder, unwritable
from pochade.checkpoints.contents import UNREADABLE, contents_of
from pochade.checkpoints.library import FOLDERS
from pochade.checkpoints.own_folder import STAGES, claim, read_record, record_of
from pochade.checkpoints.read import read_checkpoint
from pochade.errors import InvalidCheckpoint, InvalidRequest, OutputError
from pochade.hub.download import download_file, local_bytes
from pochade.hub.file_selection import INDEX, choose_file, choose_folder, single_files
from pochade.hub.hub_api import HubError, RemoteFile, RemoteModel, library, look_up, opened
from pochade.hub.known_models import KnownModel

MAX_INDEX_BYTES = 1_000_000


@dataclass(frozen=True)
class Pull:
    """The plan of a pull. root: Pochade's own folder. single: whether it is a single file.

    edition: the requested variant or file. short_name: of a known model; the name it is installed under.
    """

    model: RemoteModel
    files: tuple[RemoteFile, ...]
    root: Path
    single: bool
    edition: str = ""
    short_name: str = ""

    @property
    def name(self) -> str:
        """The name of the installed model: its short name, or "owner/name", with the revision if one was
        requested."""
        if self.short_name:
            return self.short_name
        revision = "" if self.model.revision is None else f"@{self.model.revision.replace('/', '-')}"
        return f"{self.model.repo}{revision}"

    @property
    def stage(self) -> Path:
        """The staging folder, one for each commit and edition."""
        edition = f"-{self.edition.replace('/', '-')}" if self.edition else ""
        return self.root / STAGES / f"{self.model.repo.replace('/', '--')}@{self.model.commit[:12]}{edition}"

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.size for file in self.files)

    @property
    def local_bytes(self) -> int:
        """The bytes that an earlier pull has downloaded."""
        return sum(local_bytes(file, self.stage) for file in self.files)

    def target(self, kind: str = "model") -> Path:
        """Return the path of the installed model. kind: of a single file, once it is known."""
        if not self.single:
            return self.root / "diffusers" / self.name
        folder, file = self.root / FOLDERS.get(kind, FOLDERS["model"])[0], Path(self.files[0].path)
        if self.short_name:
            return folder / f"{self.short_name}{file.suffix}"
        return folder / self.name / file.name


def plan(
    repo: str, root: Path, *, revision: str | None = None, variant: str | None = None, file: str | None = None
) -> Pull:
    """List the files on the hub and select those to download; writes nothing.

    Raises HubError, MissingDependency, or InvalidRequest for an unknown variant or file.
    """
    model = look_up(repo, revision)
    if file is not None:
        if variant is not None:
            raise InvalidRequest("only diffusers folders have variants; give --file or --variant")
        return Pull(model, choose_file(model, file), root, single=True, edition=file)
    index = next((each for each in model.files if each.path == INDEX), None)
    if index is None:
        names = single_files(model)
        offered = (
            f"name one of its files with --file: {', '.join(names[:20])}" if names else f"see {model.page}"
        )
        raise HubError(f"'{repo}' is not a diffusers folder; {offered}")
    files = choose_folder(model, _table(model, index), variant)
    return Pull(model, files, root, single=False, edition=variant or "")


def plan_known(known: KnownModel, root: Path, commit: str | None = None) -> Pull:
    """As `plan`, for a model with a short name. commit: overrides the catalogue's commit or the newest one.


    Raises as `plan` does, and HubError if the hub states other hashes than the catalogue.
    """
    pull = plan(known.repo, root, revision=commit or known.revision, variant=known.variant, file=known.file)
    stated = {file.path: file.sha256 for file in pull.files}
    for path, wanted in known.sha256.items():
        if stated.get(path) != wanted:
            raise HubError(
                f"the hub states another hash for '{path}' of '{known.repo}' ({str(stated.get(path))[:16]}"
                f"...) than the catalogue has for '{known.name}' ({wanted[:16]}..., from {known.sources[0]}):"
                " it is another file, so nothing is downloaded"
            )
    return replace(pull, short_name=known.name)


def find_pulled(known: KnownModel, root: Path) -> Path | None:
    """Return the path of a known model if it was pulled. The hub is not contacted, so newer versions are
    ignored."""
    if known.file is None:
        paths = [root / "diffusers" / known.name]
    else:
        paths = [root / names[0] / f"{known.name}{Path(known.file).suffix}" for names in FOLDERS.values()]
    there = (path for path in paths if path.exists() and read_record(path).get("known") == known.name)
    return next(there, None)


def already_pulled(pull: Pull) -> Path | None:
    """Return the path if the same files of the same commit are installed. Raises OutputError for other
    files."""
    for kind in FOLDERS:
        path = pull.target(kind)
        if not path.exists():
            continue
        record = read_record(path)
        if record.get("commit") == pull.model.commit and record.get("files") == _hashes(pull):
            return path
        raise OutputError(
            f"'{path}' exists, from another commit or with other files; to replace it, first run"
            f" 'pochade models remove {pull.name}'"
        )
    return None


def check_space(pull: Pull) -> None:
    """Raise OutputError if the disk has less space than is still needed."""
    needed = pull.size - pull.local_bytes
    install = next(folder for folder in (pull.root, *pull.root.resolve().parents) if folder.exists())
    free = shutil.disk_usage(install).free
    if free < needed:
        raise OutputError(
            f"'{pull.root}' has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed; free some"
            " space, or name another folder with --models"
        )


def fetch(pull: Pull) -> Iterator[int]:
    """Download all files to the staging folder; yields bytes as `download_file` does. Partial files are
    resumed.

    Raises as `download_file` does, and OutputError if another process downloads the same model.
    """
    check_space(pull)
    claim(pull.root)
    with _locked(pull):
        for file in pull.files:
            yield from download_file(pull.model, file, pull.stage)


def install(pull: Pull) -> Path:
    """Move the downloaded files to their final path atomically. Raises InvalidCheckpoint if they are not a
    model."""
    source = pull.stage / pull.files[0].path if pull.single else pull.stage
    if pull.single:
        contents = contents_of(source)
        if contents.kind == UNREADABLE:
            raise InvalidCheckpoint(f"'{source}' cannot be used: {contents.family}")
        target = pull.target(contents.kind)
    else:
        read_checkpoint(source)
        target = pull.target()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "known": pull.short_name or None,
            "repo": pull.model.repo,
            "revision": pull.model.revision,
            "commit": pull.model.commit,
            "licence": pull.model.licence,
            "licence_link": pull.model.licence_link,
            "files": _hashes(pull),
        }
        with replacing(record_of(target if pull.single else source)) as out:
            out.write(json.dumps(record, indent=1).encode())
        source.rename(target)
        sync_folder(target.parent)
        shutil.rmtree(pull.stage, ignore_errors=True)
    except OSError as error:
        raise unwritable(target, error) from error
    return target


# --- inside -----------------------------------------------------------------------------------------------


def _table(model: RemoteModel, index: RemoteFile) -> dict[str, Any]:
    if index.size > MAX_INDEX_BYTES:
        raise HubError(f"the {INDEX} of '{model.repo}' has {index.size:,} bytes, so it is not an index")
    with opened(model, index) as answer:
        content = b"".join(answer.iter_raw())
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise HubError(f"the {INDEX} of '{model.repo}' is not JSON ({error})") from error
    if not isinstance(table, dict):
        raise HubError(f"the {INDEX} of '{model.repo}' is not a table")
    return table


def _hashes(pull: Pull) -> dict[str, str]:
    return {file.path: file.sha256 or file.blob or "" for file in pull.files}


@contextmanager
def _locked(pull: Pull) -> Iterator[None]:
    """Lock a staging folder against other processes."""
    lock = pull.stage.with_name(f".{pull.stage.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with library().utils.WeakFileLock(lock, timeout=0.1):
            yield
    except TimeoutError as error:
        raise OutputError(f"another process is pulling '{pull.name}'; wait until it has finished") from error
    except OSError as error:
        raise unwritable(lock, error) from error
