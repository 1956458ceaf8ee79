"""Where checkpoints, models, engines, prompts and diffusion meet: from a request to pictures."""

from pochade.pipeline.load import load
from pochade.pipeline.loading.adapting import Lora
from pochade.pipeline.pipeline import Pipeline
from pochade.pipeline.results.result import Progress, Result

__all__ = ["Lora", "Pipeline", "Progress", "Result", "load"]
