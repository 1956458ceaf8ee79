"""Finding models by name in model folders of different programs."""

import json
import os
import re

import numpy as np
import pytest

from pochade.checkpoints import library, safetensors
from pochade.checkpoints.contents import BEGINNINGS, OTHER, contents_of, find_family
from pochade.checkpoints.grids import FORMAT, grids_path
from pochade.checkpoints.library import describe, entries, find, pick
from pochade.checkpoints.own_folder import MARKER, claim, is_own, own_folder, remove, unfinished
from pochade.errors import InvalidCheckpoint, OutputError
from pochade.settings import model_roots, models_dir
from tests.fake_hub import tensors, tiny_model, write_tensors

UNET = "model.diffusion_model.input_blocks.0.0.weight"
SD1 = "cond_stage_model.transformer.text_model.a"
SD2 = "cond_stage_model.model.a"
XL = "conditioner.embedders.0.transformer.text_model.a"


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *_, **__: str(tmp_path / "data"))


def write_folder(folder, **index):
    for name, content in tiny_model().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    table = {**json.loads((folder / "model_index.json").read_text()), **index}
    (folder / "model_index.json").write_text(json.dumps(table))
    return folder


def names(*roots):
    return [entry.name for entry in entries(roots)]


# --- what lies where --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "places",
    [
        ("models/Stable-diffusion", "models/VAE", "models/Lora", "embeddings"),
        ("models/checkpoints", "models/vae", "models/loras", "models/embeddings", "models/controlnet"),
        ("checkpoints", "vae", "loras", "embeddings", "controlnet"),
    ],
    ids=["A1111", "ComfyUI", "its models folder"],
)
def test_the_folders_of_other_programs(tmp_path, places):
    for place in places:
        write_tensors(tmp_path / place / "deep" / "one.safetensors", "a")
    write_tensors(tmp_path / "venv" / "not-this.safetensors", "a")
    write_tensors(tmp_path / "outputs" / "nor-this.safetensors", "a")
    assert sorted(str(entry.path.relative_to(tmp_path)) for entry in entries([tmp_path])) == sorted(
        f"{place}/deep/one.safetensors" for place in places
    )
    assert names(tmp_path) == ["deep/one"] * len(places)


