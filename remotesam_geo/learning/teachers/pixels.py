"""Pictures as Qwen2-VL takes them: what its image processor needs torchvision for, without it."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from remotesam_geo.errors import InputError
from remotesam_geo.predictors.image_tensors import normalised

__all__ = ["qwen_pixels", "qwen_size"]

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LONGEST = 200  # times as long as wide: Qwen2-VL takes no narrower picture


def qwen_size(
    height: int, width: int, *, factor: int = 28, least: int = 56 * 56, most: int = 28 * 28 * 1280
) -> tuple[int, int]:
    """The height and width at which Qwen2-VL looks at a picture: multiples of a factor, nearly of its shape.

    Args:
        height: Of the picture.
        width: Of the picture.
        factor: Pixels of a side that become one token.
        least: Pixels that are wanted.
        most: Pixels that are allowed.

    Raises:
        InputError: It is more than 200 times as long as wide.

    Examples:
        >>> from remotesam_geo.learning.teachers.pixels import qwen_size
        >>> qwen_size(448, 300), qwen_size(20, 20), qwen_size(4000, 4000)
        ((448, 308), (56, 56), (980, 980))
    """
    if max(height, width) > LONGEST * min(height, width):
        raise InputError(f"a picture of {height} x {width} is more than {LONGEST} times as long as wide")
    rows, columns = round(height / factor), round(width / factor)
    if rows * columns * factor**2 > most:
        shrink = math.sqrt(height * width / most) * factor
        rows, columns = max(1, math.floor(height / shrink)), max(1, math.floor(width / shrink))
    elif rows * columns * factor**2 < least:
        grow = math.sqrt(least / (height * width)) / factor
        rows, columns = math.ceil(height * grow), math.ceil(width * grow)
    return rows * factor, columns * factor


def qwen_pixels(
    rgb: NDArray[np.uint8],
    *,
    patch: int = 14,
    merge: int = 2,
    frames: int = 2,
    least: int = 56 * 56,
    most: int = 28 * 28 * 1280,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture as the patches that Qwen2-VL takes.

    Patches that are merged to one token follow each other: first all of the upper left square of `merge` x `merge`
    patches, row by row, then those of the square to the right of it. A picture is a film of `frames` equal frames.

    Args:
        rgb: H x W x 3.
        patch: Side of a patch.
        merge: Patches on a side that become one token.
        frames: Frames of a patch.
        least: As in `qwen_size`.
        most: As in `qwen_size`.

    Returns:
        The patches, N x (3 * frames * patch * patch), and their grid, 1 x 3: frames, rows and columns of patches.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.teachers.pixels import qwen_pixels
        >>> patches, grid = qwen_pixels(np.zeros((56, 84, 3), np.uint8))
        >>> patches.shape, grid.tolist()
        (torch.Size([24, 1176]), [[1, 4, 6]])
    """
    height, width = qwen_size(rgb.shape[0], rgb.shape[1], factor=patch * merge, least=least, most=most)
    sized = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    shares = torch.from_numpy(np.array(sized)).permute(2, 0, 1)[None] / 255
    normal = normalised(shares, CLIP)[0]  # 3 x height x width
    rows, columns = height // patch, width // patch
    cut = normal.view(3, rows // merge, merge, patch, columns // merge, merge, patch)
    ordered = cut.permute(1, 4, 2, 5, 0, 3, 6)  # square row and column, row and column in it, 3, y, x
    film = ordered[:, :, :, :, :, None].expand(-1, -1, -1, -1, -1, frames, -1, -1)
    return film.reshape(rows * columns, -1), torch.tensor([[1, rows, columns]])
