"""Pochade: Stable Diffusion text-to-image on your own computer.

import pochade
pipeline = pochade.load()                                   # the embedded starter model
pipeline.txt2img("a red apple", seed=7).images[0].save("apple.png")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Lora", "Pipeline", "PochadeError", "Progress", "Request", "Result", "__version__", "load"]

if TYPE_CHECKING:
    from pochade.errors import PochadeError
    from pochade.pipeline import Lora, Pipeline, Progress, Result
    from pochade.pipeline.loader import load
    from pochade.request import Request

_HOMES = {"PochadeError": "pochade.errors", "Request": "pochade.request"}


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `import pochade` itself costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'pochade' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "pochade.pipeline")), name)
