"""Metadata of other programs: converted, or the program is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pochade.errors import InvalidRequest
from pochade.images.embedded_text import read_text
from pochade.images.metadata import Parameters, read_parameters
from pochade.images.other_tools import to_infotext

SWARM = {
    "sui_image_params": {
        "prompt": "a red fox",
        "negativeprompt": "blurry",
        "model": "some/sd15.safetensors",
        "seed": 7,
        "steps": 20,
        "cfgscale": 6.5,
        "width": 512,
        "height": 768,
        "sampler": "dpmpp_2m_sde_gpu",
        "scheduler": "karras",
        "loras": ["ink"],
        "loraweights": ["0.8"],
        "swarm_version": "0.9.5",
    },
    "sui_extra_data": {"date": "2025-01-01"},
}
FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernaut",
    "clip_skip": 2,
    "full_prompt": ["a red fox", "cinematic still"],
    "guidance_scale": 4.0,
    "loras": [["offset.safetensors", 0.1, "0123456789"]],
    "negative_prompt": "blurry",
    "performance": "Speed",
    "prompt": "a red fox",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "123456789012345678",
    "steps": 30,
    "version": "Fooocus v2.5.0",
}
COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 8566257,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "euler_ancestral",
            "scheduler": "normal",
            "denoise": 1,
            "model": ["10", 0],
            "positive": ["12", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"batch_size": 1, "height": 640, "width": 512}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": ["11", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["4", 1], "text": "blurry"}},
    "10": {
        "class_type": "LoraLoader",
        "inputs": {
            "lora_name": "styles/ink.safetensors",
            "strength_model": 0.5,
            "strength_clip": 0.5,
            "model": ["4", 0],
            "clip": ["4", 1],
        },
    },
    "11": {"class_type": "PrimitiveString", "inputs": {"value": "a red fox"}},
    "12": {
        "class_type": "ControlNetApply",
        "inputs": {"conditioning": ["6", 0], "control_net": ["13", 0], "strength": 1.0},
    },
}
NOVEL = {
    "Title": "NovelAI generated image",
    "Description": "{a red} fox (sitting) [grass]",
    "Software": "NovelAI",
    "Source": "NovelAI Diffusion V3 C1E1DE52",
    "Comment": json.dumps(
        {
            "prompt": "{a red} fox (sitting) [grass]",
            "steps": 28,
            "height": 1216,
            "width": 832,
            "scale": 5.0,
            "uncond_scale": 0.0,
            "cfg_rescale": 0.0,
            "seed": 1234567890,
            "n_samples": 1,
            "noise_schedule": "karras",
            "sampler": "k_euler_ancestral",
            "uc": "{{blurry}}",
        }
    ),
}
INVOKE = {
    "generation_mode": "sdxl_txt2img",
    "positive_prompt": "a red fox",
    "negative_prompt": "blurry",
    "width": 1024,
    "height": 832,
    "seed": 7,
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0.0,
    "steps": 30,
    "scheduler": "dpmpp_2m_k",
    "model": {"key": "x", "name": "sdxl", "base": "sdxl", "type": "main"},
    "loras": [{"model": {"name": "ink"}, "weight": 0.75}],
    "app_version": "5.0.0",
}
INVOKE_OF_2022 = {
    "model": "stable diffusion",
    "model_weights": "sd-1.5",
    "app_version": "2.2.0",
    "image": {
        "prompt": [{"prompt": "a red fox [blurry]", "weight": 1.0}],
        "steps": 50,
        "cfg_scale": 7.5,
        "width": 512,
        "height": 512,
        "seed": 42,
        "sampler": "k_lms",
        "type": "txt2img",
    },
}

CASES: dict[str, tuple[dict[str, str], Parameters]] = {
    "SwarmUI": (
        {"parameters": json.dumps(SWARM)},
        Parameters(
            "a red fox <lora:ink:0.8>",
            "blurry",
            {
                "Steps": "20",
                "Sampler": "DPM++ 2M SDE",
                "Schedule type": "Karras",
                "CFG scale": "6.5",
                "Seed": "7",
                "Size": "512x768",
                "Model": "some/sd15",
                "Version": "SwarmUI",
            },
        ),
    ),
    "Fooocus": (
        {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
        Parameters(
            "a red fox <lora:offset:0.1>",
            "blurry",
            {
                "Steps": "30",
                "Sampler": "DPM++ 2M SDE",
                "Schedule type": "Karras",
                "CFG scale": "4",
                "Seed": "123456789012345678",
                "Size": "1152x896",
                "Model": "juggernaut",
                "Clip skip": "2",
                "Version": "Fooocus",
            },
        ),
    ),
    "ComfyUI": (
        {"prompt": json.dumps(COMFY), "workflow": "{}"},
        Parameters(
            "a red fox <lora:styles/ink:0.5>",
            "blurry",
            {
                "Steps": "20",
                "Sampler": "Euler a",
                "Schedule type": "Normal",
                "CFG scale": "8",
                "Seed": "8566257",
                "Size": "512x640",
                "Model": "sd15",
                "Version": "ComfyUI",
            },
        ),
    ),
    "NovelAI": (
        NOVEL,
        Parameters(
            r"(a red:1.05) fox \(sitting\) (grass:0.9524)",
            "((blurry:1.05):1.05)",
            {
                "Steps": "28",
                "Sampler": "Euler a",
                "Schedule type": "Karras",
                "CFG scale": "5",
                "Seed": "1234567890",
                "Size": "832x1216",
                "Model": "NovelAI Diffusion V3 C1E1DE52",
                "Version": "NovelAI",
            },
        ),
    ),
    "InvokeAI": (
        {"invokeai_metadata": json.dumps(INVOKE)},
        Parameters(
            "a red fox <lora:ink:0.75>",
            "blurry",
            {
                "Steps": "30",
                "Sampler": "DPM++ 2M",
                "Schedule type": "Karras",
                "CFG scale": "7.5",
                "Seed": "7",
                "Size": "1024x832",
                "Model": "sdxl",
                "Version": "InvokeAI",
            },
        ),
    ),
    "InvokeAI of 2022": (
        {"sd-metadata": json.dumps(INVOKE_OF_2022), "Dream": '"a red fox [blurry]" -s 50 -S 42'},
        Parameters(
            "a red fox",
            "blurry",
            {
                "Steps": "50",
                "Sampler": "LMS",
                "CFG scale": "7.5",
                "Seed": "42",
                "Size": "512x512",
                "Model": "sd-1.5",
                "Version": "InvokeAI",
            },
        ),
    ),
}


def png(path: Path, texts: dict[str, str]) -> Path:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_itxt(name, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)
    return path


@pytest.mark.parametrize("tool", CASES)
def test_what_a_program_says(tmp_path: Path, tool: str) -> None:
    texts, expected = CASES[tool]
    assert read_parameters(read_text(png(tmp_path / "x.png", texts))) == expected


@pytest.mark.parametrize("tool", ["SwarmUI", "Fooocus"])
def test_in_the_comment_of_a_jpeg(tmp_path: Path, tool: str) -> None:
    texts, expected = CASES[tool]
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + texts["parameters"].encode("utf-16-le")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.jpg", exif=exif)
    assert read_parameters(read_text(tmp_path / "x.jpg")) == expected


def test_comfyui_in_a_webp_file(tmp_path: Path) -> None:
    texts, expected = CASES["ComfyUI"]
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "workflow:{}", f"prompt:{texts['prompt']}"
    Image.new("RGB", (8, 8)).save(tmp_path / "x.webp", exif=exif)
    assert read_parameters(read_text(tmp_path / "x.webp")) == expected


@pytest.mark.parametrize(
    ("texts", "maker"),
    [
        ({"workflow": '{"nodes": []}'}, "ComfyUI"),
        ({"prompt": '{"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}}'}, "ComfyUI"),
        ({"Dream": '"a fox" -s 50'}, "InvokeAI"),
        ({"invokeai_graph": "{}"}, "InvokeAI"),
        ({"sd-metadata": "{"}, "InvokeAI"),
    ],
)
def test_what_is_not_read_names_its_program(tmp_path: Path, texts: dict[str, str], maker: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"x\.png' was made by {maker}, and its text contains no"):
        read_text(png(tmp_path / "x.png", texts))


def test_a_prompt_that_looks_like_a_table_stays_a_prompt(tmp_path: Path) -> None:
    for text in ("{a|b} fox", '{"a": "fox"}', "{", "[1, 2]"):
        assert read_text(png(tmp_path / "x.png", {"parameters": text})) == text


def test_damaged_exif_beside_a_text_does_not_matter(tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "a fox")
    Image.new("RGB", (8, 8)).save(
        tmp_path / "x.png", pnginfo=chunks, exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff"
    )
    assert read_text(tmp_path / "x.png") == "a fox"


CIRCLE = {
    "1": {"inputs": {"seed": 1, "steps": ["2", 0], "model": ["2", 0], "positive": ["2", 0]}},
    "2": {"inputs": {"model": ["1", 0], "conditioning": ["2", 0], "text": ["2", 0]}},
}
DAMAGED: list[Any] = [
    {"prompt": json.dumps(CIRCLE)},
    {"prompt": json.dumps({"1": {"inputs": {"seed": None, "steps": [], "positive": [None], "model": 3}}})},
    {"prompt": json.dumps({"1": {"inputs": 3}, "2": None, "3": {"inputs": {"seed": [], "steps": {}}}})},
    {"prompt": "[" * 100_000},
    {"prompt": '{"a":' * 100_000},
    {"parameters": '{"sui_image_params": {"loras": 3, "prompt": 4, "seed": "x", "steps": [], "width": {}}}'},
    {"parameters": '{"version": "Fooocus", "loras": [1, [2], [3, 4]], "resolution": 3, "seed": 1e999}'},
    {"parameters": '{"version": "Fooocus", "loras": 3}'},
    {"parameters": '{"sui_image_params": {"loras": ["ink"], "loraweights": 3}}'},
    {"parameters": '{"prompt": 3, "steps": [], "width": {}, "software": ["x"]}'},
    {"invokeai_metadata": '{"loras": 3}'},
    {"prompt": '{"1": {"inputs": {"seed": 1, "steps": 2, "positive": ["2", {}]}}, "2": {"inputs": {}}}'},
    {"Software": "NovelAI", "Comment": "[]"},
    {"invokeai_metadata": '{"model": [], "loras": [3, {"model": 4}, {"lora": {}}], "seed": NaN}'},
    {"sd-metadata": '{"image": {"prompt": [3]}}'},
]


@pytest.mark.parametrize("texts", DAMAGED)
def test_damage_is_no_crash(texts: dict[str, str]) -> None:
    found = to_infotext(texts)
    assert found is None or read_parameters(found) is not None


def with_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """COMFY, with some of its nodes replaced."""
    return {**COMFY, **changes}


def said_by(graph: dict[str, Any]) -> Parameters:
    text = to_infotext({"prompt": json.dumps(graph)})
    assert text is not None
    return read_parameters(text)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


SAMPLER = COMFY["3"]["inputs"]  # type: ignore[index]


def test_both_prompts_go_through_a_node_of_comfyui() -> None:
    """A ControlNet's node takes both, and gives the first and the second out again."""
    both = node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["13", 0])
    sampler = node("KSampler", **{**SAMPLER, "positive": ["20", 0], "negative": ["20", 1]})
    found = said_by(with_changes({"3": sampler, "20": both}))
    assert (found.prompt, found.negative_prompt) == ("a red fox <lora:styles/ink:0.5>", "blurry")
    twice = node("ControlNetApplyAdvanced", positive=["20", 0], negative=["20", 1], control_net=["13", 0])
    sampler = node("KSampler", **{**SAMPLER, "positive": ["21", 0], "negative": ["21", 1]})
    assert said_by(with_changes({"3": sampler, "20": both, "21": twice})).negative_prompt == "blurry"


