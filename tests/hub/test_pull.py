"""Pulls from a fake hub, successful and interrupted."""

import errno
import json
import shutil

import pytest
from huggingface_hub import constants

from pochade.atomic import OutputError
from pochade.checkpoints.library import entries
from pochade.checkpoints.own_folder import is_own, unfinished
from pochade.errors import InvalidCheckpoint, InvalidRequest, MissingDependency
from pochade.hub import download as module
from pochade.hub.download import ATTEMPTS, BrokenConnection, download_file
from pochade.hub.hub_api import HubError, RemoteFile, library, look_up, opened
from pochade.hub.pull import Pull, already_pulled, check_space, fetch, install, plan
from tests.fake_hub import COMMIT, REPO, tensors, tiny_model

TEXT = "text_encoder/model.safetensors"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "models"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(download_file, "__defaults__", (lambda seconds: None,))


def pulled(root, **options):
    pull = plan(REPO, root, **options)
    steps = list(fetch(pull))
    return pull, install(pull), steps


def test_a_folder(hub, root):
    pull, path, steps = pulled(root)
    assert path == root / "diffusers" / "someone" / "tiny"
    there = {each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()}
    assert there == {file.path for file in pull.files} | {".pochade.json"}
    assert all((path / name).read_bytes() == hub.files[name] for name in there - {".pochade.json"})
    assert not any("safety" in name or name.endswith((".bin", ".onnx", ".msgpack")) for name in there)
    assert sum(steps) == pull.size and is_own(root)
    record = json.loads((path / ".pochade.json").read_text())
    assert (record["repo"], record["commit"], record["licence"]) == (REPO, COMMIT, "openrail++")
    assert [entry.name for entry in entries([root])] == [REPO] and unfinished([root]) == []
    asked = len(hub.log)
    assert already_pulled(plan(REPO, root)) == path
    assert len(hub.log) == asked + 2  # what there is, and the index: no weights


def test_a_pull_of_another_commit_does_not_touch_what_is_there(hub, root):
    _, path, _ = pulled(root)
    hub.commit = "f" * 40
    with pytest.raises(OutputError, match=r"from another commit or with other files; .* models remove"):
        already_pulled(plan(REPO, root))
    assert already_pulled(plan(REPO, root, revision="v1")) is None
    _, other, _ = pulled(root, revision="v1")
    assert other.name == "tiny@v1" and path.exists()


@pytest.mark.parametrize(
    ("name", "folder"),
    [("model.diffusion_model.a", "checkpoints"), ("first_stage_model.a", "vae"), ("lora_unet_a", "loras")],
)
def test_one_file_goes_where_its_kind_is_kept(hub, root, name, folder):
    hub.files["sub/one.safetensors"] = tensors().replace(b'"weight"', json.dumps(name).encode())
    raw = hub.files["sub/one.safetensors"]
    length = raw.index(b"}}") + 2 - 8
    hub.files["sub/one.safetensors"] = length.to_bytes(8, "little") + raw[8:]
    pull, path, _ = pulled(root, file="sub/one.safetensors")
    assert path == root / folder / "someone" / "tiny" / "one.safetensors"
    assert path.read_bytes() == hub.files["sub/one.safetensors"]
    assert already_pulled(pull) == path
    (entry,) = entries([root])
    assert all(entry.answers_to(name) for name in ("one", REPO, "someone/tiny/one", "one.safetensors"))


def test_what_is_no_model_is_not_put_in_place(hub, root):
    hub.files["web.safetensors"] = b"<html>not found</html>" * 9
    pull = plan(REPO, root, file="web.safetensors")
    list(fetch(pull))
    with pytest.raises(InvalidCheckpoint, match="cannot be used"):
        install(pull)
    assert entries([root]) == []


# --- faults -----------------------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, root):
    hub.cuts = [5000, 300]
    pull, path, steps = pulled(root)
    assert (path / TEXT).read_bytes() == hub.files[TEXT]
    asked = [headers.get("range") for headers in hub.requests("store", TEXT)]
    assert asked == [None, "bytes=5000-", "bytes=5300-"]
    assert sum(steps) == pull.size


