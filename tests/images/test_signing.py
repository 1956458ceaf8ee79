"""Signatures: made here, read back by the library that others check with."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from pochade.errors import InvalidRequest, OutputError
from pochade.images.embedded_text import mark_of, text_of
from pochade.images.files import Sign, encoded
from pochade.images.marks import EDITED, GENERATED, source_type

pytest.importorskip("c2pa", reason="the extra c2pa is not installed")

from pochade.images.signing import Identity, identity_in, new_identity, read_signature, signer

KINDS = pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
TEXT = "a fox 🦊\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64"
NOW = datetime.now(UTC)
PICTURE = Image.linear_gradient("L").resize((64, 64)).convert("RGB")


@pytest.fixture(scope="module")
def identity() -> Identity:
    return new_identity(NOW)


@pytest.fixture(scope="module")
def sign(identity: Identity) -> Sign:
    return signer(identity, "0.1.0")


@KINDS
@pytest.mark.parametrize("mark", [GENERATED, EDITED])
def test_a_signed_picture_is_valid_and_keeps_what_it_said(sign: Sign, kind: str, mark: str) -> None:
    plain, signed = (encoded(PICTURE, kind, TEXT, mark=mark, sign=how) for how in (None, sign))
    found = read_signature(signed, kind)
    assert found is not None
    assert (found.state, found.signer, found.source_type) == ("Valid", "pictures", source_type(mark))
    assert text_of(signed) == TEXT
    assert mark_of(signed) == mark
    assert len(signed) - len(plain) < 5000
    assert read_signature(plain, kind) is None


@KINDS
def test_a_changed_picture_is_no_longer_valid(sign: Sign, kind: str) -> None:
    signed = bytearray(encoded(PICTURE, kind, TEXT, sign=sign))
    where = bytes(signed).index(b"trainedAlgorithmicMedia</Iptc4xmpExt")
    signed[where] ^= 1
    found = read_signature(bytes(signed), kind)
    assert found is not None
    assert found.state == "Invalid"


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "new" / "signing.pem"
    first = identity_in(path, NOW)
    assert identity_in(path, NOW + timedelta(days=400)) == first
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["signing.pem"]


def test_many_that_begin_at_once_sign_as_one(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    found: list[Identity] = []
    threads = [threading.Thread(target=lambda: found.append(identity_in(path, NOW))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("content", [b"", b"no pem", b"\xff\xfe"])
def test_a_file_without_a_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing.pem"
    path.write_bytes(content)
    with pytest.raises(
        InvalidRequest, match=r"signing\.pem' (holds 0 private keys|is not a PEM file).*remove"
    ):
        identity_in(path, NOW)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    with pytest.raises(OutputError, match=r"file/signing\.pem' (cannot|could not)"):
        identity_in(tmp_path / "file" / "signing.pem", NOW)


def test_a_key_that_does_not_fit_its_certificate(identity: Identity) -> None:
    broken = signer(Identity(identity.chain, "no key"), "0.1.0")
    with pytest.raises(InvalidRequest, match="the picture cannot be signed"):
        encoded(PICTURE, "PNG", TEXT, sign=broken)
