"""The allowed imports between packages, including imports inside functions."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "pochade").rglob("*.py"))]

GROUND = {
    "ops",
    "weights",
    "request",
    "request_options",
    "errors",
    "configs",
    "settings",
    "atomic",
    "mapping",
    "speed",
    "int8",
    "machine",
}
COMPONENTS = {"engines", "models", "diffusion", "prompts", "checkpoints", "images"}
BELOW_LOADING = GROUND | COMPONENTS | {"adapters", "quantization", "families", "pochade"}
BELOW_TOP = BELOW_LOADING | {"loading", "generation", "pipeline", "tools"}
BELOW_SERVER = GROUND | {
    "jobs",
    "images",
    "prompts",
    "diffusion",
    "checkpoints",
    "adapters",
    "loading",
    "generation",
    "pipeline",
    "tools",
    "pochade",
}

MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    **dict.fromkeys(COMPONENTS, GROUND),
    "adapters": GROUND | {"checkpoints"},
    "quantization": GROUND | {"checkpoints"},
    "families": GROUND | {"checkpoints", "diffusion", "models", "prompts"},  # no engines: they run nothing
    "loading": BELOW_LOADING,
    "generation": BELOW_LOADING | {"loading"},
    "pipeline": BELOW_LOADING | {"loading", "generation"},
    "tools": BELOW_LOADING | {"loading", "generation", "pipeline"},
    "hub": GROUND | {"checkpoints", "pochade"},
    "training": BELOW_TOP,
    "evaluation": BELOW_TOP | {"training"},
    "notebook": BELOW_TOP,
    "jobs": BELOW_TOP | {"hub"},
    "server": BELOW_SERVER,  # no engines, no models: drawing is done in other processes
    "cli": BELOW_TOP | {"training", "evaluation", "hub", "jobs", "server"},
    "pochade": BELOW_TOP,  # __init__.py: it shows the public names
    "__main__": {"cli"},
}
"""A part of the package, and the parts that it may import besides itself."""

PIPELINE = ("pipeline", "calibrate", "loader")
"""Files of the pipeline, from below."""

USE_DIALECTS = ("app", "stdio")
"""The files of the server that know its dialects; all others stand below them."""

HOMES = {
    "torch": ("pochade/engines/torch*.py", "pochade/training/*", "pochade/evaluation/*"),
    "openvino": ("pochade/engines/openvino*.py",),
    "tokenizers": ("pochade/training/*",),
    "huggingface_hub": ("pochade/hub/*",),
    "c2pa": ("pochade/images/signing.py",),
    "cryptography": ("pochade/images/signing.py",),
    "IPython": ("pochade/notebook/*",),
    "resvg_py": ("pochade/training/*",),
    "sqlalchemy": ("pochade/jobs/*",),
    "fastapi": ("pochade/server/*",),
    "starlette": ("pochade/server/*",),
    "pydantic": ("pochade/server/*",),
    "uvicorn": ("pochade/server/*",),
    "mcp": ("pochade/server/*",),
    "accelerate": (),
    "diffusers": (),
    "peft": (),
    "safetensors": (),
    "transformers": (),
}
"""Packages that may be imported in these files only."""

EXTRAS = ("train", "hub", "serve", "mcp", "c2pa", "notebook")
"""What `pip install 'pochade[...]'` takes; torch is part of train."""

DISTRIBUTIONS = {"PIL": "pillow", "c2pa": "c2pa-python", "IPython": "ipython"}
"""Under which name a package is installed, where that is another one than it is imported by."""


def imports(source: str) -> Iterator[tuple[str, ast.stmt]]:
    """The full names of the modules (or of the things in them) that a file imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((f"{module}.{alias.name}", node) for alias in node.names)


def part(module: str) -> str:
    """The part of the package that holds a module: "pochade.models.unet" -> "models"."""
    _, _, below = module.partition(".")
    name = below.split(".")[0]
    known = name in MAY_IMPORT or any((ROOT / "pochade").glob(f"{name}*"))
    return name if below and known else "pochade"


