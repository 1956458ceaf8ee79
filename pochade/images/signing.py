"""Signs pictures with C2PA manifests (Content Credentials), offline and with the user's own certificate.

A self-signed certificate shows that pictures have the same maker, but not who that is: verifiers call such a
signature valid and its signer unknown. A trusted certificate and its key can be put into the file instead.
"""

import io
import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pochade.atomic import creating
from pochade.errors import InvalidRequest, MissingDependency, OutputError
from pochade.images.decode import open_undecoded
from pochade.images.files import Sign
from pochade.images.marks import GENERATED, TOOL, source_type

TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
BLOCK = re.compile(r"(-----BEGIN ([A-Z ]+)-----\n.*?-----END \2-----)", re.DOTALL)
USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
"""All key usages of X.509; each must be allowed or denied explicitly."""

LOOKS, BETWEEN_LOOKS_S = 25, 0.02

VALID_FOR = timedelta(days=5 * 365)
SMALL = {"verify": {"verify_after_sign": False}, "builder": {"thumbnail": {"enabled": False}}}
"""Settings of the C2PA library: no thumbnail in the manifest, and no verification after signing."""


@dataclass(frozen=True)
class Identity:
    """A signer. chain: certificates as PEM, the signer's first. key: its private key, PEM, PKCS 8, P-256."""

    chain: str
    key: str


@dataclass(frozen=True)
class Signature:
    """The signature of a file. state: "Valid" (intact, unknown signer), "Trusted" or "Invalid"."""

    state: str
    signer: str
    source_type: str


def identity_in(path: Path, now: datetime) -> Identity:
    """Read an identity, a key and certificates, from a PEM file; it is created if the file does not exist.

    Raises MissingDependency without the extra `c2pa`, OutputError if the file cannot be read or written,
    InvalidRequest if it holds no key or no certificate.
    """
    try:
        if not path.exists():
            made = new_identity(now)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (
                suppress(FileExistsError),
                creating(path) as file,
            ):  # another process may create it at the same time
                os.chmod(file.name, 0o600)
                file.write((made.key + made.chain).encode())
        blocks = BLOCK.findall(_written(path))
    except OSError as error:
        raise OutputError(f"'{path}' cannot store the signing key: {error.strerror or error}") from error
    except UnicodeDecodeError as no_text:
        raise InvalidRequest(
            f"'{path}' is not a PEM file; remove it to sign with a new identity"
        ) from no_text
    keys = [block for block, name in blocks if name.endswith("PRIVATE KEY")]
    certificates = [block for block, name in blocks if name == "CERTIFICATE"]
    if len(keys) != 1 or not certificates:
        raise InvalidRequest(
            f"'{path}' holds {len(keys)} private keys and {len(certificates)} certificates; it must hold one"
            " key and the certificates that belong to it, or be removed to sign with a new identity"
        )
    return Identity("\n".join(certificates) + "\n", keys[0] + "\n")


def _written(path: Path) -> str:
    """Read the file, which may be empty for a moment while another process creates it."""
    for _ in range(LOOKS):
        content = path.read_text("ascii")
        if content:
            return content
        time.sleep(BETWEEN_LOOKS_S)
    return ""


def new_identity(now: datetime) -> Identity:
    """Create an identity: a certificate signed by a temporary authority; ECDSA on P-256 (ES256)."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as absent:
        raise _missing() from absent

    def named(name: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, TOOL),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )

    def uses(**allowed: bool) -> x509.KeyUsage:
        return x509.KeyUsage(**dict.fromkeys(USES, False) | allowed)

    def certificate(
        subject: x509.Name, public: Any, signer: Any, authority: bool, usage: x509.KeyUsage
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(named("own authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + VALID_FOR)
            .add_extension(
                x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True
            )
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
            )
        )
        if not authority:
            use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])  # required by C2PA's profile
            builder = builder.add_extension(use, critical=False)
        return builder.sign(signer, hashes.SHA256())

    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    certificates = [
        certificate(named("pictures"), own.public_key(), root, False, uses(digital_signature=True)),
        certificate(
            named("own authority"), root.public_key(), root, True, uses(key_cert_sign=True, crl_sign=True)
        ),
    ]
    pem = serialization.Encoding.PEM
    chain = b"".join(each.public_bytes(pem) for each in certificates)
    key = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(chain.decode(), key.decode())


def signer_in(path: Path, now: datetime, version: str) -> Sign:
    """Return a signer with the identity in a file, created if necessary. Raises as `identity_in` does."""
    return signer(identity_in(path, now), version)


def signer(identity: Identity, version: str) -> Sign:
    """Return a function that signs files for `pochade.images.files.encoded`. version: of Pochade, for the
    manifest.

    Raises MissingDependency without the extra `c2pa`.
    """
    c2pa = _c2pa()

    def sign(content: bytes, kind: str, mark: str | None) -> bytes:
        action = {
            "action": "c2pa.created",
            "digitalSourceType": source_type(GENERATED if mark is None else mark),
            "softwareAgent": {"name": TOOL, "version": version},
        }
        manifest = {
            "claim_generator_info": [{"name": TOOL, "version": version}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        info = c2pa.C2paSignerInfo(b"es256", identity.chain.encode(), identity.key.encode(), None)
        target = io.BytesIO()
        try:
            with (
                c2pa.Signer.from_info(info) as keys,
                c2pa.Context.from_dict(SMALL) as context,
                c2pa.Builder.from_json(manifest, context) as builder,
            ):
                builder.sign(keys, TYPES[kind], io.BytesIO(content), target)
        except c2pa.C2paError as refused:
            raise InvalidRequest(
                f"the picture cannot be signed: {refused}; is the key one of P-256, and its certificate valid"
            ) from refused
        return target.getvalue()

    return sign


def signature_of(content: bytes) -> Signature | None:
    """As `read_signature`, for a file of any kind; returns None without the extra `c2pa`.

    Raises UnreadablePicture if the file is not a picture.
    """
    with open_undecoded(content) as image:
        kind = image.format
    return read_signature(content, kind) if kind in TYPES and find_spec("c2pa") is not None else None


def read_signature(content: bytes, kind: str) -> Signature | None:
    """Read and verify the signature of a picture file; None if it is not signed.

    kind: a name of TYPES. An unreadable signature is "Invalid". Raises MissingDependency without the extra
    `c2pa`.
    """
    c2pa = _c2pa()
    try:
        reader = c2pa.Reader.try_create(TYPES[kind], io.BytesIO(content))
        if reader is None:
            return None
        with reader:
            state, report = reader.get_validation_state(), json.loads(reader.json())
    except c2pa.C2paError:
        return Signature("Invalid", "", "")
    manifest = report["manifests"][report["active_manifest"]]
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    kinds = [action["digitalSourceType"] for action in actions if "digitalSourceType" in action]
    who = manifest.get("signature_info", {})
    return Signature(str(state), who.get("common_name") or who.get("issuer", ""), kinds[0] if kinds else "")


def _c2pa() -> Any:
    try:
        import c2pa
    except ImportError as absent:
        raise _missing() from absent
    return c2pa


def _missing() -> MissingDependency:
    return MissingDependency("signing pictures needs the extra 'c2pa': pip install 'pochade[c2pa]'")
