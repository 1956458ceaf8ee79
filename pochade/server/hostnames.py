"""The names that this server is called by, and whether a request comes from one of its own pages."""

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
    """Names as --allow-host takes them, as browsers send them. Raises InvalidRequest for what can be none."""
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
    """A name in small ASCII letters without the dot of the root. Raises ValueError for one that has none."""
    plain = name.lower().removesuffix(".")
    return plain if plain.isascii() else plain.encode("idna").decode("ascii")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def called_rightly(host: str, names: Sequence[str], *, numbers: bool) -> bool:
    """Whether the header Host names this server: a page whose own name leads here must not get an answer.

    names: by which it may be called. numbers: whether it may be called by any IP address too.
    """
    parts = _split(f"//{host}")
    name = "" if parts is None else (parts.hostname or "").removesuffix(".")
    if ANY in names or name in names:
        return True
    return numbers and _is_address(name)


def from_here(headers: Headers, host: str, allowed: Sequence[str]) -> bool:
    """Whether a browser's request comes from a page of this server. What is no browser says nothing of it.

    allowed: names that were given for this server. A proxy may pass on another Host than the browser knows,
    or none of its port, so a page of such a name may have any port. A browser's own word for it
    (Sec-Fetch-Site) counts where no other page can be taken for this one: over TLS, or on this computer.
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
    """None for what is no address, or has a port that is none."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _port(parts: SplitResult, default: bool = False) -> int | None:
    usual = PORTS.get(parts.scheme)
    return usual if default or parts.port is None else parts.port
