"""The host names of this server, and whether a request comes from one of its own pages."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from pochade.errors import InvalidRequest

ANY = "*"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
PORTS = {"http": 80, "https": 443}


def read_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Normalise names given with --allow-host. Raises InvalidRequest for invalid ones."""
    names = []
    for text in texts:
        name = text.strip().lower()
        try:
            found = urlsplit(f"//{name}" if name.count(":") < 2 or "[" in name else f"//[{name}]")
            plain = found.hostname if not (found.port or found.path or found.query) else None
            plain = plain and _as_sent(plain)
        except ValueError:
            plain = None
        if not plain or not (plain == ANY or NAME.fullmatch(plain) or _is_address(plain)):
            raise InvalidRequest(
                f"--allow-host '{text}' is not a host name; write studio.example.org, without http:// and"
                " port"
            )
        names.append(plain)
    return tuple(names)


def _as_sent(name: str) -> str:
    """Convert a name to lower-case ASCII without a trailing dot. Raises ValueError if that is impossible."""
    plain = name.lower().removesuffix(".")
    return plain if plain.isascii() else plain.encode("idna").decode("ascii")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_allowed_host(host: str, names: Sequence[str], *, numbers: bool) -> bool:
    """Return whether the Host header names this server; protects against DNS rebinding.

    names: allowed host names. numbers: whether any IP address is allowed too.
    """
    parts = _split(f"//{host}")
    name = "" if parts is None else (parts.hostname or "").removesuffix(".")
    if ANY in names or name in names:
        return True
    return numbers and _is_address(name)


def is_same_origin(headers: Headers, host: str, allowed: Sequence[str]) -> bool:
    """Whether a browser's request comes from a page of this server. Other clients send no such headers and
    are allowed.

    allowed: names given for this server. A proxy may pass on another Host than the browser's, or drop the
    port, so a page on such a name may have any port. Sec-Fetch-Site is trusted if no other page can
    impersonate
    this one: over TLS, or on this computer.
    """
    site = headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    page, called = _split(origin), _split(f"//{host}")
    if page is None or called is None or not page.hostname or page.scheme not in PORTS:
        return False
    if page.netloc.lower() == host.lower():
        return True
    if page.hostname == called.hostname and _port(page) == (called.port or _port(page, default=True)):
        return True
    if page.hostname.removesuffix(".") in allowed:
        return True
    return site == "same-origin" and (page.scheme == "https" or page.hostname in LOOPBACK)


def _split(address: str) -> SplitResult | None:
    """None for an invalid address or port."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _port(parts: SplitResult, default: bool = False) -> int | None:
    usual = PORTS.get(parts.scheme)
    return usual if default or parts.port is None else parts.port
