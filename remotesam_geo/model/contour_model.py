"""Contour maps, by which touching objects are told apart."""

import functools
import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Literal, Self, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedModel

from remotesam_geo.errors import InputError, ModelError, number_in, one_of

from . import hub
from .hardware import Precision, check_compute, choose_device, choose_precision
from .predictor import to_codes
from .processor import resize
from .weights import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LocalWeights,
    WeightsOrigin,
    digest,
    open_tensors,
    origin,
    without_bar,
)

__all__ = ["RELEASED", "ContourModel", "ContourRecipe"]

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


@dataclass(frozen=True, kw_only=True)
class ContourRecipe:
    """All that another process needs to find the same contours; plain strings and numbers.

    Attributes:
        source: What `ContourModel.from_pretrained` takes.
        revision: The commit, where the source is a repository.
        weights: SHA-256 that the weights must have.
        resolution: Side of the square at which the network sees a picture.
        device: Where to compute.
        precision: Of the products.
        batch: Pictures that are computed together.
    """

    source: str
    revision: str | None
    weights: str
    resolution: int
    device: str
    precision: Precision
    batch: int

    def __post_init__(self) -> None:
        one_of("precision", self.precision, get_args(Precision))


class ContourModel:
    """A semantic-segmentation network of one channel: how likely each pixel lies on a contour.

    Any number of threads may ask it, and a picture's answer is the same in any company.

    Args:
        network: A transformers network whose `logits` are B x 1 x h x w.
        resolution: Side of the square at which the network sees a picture.
        image_mean: Mean of red, green and blue in 0..1 that the network was trained with.
        image_std: Their deviation.
        device: `"auto"` for CUDA, then MPS, then the CPU; or a torch device.
        precision: `"auto"` for bfloat16 where the hardware is fast at it, else float32.
        batch: Pictures computed together, fewer filled up with black ones; `"auto"` for 1 on the
            CPU and 8 elsewhere.

    Examples:
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
        precision: Precision | Literal["auto"] = "auto",
        batch: int | Literal["auto"] = "auto",
    ) -> None:
        check_compute(precision, batch)
        number_in("resolution", resolution, 1, whole=True)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self._dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]
        self._network = network.eval().requires_grad_(False).to(self.device, self._dtype)
        self.resolution = resolution
        self.batch = batch if batch != "auto" else 1 if self.device.type == "cpu" else 8
        self.origin: WeightsOrigin | None = None  # which weights were loaded, where any were
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
        precision: Precision | Literal["auto"] = "auto",
        batch: int | Literal["auto"] = "auto",
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
            batch: See the class.

        Raises:
            ModelError: The network is missing, damaged, unsafe, or has not one channel.
        """
        check_compute(precision, batch)
        number_in("resolution", resolution, 1, whole=True)
        found = _locate_contour_weights(source, revision, cache_dir, local_files_only)
        loaded = origin(
            found,
            {name: digest(tensor) for name, tensor in open_tensors(found.weights).items()},
            sha256,
        )
        mean, std = _image_normalisation(found.weights.parent)
        model = cls(
            _contour_network(found.weights.parent),
            resolution=resolution,
            image_mean=mean,
            image_std=std,
            device=device,
            precision=precision,
            batch=batch,
        )
        model.origin = loaded
        return model

    @classmethod
    def open(cls, recipe: ContourRecipe) -> "ContourModel":
        """The model of a recipe; this process opens it once, and keeps the last two."""
        with _opening:
            return _open_contour_model(recipe)

    @property
    def recipe(self) -> ContourRecipe:
        """How to open the same model in another process.

        Raises:
            ModelError: The network was not loaded by `from_pretrained`.
        """
        if self.origin is None:
            raise ModelError(
                "another process cannot open this contour model: its network was not loaded here. "
                "Save it (save_pretrained) and use ContourModel.from_pretrained."
            )
        return ContourRecipe(
            source=self.origin.source,
            revision=self.origin.revision,
            weights=self.origin.sha256,
            resolution=self.resolution,
            device=str(self.device),
            precision=self.precision,
            batch=self.batch,
        )

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pictures B x H x W x 3 to the bytes of their contour maps, B x H x W.

        The byte is that of probabilities: the whole number not below 200 times the probability.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise InputError(
                f"images of type {images.dtype} and shape {images.shape}: contours are found in uint8 B x H x W x 3."
            )
        codes = np.empty(images.shape[:3], np.uint8)
        for start in range(0, len(images), self.batch):
            some = slice(start, start + self.batch)
            codes[some] = self._codes(images[some])
        if codes.size and codes.max() > 200:
            raise ModelError(
                "the contour network's answer holds values that are no numbers: its weights are "
                'damaged, or too large for this precision. Try precision="float32".'
            )
        return codes

    @torch.inference_mode()
    def _codes(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = self.resolution
        squares = np.zeros((self.batch, size, size, 3), np.uint8)
        for square, image in zip(squares, images, strict=False):
            square[:] = resize(image, size)
        pixels = torch.from_numpy(squares).to(self.device).float() / 255
        pixels = ((pixels - self._mean) / self._std).permute(0, 3, 1, 2).contiguous()
        logits: Tensor = self._network(pixel_values=pixels.to(self._dtype)).logits
        logits = logits[: len(images)].float()
        logits = F.interpolate(logits, images.shape[1:3], mode="bilinear", align_corners=False)
        return to_codes(logits[:, 0].sigmoid()).cpu().numpy()


def _locate_contour_weights(
    source: str | PathLike[str] | None,
    revision: str | None,
    cache_dir: str | PathLike[str] | None,
    local_files_only: bool,
) -> LocalWeights:
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
    return LocalWeights(weights=folder / WEIGHTS_FILE, folder=folder, name=name, revision=revision)


def _contour_network(folder: Path) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if config.num_labels != 1:
            raise ModelError(f"the network in {folder} has {config.num_labels} channels; a contour network has one.")
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


def _image_normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
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


_opening = Lock()


@functools.lru_cache(maxsize=2)
def _open_contour_model(recipe: ContourRecipe) -> ContourModel:
    return ContourModel.from_pretrained(
        recipe.source,
        revision=recipe.revision,
        sha256=recipe.weights,
        resolution=recipe.resolution,
        device=recipe.device,
        precision=recipe.precision,
        batch=recipe.batch,
    )
