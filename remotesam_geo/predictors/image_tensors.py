"""Images as networks take them: resized and normalised, without torchvision."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

__all__ = ["IMAGENET", "normalised", "square_pixels"]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of the channels that SAM 2, Grounding DINO and CLIPSeg were trained with."""


def square_pixels(
    rgb: NDArray[np.uint8], side: int, scale: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
) -> torch.Tensor:
    """An image squeezed to a square, whatever its shape, as SAM 2 and CLIPSeg see it.

    Args:
        rgb: H x W x 3.
        side: Of the square.
        scale: Mean and deviation of the channels.

    Returns:
        1 x 3 x side x side, normalised.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.predictors.image_tensors import square_pixels
        >>> square_pixels(np.zeros((30, 50, 3), np.uint8), 16).shape
        torch.Size([1, 3, 16, 16])
    """
    shares = torch.from_numpy(np.require(rgb, requirements=["C", "W"])).permute(2, 0, 1)[None] / 255
    square = F.interpolate(shares, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return normalised(square, scale)


def normalised(shares: torch.Tensor, of: tuple[tuple[float, ...], tuple[float, ...]]) -> torch.Tensor:
    """Values from 0 to 1 (N x 3 x H x W), less the mean and by the deviation of each channel."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in of)
    return (shares - mean) / deviation
