"""Accesses the hub: lists the files of a model, and opens them.

The package huggingface_hub provides URLs, mirrors (HF_ENDPOINT), tokens, proxies, offline mode and error
types. It does not keep partial downloads when a connection breaks; `download_file` does.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pochade
from pochade.errors import InvalidRequest, MissingDependency, PochadeError

REPO = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w.\-/]*", re.ASCII)
TIMEOUT_S = 30.0
"""Time-out for a connection without data."""


class HubError(PochadeError):
    """The hub cannot be reached, or it does not have the model or refuses access."""


class BrokenConnection(HubError):
    """The connection was closed early; another attempt can resume."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the hub. path: in the repository. size: bytes. sha256: of large files. blob: git's SHA-1 of
    others."""

    path: str
    size: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True, kw_only=True)
class RemoteModel:
    """A repository at one commit. licence: from its model card; licence_link, page: URLs for the user."""

    repo: str
    revision: str | None
    commit: str
    files: tuple[RemoteFile, ...]
    licence: str
    licence_link: str
    page: str


class Answer(Protocol):
    """The used part of an HTTP response; the body is streamed without decoding."""

    status_code: int

    def iter_raw(self) -> Iterator[bytes]: ...


def look_up(repo: str, revision: str | None = None) -> RemoteModel:
    """List a model's files.

    Raises MissingDependency without huggingface_hub, InvalidRequest for an invalid name, HubError.
    """
    if REPO.fullmatch(repo) is None or "--" in repo or ".." in repo:
        raise InvalidRequest(f"'{repo}' is not a model id; write OWNER/NAME or OWNER/NAME@REVISION")
    if revision is not None and (REVISION.fullmatch(revision) is None or ".." in revision):
        raise InvalidRequest(f"'{revision}' is not a revision; give a branch, a tag or a commit")
    hub = library()
    with _translated(repo, revision):
        info = hub.HfApi(library_name="pochade", library_version=pochade.__version__).model_info(
            repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S
        )
    siblings = info.siblings or []
    files = tuple(
        RemoteFile(
            each.rfilename, each.size or 0, None if each.lfs is None else each.lfs.sha256, each.blob_id
        )
        for each in siblings
    )
    page = f"{hub.constants.ENDPOINT}/{repo}"
    card: Any = info.card_data or {}
    named = card.get("license_name") or card.get("license") or ""
    texts = [file.path for file in files if re.fullmatch(r"(?i)licen[sc]e(\.\w+)?", file.path)]
    link = card.get("license_link") or (f"{page}/blob/{info.sha}/{texts[0]}" if texts else page)
    if not str(link).startswith(("https://", "http://")):  # a file of the repository
        link = f"{page}/blob/{info.sha}/{link}"
    return RemoteModel(
        repo=repo,
        revision=revision,
        commit=str(info.sha),
        files=files,
        licence=named if isinstance(named, str) else ", ".join(map(str, named)),
        licence_link=str(link),
        page=page,
    )


@contextmanager
def opened(model: RemoteModel, file: RemoteFile, begin: int = 0) -> Iterator[Answer]:
    """Open a file from byte `begin` on if the hub supports ranges (status 206), else the whole file (200).

    Raises HubError; BrokenConnection may also be raised while the body is read.
    """
    hub = library()
    headers = hub.utils.build_hf_headers(library_name="pochade", library_version=pochade.__version__)
    headers["Accept-Encoding"] = "identity"  # sizes and hashes are those of the uncompressed file
    if begin:
        headers["Range"] = f"bytes={begin}-"
    url = hub.hf_hub_url(model.repo, file.path, revision=model.commit)
    # Large files are redirected to another host. The client does not send the token there.
    with (
        _translated(model.repo, model.revision),
        hub.get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as answer,
    ):
        if answer.status_code >= 400:
            answer.read()
        hub.hf_raise_for_status(answer)
        yield answer


def library() -> Any:
    """Import huggingface_hub. Raises MissingDependency, naming the extra, if it is not installed."""
    # Otherwise it downloads a list of programs to report which one is running.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "pulling models needs the package huggingface_hub: pip install 'pochade[hub]'. Without it,"
            " download the files with a browser and put them into a folder that 'pochade models list' shows"
        ) from error
    return huggingface_hub


# --- inside -----------------------------------------------------------------------------------------------


@contextmanager
def _translated(repo: str, revision: str | None) -> Iterator[None]:
    """Translate errors of huggingface_hub. URLs are omitted, since signed ones are secrets."""
    from huggingface_hub import errors

    page = f"{library().constants.ENDPOINT}/{repo}"
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise HubError(
            "HF_HUB_OFFLINE is set, so nothing is downloaded; unset it to pull, or use what"
            " 'pochade models list' shows"
        ) from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"'{repo}' requires that you accept its terms: visit {page}, accept its terms there,"
            " create a token (https://huggingface.co/settings/tokens), set it as HF_TOKEN, and pull it again"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"'{repo}' has no revision '{revision}'; {page}/tree/main lists them") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        # The hub answers 401 for private and for unknown models alike.
        is_unknown = status == 401 and "authorization" not in error.response.request.headers
        if is_unknown or isinstance(error, errors.RepositoryNotFoundError):
            raise HubError(
                f"the hub has no model '{repo}', or it is private; check the name at {page}, and"
                " set HF_TOKEN if it is yours"
            ) from error
        if status == 401:
            raise HubError(
                "the hub does not accept the token (HF_TOKEN, or the one that 'hf auth login' has stored);"
                " create a new one at https://huggingface.co/settings/tokens"
            ) from error
        if status >= 500 or status in (408, 416, 429):
            raise BrokenConnection(f"the hub answered {status}; try again later") from error
        raise HubError(f"the hub answered {status} for '{repo}'; see {page}") from error
    except _transport_error() as error:
        raise BrokenConnection(
            f"the hub cannot be reached ({type(error).__name__}); check the connection, and HF_ENDPOINT if it"
            " is set"
        ) from error


def _transport_error() -> type[Exception]:
    """Return the base exception of huggingface_hub's HTTP client, which differs between its versions."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
