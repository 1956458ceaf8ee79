"""Trusted reverse proxies, and the address of the client behind them.

Anybody can send X-Forwarded-For. It is used only where the connection comes from a proxy that is listed at
the start, and is read from its end, since each proxy appends the address that it saw.
"""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pochade.errors import InvalidRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN = "unknown"
"""Name of a client whose address is unknown."""

SUBSCRIBER_BITS = 64
"""Length of the prefix that identifies a subscriber in IPv6; the subscriber can choose the rest freely."""


IPV4_BEGINS = 96
"""Bits before the IPv4 address in an IPv4-mapped IPv6 address."""


def read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse addresses and networks, "10.0.0.7" or "10.0.0.0/8". Raises InvalidRequest for anything else."""
    networks = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text.strip().strip("[]"))
        except ValueError as error:
            raise InvalidRequest(
                f"--trusted-proxy '{text}' is not the address of a proxy ({error}); write 127.0.0.1 or"
                " 10.0.0.0/8"
            ) from error
        network = _unmapped(network)
        if network.prefixlen == 0:
            raise InvalidRequest(
                f"--trusted-proxy '{text}' includes every address, so each client could forge its own in"
                " X-Forwarded-For; give those of the proxies"
            )
        networks.append(network)
    return tuple(networks)


def _unmapped(network: Network) -> Network:
    """Convert IPv4-mapped IPv6, as dual-stack servers report it, to IPv4: "::ffff:10.0.0.7" to 10.0.0.7."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < IPV4_BEGINS:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - IPV4_BEGINS))


class ProxyMiddleware:
    """ASGI middleware that puts the client's address and scheme into the scope.

    trusted: proxies whose X-Forwarded-For is used. X-Forwarded-Proto is accepted from them and from this
    computer; it only affects how cookies and links are written.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network] = ()) -> None:
        self._app, self._trusted = app, tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(self._with_client(scope), receive, send)

    def _with_client(self, scope: Scope) -> Scope:
        peer = address_of((scope.get("client") or (UNKNOWN,))[0])
        if scope["type"] != "http" or peer is None:
            return scope
        headers = Headers(scope=scope)
        changed = dict(scope)
        if self._is_trusted(peer):
            hops = ",".join(headers.getlist("x-forwarded-for")).split(",")
            changed["client"] = (str(self._client(peer, hops)), 0)
        if self._is_trusted(peer) or peer.is_loopback:
            scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
            if scheme in ("http", "https"):
                changed["scheme"] = scheme
        return changed

    def _client(self, peer: Address, hops: Sequence[str]) -> Address:
        """Return the last address that is not a trusted proxy's; earlier ones may be forged by the client."""
        for hop in reversed(hops):
            found = address_of(hop)
            if found is None:
                return peer
            peer = found
            if not self._is_trusted(found):
                return found
        return peer

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def address_of(text: str) -> Address | None:
    """Parse an address with or without a port, as proxies write it; None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def rate_limit_name(client: str) -> str:
    """Return the name for rate limits of an address: for IPv6 the subscriber's network."""
    address = address_of(client)
    if address is None:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, SUBSCRIBER_BITS), strict=False))
    return str(address)
