"""Pipelines with adapters and embeddings: weights, names in prompts, what is shared, the picture's text."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from pochade.checkpoints import safetensors
from pochade.errors import InvalidCheckpoint, InvalidRequest
from pochade.images.metadata import read_parameters
from pochade.loading.text_cache import EncodedTexts
from pochade.pipeline import Lora, Pipeline
from pochade.pipeline.pipeline import LATEST
from tests.reference import FACTOR, relative_error
from tests.tiny_models import Model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT = "a red fox"
SIZE = {"width": 8 * FACTOR, "height": 8 * FACTOR, "steps": 2, "seed": 1}
QUERY = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"

LAYERS = {
    f"lora_unet_{QUERY}": (16, 16),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (24, 24),
    "lora_te_text_model_encoder_layers_1_mlp_fc1": (64, 24),
}


def write(path: Path, layers: dict[str, tuple[int, int]], seed: int = 0, **metadata: str) -> Path:
    rng, tensors = np.random.default_rng(seed), dict[str, Any]()
    for layer, (outputs, inputs) in layers.items():
        tensors[f"{layer}.lora_up.weight"] = rng.standard_normal((outputs, 2), np.float32)
        tensors[f"{layer}.lora_down.weight"] = rng.standard_normal((2, inputs), np.float32)
        tensors[f"{layer}.alpha"] = np.float32(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.write(path, tensors, metadata)
    return path


def embedding(path: Path, **tables: tuple[int, int]) -> Path:
    rng = np.random.default_rng(4)
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.write(path, {name: rng.standard_normal(shape, np.float32) for name, shape in tables.items()})
    return path


@pytest.fixture
def pipeline(model: Callable[[str], Model]) -> Pipeline:
    return model("SD 1.5").load()


@pytest.fixture
def ink(tmp_path: Path) -> Path:
    return write(tmp_path / "loras" / "ink.safetensors", LAYERS)


def pixels(pipeline: Pipeline, prompt: str = PROMPT) -> np.ndarray:
    return np.asarray(pipeline.txt2img(prompt, **SIZE).images[0])


def weights(pipeline: Pipeline) -> dict[str, bytes]:
    networks = pipeline.networks
    return {
        f"{i} {name}": network.tensors[name].tobytes()
        for i, network in enumerate((networks.unet, networks.text_encoder, networks.autoencoder))
        for name in network.tensors
    }


# --- adapters -----------------------------------------------------------------------------------------


def test_a_picture_changes_and_comes_back(pipeline: Pipeline, ink: Path) -> None:
    plain, before = pixels(pipeline), weights(pipeline)
    changed = pipeline.with_adapters([ink])
    assert not np.array_equal(pixels(changed), plain)
    assert weights(changed) != before
    back = changed.with_adapters([])
    assert weights(back) == before == weights(pipeline)
    assert back.networks.unet is pipeline.networks.unet
    assert np.array_equal(pixels(back), plain)


def test_what_is_not_changed_is_shared(pipeline: Pipeline, tmp_path: Path) -> None:
    pixels(pipeline)
    path = write(tmp_path / "q.safetensors", {f"lora_unet_{QUERY}": (16, 16)})
    changed, networks = pipeline.with_adapters([path]).networks, pipeline.networks
    assert changed.autoencoder is networks.autoencoder
    assert changed.text_encoder is networks.text_encoder
    assert changed.unet is not networks.unet
    assert changed.unet.fingerprint != networks.unet.fingerprint
    name = "conv_in.weight"
    assert np.shares_memory(changed.unet.tensors[name], networks.unet.tensors[name])


def test_weights_for_the_unet_and_for_the_text(pipeline: Pipeline, ink: Path) -> None:
    only_text = pipeline.with_adapters([Lora(ink, 0.0, 1.0)])
    assert only_text.networks.unet is pipeline.networks.unet
    only_picture = pipeline.with_adapters([Lora(ink, 1.0, 0.0)])
    assert only_picture.networks.text_encoder is pipeline.networks.text_encoder
    both = pipeline.with_adapters([ink]).networks
    assert both.unet.fingerprint == only_picture.networks.unet.fingerprint
    assert both.text_encoder.fingerprint == only_text.networks.text_encoder.fingerprint
    half = pipeline.with_adapters([Lora(ink, 0.5)]).networks
    key = "encoder.layers.0.self_attn.q_proj.weight"
    base = pipeline.networks.text_encoder.tensors[key]
    full = both.text_encoder.tensors[key] - base
    assert relative_error(half.text_encoder.tensors[key] - base, full / 2) < 1e-5


def test_several_in_any_order(pipeline: Pipeline, ink: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.safetensors", LAYERS, seed=1)
    given = [Lora(ink, 0.7), Lora(other, -0.3)]
    one, two = pipeline.with_adapters(given), pipeline.with_adapters(given[::-1])
    assert weights(one) == weights(two)
    assert one.networks.unet.fingerprint == two.networks.unet.fingerprint


def test_a_file_for_another_model(pipeline: Pipeline, tmp_path: Path) -> None:
    path = write(tmp_path / "xl.safetensors", {"lora_te2_text_model_encoder_layers_0_mlp_fc1": (64, 32)})
    with pytest.raises(
        InvalidCheckpoint, match=r"te2.* belongs to no layer of this model; it was made for SDXL"
    ):
        pipeline.with_adapters([path])


def test_a_change_beyond_all_numbers(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    layer = f"lora_unet_{QUERY}"
    safetensors.write(
        path,
        {
            f"{layer}.lora_up.weight": np.ones((16, 1), np.float32),
            f"{layer}.lora_down.weight": np.ones((1, 16), np.float32),
            f"{layer}.alpha": np.float32(3e38),
        },
    )
    changed = pipeline.with_adapters([Lora(path, 50)])
    with pytest.raises(
        InvalidCheckpoint, match=r"to_q.weight' in '.*huge.safetensors' has 256 of 256 entries"
    ):
        pixels(changed)


@pytest.mark.parametrize("weight", [float("nan"), 1e6, -101.0])
def test_a_weight_that_is_none(ink: Path, weight: float) -> None:
    with pytest.raises(InvalidRequest, match=r"the weight of '.*ink.safetensors' is"):
        Lora(ink, weight)


def test_xl_with_both_text_encoders(model: Callable[[str], Model], tmp_path: Path) -> None:
    xl = model("SDXL").load()
    layers = {
        "lora_unet_middle_block_1_proj_in": (32, 32),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": (64, 24),
        "lora_te2_text_model_encoder_layers_0_mlp_fc1": (64, 32),
    }
    changed = xl.with_adapters([write(tmp_path / "xl.safetensors", layers)]).networks
    for name in ("unet", "text_encoder", "text_encoder_2"):
        assert getattr(changed, name) is not getattr(xl.networks, name)


# --- names in prompts ---------------------------------------------------------------------------------


def test_a_prompt_names_adapters(pipeline: Pipeline, ink: Path) -> None:
    library = pipeline.with_library(loras=ink.parent)
    asked = library.txt2img(f"{PROMPT}<lora:ink:0.8>", **SIZE)
    given = pipeline.with_adapters([Lora(ink, 0.8)])
    assert np.array_equal(np.asarray(asked.images[0]), pixels(given))
    assert np.array_equal(pixels(library), pixels(pipeline))


@pytest.mark.parametrize(
    ("tag", "lora"),
    [
        ("<lora:ink>", (1.0, 1.0)),
        ("<lora:ink:0.3>", (0.3, 0.3)),
        ("<lora:ink:0.3:0.5>", (0.5, 0.3)),  # the text encoder's first, as in A1111
        ("<lyco:ink:te=0.2:unet=0.4>", (0.4, 0.2)),
        ("<lora:ink:0.3:unet=0.4>", (0.4, 0.3)),
    ],
)
def test_weights_in_a_prompt(pipeline: Pipeline, ink: Path, tag: str, lora: tuple[float, float]) -> None:
    ((found,), _) = pipeline.with_library(ink.parent).library.requested_by(tag)
    assert (found.path, found.weight, found.in_text) == (ink, *lora)


@pytest.mark.parametrize(
    ("tag", "fault"),
    [
        ("<lora:inq:1>", r"there is no 'inq' in the folder of adapters '.*'; similar: 'ink'"),
        ("<lora:../loras/ink:1>", "there is no '../loras/ink' in the folder"),
        ("<lora:twin:1>", r"the name 'twin' matches '.*a/twin\.safetensors', '.*b/twin\.safetensors'"),
        ("<lora:ink:1:2:3>", "more than a name and two weights"),
        ("<lora:ink:1:dyn=4>", "more than a name and two weights"),
        ("<lora:ink:te=x>", "'x' in <lora:ink> is not a number"),
        ("<hypernet:ink:1>", "hypernetworks are not supported"),
    ],
)
def test_names_that_lead_nowhere(pipeline: Pipeline, ink: Path, tag: str, fault: str) -> None:
    for folder in "ab":
        write(ink.parent / folder / "twin.safetensors", LAYERS)
    with pytest.raises(InvalidRequest, match=fault):
        pipeline.with_library(ink.parent).txt2img(tag, **SIZE)


def test_the_latest_choice_is_kept_until_its_file_changes(pipeline: Pipeline, ink: Path) -> None:
    library = pipeline.with_library(ink.parent)
    first = library._with_prompts("<lora:ink:1>")
    assert library._with_prompts("x <lora:ink:1>", "") is first
    assert library._with_prompts("<lora:ink:0.5>") is not first
    write(ink, LAYERS, seed=9, note="longer")
    again = library._with_prompts("<lora:ink:1>")
    assert again.networks.unet.fingerprint != first.networks.unet.fingerprint


@pytest.mark.parametrize("engine", ["openvino", "numpy"])
def test_few_choices_are_kept_at_a_time(pipeline: Pipeline, ink: Path, engine: str) -> None:
    """Where graphs are counted, some; where nothing limits what they hold, one."""
    choice = replace(pipeline.choice, engine=engine)
    library = replace(pipeline, choice=choice).with_library(ink.parent)
    kept = LATEST if engine == "openvino" else 1
    made = [library._with_prompts(f"<lora:ink:0.{i}>") for i in range(1, 8)]
    for i in range(8 - kept, 8):
        assert library._with_prompts(f"<lora:ink:0.{i}>") is made[i - 1]
    library._with_prompts("<lora:ink:2>")
    assert len(library._latest) == kept
    assert (library._with_prompts("<lora:ink:0.7>") is made[6]) == (kept > 1)


def test_a_graph_with_an_adapter_is_on_the_disk_from_its_second_use_on(
    model: Callable[[str], Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So trying weights of a LoCon does not fill the cache; the plain model's graphs are kept at once.

    Its convolutions are folded into the weights, where a LoRA of low rank is an input of the plain graph.
    """
    path, rng = tmp_path / "conv.safetensors", np.random.default_rng(0)
    layer, text = "lora_unet_conv_in", "lora_te_text_model_encoder_layers_0_mlp_fc1"
    safetensors.write(
        path,
        {
            f"{layer}.lora_up.weight": rng.standard_normal((16, 2, 1, 1), np.float32),
            f"{layer}.lora_down.weight": rng.standard_normal((2, 4, 3, 3), np.float32),
            f"{text}.diff": rng.standard_normal((64, 24), np.float32),
        },
    )
    monkeypatch.setenv("POCHADE_CACHE", str(tmp_path / "cache"))
    plain = model("SD 1.5").load("openvino")

    def stored(pipeline: Pipeline, *networks: str) -> list[bool]:
        found = []
        for name in networks:
            network = getattr(pipeline.networks, name)
            (graph,) = network.compiled.values()
            graph.wait_stored()
            found.append(graph.restored)
            network.release()
        return found

    everything = "unet", "text_encoder", "autoencoder"
    for expected in ([False, False, False], [False, False, True], [True, True, True]):
        changed = plain.with_adapters([path])
        networks = replace(changed.networks, texts=EncodedTexts())
        changed = replace(changed, model=replace(changed.model, networks=networks))
        pixels(changed)
        assert stored(changed, *everything) == expected


