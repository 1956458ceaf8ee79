"""Downloading known models through the native API, and errors."""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import constants

from pochade.cli import serve
from pochade.errors import InvalidRequest
from pochade.hub.known_models import KNOWN_MODELS, known
from pochade.jobs.catalogue import Folders
from pochade.server.auth import Keys, read_keys
from pochade.server.service import Service
from tests.fake_hub import COMMIT, FakeHub, serving, sizes_below
from tests.hub.conftest import hub as fake_hub
from tests.server.conftest import ANNS_KEY, BOBS_KEY, KEYS, Served, real, servers
from tests.server.in_process import served

__all__ = ["fake_hub"]
NAME = "lcm-dreamshaper"
UNET = "unet/diffusion_pytorch_model.safetensors"
LICENCE = "openrail++"


@pytest.fixture(scope="module")
def hub(whole: Callable[[str], Any]) -> Iterator[FakeHub]:
    """A hub that has a small model, which can be drawn with, in place of the one of that name."""
    folder = whole("SD 1.5").saved()
    files = [each for each in folder.rglob("*") if each.is_file()]
    contents = {each.relative_to(folder).as_posix(): each.read_bytes() for each in files}
    with serving(FakeHub(contents, repo=known(NAME).repo)) as there:
        yield there


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models") / "own"


@pytest.fixture(scope="module")
def studio(
    hub: FakeHub, models: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    outside = {name: value for name, value in environment.items() if not name.startswith("HF_")}
    ours = {
        **outside,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(models.parent / "hf"),
        "HF_HUB_OFFLINE": "0",
    }
    with servers(ours, tmp_path_factory, real) as start:
        yield start("--models", str(models))


@pytest.fixture(autouse=True)
def sound(hub: FakeHub) -> None:
    hub.cuts, hub.damaged, hub.broken, hub.card = [], set(), None, {"license": LICENCE}
    hub.log.clear()


def pull(studio: Served, **changes: Any) -> httpx.Response:
    return studio.http.post("/api/v1/pulls", json={"model": NAME, "licence": LICENCE, **changes})


def state(studio: Served, name: str = NAME) -> dict[str, Any]:
    rows = {row["name"]: row for row in studio.http.get("/api/v1/known-models").json()["models"]}
    return dict(rows[name])


def test_the_list_asks_nobody(studio: Served, hub: FakeHub) -> None:
    told = studio.http.get("/api/v1/known-models").json()
    assert told["may_fetch"] is True
    assert [row["name"] for row in told["models"]] == [model.name for model in KNOWN_MODELS]
    row = state(studio, "sd15")
    assert (row["state"], row["job"], row["licence"]) == ("missing", None, "creativeml-openrail-m")
    assert row["bytes"] == 2 * sum(known("sd15").parameters.values()) and row["usual"]["steps"] == 20
    assert hub.log == []


def test_a_licence_must_be_accepted(studio: Served, hub: FakeHub, models: Path) -> None:
    reply = studio.http.post("/api/v1/pulls", json={"model": NAME})
    assert reply.status_code == 422 and reply.json()["error"]["field"] == "licence"
    assert hub.log == []
    job = pull(studio, licence="mit").json()
    failed = studio.until(job["id"])
    assert failed["state"] == "failed" and f"the hub names the licence '{LICENCE}'" in failed["error"]
    assert "and 'mit' was accepted" in failed["error"] and hub.requests("store") == []
    assert state(studio)["state"] == "missing" and not (models / "diffusers").exists()


def test_bytes_with_another_hash_are_refused(studio: Served, hub: FakeHub, models: Path) -> None:
    hub.damaged = {UNET}
    failed = studio.until(pull(studio).json()["id"])
    assert failed["state"] == "failed" and "damaged and has been removed" in failed["error"]
    assert state(studio)["state"] == "missing" and not (models / "diffusers").exists()


def test_another_file_than_the_catalogue_knows_is_refused_at_the_look_up(
    studio: Served, hub: FakeHub
) -> None:
    model = known("sd15")
    repo, files = hub.repo, hub.files
    hub.repo, hub.files = model.repo, {str(model.file): b"another" * 100}
    try:
        reply = studio.http.post("/api/v1/known-models/sd15/look-up")
    finally:
        hub.repo, hub.files = repo, files
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "hub")
    assert "states another hash" in reply.json()["error"]["message"] and hub.requests("store") == []


def test_a_hub_that_is_ill(studio: Served, hub: FakeHub) -> None:
    hub.broken = 503
    reply = studio.http.post(f"/api/v1/known-models/{NAME}/look-up")
    assert reply.status_code == 502 and "the hub answered 503" in reply.json()["error"]["message"]
    failed = studio.until(pull(studio).json()["id"])
    assert failed["state"] == "failed" and "the hub answered 503; try again later" in failed["error"]