def breaches(file: str, source: str) -> list[str]:
    """What is wrong with the imports of a file, named by its path from the root."""
    own = part(module_name(file))
    found = []
    for module, node in imports(source):
        top = module.split(".")[0]
        if module.startswith("."):
            found.append(f"{file}:{node.lineno}: '{module}' is relative; write the full name")
        elif top == "pochade":
            if part(module) not in MAY_IMPORT[own] | {own}:
                found.append(f"{file}:{node.lineno}: {own} must not know {part(module)} ('{module}')")
            elif own == part(module) == "pipeline" and floor(module) > floor(file):
                found.append(f"{file}:{node.lineno}: '{module}' stands above this part of the pipeline")
            elif not speaks(file, module):
                found.append(f"{file}:{node.lineno}: this is another dialect's ('{module}')")
        elif top in HOMES and not any(fnmatch(file, home) for home in HOMES[top]):
            found.append(f"{file}:{node.lineno}: {top} has no place here")
    return found


def floor(name: str) -> int:
    """How high a file or a module of the pipeline stands."""
    known = re.match(rf"pochade[./]pipeline[./]({'|'.join(PIPELINE)})\b", name)
    return len(PIPELINE) if known is None else PIPELINE.index(known[1])


def dialect(name: str) -> str | None:
    """Which dialect a file or a module belongs to."""
    found = re.match(r"pochade[./]server[./]dialects[./]([a-z0-9]+)", name)
    return None if found is None else found[1]


def speaks(file: str, module: str) -> bool:
    """Whether a file may know a module as far as dialects go: each knows itself, and few know them all."""
    own = dialect(file)
    if not module.startswith("pochade.server.dialects") or (own is None and Path(file).stem in USE_DIALECTS):
        return True
    return own is not None and dialect(module) == own


@pytest.mark.parametrize("file", FILES)
def test_a_file_knows_only_what_stands_below_it(file: str) -> None:
    assert part(module_name(file)) in MAY_IMPORT, "a new part needs a place in the layers"
    assert breaches(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("pochade/models/unet.py", "from pochade.engines.numpy import NumpyEngine", "must not know engines"),
        ("pochade/models/unet.py", "from pochade import engines", "must not know engines"),
        (
            "pochade/engines/numpy.py",
            "def f():\n    import pochade.models.unet",
            "2: engines must not know models",
        ),
        ("pochade/images/files.py", "from pochade.checkpoints import write", "must not know checkpoints"),
        ("pochade/ops.py", "from pochade.models.unet import unet", "ops must not know models"),
        ("pochade/diffusion/samplers/dpm.py", "import pochade", "diffusion must not know pochade"),
        ("pochade/pipeline/loader.py", "from pochade.cli import draw", "pipeline must not know cli"),
        ("pochade/tools/xyz_grid.py", "from pochade.training import loop", "tools must not know training"),
        ("pochade/training/loop.py", "from pochade.cli import draw", "training must not know cli"),
        ("pochade/pipeline/loader.py", "import torch.nn", "torch has no place here"),
        ("pochade/engines/numpy.py", "if TYPE_CHECKING:\n    from torch import Tensor", "torch has no place"),
        ("pochade/cli/doctor.py", "from openvino import Core", "openvino has no place here"),
        ("pochade/training/loop.py", "import diffusers.models", "diffusers has no place here"),
        ("pochade/tools/xyz_grid.py", "from pochade.jobs import store", "tools must not know jobs"),
        ("pochade/jobs/worker.py", "from pochade.server import desk", "jobs must not know server"),
        ("pochade/server/service.py", "from pochade.engines import openvino", "server must not know engines"),
        ("pochade/server/service.py", "import sqlalchemy", "sqlalchemy has no place here"),
        (
            "pochade/loading/networks.py",
            "from pochade.generation import canvas",
            "loading must not know generation",
        ),
        (
            "pochade/generation/generate.py",
            "from pochade.pipeline import load",
            "generation must not know pipeline",
        ),
        (
            "pochade/pipeline/pipeline.py",
            "from pochade.pipeline.loader import load",
            "stands above this part",
        ),
        (
            "pochade/server/dialects/openai/routes.py",
            "from pochade.server.dialects.native.routes import router",
            "this is another dialect's",
        ),
        (
            "pochade/server/dialects/mcp/tools.py",
            "from pochade.server.dialects import native_lists",
            "this is another dialect's",
        ),
        (
            "pochade/server/service.py",
            "from pochade.server.dialects.native.routes import show",
            "another dialect's",
        ),
        ("pochade/jobs/live.py", "import fastapi", "fastapi has no place here"),
        ("pochade/checkpoints/read.py", "import huggingface_hub", "huggingface_hub has no place here"),
        ("pochade/pipeline/loader.py", "from pochade.hub import remote", "pipeline must not know hub"),
        (
            "pochade/checkpoints/folder.py",
            "from safetensors import safe_open",
            "safetensors has no place here",
        ),
        ("pochade/checkpoints/folder.py", "from .safetensors import TensorFile", "is relative"),
    ],
)
def test_a_breach_is_found(file: str, source: str, complaint: str) -> None:
    (found,) = breaches(file, source)
    assert complaint in found


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "pochade/models/unet.py",
            "import math\nfrom pochade.models import layers\nfrom pochade.ops import Ops",
        ),
        ("pochade/checkpoints/folder.py", "from pochade.checkpoints import safetensors"),
        ("pochade/pipeline/pipeline.py", "import pochade\nfrom pochade.models.unet import unet"),
        ("pochade/pipeline/pipeline.py", "from pochade import __version__"),
        ("pochade/pipeline/pipeline.py", "from pochade.generation.generate import draw"),
        ("pochade/pipeline/__init__.py", "from pochade.pipeline.loader import load"),
        ("pochade/engines/torch.py", "import torch"),
        ("pochade/engines/openvino_cache.py", "import openvino as ov"),
        ("pochade/training/corpus/build.py", "import torch\nfrom pochade.pipeline import load"),
        ("pochade/cli/train.py", "from pochade.training import loop"),
        ("pochade/server/app.py", "from pochade.server.dialects import a1111, native"),
        (
            "pochade/server/dialects/a1111/routes.py",
            "from pochade.server.dialects import a1111_lists\nfrom pochade.server import telling",
        ),
    ],
)
def test_what_is_allowed_is_not_reported(file: str, source: str) -> None:
    assert breaches(file, source) == []


