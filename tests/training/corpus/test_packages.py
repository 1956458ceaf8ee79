"""Downloading and unpacking packages, and errors."""

import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pochade.errors import MissingDependency
from pochade.training.corpus import SOURCES, DownloadError, UntrustedArchive, npm_pack
from pochade.training.corpus.packages import safe_path, unpack, unpacked
from tests.training.corpus.conftest import Registry, archive_of, words_files


@pytest.mark.parametrize(
    "name",
    [
        "package/../../evil",
        "/package/evil",
        "package/..",
        "evil",
        "package/C:/evil",
        "package\\..\\evil",
        "..",
    ],
)
def test_a_path_that_could_leave_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UntrustedArchive, match="outside of its folder"):
        safe_path(name)
    archive = archive_of({name: b"evil"}, tmp_path / "a.tgz")
    with pytest.raises(UntrustedArchive):
        unpack(archive, tmp_path / "in" / "folder")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.tgz"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/link")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(UntrustedArchive, match="link or a device"):
        unpack(tmp_path / "a.tgz", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_only_the_wanted_members_are_unpacked(registry: Registry, tmp_path: Path) -> None:
    package = registry.add("words", words_files(), ("en/data.json", "meta/groups.json"))
    folder = unpacked(package, tmp_path / "cache", registry.fetch)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"en/data.json", "meta/groups.json"}


def test_another_checksum_is_refused_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    package = replace(registry.add("words", words_files()), sha512="0" * 128)
    with pytest.raises(UntrustedArchive, match=r"words@1\.0.*pinned is 0000000000000000"):
        unpacked(package, tmp_path / "cache", registry.fetch)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_npm_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match=r"npm is needed.*emoji.*install Node"):
        npm_pack(SOURCES[0].package, tmp_path)


def test_a_failed_download_tells_npms_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["pack", "@iconify-json/noto@1.2.9"]
        return subprocess.CompletedProcess(command, 1, "", "npm error code E404\nnpm error not found")

    monkeypatch.setattr("shutil.which", lambda _: "npm")
    monkeypatch.setattr("subprocess.run", fail)
    with pytest.raises(DownloadError, match=r"noto@1\.2\.9.*status 1.*code E404 npm error not found"):
        npm_pack(SOURCES[2].package, tmp_path)
