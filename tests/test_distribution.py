"""Source distribution and wheel: contents, and drawing from a wheel with only the base dependencies.

Nothing is downloaded: both are built with the setuptools of this environment, and the wheel is installed into
an empty one, where the base dependencies are links to those of this one.
"""

import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import pochade
from tests.test_package import EXTRAS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = f"pochade-{pochade.__version__}"
LIBRARY = "pochade/engines/attention_kernel/attention.so.1"  # where there is a compiler


def run(command: Iterable[object], folder: Path, **variables: str) -> str:
    """Run a command with hardly any environment; what it prints."""
    kept = {name: value for name in ("PATH", "TMPDIR", "LANG") if (value := os.environ.get(name))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> dict[str, Path]:
    """The files of the repository, as they are now."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a checkout: nothing says which files belong to the project")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    return {name: ROOT / name for name in names if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def source_distribution(tracked: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("source")
    for name, path in tracked.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    into = tmp_path_factory.mktemp("sdist")
    build = "import sys, setuptools.build_meta; setuptools.build_meta.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", build, into], folder)
    (built,) = into.iterdir()
    assert built.name == f"{NAME}.tar.gz"
    return built


def test_the_source_distribution_holds_the_repository(
    source_distribution: Path, tracked: Mapping[str, Path]
) -> None:
    with tarfile.open(source_distribution) as archive:
        files = {member.name: member for member in archive if member.isfile()}
        for name in ("README.md", "LICENSE", "NOTICE", "constraints.txt", "tests/conftest.py"):
            member = archive.extractfile(files[f"{NAME}/{name}"])
            assert member is not None and member.read() == tracked[name].read_bytes(), name
    held = {str(PurePosixPath(name).relative_to(NAME)) for name in files}
    generated = {name for name in held if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    assert held - generated == set(tracked) - {".gitignore"}


# --- what takes longer --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(source_distribution: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution."""
    into = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-index", "--no-cache-dir", "--no-build-isolation", "--wheel-dir", into]
    run([sys.executable, "-m", "pip", "wheel", *options, source_distribution], into)
    (built,) = into.iterdir()
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(
    wheel: Path, tracked: Mapping[str, Path]
) -> None:
    ours = {name: path for name, path in tracked.items() if name.startswith("pochade/")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held - {LIBRARY} == set(ours)
        assert (LIBRARY in held) == (shutil.which("cc") is not None)
        for name, path in ours.items():
            assert archive.read(name) == path.read_bytes(), name
        told = message_from_bytes(archive.read(f"{NAME}.dist-info/METADATA"))
        licences = [archive.read(f"{NAME}.dist-info/licenses/{name}") for name in ("LICENSE", "NOTICE")]
    assert licences == [tracked["LICENSE"].read_bytes(), tracked["NOTICE"].read_bytes()]
    assert (told["Version"], told["License-Expression"]) == (PROJECT["version"], PROJECT["license"])
    assert str(told.get_payload()).strip() == tracked["README.md"].read_text(encoding="utf-8").strip()
    needed = [line for line in told.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(map(str, map(Requirement, needed))) == sorted(
        map(str, map(Requirement, PROJECT["dependencies"]))
    )


@dataclass(frozen=True)
class Installed:
    """A wheel in an environment of its own, and an empty folder to run it in. home: what it may write to."""

    programs: Path
    folder: Path
    home: Path

    def run(self, *command: object) -> str:
        program, *arguments = command
        where = {"HOME": str(self.home), "POCHADE_CACHE": str(self.home / "cache")}
        return run([self.programs / str(program), *arguments], self.folder, **where)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment, home = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("home")
    run([sys.executable, "-m", "venv", "--without-pip", environment], home)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    options = ["--no-deps", "--no-index", "--no-cache-dir", "--no-warn-script-location"]
    run([sys.executable, "-m", "pip", "--python", programs / "python", "install", *options, wheel], home)
    links = tmp_path_factory.mktemp("base")
    link_distributions(PROJECT["dependencies"], links)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run([programs / "python", "-I", "-c", where], home).strip())
    (packages / "base.pth").write_text(f"{links}\n", encoding="utf-8")
    return Installed(programs, tmp_path_factory.mktemp("empty"), home)


def link_distributions(needed: Iterable[str], into: Path) -> None:
    """Links to what these requirements install, theirs included, and to nothing else."""
    waiting, seen = [Requirement(line) for line in needed], set[str]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        assert requirement.specifier.contains(distribution.version), requirement
        waiting += [Requirement(line) for line in distribution.requires or ()]
        for part in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (into / part).exists():
                (into / part).symlink_to(Path(str(distribution.locate_file(part))).resolve())


@pytest.mark.slow
def test_the_environment_holds_the_wheel_and_the_base_dependencies_only(installed: Installed) -> None:
    code = f"""
import importlib.util, pochade, sys
print(pochade.__file__)
print([name for name in {[*EXTRAS, "pip", "setuptools"]!r} if importlib.util.find_spec(name)])
print([path for path in sys.path if path.startswith({str(ROOT)!r})])
"""
    where, extras, sources = installed.run("python", "-I", "-c", code).splitlines()
    assert Path(where).is_relative_to(installed.programs.parent)
    assert (extras, sources) == ("[]", "[]")


@pytest.mark.slow
def test_the_installed_wheel_draws(installed: Installed) -> None:
    """As a program and as a module, with all that drawing reads from the package: weights and tokenizers."""
    words = ["draw", "a red apple, 3d style", "--seed", "7", "--steps", "4"]
    installed.run("pochade", *words, "-o", "program.png")
    printed = installed.run("python", "-I", "-m", "pochade", *words, "-o", "module.png")
    assert printed.splitlines()[-1].endswith("module.png")
    assert {path.name for path in installed.folder.iterdir()} == {"program.png", "module.png"}
    pictures = [(installed.folder / name).read_bytes() for name in ("program.png", "module.png")]
    for data in pictures:
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("PNG", (128, 128))
            assert str(image.info["parameters"]).startswith("a red apple, 3d style\n")
            assert np.asarray(image.convert("L")).std() > 5
    assert pictures[0] == pictures[1]


@pytest.mark.slow
def test_the_installed_wheel_says_its_version_and_what_it_found(installed: Installed) -> None:
    for program in (["pochade"], ["python", "-I", "-m", "pochade"]):
        assert pochade.__version__ in installed.run(*program, "--version")
        report = dict(line.split(None, 1) for line in installed.run(*program, "doctor").splitlines())
        assert report["pochade"].startswith(f"{pochade.__version__},")
        assert "openvino is the engine for cpu" in report["because"]
        assert report["starter"].endswith(" of weights")
        for extra in ("torch", "serve", "hub"):
            assert report[extra].startswith("not installed"), extra


@pytest.mark.slow
def test_the_source_distribution_passes_its_tests(source_distribution: Path, tmp_path: Path) -> None:
    """Those that read files of all folders."""
    with tarfile.open(source_distribution) as archive:
        archive.extractall(tmp_path, filter="data")
    names = ["tests/test_docs.py", "tests/test_layers.py", "tests/test_package.py"]
    home = {"HOME": str(tmp_path), "POCHADE_CACHE": str(tmp_path / "cache")}
    printed = run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names], tmp_path / NAME, **home
    )
    assert " passed" in printed and "skipped" not in printed
