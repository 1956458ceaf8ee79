"""Fingerprints of weight files, and the model hash in pictures."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from pochade.checkpoints import safetensors
from pochade.checkpoints.fingerprint import fingerprint, short_hash
from pochade.errors import InvalidCheckpoint


def of(*paths: Path, extra: bytes = b"") -> str:
    return fingerprint([safetensors.read(path) for path in paths], extra)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    tensors = {name: np.zeros((100, 100), np.float32) for name in "xyz"}
    safetensors.write(path, tensors | {"small": np.zeros(3, np.float16), "none": np.zeros((0, 2))})
    return path


def test_the_same_file_has_the_same_fingerprint(path: Path) -> None:
    first = of(path)
    assert len(first) == 16 and int(first, 16) >= 0
    assert of(path) == first
    link = path.with_name("link.safetensors")
    link.symlink_to(path)
    assert of(link) == first


def _poke(path: Path, place: int) -> None:
    """Change a byte in place and put the old modification time back, as `cp -p` over the file would."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("name", ["x", "y", "z", "small"])
def test_a_changed_tensor_changes_it_though_size_and_time_stay(name: str, path: Path) -> None:
    header = safetensors.read(path).header
    entry, before, status = header.entries[name], of(path), path.stat()
    _poke(path, header.data_start + (entry.begin + entry.end) // 2)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert of(path) != before


def test_header_time_place_order_and_configuration_change_it(path: Path, tmp_path: Path) -> None:
    seen = {of(path), of(path, extra=b"{}"), of()}
    copy = tmp_path / "b.safetensors"
    copy.write_bytes(path.read_bytes())
    status = path.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    seen |= {of(copy), of(path, copy), of(copy, path)}
    _poke(path, path.read_bytes().index(b"small"))  # the tensor is called 'rmall' now
    seen.add(of(path))
    os.utime(path, ns=(0, 1))
    seen.add(of(path))
    assert len(seen) == 8


def test_short_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert short_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()[:10] == "ba7816bf8f"
    with pytest.raises(InvalidCheckpoint, match=r"b' cannot be read for its hash: No such file"):
        short_hash(tmp_path / "b")