def test_a_negative_prompt_of_zeros_is_none() -> None:
    sampler = node("KSampler", **{**SAMPLER, "negative": ["20", 0]})
    zeros = node("ConditioningZeroOut", conditioning=["6", 0])
    assert said_by(with_changes({"3": sampler, "20": zeros})).negative_prompt == ""


def test_comfyui_samplers_in_parts() -> None:
    """SamplerCustom and SamplerCustomAdvanced have their settings in other nodes."""
    parts = {
        "30": node("KSamplerSelect", sampler_name="euler_ancestral"),
        "31": node("SplitSigmas", step=3, sigmas=["32", 0]),
        "32": node("BasicScheduler", scheduler="karras", steps=9, denoise=1, model=["10", 0]),
    }
    custom = node(
        "SamplerCustom",
        add_noise=True,
        noise_seed=5,
        cfg=4,
        model=["10", 0],
        positive=["6", 0],
        negative=["7", 0],
        sampler=["30", 0],
        sigmas=["31", 0],
        latent_image=["5", 0],
    )
    advanced = node(
        "SamplerCustomAdvanced",
        noise=["33", 0],
        guider=["34", 0],
        sampler=["30", 0],
        sigmas=["32", 0],
        latent_image=["5", 0],
    )
    guider = {
        "33": node("RandomNoise", noise_seed=5),
        "34": node("CFGGuider", cfg=4, model=["10", 0], positive=["6", 0], negative=["7", 0]),
    }
    expected = {
        "Steps": "9",
        "Sampler": "Euler a",
        "Schedule type": "Karras",
        "CFG scale": "4",
        "Seed": "5",
        "Size": "512x640",
        "Model": "sd15",
        "Version": "ComfyUI",
    }
    for graph in ({"3": custom, **parts}, {"3": advanced, **parts, **guider}):
        assert said_by(with_changes(graph)) == Parameters(
            "a red fox <lora:styles/ink:0.5>", "blurry", expected
        )


