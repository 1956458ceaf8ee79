"""Where Pochade keeps things on this computer. Nothing is read or created until a function is called."""

import os
from collections.abc import Mapping
from pathlib import Path

CACHE_BUDGET_BYTES = 20 * 10**9
STARTER = "starter"
"""The name of the model in the package."""


def starter_folder() -> Path:
    """Where the model in the package lies."""
    return Path(__file__).parent / STARTER


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for what can be made anew at any time: $POCHADE_CACHE, or the user's cache folder.

    The folder may not exist yet.
    """
    chosen = environ.get("POCHADE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # here, so that reading the settings of a test or a server costs nothing

    return Path(platformdirs.user_cache_dir("pochade", appauthor=False))


def contents_file() -> Path:
    """What headers in the folders of models told (`checkpoints.library.describe`). It may not exist yet."""
    return cache_dir() / "contents.json"


def models_dir() -> Path:
    """Pochade's own folder of models, in the user's data folder. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "models"


def model_roots(
    chosen: str | Path | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Path, ...]:
    """Where models are looked for by name: `chosen`, or the folders of $POCHADE_MODELS; then Pochade's own.

    Several are separated as in $PATH. See `pochade.checkpoints.library` for what each may be.
    """
    named = [chosen] if chosen is not None else environ.get("POCHADE_MODELS", "").split(os.pathsep)
    folders = [Path(folder).expanduser().absolute() for folder in named if folder != ""]
    return tuple(dict.fromkeys([*folders, models_dir()]))


def signing_file() -> Path:
    """The key that pictures are signed with, in the user's data folder. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "signing.pem"


def studio_dir() -> Path:
    """Where the server keeps jobs and pictures, in the user's data folder. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "studio"


def assistants_dir() -> Path:
    """Where `pochade mcp` keeps jobs and pictures, in numbered folders. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "assistants"
