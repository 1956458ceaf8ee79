"""Classifier-free guidance on raw predictions.

Guidance is applied to the model's output (eps or v), before the parametrization turns it into a denoised
latent. For `combine` the order does not matter, since a denoised latent is an affine function of the
prediction; for `rescale` it does, and published settings (such as 0.7) were tuned for raw predictions.
"""

from collections.abc import Callable, Sequence

from pochade.diffusion.parametrization import Predict
from pochade.ops import Tensor


def combine(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Move the prediction away from the unconditional one: scale 1 gives `cond`, 0 gives `uncond`.

    Shapes: all (B, C, H, W). Ho and Salimans 2022, equation 6, where w = scale - 1.
    """
    return uncond + scale * (cond - uncond)


def compose(conds: Sequence[Tensor], weights: Sequence[float | Tensor], uncond: Tensor) -> Tensor:
    """Combine the predictions of several prompts: the weighted sum of their differences from `uncond`.

    Shapes: all (B, C, H, W). Liu et al. 2022, "Compositional visual generation with composable diffusion
    models", equation 11, before the guidance scale is applied. A weight may be (H, W), one per position.
    """
    result = uncond
    for cond, weight in zip(conds, weights, strict=True):
        result = result + weight * (cond - uncond)
    return result


def rescale(guided: Tensor, cond: Tensor, amount: float) -> Tensor:
    """Rescale the deviation of each guided prediction towards that of its conditional prediction.

    amount: 0 changes nothing, 1 restores the deviation fully. Shapes: all (B, C, H, W); pictures of a batch
    do not influence one another. Lin et al. 2023, section 3.4.
    """
    if amount == 0:
        return guided
    ratio = (_variance(cond) / _variance(guided)) ** 0.5  # (B, 1, 1, 1)
    return guided * (amount * ratio + (1 - amount))


def guide(
    predict_both: Callable[[Tensor, float], tuple[Tensor, Tensor]], scale: float, amount: float = 0.0
) -> Predict:
    """Return `predict` for a function that returns the conditional and the unconditional prediction."""

    def predict(x: Tensor, timestep: float) -> Tensor:
        cond, uncond = predict_both(x, timestep)
        return rescale(combine(cond, uncond, scale), cond, amount)

    return predict


def _variance(x: Tensor) -> Tensor:
    """Return the variance of each picture: (B, C, H, W) -> (B, 1, 1, 1). numpy's and torch's `.var`
    differ."""
    axes = tuple(range(1, x.ndim))
    deviation = x - x.mean(axis=axes, keepdims=True)
    return (deviation * deviation).mean(axis=axes, keepdims=True)
