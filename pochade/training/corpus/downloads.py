"""Download pinned packages with npm, or from Debian's archive."""

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pochade.errors import MissingDependency, PochadeError
from pochade.training.corpus.sources import Package

Fetch = Callable[[Package, Path], Path]
"""Downloads a package's archive into a folder and returns its path."""

MIRRORS = (
    "https://deb.debian.org/debian/",
    "https://snapshot.debian.org/archive/debian/20250520T000000Z/",  # keeps replaced versions
)


class DownloadError(PochadeError):
    """A package could not be fetched from its registry."""


def download(package: Package, folder: Path) -> Path:
    """Download the archive of `package` from its registry into `folder`."""
    return debian_download(package, folder) if package.registry == "debian" else npm_pack(package, folder)


def npm_pack(package: Package, folder: Path, *, timeout_s: float = 600.0) -> Path:
    """Download the archive of `package` into `folder` with `npm pack`, which respects the user's registry.

    Raises MissingDependency without npm, DownloadError with npm's last output if it fails.
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
    """Download the file of `package` into `folder`. Mirrors need not be trusted: the checksum is pinned.

    Needs no apt and works on any system. Proxies are taken from the environment.
    Raises DownloadError if no mirror has it.
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
