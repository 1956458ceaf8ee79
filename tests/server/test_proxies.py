"""Reverse proxies: trusted headers, allowed origins, and path prefixes."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from pochade.errors import InvalidRequest
from pochade.server.hostnames import is_allowed_host, is_same_origin, read_names
from pochade.server.proxies import ProxyMiddleware, rate_limit_name, read_networks
from tests.server.conftest import KEYS, ROOT, Start

STATIC = ROOT / "pochade" / "server" / "static"


# --- X-Forwarded-For --------------------------------------------------------------------------------------


def seen(peer: str, headers: Sequence[tuple[str, str]], trusted: Sequence[str] = ()) -> tuple[str, str]:
    """The client's address and scheme as the server sees them."""
    found: list[tuple[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append((scope["client"][0], scope["scheme"]))

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "client": (peer, 5000), "scheme": "http", "headers": raw}
    asyncio.run(ProxyMiddleware(app, read_networks(trusted))(scope, None, None))  # type: ignore[arg-type]
    return found[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "client"),
    [
        ("127.0.0.1", "10.1.1.1", (), "127.0.0.1"),
        ("203.0.113.5", "10.1.1.1", ("127.0.0.1",), "203.0.113.5"),
        ("127.0.0.1", "198.51.100.7", ("127.0.0.1",), "198.51.100.7"),
        ("127.0.0.1", "1.1.1.1, 198.51.100.7", ("127.0.0.1",), "198.51.100.7"),
        ("10.0.0.2", "1.1.1.1, 198.51.100.7, 10.0.0.9", ("10.0.0.0/8",), "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7:4711", ("127.0.0.1",), "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::1]:4711", ("127.0.0.1",), "2001:db8::1"),
        ("::ffff:127.0.0.1", "198.51.100.7", ("127.0.0.1",), "198.51.100.7"),
        ("::1", "198.51.100.7", ("::1",), "198.51.100.7"),
        ("127.0.0.1", "1.1.1.1, nonsense", ("127.0.0.1",), "127.0.0.1"),
        ("127.0.0.1", "", ("127.0.0.1",), "127.0.0.1"),
        ("10.0.0.2", "10.0.0.3, 10.0.0.4", ("10.0.0.0/8",), "10.0.0.3"),
    ],
)
def test_an_address_comes_from_listed_proxies_only(
    peer: str, forwarded: str, trusted: Sequence[str], client: str
) -> None:
    assert (seen(peer, [("x-forwarded-for", forwarded)], trusted))[0] == client


def test_several_lines_of_the_header_are_one_list() -> None:
    headers = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.7")]
    assert (seen("127.0.0.1", headers, ["127.0.0.1"]))[0] == "198.51.100.7"


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [("127.0.0.1", "https", "https"), ("203.0.113.5", "https", "http"), ("127.0.0.1", "javascript", "http"),
     ("10.0.0.2", "https, http", "https")],
)  # fmt: skip
def test_the_scheme_is_taken_from_this_computer_and_from_proxies(peer: str, said: str, scheme: str) -> None:
    assert (seen(peer, [("x-forwarded-proto", said)], ["10.0.0.2"]))[1] == scheme


@pytest.mark.parametrize("text", ["*", "0.0.0.0/0", "::/0", "proxy.example.org", "10.0.0.1/8", ""])
def test_proxies_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--trusted-proxy"):
        read_networks([text])


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "ProxyMiddleware"])
def test_a_new_address_for_each_wrong_key_gives_no_further_guess(
    pretending: Start, tmp_path: Path, header: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    served = pretending(keys=str(keys))
    post, statuses = served.http.post, []
    for guess in range(12):
        address = f"for=198.51.100.{guess}" if header == "ProxyMiddleware" else f"198.51.100.{guess}"
        reply = post("/api/v1/login", json={"key": f"guess {guess}"}, headers={header: address})
        statuses.append(reply.status_code)
    assert statuses == [401] * 10 + [429] * 2


def test_behind_a_listed_proxy_each_address_has_guesses_of_its_own(pretending: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    served = pretending(keys=str(keys), trusted_proxies=["127.0.0.1"])

    def guess(address: str) -> int:
        headers = {"X-Forwarded-For": f"1.2.3.4, {address}"}
        return served.http.post("/api/v1/login", json={"key": "wrong key"}, headers=headers).status_code

    assert [guess("198.51.100.1") for _ in range(11)] == [401] * 10 + [429]
    assert guess("198.51.100.2") == 401
    # Whoever has an IPv6 network has all of its addresses.
    assert [guess(f"2001:db8::{i:x}") for i in range(1, 12)] == [401] * 10 + [429]
    assert guess("2001:db8:0:1::1") == 401
    login = {"json": {"key": "ann's long key"}, "headers": {"X-Forwarded-Proto": "https"}}
    assert "Secure" in served.http.post("/api/v1/login", **login).headers["set-cookie"]


def test_what_addresses_are_counted_by() -> None:
    assert rate_limit_name("::ffff:10.0.0.1") == rate_limit_name("10.0.0.1") == "10.0.0.1"
    assert (
        rate_limit_name("2001:db8::1")
        == rate_limit_name("2001:db8::ffff")
        != rate_limit_name("2001:db8:0:1::1")
    )
    assert rate_limit_name("unknown") == "unknown"


# --- pages behind a proxy ---------------------------------------------------------------------------------

STUDIO = ("studio.example.org",)


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "site", "ours"),
    [
        # The page of an allowed name, whatever a proxy made of Host.
        ("https://studio.example.org", "127.0.0.1:7860", STUDIO, None, True),
        ("https://studio.example.org:8443", "studio.example.org", STUDIO, None, True),
        ("http://studio.example.org:8080", "studio.example.org:7860", STUDIO, None, True),
        ("https://studio.example.org", "studio.example.org:443", (), None, True),
        ("https://studio.example.org", "studio.example.org:7860", (), None, False),
        # A browser's own word, which only counts where no name can be turned.
        ("https://studio.example.org", "127.0.0.1:7860", (), "same-origin", True),
        ("http://localhost:8080", "127.0.0.1:7860", (), "same-origin", True),
        ("http://evil.example:7860", "127.0.0.1:7860", (), "same-origin", False),
        ("https://evil.example", "127.0.0.1:7860", STUDIO, None, False),
        ("https://evil.example", "studio.example.org", STUDIO, "cross-site", False),
        ("https://studio.example.org:1", "studio.example.org", STUDIO, "same-site", False),
        ("http://localhost:3000", "localhost:7860", (), None, False),
        ("http://studio.example.org.evil.example", "studio.example.org", STUDIO, None, False),
        ("https://studio.example.org@evil.example", "studio.example.org", STUDIO, None, False),
        ("null", "127.0.0.1:7860", STUDIO, "same-origin", False),
        ("https://studio.example.org.", "127.0.0.1:7860", STUDIO, None, True),
        ("chrome-extension://studio.example.org", "studio.example.org", STUDIO, None, False),
        ("file://studio.example.org", "studio.example.org", STUDIO, None, False),
        ("http://127.0.0.1:99999999", "127.0.0.1:7860", STUDIO, None, False),
        (None, "127.0.0.1:7860", (), None, True),
        (None, "127.0.0.1:7860", (), "cross-site", False),
    ],
)
def test_which_pages_may_change_something(
    origin: str | None, host: str, allowed: Sequence[str], site: str | None, ours: bool
) -> None:
    headers = {"origin": origin, "sec-fetch-site": site}
    given = Headers({name: value for name, value in headers.items() if value is not None})
    assert is_same_origin(given, host, allowed) is ours


