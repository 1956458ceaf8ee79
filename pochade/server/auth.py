"""Users and their API keys, of which only hashes are kept in memory."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pochade.errors import InvalidRequest
from pochade.jobs.accounts import SLOW_PROOF

LOCAL = "local"
"""The user of a server without keys, and of one with a single key."""

MIN_LENGTH = 8
SCRYPT_N, SCRYPT_P = 2**14, 5
"""OWASP's parameters for 16 MiB (Password Storage Cheat Sheet; Percival 2009, scrypt)."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class Keys:
    """User name -> SHA-256 of the key. Empty: everyone is LOCAL."""

    digests: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.digests)

    def owner(self, key: str) -> str | None:
        """Return the user with this key, in constant time."""
        digest, found = _digest(key), None
        for name, known in self.digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def proof(self, owner: str, token: str) -> str:
        """Return a proof of the owner's key for one session, invalid once the key changes; "" for an unknown
        user.

        It is stored on disk, so computing it takes about a tenth of a second, which slows down guessing if
        the disk is stolen. token: the session cookie's value, so that all proofs differ.
        """
        digest = self.digests.get(owner)
        if digest is None:
            return ""
        salt = hashlib.sha256(b"proof" + token.encode()).digest()
        slow = hashlib.scrypt(digest, salt=salt, n=SCRYPT_N, r=8, p=SCRYPT_P, maxmem=2**26, dklen=32)
        return SLOW_PROOF + slow.hex()


def one_key(key: str) -> Keys:
    """Return the keys of a server with a single key. Raises InvalidRequest if it is too short."""
    return Keys({LOCAL: _checked(key.strip(), "the key")})


def read_keys(path: Path) -> Keys:
    """Read a file of lines NAME:KEY; # starts a comment. Raises InvalidRequest, naming the line."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the keys '{path}' cannot be read: {error}") from error
    digests: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, key = line.strip().partition(":")
        where = f"line {number} of '{path}'"
        if not colon or not NAME.fullmatch(name):
            raise InvalidRequest(f"{where} is not NAME:KEY; a name consists of letters, digits and _.@-")
        digest = _checked(key.strip(), where)
        if name in digests or digest in digests.values():
            raise InvalidRequest(f"{where}: the name or the key appears twice in the file")
        digests[name] = digest
    if not digests:
        raise InvalidRequest(f"there is no key in '{path}'; write lines NAME:KEY")
    return Keys(digests)


def key_of_header(authorization: str) -> str | None:
    """Return the key in `Bearer KEY`, or the password in `Basic ...`."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return None
    return None


def _checked(key: str, where: str) -> bytes:
    if len(key) < MIN_LENGTH:
        raise InvalidRequest(f"{where} is too short; a key must have at least {MIN_LENGTH} characters")
    return _digest(key)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
