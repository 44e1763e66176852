"""The loss that RemoteSAM was trained with."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["IGNORED", "segmentation_loss"]

IGNORED = 255  # the label of a pixel that takes no part


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: tuple[float, float] = (0.9, 1.1),
    dice_share: float = 0.1,
) -> Tensor:
    """Weighted cross-entropy and dice of logits B x 2 x S x S against labels B x S x S.

    Labels are 0 (background), 1 (target) or 255 (takes no part). Dice compares the softmax with the
    labels, its sums running over the batch, both classes and all pixels, so that a picture without
    any target counts like every other.

    Args:
        logits: Background and target, B x 2 x S x S.
        labels: Whole numbers, B x S x S.
        class_weights: Weight of background and target in the cross-entropy.
        dice_share: Share of dice; the rest is cross-entropy.

    Returns:
        A scalar, in float32 at least.

    Examples:
        >>> import torch
        >>> from remotesam_geo.model import segmentation_loss
        >>> labels = torch.tensor([[[0, 1]]])
        >>> good = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
        >>> bool(segmentation_loss(good, labels) < 1e-3)
        True
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels.long()
    weights = logits.new_tensor(class_weights)
    valid = labels != IGNORED
    # The mean over no pixel would be NaN; a batch without a valid pixel teaches nothing.
    total = (weights[labels.clamp(max=1)] * valid).sum().clamp(min=torch.finfo(logits.dtype).tiny)
    entropy = F.cross_entropy(logits, labels, weights, ignore_index=IGNORED, reduction="sum") / total
    of_truth = logits.softmax(1).gather(1, labels.clamp(max=1)[:, None])[:, 0]
    # Over both classes the sizes of prediction and truth are the number of pixels each.
    pixels = valid.sum()
    dice = 1 - (2 * (of_truth * valid).sum() + 1e-5) / (2 * pixels + 1e-5)
    return (1 - dice_share) * entropy + dice_share * dice