def test_cancelled_and_gone_on_with_while_others_draw(studio: Served, hub: FakeHub, models: Path) -> None:
    hub.cuts = [3000, *[0] * 9]
    job = pull(studio).json()
    assert (job["kind"], job["model"], job["request"]) == ("pull", NAME, {"licence": LICENCE, "commit": ""})
    studio.until(job["id"], "running")
    again = pull(studio)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    while 3000 not in sizes_below(models, "*.part"):
        time.sleep(0.01)
    drawn = studio.submit(prompt="a fox", steps=2, seed=1)
    assert studio.until(drawn["id"])["state"] == "finished"
    assert state(studio)["state"] == "running" and state(studio)["job"] == job["id"]
    assert studio.http.get("/api/v1/status").json()["queue"]["running"] == 0
    assert studio.http.post(f"/api/v1/jobs/{job['id']}/cancel").status_code == 200
    assert studio.until(job["id"])["state"] == "cancelled" and state(studio)["state"] == "missing"
    hub.cuts = []
    offer = studio.http.post(f"/api/v1/known-models/{NAME}/look-up").json()
    assert offer["held"] >= 3000


def test_a_server_that_was_killed_goes_on_with_it_at_its_next_start(
    studio: Served, hub: FakeHub, models: Path
) -> None:
    hub.cuts = [0] * 50
    job = pull(studio, commit=COMMIT).json()
    studio.until(job["id"], "running")
    studio.kill()
    hub.cuts = []
    studio.start()
    done = studio.until(job["id"])
    assert (done["state"], done["error"]) == ("finished", None) and done["pictures"] == []
    assert (models / "diffusers" / NAME / ".pochade.json").is_file()


def test_from_the_catalogue_to_a_picture(studio: Served, hub: FakeHub, models: Path) -> None:
    here = models / "diffusers" / NAME
    if here.exists():  # by the test before
        import shutil

        shutil.rmtree(here)
        studio.http.post("/api/v1/models/refresh")
    offer = studio.http.post(f"/api/v1/known-models/{NAME}/look-up").json()
    size = sum(map(len, hub.files.values()))
    assert (offer["repo"], offer["commit"], offer["licence"]) == (hub.repo, COMMIT, LICENCE)
    assert 0 < offer["bytes"] <= size < offer["free"] and offer["licence_link"].startswith(hub.address)
    events: list[str] = []

    def listen() -> None:
        with httpx.stream("GET", f"{studio.url}/api/v1/events", timeout=60) as reply:
            for line in reply.iter_lines():
                if line.startswith("event: "):
                    events.append(line[7:])
                    if line[7:] == "finished":
                        return

    listening = threading.Thread(target=listen)
    listening.start()
    job = pull(studio, licence=offer["licence"], commit=offer["commit"]).json()
    done = studio.until(job["id"])
    assert (done["state"], done["error"], done["attempts"]) == ("finished", None, 1)
    listening.join(60)
    assert "started" in events and events[-1] == "finished"
    assert state(studio)["state"] == "here"
    there = {model["name"] for model in studio.http.get("/api/v1/models").json()["models"]}
    assert NAME in there
    drawn = studio.submit(prompt="a fox", model=NAME, steps=2, width=16, height=16, seed=1)
    picture = studio.until(drawn["id"])
    assert picture["state"] == "finished", picture["error"]
    assert f"Model: {NAME}" in picture["pictures"][0]["text"]
    again = pull(studio)
    assert again.status_code == 422 and "is already present" in again.json()["error"]["message"]
    found = studio.http.get("/api/v1/jobs", params={"kind": "pull"}).json()["jobs"]
    assert job["id"] in {each["id"] for each in found}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "sd51", "licence": "x"}, 422),
        ({"model": "../etc/passwd", "licence": "x"}, 422),
        ({"model": NAME, "licence": LICENCE, "commit": "main"}, 422),
        ({"model": NAME, "licence": 7}, 422),
    ],
)
def test_bad_input(studio: Served, hub: FakeHub, body: dict[str, Any], status: int) -> None:
    reply = studio.http.post("/api/v1/pulls", json=body)
    assert reply.status_code == status and reply.json()["error"]["code"] == "invalid"
    assert hub.log == []


def test_a_pull_is_not_handed_in_as_a_drawing(studio: Served) -> None:
    reply = studio.http.post("/api/v1/jobs", json={"kind": "pull", "model": NAME})
    assert reply.status_code == 422 and "kind is 'pull'; one of: txt2img" in reply.json()["error"]["message"]
    assert studio.http.post("/api/v1/known-models/sd51/look-up").status_code == 422


