"""Where Pochade keeps things on this computer. Nothing is read or created until a function is called."""

import os
from collections.abc import Mapping
from pathlib import Path

CACHE_BUDGET_BYTES = 20 * 10**9


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for what can be made anew at any time: $POCHADE_CACHE, or the user's cache folder.

    The folder may not exist yet.
    """
    chosen = environ.get("POCHADE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # here, so that reading the settings of a test or a server costs nothing

    return Path(platformdirs.user_cache_dir("pochade", appauthor=False))
