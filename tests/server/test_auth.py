"""Authentication, access to data of other users, and security headers."""

import json
import re
import stat
from pathlib import Path

import httpx
import pytest

from pochade.errors import InvalidRequest
from pochade.server.auth import key_of_header, one_key, read_keys
from pochade.server.hostnames import is_allowed_host
from pochade.server.rate_limit import Rate, TokenBuckets
from tests.server.conftest import ANNS_KEY, BOBS_KEY, KEYS, Served, Start

ANN, BOB = ({"Authorization": f"Bearer {key}"} for key in (ANNS_KEY, BOBS_KEY))


# --- keys -------------------------------------------------------------------------------------------------


def test_nothing_but_the_page_and_the_login_is_open_without_a_key(shared: Served) -> None:
    paths = shared.http.get("/api/v1/openapi.json", headers=ANN).json()["paths"]
    asked = 0
    for path, methods in paths.items():
        for method in methods:
            if path in ("/api/v1/session", "/api/v1/login", "/api/v1/logout"):
                continue
            reply = shared.http.request(method, re.sub(r"\{[^}]+\}", "x", path), json={})
            assert reply.status_code == 401, (method, path)
            asked += 1
    assert asked > 60
    assert shared.http.get("/").status_code == 200
    assert shared.http.get("/api/v1/session").json() == {"user": None, "login_required": True}


def test_users_see_hear_and_stop_only_what_is_their_own(shared: Served) -> None:
    job = shared.http.post("/api/v1/jobs", json={"prompt": "0.02 mine", "steps": 50}, headers=ANN).json()
    post, get = shared.http.post, shared.http.get
    for path in (f"/api/v1/jobs/{job['id']}", f"/api/v1/jobs/{job['id']}/events"):
        assert get(path, headers=BOB).status_code == 404
    for path in (f"/api/v1/jobs/{job['id']}/cancel", f"/api/v1/jobs/{job['id']}/skip"):
        assert post(path, headers=BOB).status_code == 404
    assert shared.http.delete(f"/api/v1/jobs/{job['id']}", headers=BOB).status_code == 404
    assert post("/api/v1/jobs/cancel", headers=BOB).json() == {"cancelled": 0}
    assert post("/sdapi/v1/interrupt", headers=BOB).json() == {}
    assert get("/sdapi/v1/progress", headers=BOB).json()["state"]["job_count"] == 0
    assert get("/api/v1/status", headers=BOB).json()["queue"]["own_running"] == 0
    while (found := get(f"/api/v1/jobs/{job['id']}", headers=ANN).json())["state"] != "finished":
        assert found["state"] in ("queued", "running")
    picture = found["pictures"][0]
    for path in (picture["url"], picture["thumbnail"], f"{picture['url']}/about"):
        assert get(path, headers=ANN).status_code == 200
        assert get(path, headers=BOB).status_code == 404
    assert post(f"{picture['url']}/pin", json={"pinned": True}, headers=BOB).status_code == 404
    assert shared.http.delete(picture["url"], headers=BOB).status_code == 404
    assert get("/api/v1/pictures", headers=BOB).json()["pictures"] == []
    theirs = {"kind": "img2img", "source": {"image": f"picture:{picture['id']}"}}
    assert post("/api/v1/jobs", json=theirs, headers=BOB).status_code == 422
    assert post("/api/v1/jobs", json=theirs, headers=ANN).status_code == 202


def test_a_login_is_a_cookie_that_scripts_cannot_read_and_that_ends(shared: Served) -> None:
    with httpx.Client(base_url=shared.url) as browser:
        assert browser.post("/api/v1/login", json={"key": "wrong key"}).status_code == 401
        reply = browser.post("/api/v1/login", json={"key": "ann's long key"})
        assert reply.json() == {"user": "ann"}
        cookie = reply.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "long key" not in cookie
        assert browser.get("/api/v1/status").json()["user"] == "ann"
        token = browser.cookies["pochade_session"]
        assert browser.post("/api/v1/logout").json() == {"user": None}
        copied = browser.get("/api/v1/status", headers={"Cookie": f"pochade_session={token}"})
        assert copied.status_code == 401
        stored = b"".join(file.read_bytes() for file in shared.data.glob("jobs.sqlite*"))
        assert token.encode() not in stored and b"long key" not in stored


@pytest.mark.slow
def test_wrong_keys_are_slowed_down(pretending: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEYS)
    served = pretending(keys=str(keys))
    statuses = [
        served.http.get("/api/v1/status", headers={"Authorization": f"Bearer guess{i}"}).status_code
        for i in range(14)
    ]
    assert statuses[:5] == [401] * 5 and statuses[-1] == 429


