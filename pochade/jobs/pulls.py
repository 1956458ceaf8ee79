"""Downloads of known models as jobs: looking a model up on the hub, and the runner that downloads it."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pochade.checkpoints.library import entries
from pochade.checkpoints.own_folder import own_folder
from pochade.errors import InvalidRequest, OutputError
from pochade.hub import known_models
from pochade.hub.hub_api import HubError
from pochade.hub.known_models import KnownModel
from pochade.hub.pull import check_space, fetch, find_pulled, install, plan_known
from pochade.jobs.catalogue import Folders
from pochade.jobs.orders import Order
from pochade.jobs.runner import CANCEL, Event, Fetched, Read, StopSignal

__all__ = ["Fetcher", "HubError", "Offer", "all_known", "downloads_folder", "known", "look_up", "present"]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The hub's data about a known model. held: bytes of a partial download. free: bytes on the disk."""

    name: str
    repo: str
    commit: str
    licence: str
    licence_link: str
    files: int
    bytes: int
    held: int
    free: int


def all_known() -> Sequence[KnownModel]:
    """Return the models with a short name."""
    return known_models.KNOWN_MODELS


def known(name: str) -> KnownModel:
    """Look up a short name. Raises InvalidRequest if it is unknown."""
    return known_models.known(name)


def present(folders: Folders) -> set[str]:
    """Return the short names of models present in the folders. Opens no file."""
    there = entries(folders.roots)
    return {each.name for each in all_known() if any(entry.answers_to(each.name) for entry in there)}


def downloads_folder(folders: Folders) -> Path:
    """Return the folder for downloaded models. Raises InvalidRequest if the server has none."""
    try:
        return own_folder(folders.roots)
    except OutputError as error:
        raise InvalidRequest(
            "this server has no folder for downloaded models; start it with an empty or new folder as"
            " --models"
        ) from error


def look_up(name: str, folders: Folders) -> Offer:
    """Look up a known model on the hub without downloading it. Raises as `plan_known` does, and
    InvalidRequest."""
    pull = plan_known(known(name), downloads_folder(folders))
    return Offer(
        name=pull.name,
        repo=pull.model.repo,
        commit=pull.model.commit,
        licence=pull.model.licence,
        licence_link=pull.model.licence_link,
        files=len(pull.files),
        bytes=pull.size,
        held=pull.local_bytes,
        free=shutil.disk_usage(_that_exists(pull.root)).free,
    )


class Fetcher:
    """Downloads models into the server's own folder, one after another; used by `worker.Worker`."""

    def __init__(self, folders: Folders, **_: Any) -> None:
        self._folders = folders

    def prepare(self, model: str | None) -> Iterator[Event]:
        yield from ()

    def forget(self) -> None:
        """Do nothing: the folders are scanned for each job."""

    def draw(self, order: Order, read: Read, stop_signal: StopSignal) -> Iterator[Event]:
        """Download the model of an order. A cancelled or interrupted download is kept, and the next one of
        the same commit resumes it.

        Raises HubError, OutputError, InvalidRequest if the licence is not the accepted one, and
        InvalidCheckpoint if the download is not a model.
        """
        assert order.pull is not None
        model, root = known(order.model), downloads_folder(self._folders)
        if find_pulled(model, root) is not None:
            return
        pull = plan_known(model, root, order.pull.commit or None)
        if pull.model.licence != order.pull.licence:
            raise InvalidRequest(
                f"the hub names the licence '{pull.model.licence or 'none'}' for '{model.name}', and"
                f" '{order.pull.licence or 'none'}' was accepted; read it at {pull.model.licence_link}, and"
                " accept that one"
            )
        check_space(pull)
        done = 0
        for grown in fetch(pull):
            done += grown
            yield Fetched(done, pull.size)
            if stop_signal() == CANCEL:
                return
        install(pull)


def _that_exists(folder: Path) -> Path:
    return next(each for each in (folder, *folder.resolve().parents) if each.exists())