# --- names are used once ---------------------------------------------------------------------------


def test_no_two_modules_of_a_layer_share_a_name() -> None:
    """The dialects aside, which are folders with the same files."""
    assert shared_module_names(FILES) == {}


def test_no_two_public_classes_share_a_name() -> None:
    assert shared_class_names({file: (ROOT / file).read_text(encoding="utf-8") for file in FILES}) == {}


def test_shared_names_are_found() -> None:
    files = [
        "pochade/jobs/store.py",
        "pochade/training/corpus/store.py",
        "pochade/training/store.py",
        "pochade/training/corpus/__init__.py",
        "pochade/training/__init__.py",
        "pochade/server/dialects/mcp/routes.py",
        "pochade/server/dialects/native/routes.py",
        "pochade/server/dialects/a1111/service.py",
        "pochade/server/service.py",
    ]
    assert shared_module_names(files) == {
        ("training", "store"): ["pochade/training/corpus/store.py", "pochade/training/store.py"],
        ("server", "service"): ["pochade/server/dialects/a1111/service.py", "pochade/server/service.py"],
    }
    sources = {"a.py": "class Job: ...\nclass _Step: ...", "b.py": "class Job: ...\nclass _Step: ..."}
    assert shared_class_names(sources) == {"Job": ["a.py", "b.py"]}


def shared_module_names(files: list[str]) -> dict[tuple[str, str], list[str]]:
    """(layer, name) -> the modules with that name, where there are several."""
    found: dict[tuple[str, str], list[str]] = {}
    for file in files:
        if Path(file).name != "__init__.py":
            found.setdefault((part(module_name(file)), Path(file).stem), []).append(file)
    return {
        key: sorted(same)
        for key, same in found.items()
        if len(same) > 1 and not all(dialect(file) is not None for file in same)
    }


def shared_class_names(sources: dict[str, str]) -> dict[str, list[str]]:
    """The name of a public class -> the files that define it, where there are several."""
    found: dict[str, list[str]] = {}
    for file, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(file)
    return {name: sorted(files) for name, files in found.items() if len(files) > 1}


# --- what is imported is declared ------------------------------------------------------------------


