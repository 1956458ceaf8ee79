"""The folders and files that Pochade uses. Nothing is read or created until a function is called."""

import os
from collections.abc import Mapping
from pathlib import Path

CACHE_BUDGET_BYTES = 20 * 10**9
STARTER = "starter"
"""The name of the model in the package."""


def starter_folder() -> Path:
    """Return the folder of the model in the package."""
    return Path(__file__).parent / STARTER


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for data that can be recreated: $POCHADE_CACHE, or the user's cache folder.

    The folder may not exist yet.
    """
    chosen = environ.get("POCHADE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # imported on demand, to save start-up time

    return Path(platformdirs.user_cache_dir("pochade", appauthor=False))


def contents_file() -> Path:
    """Return the cache of model headers (`checkpoints.library.describe`). It may not exist yet."""
    return cache_dir() / "contents.json"


def models_dir() -> Path:
    """Return Pochade's own folder of models, in the user's data folder. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "models"


def model_roots(
    chosen: str | Path | None = None, environ: Mapping[str, str] = os.environ
) -> tuple[Path, ...]:
    """Return the folders that are searched for models: `chosen` or $POCHADE_MODELS, then Pochade's own.

    Several folders are separated as in $PATH. See `pochade.checkpoints.library` for their layouts.
    """
    named = [chosen] if chosen is not None else environ.get("POCHADE_MODELS", "").split(os.pathsep)
    folders = [Path(folder).expanduser().absolute() for folder in named if folder != ""]
    return tuple(dict.fromkeys([*folders, models_dir()]))


def signing_file() -> Path:
    """Return the file of the key that pictures are signed with. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "signing.pem"


def studio_dir() -> Path:
    """Return the folder where the server keeps jobs and pictures. It may not exist yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "studio"


def assistants_dir() -> Path:
    """Return the folder where `pochade mcp` keeps jobs and pictures, in numbered folders. It may not exist
    yet."""
    import platformdirs

    return Path(platformdirs.user_data_dir("pochade", appauthor=False)) / "assistants"