def test_names_of_files_have_the_slashes_of_one_system() -> None:
    lora = node("LoraLoader", lora_name="styles\\ink.safetensors", model=["4", 0])
    loader = node("CheckpointLoaderSimple", ckpt_name="XL\\sd15.safetensors")
    found = said_by(with_changes({"4": loader, "10": lora}))
    assert found.prompt == "a red fox <lora:styles/ink:1>" and found.values["Model"] == "XL/sd15"


def test_the_pass_that_begins_from_nothing_counts() -> None:
    """Of two KSamplerAdvanced the second one, which goes on, may stand first."""
    common = {name: value for name, value in SAMPLER.items() if name not in ("seed", "denoise")}
    later = node("KSamplerAdvanced", **common, add_noise="disable", noise_seed=1, start_at_step=15)
    first = node("KSamplerAdvanced", **common, add_noise="enable", noise_seed=2, start_at_step=0)
    assert said_by(with_changes({"3": later, "9": first})).values["Seed"] == "2"


SETTINGS = (
    "a red fox\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
)


@pytest.mark.parametrize(
    "graph", [COMFY, {"1": {"class_type": "Odd", "inputs": {}}}], ids=["readable", "unknown"]
)
def test_a_parameters_text_beside_a_graph_counts(tmp_path: Path, graph: dict[str, Any]) -> None:
    texts = {"prompt": json.dumps(graph), "workflow": "{}", "parameters": SETTINGS}
    assert read_text(png(tmp_path / "x.png", texts)) == SETTINGS