def test_a_folder_that_is_not_there(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"the folder of embeddings '.*nowhere' does not exist"):
        pipeline.with_library(embeddings=tmp_path / "nowhere").txt2img(PROMPT, **SIZE)


@pytest.mark.parametrize(
    "name",
    ["ink", "INK", "ink.safetensors", "styles/ink", "Styles/Ink", "styles", "deep/styles/ink"],
)
def test_one_name_means_one_file_everywhere(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    """In a prompt and given by itself: by file, by end of the path, in any case, by a folder of one file."""
    path = write(tmp_path / "loras" / "deep" / "styles" / "ink.safetensors", LAYERS)
    name = f"deep/{name}" if name == "styles" else name
    library = pipeline.with_library(loras=tmp_path / "loras")
    ((found,), _) = library.library.requested_by(f"a fox <lora:{name}:0.5>")
    ((given, _),) = library.with_adapters([Lora(name, 0.5)]).additions.adapters
    assert found.path == given.path == path


def test_a_folder_that_names_its_file(pipeline: Pipeline, tmp_path: Path) -> None:
    """What other programs call every file goes by the folder's name, wherever the folder lies."""
    folder = tmp_path / "loras" / "more" / "watercolour"
    path = write(folder / "pytorch_lora_weights.safetensors", LAYERS)
    library = pipeline.with_library(loras=tmp_path / "loras")
    for name in ("watercolour", "more/watercolour", "Watercolour"):
        ((found,), _) = library.library.requested_by(f"<lora:{name}:0.5>")
        ((given, _),) = library.with_adapters([name]).additions.adapters
        assert found.path == given.path == path


def test_exactly_this_name_comes_first(pipeline: Pipeline, tmp_path: Path) -> None:
    root = tmp_path / "loras"
    plain, inner = write(root / "ink.safetensors", LAYERS), write(root / "styles" / "ink.safetensors", LAYERS)
    library = pipeline.with_library(loras=root).library
    for name, path in (("ink", plain), ("Ink", plain), ("styles/ink", inner)):
        ((found,), _) = library.requested_by(f"<lora:{name}:0.5>")
        assert found.path == path


@pytest.mark.parametrize("places", [("styles", "lines"), ("", "styles")])
def test_a_tag_says_as_much_as_is_needed(pipeline: Pipeline, tmp_path: Path, places: tuple[str, str]) -> None:
    """Two files are called `ink`: the text of a picture names the one that it was drawn with."""
    root = tmp_path / "loras"
    for i, place in enumerate(places):
        write(root / place / "ink.safetensors", LAYERS, seed=i)
    library = pipeline.with_library(loras=root)
    for place in places:
        name = f"{place}/ink" if place else "ink"
        drawn = library.with_adapters([Lora(root / place / "ink.safetensors", 0.7)]).txt2img(PROMPT, **SIZE)
        prompt = read_parameters(drawn.infotexts[0]).prompt
        assert prompt == f"{PROMPT} <lora:{name}:0.7>"
        again = library.txt2img(prompt, **SIZE)
        assert np.array_equal(np.asarray(again.images[0]), np.asarray(drawn.images[0]))
        assert read_parameters(again.infotexts[0]).prompt == prompt


def test_two_files_of_one_name_have_two_hashes(pipeline: Pipeline, tmp_path: Path) -> None:
    given = [write(tmp_path / "loras" / f"{i}" / "ink.safetensors", LAYERS, seed=i) for i in range(2)]
    library = pipeline.with_library(loras=tmp_path / "loras")
    text = library.with_adapters(given).txt2img(PROMPT, **SIZE).infotexts[0]
    hashes = read_parameters(text).values["Lora hashes"]
    assert hashes.startswith("0/ink: ") and ", 1/ink: " in hashes


def test_an_adapter_of_the_negative_prompt_is_written_once(pipeline: Pipeline, ink: Path) -> None:
    library = pipeline.with_library(ink.parent)
    drawn = library.txt2img(PROMPT, negative_prompt="grey <lora:ink:0.5>", **SIZE)
    assert read_parameters(drawn.infotexts[0]).prompt == PROMPT


def test_an_adapter_that_is_given_and_asked_for_is_written_twice(pipeline: Pipeline, ink: Path) -> None:
    library = pipeline.with_library(ink.parent)
    drawn = library.with_adapters([Lora("ink", 0.5)]).txt2img(f"{PROMPT} <lora:ink:0.25>", **SIZE)
    prompt = read_parameters(drawn.infotexts[0]).prompt
    assert prompt == f"{PROMPT} <lora:ink:0.25> <lora:ink:0.5>"
    again = library.txt2img(prompt, **SIZE)
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(drawn.images[0]))