def test_a_folder_of_files_diffusers_folders_and_what_is_none_of_these(tmp_path):
    root = tmp_path / "mine"
    write_tensors(root / "a.safetensors", "a")
    write_folder(root / "people" / "b")
    for name in ("notes.txt", ".hidden.safetensors", ".pulls/x/half.safetensors", "a.safetensors.part"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    assert names(root) == ["a", "people/b"]
    assert names(root / "people" / "b") == ["b"]
    assert names(tmp_path / "nowhere") == [] and names(root, root) == ["a", "people/b"]


def test_the_cache_of_the_hubs_library(tmp_path):
    write_folder(tmp_path / "models--someone--tiny" / "snapshots" / "abc")
    assert names(tmp_path) == ["someone/tiny"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    write_tensors(elsewhere / "far.safetensors", "a")
    root.mkdir()
    (root / "other-disk").symlink_to(elsewhere)
    (root / "near.safetensors").symlink_to(elsewhere / "far.safetensors")
    (root / "dangling.safetensors").symlink_to(elsewhere / "gone.safetensors")
    (elsewhere / "back").symlink_to(root)
    assert names(root) == ["near", "other-disk/far"]


def test_the_roots_that_are_named(tmp_path):
    own = tmp_path / "data" / "models"
    assert models_dir() == own
    assert model_roots(environ={}) == (own,)
    both = os.pathsep.join(map(str, (tmp_path / "a", tmp_path / "b")))
    assert model_roots(environ={"POCHADE_MODELS": both}) == (tmp_path / "a", tmp_path / "b", own)
    assert model_roots(tmp_path / "c", environ={"POCHADE_MODELS": both}) == (tmp_path / "c", own)
    assert model_roots(own, environ={}) == (own,)


# --- what they are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor_names", "kind", "family"),
    [
        ([UNET, SD1], "model", "SD 1.x"),
        ([UNET, SD2], "model", "SD 2.x"),
        ([UNET, XL], "model", "SDXL"),
        (["model_ema.diffusion_modelinput_blocks00weight", SD1], "model", "SD 1.x"),
        (["model.diffusion_model.joint_blocks.0", SD1], "other", "Stable Diffusion 3"),
        (["lora_unet_a.lora_up.weight"], "lora", ""),
        (["unet.a.lora.up.weight"], "lora", ""),
        (["emb_params"], "embedding", ""),
        (["clip_l", "clip_g"], "embedding", ""),
        (["control_model.input_blocks.0.0.weight"], "controlnet", ""),
        (["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.a"], "controlnet", ""),
        (["encoder.down.0.a", "decoder.up.0.a"], "vae", ""),
        (["encoder.down_blocks.0.a"], "vae", ""),
        (["encoder.layers.0.weight", "decoder.layers.0.weight"], "vae", ""),
        (["taesd.decoder.1.weight"], "vae", ""),
        (["down_blocks.0.a"], "unet", ""),
        (["double_blocks.0.a"], "other", "Flux"),
        (["anything"], "other", ""),
    ],
)
def test_kinds_by_content(tmp_path, tensor_names, kind, family):
    contents = contents_of(write_tensors(tmp_path / "named-at-will.pt", *tensor_names))
    assert contents.kind == kind and family in contents.family
    assert bool(family) == bool(contents.family)


@pytest.mark.parametrize(("begin", "kind", "what"), BEGINNINGS)
def test_one_table_says_what_a_file_is(tmp_path, begin, kind, what):
    """In the list of models, and where a whole checkpoint is wanted."""
    path = write_tensors(tmp_path / "named-at-will.pt", begin)
    inside = begin.startswith(UNET.partition("input_blocks")[0])
    assert contents_of(path).kind == kind
    with pytest.raises(InvalidCheckpoint, match=re.escape(what)):
        find_family([begin, SD1] if inside else [begin], path)


def test_an_inpainting_model(tmp_path):
    path = write_tensors(tmp_path / "a.safetensors", UNET, SD1, shape=(32, 9, 3, 3))
    assert contents_of(path).family == "SD 1.x, inpainting"
    folder = write_folder(tmp_path / "folder")
    assert contents_of(folder).family == "SD 1.x"
    (folder / "unet" / "config.json").write_text('{"in_channels": 9}')
    (folder / "text_encoder" / "config.json").write_text('{"hidden_act": "gelu"}')
    assert contents_of(folder).family == "SD 2.x, inpainting"


def test_what_is_damaged_is_said_to_be(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(tensors()[:-5])
    assert contents_of(tmp_path / "a.safetensors").kind == "unreadable"
    (tmp_path / "evil.ckpt").write_bytes(b"\x80\x02cos\nsystem\nX\x0a\x00\x00\x00touch here\x85R.")
    assert "os.system" in contents_of(tmp_path / "evil.ckpt").family
    flux = write_folder(tmp_path / "flux", unet=[None, None], _class_name="FluxPipeline")
    assert contents_of(flux) == library.Contents("other", "FluxPipeline without unet")
    (flux / "model_index.json").write_text("{")
    assert contents_of(flux).kind == "unreadable"


def test_a_header_is_read_once(tmp_path, monkeypatch):
    path = write_tensors(tmp_path / "models" / "a.safetensors", UNET, SD1)
    memory = tmp_path / "cache" / "contents.json"
    read = []
    whole = library.contents_of
    monkeypatch.setattr(library, "contents_of", lambda path: read.append(path) or whole(path))

    def told():
        return [contents.family for _, contents in describe(entries([tmp_path / "models"]), memory)]

    assert told() == told() == ["SD 1.x"] and read == [path]
    write_tensors(path, UNET, XL)
    os.utime(path, ns=(1, 1))
    assert told() == ["SDXL"] and len(read) == 2
    for damage in ("{", "[]", '{"a": 3}', "\x00"):
        memory.write_text(damage)
        assert told() == ["SDXL"]
    broken = path.with_name("b.safetensors")
    broken.write_bytes(b"")
    told()
    told()
    assert read.count(broken) == 2  # it may become readable without a change of its own


# --- names ------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "collection"
    write_tensors(folder / "checkpoints" / "sd15.safetensors", UNET, SD1)
    write_tensors(folder / "checkpoints" / "Anime" / "Dream.v2.safetensors", UNET, SD1)
    write_folder(folder / "diffusers" / "someone" / "tiny")
    return folder


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("sd15", "checkpoints/sd15.safetensors"),
        ("SD15", "checkpoints/sd15.safetensors"),
        ("sd15.safetensors", "checkpoints/sd15.safetensors"),
        ("dream.v2", "checkpoints/Anime/Dream.v2.safetensors"),
        ("Anime/Dream.v2", "checkpoints/Anime/Dream.v2.safetensors"),
        ("tiny", "diffusers/someone/tiny"),
        ("someone/tiny", "diffusers/someone/tiny"),
    ],
)
def test_a_model_by_its_name(root, name, path):
    assert find(name, [root]) == root / path


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("Ink.SAFETENSORS", "ink.safetensors"),
        ("ink.safetensors", "INK.SafeTensors"),
        ("styles/ink.safetensors", "styles\\ink"),  # as ComfyUI writes it on Windows
        ("cafe\u0301.safetensors", "caf\u00e9"),  # as macOS stores it
        ("caf\u00e9.safetensors", "CAFE\u0301"),
    ],
)
def test_one_name_in_several_spellings(tmp_path, stored, asked):
    path = write_tensors(tmp_path / "checkpoints" / stored, UNET, SD1)
    write_tensors(tmp_path / "checkpoints" / "other.safetensors", UNET, SD1)
    assert find(asked, [tmp_path]) == path