def test_a_pull_that_broke_off_is_no_model_and_is_gone_on_with(hub, root):
    hub.cuts = [7000, *[0] * ATTEMPTS]
    with pytest.raises(BrokenConnection, match=r"broke off at 7,000 of .* pull again"):
        pulled(root)
    assert entries([root]) == []
    (left,) = unfinished([root])
    assert left.name == f"{REPO}@{COMMIT[:12]}"
    hub.cuts, hub.log[:] = [], []
    pull = plan(REPO, root)
    # the small files that come first, and the part
    assert pull.local_bytes > 7000
    list(fetch(pull))
    assert [headers["range"] for headers in hub.requests("store", TEXT)] == ["bytes=7000-"]
    assert hub.requests("hub", "LICENSE.md") == []
    path = install(pull)
    assert all((path / file.path).read_bytes() == hub.files[file.path] for file in pull.files)
    assert unfinished([root]) == []


def test_a_store_that_knows_no_ranges_sends_all_of_it_again(hub, root):
    hub.ranges, hub.cuts = False, [7000]
    pull, path, steps = pulled(root)
    assert (path / TEXT).read_bytes() == hub.files[TEXT]
    assert -7000 in steps and sum(steps) == pull.size


def test_a_wrong_checksum_is_found_and_what_came_is_removed(hub, root):
    hub.damaged = {UNET}
    with pytest.raises(HubError, match=r"'unet/.*' has the hash .*removed; pull it again"):
        pulled(root)
    assert entries([root]) == [] and not list(root.rglob("*.part"))
    assert not (plan(REPO, root).stage / UNET).exists()
    hub.damaged = set()
    pulled(root)
    assert [entry.name for entry in entries([root])] == [REPO]


def test_a_part_that_was_damaged_on_the_disk_is_found(hub, root):
    pull = plan(REPO, root)
    part = pull.stage / f"{UNET}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 100)
    with pytest.raises(HubError, match="has the hash"):
        list(fetch(pull))
    part.write_bytes(b"\0" * 100_000)  # longer than the file
    list(fetch(pull))
    assert (pull.stage / UNET).read_bytes() == hub.files[UNET]


def test_small_files_are_checked_by_gits_hash(hub, root):
    pull = plan(REPO, root)
    hub.files["unet/config.json"] = hub.files["unet/config.json"].replace(b"unet", b"tenu")
    with pytest.raises(HubError, match=r"'unet/config.json' has the hash"):
        list(fetch(pull))


def test_a_file_that_is_longer_than_it_should_be(hub, root):
    pull = plan(REPO, root)
    hub.files[UNET] += b"more"
    with pytest.raises(HubError, match="is longer than the"):
        list(fetch(pull))