# --- embeddings ---------------------------------------------------------------------------------------


def test_an_embedding_against_diffusers(model: Callable[[str], Model], tmp_path: Path) -> None:
    path = embedding(tmp_path / "words" / "Bad-Hands.safetensors", emb_params=(3, 24))
    theirs = StableDiffusionPipeline.from_pretrained(model("SD 1.5").folder, safety_checker=None)
    theirs.load_textual_inversion(
        {"bad": torch.from_numpy(safetensors.read(path)["emb_params"])}, token="bad_hands"
    )
    with torch.no_grad():
        expected, _ = theirs.encode_prompt("a fox, bad_hands in snow", "cpu", 1, False)
    for ours in (
        model("SD 1.5").load().with_library(embeddings=path.parent),
        model("SD 1.5").load().with_adapters(embeddings=[path]),
    ):
        for name in ("bad-hands", "BAD-HANDS"):
            assert relative_error(ours.encode_prompt(f"a fox, {name} in snow"), expected) < 1e-5
    plain = model("SD 1.5").load().encode_prompt("a fox, bad-hands in snow")
    assert relative_error(plain, expected) > 0.01


def test_an_embedding_of_xl_against_diffusers(model: Callable[[str], Model], tmp_path: Path) -> None:
    path = embedding(tmp_path / "ink.safetensors", clip_l=(2, 24), clip_g=(2, 32))
    theirs = StableDiffusionXLPipeline.from_pretrained(model("SDXL").folder)
    file = safetensors.read(path)
    for key, number in (("clip_l", ""), ("clip_g", "_2")):
        theirs.load_textual_inversion(
            {"x": torch.from_numpy(file[key])},
            token="ink",
            text_encoder=getattr(theirs, f"text_encoder{number}"),
            tokenizer=getattr(theirs, f"tokenizer{number}"),
        )
    with torch.no_grad():
        expected, _, pooled, _ = theirs.encode_prompt(
            "a fox, ink", device="cpu", do_classifier_free_guidance=False
        )
    ours = model("SDXL").load().with_adapters(embeddings=[path]).encode_prompt("a fox, ink")
    assert relative_error(ours[0], expected) < 1e-5
    assert relative_error(ours[1], pooled) < 1e-5


