"""The public pipeline: from a request to pictures."""

from pochade.generation.result import Progress, Result
from pochade.loading.adapters import Lora
from pochade.pipeline.loader import load
from pochade.pipeline.pipeline import Pipeline

__all__ = ["Lora", "Pipeline", "Progress", "Result", "load"]
