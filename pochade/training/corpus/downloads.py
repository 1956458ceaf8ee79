"""Downloading a pinned package: with npm's own client, or from Debian's archive."""

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pochade.errors import MissingDependency, PochadeError
from pochade.training.corpus.sources import Package

Fetch = Callable[[Package, Path], Path]
"""Brings a package's archive into a folder and returns its path."""

MIRRORS = (
    "https://deb.debian.org/debian/",
    "https://snapshot.debian.org/archive/debian/20250520T000000Z/",  # keeps what Debian itself has replaced
)


class DownloadError(PochadeError):
    """A package could not be fetched from its registry."""


def download(package: Package, folder: Path) -> Path:
    """Bring the archive of `package` from its registry into `folder`."""
    return debian_download(package, folder) if package.registry == "debian" else npm_pack(package, folder)


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


def debian_download(package: Package, folder: Path, *, timeout_s: float = 60.0) -> Path:
    """Download the file of `package` into `folder`; the pinned checksum makes the way of no matter.

    So no apt is needed, and it works on any system. Proxies are those of the environment.
    Raises DownloadError if no mirror gives it.
    """
    target = folder / Path(package.path).name
    failures = []
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + package.path, timeout=timeout_s) as answer:
                with target.open("wb") as out:
                    shutil.copyfileobj(answer, out)
                return target
        except (urllib.error.URLError, OSError) as failed:
            failures.append(f"{mirror}: {failed}")
    raise DownloadError(
        f"'{package}' could not be downloaded ({'; '.join(failures)}); "
        "check the connection and run this again"
    )
