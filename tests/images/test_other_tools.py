"""Pictures of other programs: what they say is read where it stands, or the program is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pochade.errors import InvalidRequest
from pochade.images.metadata import Parameters, read_parameters
from pochade.images.other_tools import retold
from pochade.images.reading import read_text

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
    with pytest.raises(InvalidRequest, match=rf"x\.png' was made by {maker}, and its text holds no prompt"):
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
    {"Software": "NovelAI", "Comment": "[]"},
    {"invokeai_metadata": '{"model": [], "loras": [3, {"model": 4}, {"lora": {}}], "seed": NaN}'},
    {"sd-metadata": '{"image": {"prompt": [3]}}'},
]


@pytest.mark.parametrize("texts", DAMAGED)
def test_damage_is_no_crash(texts: dict[str, str]) -> None:
    found = retold(texts)
    assert found is None or read_parameters(found) is not None
