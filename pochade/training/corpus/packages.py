"""Verify and unpack downloaded packages."""

import hashlib
import io
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from pochade.errors import InvalidCheckpoint
from pochade.training.corpus.downloads import Fetch, download
from pochade.training.corpus.sources import Package

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60


class UntrustedArchive(InvalidCheckpoint):
    """An archive's checksum is not the pinned one, or a member's path leaves the folder."""


def unpacked(package: Package, cache: Path, fetch: Fetch = download) -> Path:
    """Return the folder with the package's files, which the first call downloads.

    It is written as a temporary folder and renamed at the end, so that an interrupted call leaves no
    incomplete package.
    """
    target = cache / package.slug
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".partial-") as work:
        downloads = Path(work, "download")
        downloads.mkdir()
        archive = fetch(package, downloads)
        verify(archive, package)
        contents = Path(work, "contents")
        unpack(
            archive,
            contents,
            package.members,
            links="leave out" if package.registry == "debian" else "refuse",
        )
        contents.rename(target)
    return target


def verify(archive: Path, package: Package) -> None:
    """Raise UntrustedArchive unless the archive has the pinned SHA-512."""
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha512").hexdigest()
    if found != package.sha512:
        raise UntrustedArchive(
            f"the archive of '{package}' has SHA-512 {found[:16]}..., pinned is {package.sha512[:16]}...; "
            "the download is damaged or the registry serves another file: clear its cache and try again"
        )


def unpack(
    archive: Path,
    folder: Path,
    members: tuple[str, ...] = (),
    *,
    links: Literal["refuse", "leave out"] = "refuse",
) -> None:
    """Write the regular files of a tar archive or a .deb to `folder`, without their first path component.

    Devices, paths that leave the folder, and links unless they are left out raise UntrustedArchive before the
    member is written. Permissions, owners and times are not restored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(archive) as tar:
        for member in tar:
            if member.isdir() or (links == "leave out" and (member.issym() or member.islnk())):
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


def _opened(archive: Path) -> tarfile.TarFile:
    if archive.suffix == ".deb":
        return tarfile.open(fileobj=data_archive(archive))
    return tarfile.open(archive)


def data_archive(deb: Path) -> BinaryIO:
    """Return the tar archive of the installed files in a .deb (deb(5), ar(5)). Raises UntrustedArchive."""
    with deb.open("rb") as file:
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise UntrustedArchive(f"'{deb.name}' is not a .deb")
        while header := file.read(AR_HEADER_BYTES):
            name, digits = header[:16].decode("ascii", "replace").strip(), header[48:58].strip()
            if not digits.isdigit():
                break
            size = int(digits)
            if name.startswith("data.tar"):
                return io.BytesIO(file.read(size))
            file.seek(size + size % 2, io.SEEK_CUR)
    raise UntrustedArchive(f"'{deb.name}' contains no data.tar")


def safe_path(name: str) -> PurePosixPath:
    """Return the path without its first component. Raises UntrustedArchive if it could leave the folder."""
    path = PurePosixPath(name)
    suspicious = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    if suspicious or len(path.parts) < 2:
        raise UntrustedArchive(f"the archive's member {name!r} would be written outside of its folder")
    return PurePosixPath(*path.parts[1:])
