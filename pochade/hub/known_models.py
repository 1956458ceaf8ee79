"""The catalogue of models with short names for `pochade models pull`: repository, size, licence, settings.

All entries are taken from public pages, which `sources` lists. Values that no page states are None; the hub
states them at the pull, and they are shown before anything is downloaded. The same holds for hashes: a hash
in the catalogue must equal the one that the hub states; for other files the hash stated at the first pull is
recorded next to the model, and `pochade models verify` compares the files with that record.
"""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pochade.errors import InvalidRequest
from pochade.request import DEFAULTS, Defaults

HUB_PAGES = "https://huggingface.co"
BYTES = {"int8": 1, "bf16": 2}
"""Precision -> bytes per parameter of the UNet or ControlNet while it runs."""

CLIP_L, CLIP_H, CLIP_G = 123_060_480, 340_387_840, 694_659_840
AUTOENCODER = 83_653_863
SD1_UNET, SD2_UNET, XL_UNET = 859_520_964, 865_910_724, 2_567_463_684
LCM_CONDITION, INPAINTING_INPUT = 256 * 320, 5 * 9 * 320
"""The parameters that an LCM's guidance embedding and the five inpainting channels add to a UNet."""
RUNS_IN_BYTES = ("unet", "controlnet")


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model on the hub with a short name.

    kind: of `checkpoints.contents`: "model", "vae" or "controlnet". repo: its id on the hub. file: the only
        file that is downloaded; None: the diffusers folder, in the variant `variant`.
    revision: the commit, if a source states it; None: the newest. sha256: path in the repository -> hash, if
        a source states it. licence: from the model card; None: unconfirmed until the pull.
    parameters: component -> number of parameters. width: bytes of each in the files.
    measured: memory use from docs/performance.md. defaults: its settings; side: of a picture, px; None for
        models that do not generate pictures.
    sources: the pages with this information.
    """

    name: str
    title: str
    kind: str
    family: str
    repo: str
    parameters: Mapping[str, int]
    width: int
    licence: str | None
    sources: tuple[str, ...]
    file: str | None = None
    variant: str | None = None
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    defaults: Defaults | None = None
    side: int | None = None
    measured: str = ""
    note: str = ""

    @property
    def page(self) -> str:
        """The model's page on the hub."""
        return f"{HUB_PAGES}/{self.repo}"

    @property
    def download_bytes(self) -> int:
        """The approximate download size, from the parameter counts. The hub states the exact size at the
        pull."""
        return self.width * sum(self.parameters.values())

    def weights_bytes(self, precision: str) -> int:
        """Bytes of the weights while it runs in "int8" or "bf16", computed from the parameter counts.

        In int8 the UNet and ControlNets take one byte per parameter, everything else two. Other memory of
        the engine is not included.
        """
        return sum(
            count * (BYTES[precision] if part in RUNS_IN_BYTES else BYTES["bf16"])
            for part, count in self.parameters.items()
        )

    def as_json(self) -> dict[str, Any]:
        """Return the entry as plain data. Sizes and memory are in bytes, computed from the parameter
        counts."""
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "family": self.family,
            "repo": self.repo,
            "page": self.page,
            "file": self.file,
            "variant": self.variant,
            "revision": self.revision,
            "licence": self.licence,
            "bytes": self.download_bytes,
            "memory": {precision: self.weights_bytes(precision) for precision in BYTES},
            "measured": self.measured,
            "usual": None if self.defaults is None else asdict(self.defaults),
            "side": self.side,
            "hashes": "checked" if self.sha256 else "recorded at the first pull",
            "sources": list(self.sources),
            "note": self.note,
        }

    @property
    def command(self) -> str:
        """The command that pulls it."""
        return f"pochade models pull {self.name}"


SD1_PARTS = {"text_encoder": CLIP_L, "unet": SD1_UNET, "vae": AUTOENCODER}
XL_PARTS = {"text_encoder": CLIP_L, "text_encoder_2": CLIP_G, "unet": XL_UNET, "vae": AUTOENCODER}

