"""The loss of a batch of expressions, published or for small objects."""

import torch.nn.functional as F
from torch import Tensor

from remotesam_geo.model.loss import IGNORED, segmentation_loss

from .settings import TrainConfig

__all__ = ["expression_loss", "mask_loss"]


def mask_loss(logits: Tensor, masks: Tensor, config: TrainConfig) -> Tensor:
    """Logits E x 2 x s x s, enlarged to the masks E x S x S, against them: a scalar."""
    size = (masks.shape[-2], masks.shape[-1])
    if config.dice == "batch":
        return segmentation_loss(
            F.interpolate(logits.float(), size, mode="bilinear", align_corners=True),
            masks,
            class_weights=config.class_weights,
            dice_share=config.dice_share,
        )
    margin = (logits[:, 1:] - logits[:, :1]).float()  # of two classes, the difference says all
    margin = F.interpolate(margin, size, mode="bilinear", align_corners=True)[:, 0]
    return expression_loss(margin, masks, class_weights=config.class_weights, dice_share=config.dice_share)


def expression_loss(margin: Tensor, masks: Tensor, *, class_weights: tuple[float, float], dice_share: float) -> Tensor:
    """Cross-entropy over all pixels, and the dice of each expression's target by itself.

    Args:
        margin: Target logit less background logit, E x S x S.
        masks: 0, 1 or 255 (takes no part), E x S x S.
        class_weights: Weight of background and target in the cross-entropy.
        dice_share: Share of dice; the rest is cross-entropy.

    Returns:
        A scalar.

    Examples:
        >>> import torch
        >>> from remotesam_geo.learning.training.expression_loss import expression_loss
        >>> masks = torch.zeros(1, 8, 8)
        >>> masks[:, :2] = 1
        >>> sure = 40 * masks - 20
        >>> loss = expression_loss(sure, masks, class_weights=(0.9, 1.1), dice_share=0.5)
        >>> bool(loss < 1e-6)
        True
    """
    valid = (masks != IGNORED).float()
    truth = (masks == 1).float()
    weight = (class_weights[0] + (class_weights[1] - class_weights[0]) * truth) * valid
    entropy = F.binary_cross_entropy_with_logits(margin, truth, weight, reduction="sum")
    entropy = entropy / weight.sum().clamp(min=1)
    chance = margin.sigmoid() * valid
    overlap = (chance * truth).sum((1, 2))
    # Softens dice where nothing is to be found: there a single pixel would count as a whole object.
    soft = masks[0].numel() / 1024
    dice = 1 - (2 * overlap + soft) / (chance.sum((1, 2)) + truth.sum((1, 2)) + soft)
    return (1 - dice_share) * entropy + dice_share * dice.mean()
