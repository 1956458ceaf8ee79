"""Selection of the files to download."""

import json

import pytest

from pochade.errors import InvalidRequest
from pochade.hub.file_selection import choose_file, choose_folder, single_files
from pochade.hub.hub_api import HubError, RemoteFile, RemoteModel
from tests.fake_hub import tiny_model

NEEDED = {
    "model_index.json",
    "LICENSE.md",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
}


def model(*paths: str) -> RemoteModel:
    return RemoteModel(
        repo="someone/tiny",
        revision=None,
        commit="0" * 40,
        files=tuple(RemoteFile(path, 1, None, None) for path in paths),
        licence="",
        licence_link="",
        page="",
    )


def chosen(paths, variant=None, **changes):
    index = {**json.loads(tiny_model()["model_index.json"]), **changes}
    files = choose_folder(model(*paths), index, variant)
    return {file.path for file in files} - NEEDED


PLAIN = {
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
}
FP16 = {path.replace(".safetensors", ".fp16.safetensors") for path in PLAIN}


def test_the_plain_edition_in_safetensors_and_nothing_that_is_not_used():
    paths = tiny_model(("", ".fp16"))
    assert chosen(paths) == PLAIN
    assert {*PLAIN, *NEEDED} < set(paths)
    assert chosen(paths, "fp16") == FP16


def test_without_a_plain_edition_fp16_is_taken_as_drawing_takes_it():
    assert chosen(tiny_model((".fp16", ".ema"))) == FP16


def test_a_component_without_the_variant_is_taken_plain():
    paths = [
        path for path in tiny_model(("", ".fp16")) if not path.startswith("vae/diffusion_pytorch_model.f")
    ]
    wanted = {path for path in FP16 if "vae" not in path} | {"vae/diffusion_pytorch_model.safetensors"}
    assert chosen(paths, "fp16") == wanted


def test_an_unknown_variant_names_those_that_are_there():
    with pytest.raises(InvalidRequest, match="'someone/tiny' has no variant 'bf16'; available: ema, fp16"):
        chosen(tiny_model(("", ".fp16", ".ema")), "bf16")
    with pytest.raises(InvalidRequest, match="available: only files without a variant"):
        chosen(tiny_model(), "fp16")


def test_a_pickle_is_taken_only_where_a_component_has_nothing_else():
    paths = [path for path in tiny_model() if path != "vae/diffusion_pytorch_model.safetensors"]
    assert chosen(paths) == {path for path in PLAIN if "vae" not in path} | {
        "vae/diffusion_pytorch_model.bin"
    }


def test_shards_come_with_their_index_and_no_others():
    stem = "unet/diffusion_pytorch_model"
    paths = [path for path in tiny_model() if not path.startswith(stem)]
    index = f"{stem}.safetensors.index.json"
    plain = [f"{stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    small = [f"{stem}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    all_of_it = [*paths, index, *plain, f"{stem}.safetensors.index.fp16.json", *small]
    others = {path for path in PLAIN if "unet" not in path}
    assert chosen(all_of_it) == {*others, index, *plain}
    assert chosen(all_of_it, "fp16") == {*others, f"{stem}.safetensors.index.fp16.json", *small}


def test_another_kind_of_pipeline_is_refused_before_anything_is_fetched():
    with pytest.raises(HubError, match="'someone/tiny' is a FluxPipeline without 'unet'"):
        chosen(tiny_model(), _class_name="FluxPipeline", unet=[None, None])
    with pytest.raises(HubError, match="lists 'text_encoder_2', but there is no such folder"):
        chosen(tiny_model(), text_encoder_2=["transformers", "CLIPTextModelWithProjection"])
    without = [path for path in tiny_model() if not path.startswith("vae/diffusion")]
    with pytest.raises(HubError, match="'vae' of 'someone/tiny' has no weights"):
        chosen(without)


def test_a_name_that_leads_elsewhere_is_refused():
    for name in ("../evil.json", "tokenizer/../../evil.json", "tokenizer/..\\evil.json", ".ssh/evil.json"):
        with pytest.raises(HubError, match="unsafe name"):
            choose_file(model(name.replace(".json", ".safetensors")), name.replace(".json", ".safetensors"))
    with pytest.raises(HubError, match="unsafe name"):
        chosen([*tiny_model(), "tokenizer/C:evil.json"])


def test_one_file():
    there = model("v1.safetensors", "v1.ckpt", "old.ckpt", "README.md", "vae/v.safetensors")
    assert [file.path for file in choose_file(there, "v1.safetensors")] == ["v1.safetensors"]
    assert [file.path for file in choose_file(there, "old.ckpt")] == ["old.ckpt"]
    assert single_files(there) == ["v1.safetensors", "v1.ckpt", "old.ckpt"]
    with pytest.raises(InvalidRequest, match=r"'v1.ckpt' is pickled; use 'v1.safetensors'"):
        choose_file(there, "v1.ckpt")
    with pytest.raises(InvalidRequest, match=r"has no file 'v1.safetensor'; similar: 'v1.safetensors'"):
        choose_file(there, "v1.safetensor")
    with pytest.raises(InvalidRequest, match=r"'README.md' is not a file of tensors"):
        choose_file(there, "README.md")