KNOWN_MODELS: tuple[KnownModel, ...] = (
    KnownModel(
        name="sd15",
        title="Stable Diffusion 1.5",
        kind="model",
        family="SD 1.x",
        repo="Comfy-Org/stable-diffusion-v1-5-archive",
        file="v1-5-pruned-emaonly-fp16.safetensors",
        sha256={
            "v1-5-pruned-emaonly-fp16.safetensors": (
                "e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916"
            )
        },
        parameters=SD1_PARTS,
        width=2,
        licence="creativeml-openrail-m",
        defaults=DEFAULTS,
        side=512,
        measured="1.4 GB in int8 with --memory-budget 2GB, one network after another",
        sources=(
            f"{HUB_PAGES}/Comfy-Org/stable-diffusion-v1-5-archive/blob/"
            "88ab1c3fe1ac966875589a4539aecafcdd3ede59/v1-5-pruned-emaonly-fp16.safetensors",
            f"{HUB_PAGES}/Comfy-Org/stable-diffusion-v1-5-archive/tree/"
            "88ab1c3fe1ac966875589a4539aecafcdd3ede59",
        ),
        note="a copy: its publisher, Runway, has taken the original off the hub",
    ),
    KnownModel(
        name="sd-turbo",
        title="SD-Turbo",
        kind="model",
        family="SD 2.x",
        repo="stabilityai/sd-turbo",
        variant="fp16",
        parameters={"text_encoder": CLIP_H, "unet": SD2_UNET, "vae": AUTOENCODER},
        width=2,
        licence=None,
        defaults=Defaults(steps=4, cfg_scale=1.0, sampler="Euler", schedule="Turbo"),
        side=512,
        sources=(
            f"{HUB_PAGES}/stabilityai/sd-turbo/tree/main/unet",
            f"{HUB_PAGES}/stabilityai/sd-turbo",
        ),
        note="made for 1 to 4 steps",
    ),
    KnownModel(
        name="sdxl",
        title="Stable Diffusion XL 1.0",
        kind="model",
        family="SDXL",
        repo="stabilityai/stable-diffusion-xl-base-1.0",
        file="sd_xl_base_1.0.safetensors",
        sha256={
            "sd_xl_base_1.0.safetensors": "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b"
        },
        parameters=XL_PARTS,
        width=2,
        licence="openrail++",
        defaults=DEFAULTS,
        side=1024,
        measured="3.9 GB in int8 with --memory-budget 9GB, one network after another",
        sources=(
            f"{HUB_PAGES}/stabilityai/stable-diffusion-xl-base-1.0/blob/main/tokenizer/merges.txt",
            f"{HUB_PAGES}/cgburgos/sdxl-1-0-base/blob/main/sd_xl_base_1.0.safetensors",
        ),
        note="the hash is that of a copy whose page names the original",
    ),
    KnownModel(
        name="sdxl-turbo",
        title="SDXL-Turbo",
        kind="model",
        family="SDXL",
        repo="stabilityai/sdxl-turbo",
        variant="fp16",
        parameters=XL_PARTS,
        width=2,
        licence="sai-nc-community",
        defaults=Defaults(steps=4, cfg_scale=1.0, sampler="Euler a", schedule="Turbo"),
        side=512,
        sources=(
            f"{HUB_PAGES}/stabilityai/sdxl-turbo/tree/ef0d007d296a24f621ab6d376e7055eb6116877b",
            f"{HUB_PAGES}/stabilityai/sdxl-turbo/tree/647e47abb87343a8a42170b6f73255d72443ef70/unet",
        ),
        note="made for 1 to 4 steps; read its licence before you earn money with it",
    ),
    KnownModel(
        name="lcm-dreamshaper",
        title="LCM Dreamshaper v7",
        kind="model",
        family="SD 1.x",
        repo="SimianLuo/LCM_Dreamshaper_v7",
        parameters={**SD1_PARTS, "unet": SD1_UNET + LCM_CONDITION},
        width=4,
        licence="mit",
        defaults=Defaults(steps=4, cfg_scale=8.0, sampler="LCM"),
        side=768,
        sources=(
            f"{HUB_PAGES}/SimianLuo/LCM_Dreamshaper_v7/tree/786fa1a98953cac843f9a83b368ac0d00bacd279",
            f"{HUB_PAGES}/SimianLuo/LCM_Dreamshaper_v7",
        ),
        note="made for 2 to 8 steps; its files are in 32 bits",
    ),
    KnownModel(
        name="sd15-inpainting",
        title="Stable Diffusion 1.5, inpainting",
        kind="model",
        family="SD 1.x, inpainting",
        repo="stable-diffusion-v1-5/stable-diffusion-inpainting",
        variant="fp16",
        revision="8a4288a76071f7280aedbdb3253bdb9e9d5d84bb",
        parameters={**SD1_PARTS, "unet": SD1_UNET + INPAINTING_INPUT},
        width=2,
        licence="creativeml-openrail-m",
        defaults=DEFAULTS,
        side=512,
        sources=(
            f"{HUB_PAGES}/stable-diffusion-v1-5/stable-diffusion-inpainting/tree/"
            "8a4288a76071f7280aedbdb3253bdb9e9d5d84bb/unet",
        ),
        note="a copy: its publisher, Runway, has taken the original off the hub",
    ),
    KnownModel(
        name="taesd",
        title="TAESD, a tiny autoencoder for SD 1.x and 2.x",
        kind="vae",
        family="SD 1.x, SD 2.x",
        repo="madebyollin/taesd",
        file="diffusion_pytorch_model.safetensors",
        parameters={"vae": 2_445_063},
        width=4,
        licence="mit",
        sources=(
            f"{HUB_PAGES}/madebyollin/taesd/tree/5a11670ed857b30627e47e95f78debe993a44db6",
            f"{HUB_PAGES}/docs/diffusers/main/en/api/models/autoencoder_tiny",
        ),
        note="use it as --vae taesd with a model: fast, slightly less detail",
    ),
    KnownModel(
        name="sd15-canny",
        title="ControlNet 1.1 for edges (canny), for SD 1.x",
        kind="controlnet",
        family="SD 1.x",
        repo="comfyanonymous/ControlNet-v1-1_fp16_safetensors",
        file="control_v11p_sd15_canny_fp16.safetensors",
        sha256={
            "control_v11p_sd15_canny_fp16.safetensors": (
                "8932b66e15aae835b3490dbf989f56c253104cee08a88bf21283762f557c9f10"
            )
        },
        parameters={"controlnet": 361_279_120},
        width=2,
        licence=None,
        sources=(
            f"{HUB_PAGES}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/tree/"
            "33142dc4c748128c527aa80a93e5f22a56a2c2ab",
            "https://github.com/Acly/krita-ai-diffusion/blob/053a46a2b64bad2223c7c98776ab9b2151254c17/"
            "ai_diffusion/presets/models.json",
        ),
        note="use it as --control-model sd15-canny --preprocessor canny",
    ),
)


def find_known(name: str) -> KnownModel | None:
    """Return the model with a short name, in any case; None if the name is unknown."""
    asked = name.casefold()
    return next((each for each in KNOWN_MODELS if each.name == asked), None)


def known(name: str) -> KnownModel:
    """Like `find_known`, but raise InvalidRequest, listing all names, for an unknown name."""
    found = find_known(name)
    if found is None:
        names = [each.name for each in KNOWN_MODELS]
        similar = difflib.get_close_matches(name.casefold(), names, 1)
        hint = f" (similar: {similar[0]!r})" if similar else ""
        raise InvalidRequest(
            f"'{name[:200]}' is not the name of a known model{hint};"
            f" known are {', '.join(names)}. Any other model of the hub has the form OWNER/NAME"
        )
    return found