def test_allowed_names_are_read_as_browsers_write_them() -> None:
    assert read_names(["Studio.Example.org", "*", "[::1]", "2001:db8::1", "192.0.2.1"]) == (
        "studio.example.org", "*", "::1", "2001:db8::1", "192.0.2.1")  # fmt: skip
    assert is_allowed_host("[2001:db8::1]:7860", read_names(["2001:db8::1"]), numbers=False)
    # Letters beyond ASCII go as IDNA; the dot of the root says nothing.
    assert read_names(["Studio.Example.org.", "münchen.example"]) == (
        "studio.example.org",
        "xn--mnchen-3ya.example",
    )
    for host in ("studio.example.org.", "studio.example.org.:7860", "STUDIO.example.org"):
        assert is_allowed_host(host, STUDIO, numbers=False), host
    for wrong in (
        "*.example.org",
        "two names",
        "https://studio.example.org",
        "studio.example.org:8443",
        "a/b",
        "",
        "[",
        "a:b",
    ):
        with pytest.raises(InvalidRequest, match="--allow-host"):
            read_names([wrong])


def test_buttons_work_behind_a_proxy_and_a_foreign_name_still_gets_nothing(pretending: Start) -> None:
    served = pretending(names=["studio.example.org"])

    def press(host: str, **headers: str) -> int:
        return served.http.post(
            "/api/v1/jobs", json={"prompt": "a fox"}, headers={"Host": host, **headers}
        ).status_code

    page = "https://studio.example.org:8443"
    upstream = f"127.0.0.1:{served.port}"
    for host in (upstream, "studio.example.org", "studio.example.org:8443"):
        assert press(host, Origin=page) == 202
        assert press(host, Origin="https://evil.example") == 403
    # A page whose own name leads here, whatever it or its browser says of it.
    rebound = {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}
    assert press("evil.example", **rebound) == 403
    assert served.http.get("/api/v1/models", headers={"Host": "evil.example"}).status_code == 403


# --- below a path -----------------------------------------------------------------------------------------


def test_the_page_names_nothing_by_an_address_from_the_root() -> None:
    looked = 0
    for file in (*STATIC.glob("*.html"), *STATIC.rglob("*.js"), *STATIC.rglob("*.css")):
        text = file.read_text(encoding="utf-8")
        found = re.findall(r"""["'`(]/(?:static|api)\b[^"'`)]*""", text)
        assert found == [], file.name
        looked += 1
    assert looked > 20


def test_a_style_finds_its_pictures_from_where_it_lies() -> None:
    for file in STATIC.rglob("*.css"):
        for address in re.findall(r'url\("([^"]+)"\)', file.read_text(encoding="utf-8")):
            assert (file.parent / address).resolve().is_file(), (file.name, address)


def test_a_server_with_a_proxy_that_is_none_does_not_start(tmp_path: Path) -> None:
    from pochade.server.config import Options
    from pochade.server.run import serve

    with pytest.raises(InvalidRequest, match="--trusted-proxy 'everyone'"):
        serve(Options(data=tmp_path, trusted_proxies=("everyone",)), "127.0.0.1", 0)
    with pytest.raises(InvalidRequest, match="--allow-host 'https://studio'"):
        serve(Options(data=tmp_path), "127.0.0.1", 0, ("https://studio",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [("::ffff:10.0.0.7", "10.0.0.7/32"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("[::1]", "::1/128")],
)
def test_a_proxy_written_as_an_address_of_ipv6(written: str, meant: str) -> None:
    (network,) = read_networks([written])
    assert str(network) == meant


def test_every_address_of_ipv4_written_as_one_of_ipv6_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="includes every address"):
        read_networks(["::ffff:0.0.0.0/96"])