def test_words_that_only_contain_the_name(pipeline: Pipeline, tmp_path: Path) -> None:
    path = embedding(tmp_path / "ink.safetensors", emb_params=(2, 24))
    library = pipeline.with_library(embeddings=path.parent).library
    for prompt in ("pink", "inks"):
        assert not library.requested_by(prompt)[1], prompt
    for prompt in ("ink2 x", "x ink_blot", "pink,ink"):
        assert library.requested_by(prompt)[1], prompt
    assert library.requested_by("an (Ink:1.2) fox", "x")[1] == (path,)
    changed = pipeline.with_adapters(embeddings=[path])
    for prompt in ("pink", "inks"):
        assert np.array_equal(changed.encode_prompt(prompt), pipeline.encode_prompt(prompt))


def test_the_word_of_diffusers(pipeline: Pipeline, tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal(24).astype(np.float32)
    path = tmp_path / "toys" / "learned_embeds.safetensors"
    path.parent.mkdir()
    safetensors.write(path, {"<cat-toy>": table})
    changed = pipeline.with_adapters(embeddings=[path])
    assert np.array_equal(changed.encode_prompt("a <cat-toy>"), changed.encode_prompt("a toys"))
    assert not np.array_equal(changed.encode_prompt("a toys"), pipeline.encode_prompt("a toys"))


def test_vectors_of_a_word_stay_in_one_chunk(pipeline: Pipeline, tmp_path: Path) -> None:
    path = embedding(tmp_path / "ink.safetensors", emb_params=(8, 24))
    changed = pipeline.with_adapters(embeddings=[path])
    encoded = changed.encode_prompt("a " * 70 + "ink")
    assert encoded.shape[1] == 2 * 77
    second = changed.encode_prompt("ink")
    assert np.array_equal(encoded[:, 77:], second)


@pytest.mark.parametrize(
    ("family", "tables", "fault"),
    [
        ("SD 1.5", {"emb_params": (2, 768)}, "768 numbers, which is one for SD 1.x; the text of this"),
        ("SD 1.5", {"clip_l": (2, 24), "clip_g": (2, 32)}, "24 numbers and 32 numbers, which is one for SD"),
        ("SDXL", {"emb_params": (2, 24)}, "of 24 numbers; the text of this model, SDXL, has 24"),
        ("SDXL", {"clip_l": (2, 24), "clip_g": (3, 32)}, "2 vectors for one text encoder and 3 for the"),
        ("SDXL", {"clip_g": (3, 32)}, "is not an SDXL embedding: it has 'clip_g'"),
        ("SD 1.5", {"a": (2, 24), "b": (2, 24)}, "is not an embedding: it has 2 tensors, 'a', 'b'"),
        ("SD 1.5", {"emb_params": (200, 24)}, "has the shape (200, 24); a table of 1 to 75 vectors"),
        ("SD 1.5", {"emb_params": (0, 24)}, "has the shape (0, 24)"),
    ],
)  # fmt: skip
def test_embeddings_that_do_not_fit(
    model: Callable[[str], Model], tmp_path: Path, family: str, tables: dict[str, Any], fault: str
) -> None:
    path = embedding(tmp_path / "ink.safetensors", **tables)
    with pytest.raises(InvalidCheckpoint) as error:
        model(family).load().with_adapters(embeddings=[path])
    assert fault in str(error.value)


# --- the picture's text -------------------------------------------------------------------------------


def test_hashes_in_the_text(pipeline: Pipeline, ink: Path) -> None:
    word = embedding(ink.parent / "words" / "bad.safetensors", emb_params=(2, 24))
    embedding(ink.parent / "words" / "other.safetensors", emb_params=(2, 24))
    stored = write(ink.parent / "kohya.safetensors", LAYERS, sshs_model_hash="0123456789abcdef" * 4)
    library = pipeline.with_library(ink.parent, word.parent).with_adapters([Lora(stored, 0.25)])
    prompt = f"{PROMPT}, <lora:ink:0.5>"
    text = library.txt2img(prompt, negative_prompt="bad", **SIZE).infotexts[0]
    content = ink.read_bytes()
    tensors = content[8 + int.from_bytes(content[:8], "little") :]
    ours = hashlib.sha256(tensors).hexdigest()[:12]
    words = hashlib.sha256(word.read_bytes()).hexdigest()[:12]
    assert f'Lora hashes: "kohya: 0123456789ab, ink: {ours}"' in text
    assert f'TI hashes: "bad: {words}"' in text or f"TI hashes: bad: {words}" in text
    assert read_parameters(text).prompt == f"{prompt} <lora:kohya:0.25>"
    assert "hashes" not in pipeline.txt2img(PROMPT, **SIZE).infotexts[0]


def test_the_text_draws_the_picture_again(pipeline: Pipeline, ink: Path) -> None:
    drawn = pipeline.with_adapters([Lora(ink, 0.6, 0.2)]).txt2img(PROMPT, **SIZE)
    prompt = read_parameters(drawn.infotexts[0]).prompt
    assert np.array_equal(
        pixels(pipeline.with_library(ink.parent), prompt.replace(" <", "<")), np.asarray(drawn.images[0])
    )


# --- pickles ------------------------------------------------------------------------------------------


def test_files_of_torch(pipeline: Pipeline, ink: Path, tmp_path: Path) -> None:
    word = embedding(tmp_path / "words" / "bad.safetensors", emb_params=(2, 24))
    table = torch.from_numpy(safetensors.read(word)["emb_params"].copy())
    old_word = tmp_path / "old" / "bad.pt"
    old_word.parent.mkdir()
    torch.save(
        {
            "string_to_token": {"*": torch.tensor(265)},
            "string_to_param": {"*": table.requires_grad_()},
            "name": "bad",
            "step": 500,
            "sd_checkpoint": None,
        },
        old_word,
    )
    old_ink = ink.with_suffix(".pt")
    torch.save(
        {name: torch.from_numpy(array.copy()) for name, array in safetensors.read(ink).items()}, old_ink
    )
    new = pipeline.with_adapters([ink], [word])
    old = pipeline.with_adapters([old_ink], [old_word])
    assert weights(new) == weights(old)
    assert np.array_equal(new.encode_prompt("bad fox"), old.encode_prompt("bad fox"))
    assert old.additions.adapters[0][1].hash == hashlib.sha256(old_ink.read_bytes()).hexdigest()[:12]