def test_a_full_disk(hub, root, monkeypatch):
    pull = plan(REPO, root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(OutputError, match=r"has 0\.0 GB free, and 0\.0 GB are needed; free some space"):
        check_space(pull)
    with pytest.raises(OutputError, match="are needed"):
        list(fetch(pull))
    assert not root.exists()


def test_a_disk_that_becomes_full_on_the_way_keeps_what_came(hub, root, monkeypatch):
    pull = plan(REPO, root)
    whole = module._completing

    def filling(model, file, out, pause):
        if file.path != UNET:
            yield from whole(model, file, out, pause)
            return
        out.write(hub.files[UNET][:500])
        out.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_completing", filling)
    with pytest.raises(OutputError, match=r"No space left on device; free some disk space"):
        list(fetch(pull))
    monkeypatch.setattr(module, "_completing", whole)
    list(fetch(pull))
    assert [headers["range"] for headers in hub.requests("store", UNET)] == ["bytes=500-"]


def test_two_pulls_of_the_same_at_once(hub, root):
    first = fetch(plan(REPO, root))
    next(first)
    with pytest.raises(OutputError, match="another process is pulling 'someone/tiny'"):
        list(fetch(plan(REPO, root)))
    first.close()
    list(fetch(plan(REPO, root)))


# --- what the hub refuses ---------------------------------------------------------------------------------


def test_names_that_are_not_there(hub, root):
    with pytest.raises(HubError, match="the hub has no model 'someone/else', or it is private"):
        plan("someone/else", root)
    with pytest.raises(HubError, match=f"'{REPO}' has no revision 'v9'"):
        plan(REPO, root, revision="v9")
    for name in ("tiny", "../../etc", "a/b/c", "a/..", "", "https://huggingface.co/a/b", "a/b--c"):
        with pytest.raises(InvalidRequest, match="write OWNER/NAME"):
            plan(name, root)
    del hub.files["model_index.json"]
    hub.files["v1.safetensors"] = b""
    with pytest.raises(HubError, match=r"is not a diffusers folder; .* --file: v1\.safetensors"):
        plan(REPO, root)
    file = RemoteFile("gone.json", 3, None, None)
    with pytest.raises(HubError, match="the hub answered 404"), opened(look_up(REPO), file):
        pass


def test_a_gated_model_names_the_page_to_visit(hub, root):
    hub.gated, hub.token = True, "hf_right"
    with pytest.raises(HubError, match=f"visit {hub.address}/{REPO}, accept its terms there"):
        plan(REPO, root)


def test_the_token_is_used_and_stays_with_the_hub(hub, root, monkeypatch):
    hub.gated, hub.token = True, "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    pulled(root)
    assert all(headers["authorization"] == "Bearer hf_right" for headers in hub.requests("hub"))
    assert hub.requests("store") and not any("authorization" in headers for headers in hub.requests("store"))


def test_a_token_that_the_hub_does_not_know(hub, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="does not accept the token") as refused:
        plan("someone/else", root)
    assert "hf_wrong" not in str(refused.value)


def test_no_telemetry_is_sent_along(hub, root):
    pulled(root)
    assert hub.requests("hub", "agent-harnesses") == []
    assert not any("torch" in headers["user-agent"] for headers in hub.requests("hub"))


def test_offline_mode_is_obeyed(hub, root, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so nothing is downloaded"):
        plan(REPO, root)
    assert hub.log == []


def test_a_hub_that_is_ill_or_gone(hub, root, monkeypatch):
    hub.broken = 503
    with pytest.raises(BrokenConnection, match="the hub answered 503; try again later"):
        plan(REPO, root)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"the hub cannot be reached \(ConnectError\)"):
        plan(REPO, root)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"pip install 'pochade\[hub\]'"):
        library()


@pytest.mark.parametrize(
    ("card", "licence", "link"),
    [
        ({"license": "mit"}, "mit", "{page}/blob/{commit}/LICENSE.md"),
        (
            {"license": "other", "license_name": "house", "license_link": "https://example.org/l"},
            "house",
            "https://example.org/l",
        ),
        ({"license": "other", "license_link": "LICENSE.md"}, "other", "{page}/blob/{commit}/LICENSE.md"),
        ({}, "", "{page}/blob/{commit}/LICENSE.md"),
    ],
)
def test_the_licence_and_where_to_read_it(hub, card, licence, link):
    hub.card = card
    model = look_up(REPO)
    assert model.licence == licence
    assert model.licence_link == link.format(page=f"{hub.address}/{REPO}", commit=COMMIT)
    del hub.files["LICENSE.md"]
    if "license_link" not in card:
        assert look_up(REPO).licence_link == f"{hub.address}/{REPO}"


def test_the_stage_of_another_edition_is_another(hub, root):
    hub.files = tiny_model(("", ".fp16"))
    stages = [plan(REPO, root, variant=variant).stage for variant in (None, "fp16")]
    assert stages[0] != stages[1]
    assert isinstance(plan(REPO, root), Pull)