def test_a_path_always_wins(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find(root / "checkpoints", [root]) == root / "checkpoints"
    (tmp_path / "sd15").write_bytes(b"something")
    assert str(find("sd15", [root])) == "sd15"


@pytest.mark.parametrize(
    "name", ["../collection/checkpoints/sd15", "ny", "collection", "checkpoints/sd15", "/", ""]
)
def test_no_name_leads_out_of_the_root_or_is_half_a_name(root, name, monkeypatch, tmp_path):
    monkeypatch.chdir(root)
    with pytest.raises(InvalidCheckpoint, match="does not exist; check the path"):
        pick(name, entries([root]), [root])


def test_no_such_name(root, tmp_path):
    with pytest.raises(InvalidCheckpoint, match=r"similar: 'sd15'.*models list.*models pull") as refused:
        find("sd51", [root, tmp_path / "other"])
    assert f"{root}, {tmp_path / 'other'}" in str(refused.value)
    with pytest.raises(InvalidCheckpoint, match=r"similar: 'Anime/Dream\.v2'"):
        find("dream-v2", [root])
    with pytest.raises(InvalidCheckpoint, match="No model has that name, in"):
        find("completely different", [root])


def test_one_name_for_several(root, tmp_path):
    other = tmp_path / "other"
    again = write_tensors(other / "sd15.safetensors", UNET, XL)
    with pytest.raises(InvalidCheckpoint, match="matches 2 models; use a longer name") as refused:
        find("sd15", [root, other])
    assert str(again) in str(refused.value) and str(root / "checkpoints/sd15.safetensors") in str(
        refused.value
    )
    write_tensors(root / "loras" / "tiny.safetensors", "lora_unet_a")
    assert find("tiny", [root]) == root / "diffusers/someone/tiny"
    assert find("tiny", [root], kind="lora") == root / "loras/tiny.safetensors"
    write_tensors(root / "checkpoints" / "old" / "sd15.safetensors", UNET, SD1)
    assert find("sd15", [root]) == root / "checkpoints/sd15.safetensors"  # the whole name, not the end of one
    assert find("old/sd15", [root]) == root / "checkpoints/old/sd15.safetensors"


# --- what is Pochade's own --------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_somebody_elses(root, tmp_path):
    assert not is_own(root)
    assert is_own(tmp_path / "new")
    assert own_folder([root, tmp_path / "new"]) == tmp_path / "new"
    with pytest.raises(OutputError, match="is a folder of Pochade's own"):
        own_folder([root])
    claim(tmp_path / "new")
    write_tensors(tmp_path / "new" / "a.safetensors", "a")
    assert is_own(tmp_path / "new")
    write_tensors(models_dir() / "a.safetensors", "a")
    assert is_own(models_dir())


def test_pochades_place_that_links_elsewhere_is_not_its_own(root):
    models_dir().parent.mkdir(parents=True)
    models_dir().symlink_to(root)
    assert not is_own(models_dir())


def test_removing_frees_what_it_says_and_takes_empty_folders_along(tmp_path):
    own = tmp_path / "own"
    claim(own)
    write_folder(own / "diffusers" / "someone" / "tiny")
    path = write_tensors(own / "checkpoints" / "a.safetensors", "a")
    record = path.with_name(".a.safetensors.pochade.json")
    record.write_text("{}")
    folder, file = (pick(name, entries([own]), [own]) for name in ("tiny", "a"))
    size = sum(each.stat().st_size for each in folder.path.rglob("*") if each.is_file())
    assert remove(folder) == size
    assert remove(file) > 0 and not record.exists()
    assert [each.name for each in own.iterdir()] == [MARKER]


def test_grids_beside_a_model_are_no_model_and_go_with_it(tmp_path):
    own = tmp_path / "own"
    claim(own)
    model = write_tensors(own / "checkpoints" / "a.safetensors", UNET, SD1)
    safetensors.write(grids_path(model), {"unet.x": np.ones(4, np.float32)}, metadata={"format": FORMAT})
    assert contents_of(grids_path(model)).kind == OTHER
    remove(pick("a", entries([own]), [own]))
    assert list((own).iterdir()) == [own / MARKER]


def test_nothing_outside_is_removed(root, tmp_path):
    (entry, *_) = entries([root])
    with pytest.raises(OutputError, match=r"Pochade does not remove models of other programs, remove it"):
        remove(entry)
    own = tmp_path / "own"
    claim(own)
    (own / "theirs").symlink_to(root / "checkpoints")
    (linked, *_) = entries([own])
    with pytest.raises(OutputError, match=f"'{linked.path}' is not in"):
        remove(linked)
    assert entry.path.exists() and len(names(root)) == 3


def test_of_a_link_only_the_link_goes(root, tmp_path):
    own = tmp_path / "own"
    claim(own)
    (own / "checkpoints").mkdir()
    (own / "checkpoints" / "a.safetensors").symlink_to(root / "checkpoints" / "sd15.safetensors")
    (own / "checkpoints" / "b").symlink_to(root / "diffusers" / "someone" / "tiny")
    assert [remove(entry) for entry in entries([own])] == [0, 0]
    assert names(own) == [] and len(names(root)) == 3
    assert unfinished([own]) == []