# --- in this process --------------------------------------------------------------------------------------


def test_only_administrators_have_models_fetched(tmp_path: Path, fake_hub: FakeHub) -> None:
    (tmp_path / "keys").write_text(KEYS)
    keys = read_keys(tmp_path / "keys")
    fake_hub.repo = known(NAME).repo

    async def use(service: Service, client: httpx.AsyncClient) -> None:
        for key, may in ((ANNS_KEY, True), (BOBS_KEY, False)):
            headers = {"authorization": f"Bearer {key}"}
            told = (await client.get("/api/v1/known-models", headers=headers)).json()
            assert told["may_fetch"] is may
            look_up = await client.post(f"/api/v1/known-models/{NAME}/look-up", headers=headers)
            assert look_up.status_code == (200 if may else 403)
            if not may:
                body = {"model": NAME, "licence": LICENCE}
                reply = await client.post("/api/v1/pulls", json=body, headers=headers)
                assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
                assert "only an administrator" in reply.json()["error"]["message"]
        assert (await client.get("/api/v1/known-models")).status_code == 401
        assert not service.live_jobs.live

    folders = Folders(roots=(tmp_path / "models",))
    served(tmp_path / "data", use, keys=keys, admins=("ann",), folders=folders)


IDLE = (sys.executable, "-c", "import sys; sys.stdin.read()")
"""A worker that does nothing, in place of one that would ask the hub."""


def test_a_pull_is_its_owners_and_others_see_that_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEYS)

    async def use(service: Service, client: httpx.AsyncClient) -> None:
        ann, bob = ({"authorization": f"Bearer {key}"} for key in (ANNS_KEY, BOBS_KEY))
        body = {"model": "sd15", "licence": "creativeml-openrail-m", "label": "models"}
        job = (await client.post("/api/v1/pulls", json=body, headers=ann)).json()
        assert (job["state"], job["position"], job["label"]) == ("queued", 1, "models")
        again = await client.post("/api/v1/pulls", json=body, headers=ann)
        assert again.status_code == 409 and "is already being downloaded" in again.json()["error"]["message"]
        for headers, own in ((ann, job["id"]), (bob, None)):
            rows = (await client.get("/api/v1/known-models", headers=headers)).json()["models"]
            assert [(row["state"], row["job"]) for row in rows if row["name"] == "sd15"] == [("queued", own)]
        for path in ("", "/events"):
            assert (await client.get(f"/api/v1/jobs/{job['id']}{path}", headers=bob)).status_code == 404
        assert (await client.post(f"/api/v1/jobs/{job['id']}/cancel", headers=bob)).status_code == 404
        assert (await client.get("/api/v1/status", headers=bob)).json()["queue"]["queued"] == 0
        over = (await client.post(f"/api/v1/jobs/{job['id']}/cancel", headers=ann)).json()
        assert over["state"] == "cancelled"

    folders, keys = Folders(roots=(tmp_path / "models",)), read_keys(tmp_path / "keys")
    served(tmp_path / "data", use, keys=keys, admins=("ann",), folders=folders, command=IDLE)


def test_administrators_are_users(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEYS)
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    keys = ["--keys", str(tmp_path / "keys")]
    options = parser.parse_args(["serve", *keys, "--admin", "ann"])
    assert serve.admins_of(options, read_keys(tmp_path / "keys")) == ("ann",)
    for given, said in (
        ([*keys, "--admin", "eve"], "the users are ann, bob"),
        (["--admin", "eve"], "--keys"),
    ):
        options = parser.parse_args(["serve", *given])
        known_keys = read_keys(tmp_path / "keys") if "--keys" in given else Keys()
        with pytest.raises(InvalidRequest, match=said):
            serve.admins_of(options, known_keys)


def test_one_user_alone_is_the_administrator(tmp_path: Path) -> None:
    async def use(service: Service, client: httpx.AsyncClient) -> None:
        assert (await client.get("/api/v1/known-models")).json()["may_fetch"] is True

    served(tmp_path, use, keys=Keys())


def test_no_network_is_said_in_a_sentence(
    tmp_path: Path, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(service: Service, client: httpx.AsyncClient) -> None:
        for offline, said in ((True, "HF_HUB_OFFLINE is set"), (False, "the hub cannot be reached")):
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
            monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
            reply = await client.post(f"/api/v1/known-models/{NAME}/look-up")
            assert reply.status_code == 502 and said in reply.json()["error"]["message"]

    served(tmp_path / "data", use, folders=Folders(roots=(tmp_path / "models",)))