def test_the_folder_is_for_its_user_alone(shared: Served) -> None:
    assert stat.S_IMODE(shared.data.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann", "is not NAME:KEY"),
        ("ann:short", "too short"),
        ("ann:one long key\nann:other long key", "twice"),
        ("ann:one long key\nbob:one long key", "twice"),
        ("../ann:one long key", "is not NAME:KEY"),
        ("# nobody\n", "there is no key"),
    ],
)
def test_a_file_of_keys_that_is_wrong_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InvalidRequest, match=message):
        read_keys(tmp_path / "keys")


def test_keys_are_not_in_what_they_are_kept_in() -> None:
    keys = one_key("a long secret")
    assert keys.owner("a long secret") == "local" and keys.owner("a long secret ") is None
    assert "secret" not in repr(keys)
    assert key_of_header("Bearer a b") == "a b"
    assert key_of_header("Basic YW5uOmE6Yg==") == "a:b"
    for odd in ("Basic ???", "Basic /w==", "Digest x", "", "Basic"):
        assert key_of_header(odd) in (None, "")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "studio.example.org"])
def test_an_open_address_without_a_key_is_refused_at_the_start(host: str, tmp_path: Path) -> None:
    from pochade.server.config import Options
    from pochade.server.run import serve

    with pytest.raises(InvalidRequest, match="requires a key"):
        serve(Options(data=tmp_path), host, 0)
    assert list(tmp_path.iterdir()) == []


# --- browsers ---------------------------------------------------------------------------------------------


def test_what_is_not_there_is_not_found_in_every_shape(quick: Served) -> None:
    for path in ("/nothing", "/script-info", "/../pyproject.toml", "/%2e%2e/app.py", "/api/v1/nothing"):
        assert quick.http.get(path).status_code == 404
    assert quick.http.get("/sdapi/v1/nothing").json()["detail"] == "Not Found"
    assert quick.http.get("/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert quick.http.put("/api/v1/jobs").json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/nothing", "/sdapi/v1/nothing", "/v1/nothing"])
def test_every_reply_has_the_headers_that_keep_a_page_in_its_bounds(quick: Served, path: str) -> None:
    headers = quick.http.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["x-request-id"] and "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_changes_nothing(quick: Served, headers: dict[str, str]) -> None:
    for path in ("/api/v1/jobs", "/sdapi/v1/txt2img", "/v1/images/generations", "/api/v1/jobs/cancel"):
        reply = quick.http.post(path, json={"prompt": "x"}, headers=headers)
        assert reply.status_code == 403
    own = {"Origin": quick.url, "Sec-Fetch-Site": "same-origin"}
    assert quick.http.post("/api/v1/jobs", json={"prompt": "x"}, headers=own).status_code == 202


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "["])
def test_a_foreign_name_for_this_server_gets_no_answer(quick: Served, host: str) -> None:
    assert quick.http.get("/api/v1/status", headers={"Host": host}).status_code in (400, 403)


def test_names_by_which_a_server_may_be_called() -> None:
    for host, here, there in (
        ("localhost:7860", True, False),
        ("[::1]:7860", True, True),
        ("192.0.2.7:7860", False, True),
        ("studio.example.org", False, True),
        ("Studio.Example.org:1", False, True),
        ("example.org", False, False),
    ):
        assert is_allowed_host(host, ("localhost", "127.0.0.1", "::1"), numbers=False) is here, host
        assert is_allowed_host(host, ("studio.example.org",), numbers=True) is there, host


def test_replies_tell_nothing_of_the_computer(studio: Served) -> None:
    for path in (
        "/api/v1/status",
        "/api/v1/models",
        "/sdapi/v1/options",
        "/sdapi/v1/cmd-flags",
        "/sdapi/v1/sd-models",
        "/sdapi/v1/upscalers",
        "/sdapi/v1/loras",
    ):
        text = json.dumps(studio.http.get(path).json())
        assert str(studio.data) not in text and "/home/" not in text and "/root" not in text, path


# --- rates ------------------------------------------------------------------------------------------------


def test_a_bucket_gives_what_it_has_and_fills_again() -> None:
    now = [0.0]
    buckets = TokenBuckets(Rate(per_s=2, burst=3), lambda: now[0])
    assert [buckets.wait_s("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.wait_s("a") == pytest.approx(0.5)
    assert buckets.wait_s("b") == 0
    now[0] = 0.5
    assert buckets.wait_s("a") == 0
    for i in range(30_000):
        buckets.wait_s(str(i))
    assert len(buckets._left) <= 10_000