OTHERS: dict[str, dict[str, str]] = {
    "RuinedFooocus": {
        "parameters": json.dumps(
            {
                "Prompt": "a red fox",
                "Negative": "blurry",
                "steps": 20,
                "cfg": 7,
                "width": 512,
                "height": 640,
                "seed": 5,
                "sampler_name": "euler_ancestral",
                "scheduler": "karras",
                "base_model_name": "sd15.safetensors",
                "software": "RuinedFooocus",
            }
        )
    },
    "Easy Diffusion": {
        "prompt": "a red fox",
        "negative_prompt": "blurry",
        "num_inference_steps": "20",
        "guidance_scale": "7.0",
        "width": "512",
        "height": "640",
        "seed": "5",
        "sampler_name": "euler_a",
        "use_stable_diffusion_model": "sd15",
    },
}


@pytest.mark.parametrize("tool", OTHERS)
def test_other_programs_with_the_usual_names(tmp_path: Path, tool: str) -> None:
    found = read_parameters(read_text(png(tmp_path / "x.png", OTHERS[tool])))
    assert (found.prompt, found.negative_prompt) == ("a red fox", "blurry")
    named = ("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Version")
    assert [found.values[name] for name in named] == ["20", "Euler a", "7", "5", "512x640", "sd15", tool]


def test_a_table_that_tells_nothing_is_not_the_prompt(tmp_path: Path) -> None:
    texts = {"parameters": '{"prompt": {"text": "a red fox"}, "nodes": []}'}
    with pytest.raises(InvalidRequest, match="was made by another program, and its text contains no prompt"):
        read_text(png(tmp_path / "x.png", texts))


def test_where_a_parameters_text_may_stand(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = SETTINGS
    wide = Image.Exif()
    wide[0x9C9C] = (SETTINGS + "\0").encode("utf-16-le")
    for name, options in (
        ("x.gif", {"comment": SETTINGS.encode()}),
        ("x.jpg", {"comment": SETTINGS.encode()}),
        ("y.jpg", {"exif": exif}),
        ("z.jpg", {"exif": wide}),
    ):
        Image.new("RGB", (8, 8)).save(tmp_path / name, **options)
        assert read_text(tmp_path / name) == SETTINGS, name
    assert read_text(png(tmp_path / "x.png", {"Description": SETTINGS})) == SETTINGS
    with pytest.raises(InvalidRequest, match="contains no parameters text"):
        read_text(png(tmp_path / "y.png", {"Comment": "made with an editor"}))
