"""Contour maps, by which touching objects are told apart."""

import json
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedModel

from remotesam_geo.errors import InputError, ModelError

from . import hub
from .checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Origin,
    Source,
    digest,
    open_tensors,
    origin,
    without_bar,
)
from .processor import resize

__all__ = ["RELEASED", "ContourModel", "Precision"]

Precision = Literal["auto", "float32", "float16", "bfloat16"]

PREPROCESSOR_FILE = "preprocessor_config.json"
# The SHA-256 is the one that the repository's own pages state for the file.
RELEASED = hub.Release(
    repo="chendelong/DirectSAM-EntitySeg-1024px-0501",
    files=MappingProxyType(
        {
            CONFIG_FILE: None,
            WEIGHTS_FILE: "b545e648b66fc54e9e60a461b60fc80f3553ae6111e6d2cc2e3ae29bfda36e0f",
        }
    ),
    optional=(PREPROCESSOR_FILE,),
)
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ContourModel:
    """A semantic-segmentation network of one channel: how likely each pixel lies on a contour.

    Calls from several threads may overlap; each picture's answer is the same in any batch.

    Args:
        network: A transformers network whose `logits` are B x 1 x h x w.
        resolution: Side of the square at which the network sees a picture.
        image_mean: Mean of red, green and blue in 0..1 that the network was trained with.
        image_std: Their deviation.
        device: "auto" takes CUDA, then Apple's MPS, then the CPU.
        precision: "auto" is float16 on CUDA, the type these weights are stored in, else float32.
        batch_size: Pictures the network sees at once; fewer are filled up with black ones.

    Example:
        >>> from remotesam_geo.model import ContourModel
        >>> contours = ContourModel.from_pretrained()  # doctest: +SKIP
        >>> contours(images).shape  # doctest: +SKIP
        (2, 896, 896)
    """

    def __init__(
        self,
        network: PreTrainedModel,
        *,
        resolution: int = 1024,
        image_mean: tuple[float, ...] = IMAGE_MEAN,
        image_std: tuple[float, ...] = IMAGE_STD,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        batch_size: int | None = None,
    ) -> None:
        self.device = _device(device)
        self.dtype = _dtype(precision, self.device)
        self.network = network.eval().requires_grad_(False).to(self.device, self.dtype)
        self.resolution = resolution
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 8)
        self.origin: Origin | None = None
        self._mean = torch.tensor(image_mean, device=self.device)
        self._std = torch.tensor(image_std, device=self.device)

    @classmethod
    def from_pretrained(
        cls,
        source: str | PathLike[str] | None = None,
        *,
        sha256: str | None = None,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
        resolution: int = 1024,
        device: str | torch.device = "auto",
        precision: Precision = "auto",
        batch_size: int | None = None,
    ) -> Self:
        """Load a contour network: safetensors only, no code but transformers' own.

        Args:
            source: Nothing for `chendelong/DirectSAM-EntitySeg-1024px-0501` (downloaded once), a
                folder, or another repository.
            sha256: The identity the weights must have.
            revision: Commit of a repository; needed for others than the released one.
            cache_dir: Another cache than huggingface_hub's.
            local_files_only: Never ask the network.
            resolution: Side of the square at which the network sees a picture.
            device: See the class.
            precision: See the class.
            batch_size: See the class.

        Raises:
            ModelError: The network is missing, damaged, unsafe, or has not one channel.
        """
        found = _locate(source, revision, cache_dir, local_files_only)
        loaded = origin(
            found,
            {name: digest(tensor) for name, tensor in open_tensors(found.weights).items()},
            sha256,
        )
        mean, std = _normalisation(found.weights.parent)
        model = cls(
            _network(found.weights.parent),
            resolution=resolution,
            image_mean=mean,
            image_std=std,
            device=device,
            precision=precision,
            batch_size=batch_size,
        )
        model.origin = loaded
        return model

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pictures B x H x W x 3 to the bytes of their contour maps, B x H x W.

        The byte is that of probabilities: the whole number not below 200 times the probability.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise InputError(
                f"images of type {images.dtype} and shape {images.shape}: contours are found in "
                f"uint8 B x H x W x 3."
            )
        codes = np.empty(images.shape[:3], np.uint8)
        for start in range(0, len(images), self.batch_size):
            some = slice(start, start + self.batch_size)
            codes[some] = self._codes(images[some])
        return codes

    @torch.inference_mode()
    def _codes(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = self.resolution
        squares = np.zeros((self.batch_size, size, size, 3), np.uint8)
        for square, image in zip(squares, images, strict=False):
            square[:] = resize(image, size)
        pixels = torch.from_numpy(squares).to(self.device).float() / 255
        pixels = ((pixels - self._mean) / self._std).permute(0, 3, 1, 2).contiguous()
        logits: Tensor = self.network(pixel_values=pixels.to(self.dtype)).logits
        logits = logits[: len(images)].float()
        logits = F.interpolate(logits, images.shape[1:3], mode="bilinear", align_corners=False)
        return (200 * logits[:, 0].sigmoid()).ceil().to(torch.uint8).cpu().numpy()


def _locate(
    source: str | PathLike[str] | None,
    revision: str | None,
    cache_dir: str | PathLike[str] | None,
    local_files_only: bool,
) -> Source:
    name = RELEASED.repo if source is None else str(source)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if not hub.is_repository(name):
            raise ModelError(
                f"there is no {name!r}. A contour network is nothing (the released one), a folder, "
                f"or owner/name on the hub."
            )
        release = RELEASED
        if name != RELEASED.repo:
            release = hub.foreign(name, CONFIG_FILE, WEIGHTS_FILE, optional=(PREPROCESSOR_FILE,))
        snapshot = hub.fetch(
            release,
            revision=revision,
            cache_dir=None if cache_dir is None else Path(cache_dir),
            local_files_only=local_files_only,
        )
        folder, revision = snapshot.folder, snapshot.revision
    elif revision is not None:
        raise InputError(f"revision={revision!r} is a commit of a hub; {name!r} is a folder.")
    else:
        name = str(folder.resolve())
    missing = [file for file in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / file).is_file()]
    if missing:
        raise ModelError(
            f"{folder} holds no contour network: it lacks {' and '.join(missing)}. (Weights are "
            f"read from safetensors only.)"
        )
    return Source(weights=folder / WEIGHTS_FILE, folder=folder, name=name, revision=revision)


def _network(folder: Path) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if config.num_labels != 1:
            raise ModelError(
                f"the network in {folder} has {config.num_labels} channels; a contour network has "
                f"one."
            )
        with without_bar():
            network, report = AutoModelForSemanticSegmentation.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder} holds no contour network: {reason}") from error
    wrong = {kind: sorted(map(str, names)) for kind, names in report.items() if names}
    if wrong:
        raise ModelError(
            f"the weights in {folder} do not fit the network of its {CONFIG_FILE}: "
            + "; ".join(f"{kind}: {', '.join(names[:8])}" for kind, names in sorted(wrong.items()))
        )
    return network  # type: ignore[no-any-return]


def _normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    path = folder / PREPROCESSOR_FILE
    if not path.is_file():
        return IMAGE_MEAN, IMAGE_STD
    try:
        stated = json.loads(path.read_text("utf-8"))
        mean, std = (
            tuple(float(value) for value in stated.get(key, default))
            for key, default in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD))
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    return mean, std


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if precision not in known:
        raise InputError(f"precision={precision!r}: choose auto, {', '.join(known)}.")
    return known[precision]