def test_base_files_import_only_what_the_base_package_brings() -> None:
    optional = (
        "pochade/engines/torch*.py",
        "pochade/hub/*",
        "pochade/evaluation/*",
        *HOMES["tokenizers"],
        *HOMES["c2pa"],
        *HOMES["IPython"],
        "pochade/jobs/*",
        "pochade/server/*",
    )
    base = [file for file in FILES if not any(fnmatch(file, home) for home in optional)]
    assert outside_packages(base) <= declared("dependencies")
    assert outside_packages(base) >= {"numpy", "openvino", "pillow"}  # so that something was looked at


def test_every_package_that_is_imported_is_declared_and_the_other_way_round() -> None:
    brought = {"starlette", "pydantic"}  # by FastAPI, which is made of them
    unseen = {"python-multipart"}  # FastAPI imports it where it is needed
    told = set.union(*map(declared, ["dependencies", *EXTRAS])) - {"pochade"}  # extras that name another
    assert outside_packages(FILES) - brought == told - unseen
    assert declared("torch") == {"torch"}


def test_the_base_package_brings_no_framework() -> None:
    assert declared("dependencies").isdisjoint({"torch", "diffusers", "transformers", "accelerate", "onnx"})


def test_every_declared_package_has_a_tested_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if re.fullmatch(r"[\w-]+==[\w.]+", line)}
    assert pinned >= set.union(*map(declared, ["dependencies", *EXTRAS, "dev"])) - {"pochade"}


# --- what docs/architecture.md shows is so -----------------------------------------------------------


def test_the_picture_of_the_layers_shows_what_is_enforced() -> None:
    rows = layers(ARCHITECTURE)
    assert rows[0] == GROUND and rows[1] == COMPONENTS and rows[-1] == {"cli"}
    assert sorted(name for row in rows for name in row) == sorted(MAY_IMPORT.keys() - {"pochade", "__main__"})
    for number, row in enumerate(rows):
        above = set().union(*rows[number + 1 :])
        for name in row:
            assert MAY_IMPORT[name].isdisjoint(above), f"{name} stands below what it may import"


def test_a_picture_that_drifted_is_found() -> None:
    assert layers(ARCHITECTURE.replace("  int8  ", "  ")) != layers(ARCHITECTURE)
    assert layers("## Layers\n```\nops  weights     words about them\n  ^   ^\nmodles\n```") == [
        {"ops", "weights"},
        {"modles"},
    ]


def test_every_part_is_there_and_every_folder_is_explained() -> None:
    there = {path.stem for path in (ROOT / "pochade").iterdir()}
    assert MAY_IMPORT.keys() - {"pochade"} <= there
    table = ARCHITECTURE.split("## Folders")[1].split("\n## ")[0]
    explained = set(re.findall(r"^\| `([\w/]+)/` \|", table, re.MULTILINE))
    assert all((ROOT / "pochade" / folder).is_dir() for folder in explained)
    folders = {path.name for path in (ROOT / "pochade").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders <= explained


def test_the_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`(?:pochade/)?([\w/]+\.py)`", ARCHITECTURE)) - {"tests/test_layers.py"}
    assert len(named) > 10
    assert [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in FILES)] == []


def layers(page: str) -> list[set[str]]:
    """The rows of the picture under "## Layers", lowest first: single words with two spaces between them.

    What stands on a line in several words explains it; a line of arrows ends a row.
    """
    rows: list[set[str]] = [set()]
    for line in page.split("## Layers")[1].split("```")[1].splitlines():
        if "^" in line:
            rows.append(set())
        else:
            rows[-1] |= {words for words in re.split(r"\s{2,}", line.strip()) if re.fullmatch(r"\w+", words)}
    return rows


# --- what the tests above read ------------------------------------------------------------------------


def module_name(file: str) -> str:
    """ "pochade/models/unet.py" -> "pochade.models.unet"."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def outside_packages(files: list[str]) -> set[str]:
    """What these files import that is neither Python's own nor ours, by the names that pip knows."""
    sources = [(ROOT / file).read_text(encoding="utf-8") for file in files]
    tops = {module.split(".")[0] for source in sources for module, _ in imports(source)}
    return {DISTRIBUTIONS.get(top, top) for top in tops - set(sys.stdlib_module_names) - {"pochade"}}


def declared(group: str) -> set[str]:
    """The names in one list of pyproject.toml: "dependencies" or an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] if group == "dependencies" else project["optional-dependencies"][group]
    return {re.split(r"[^\w-]", requirement)[0] for requirement in wanted}
