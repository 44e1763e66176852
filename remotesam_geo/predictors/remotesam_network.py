"""The RemoteSAM network as a predictor."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from remotesam_geo.errors import InputError, one_of

from .protocol import Codes, Predictor

if TYPE_CHECKING:
    from remotesam_geo.model import RemoteSAMPredictor, RemoteSAMProcessor

__all__ = ["OF_THIS_MACHINE", "Network", "Precision", "check_network_recipe", "described"]


Precision = Literal["auto", "float32", "bfloat16"]
"""In which numbers the network multiplies."""


OF_THIS_MACHINE = ("device", "batch")
"""Parts of a network's recipe that another machine chooses for itself."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The RemoteSAM network with its weights."""

    predictor: "RemoteSAMPredictor"
    processor: "RemoteSAMProcessor"

    @classmethod
    def open(
        cls,
        source: str | Path | None,
        *,
        device: str,
        precision: Precision,
        revision: str | None,
        sha256: str | None,
        local_files_only: bool,
    ) -> "Network":
        """See `RemoteSAM.from_pretrained`."""
        one_of("precision", precision, get_args(Precision))
        one_of("local_files_only", local_files_only, (True, False))
        for name, value in (("device", device), ("revision", revision), ("sha256", sha256)):
            if not (isinstance(value, str) and value.strip()) and (value is not None or name == "device"):
                raise InputError(f"{name}={value!r} is not allowed: give a text, or leave it out")
        from remotesam_geo.model import (  # noqa: PLC0415 - torch takes its time
            RemoteSAMModel,
            RemoteSAMPredictor,
            RemoteSAMProcessor,
        )

        network = RemoteSAMModel.from_pretrained(
            source, revision=revision, sha256=sha256, local_files_only=local_files_only
        )
        processor = RemoteSAMProcessor.from_pretrained(
            source, config=network.config, revision=revision, local_files_only=local_files_only
        )
        return cls(
            predictor=RemoteSAMPredictor(network, processor, device=device, precision=precision),
            processor=processor,
        )

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> "Network":
        """Open the network of a recipe; on the device that suits this machine, where it names none.

        Raises:
            TypeError: The recipe holds something else than texts, flags and a precision that there is.
            ModelError: The weights are missing, or others than they were.
        """
        from remotesam_geo.model import (  # noqa: PLC0415 - torch takes its time
            PredictorRecipe,
            RemoteSAMPredictor,
            RemoteSAMProcessor,
        )

        check_network_recipe(recipe)
        predictor = RemoteSAMPredictor.open(PredictorRecipe(**{"device": "auto", "batch": "auto", **recipe}))
        processor = RemoteSAMProcessor.from_pretrained(
            recipe["source"], config=predictor.config, revision=recipe["revision"]
        )
        return cls(predictor=predictor, processor=processor)

    @property
    def recipe(self) -> dict[str, Any]:
        """How another process opens the same network; see `open_recipe`.

        Raises:
            ModelError: Its weights are those of this process alone.
        """
        whole = asdict(self.predictor.recipe)
        return {"network": {name: value for name, value in whole.items() if name not in OF_THIS_MACHINE}}

    @property
    def identity(self) -> str:
        """The hash of its weights."""
        return str(self.predictor.identity)

    @property
    def image_size(self) -> int:
        """Side of the square pictures it takes, in pixels."""
        return int(self.predictor.config.image_size)

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> Codes:
        """See `Predictor`."""
        codes: Codes = self.predictor.predict(images, expressions)
        return codes

    def probabilities(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.float32]:
        """The same as probabilities."""
        answers: NDArray[np.float32] = self.predictor.probabilities(images, expressions)
        return answers

    def cut_words(self, expression: str) -> str:
        """The end of an expression that it does not read."""
        cut: str = self.processor.cut_words(expression)
        return cut

    def unknown_words(self, expression: str) -> tuple[str, ...]:
        """The words of an expression that it has no representation of."""
        unknown: tuple[str, ...] = self.processor.unknown_words(expression)
        return unknown


def described(model: Predictor) -> dict[str, str]:
    """What there is to know of a model at a glance, by name."""
    rows = {"weights": model.identity, "pictures": f"{model.image_size} px"}
    if isinstance(model, Network):
        own = model.predictor
        rows["weights"] = model.identity[:12]  # as much as tells them apart
        rows["computes"] = f"{own.precision} on {own.device}"
    return rows


def check_network_recipe(recipe: Mapping[str, Any]) -> None:
    """Check that a recipe from a file holds texts, and a precision that there is.

    Raises:
        TypeError: It does not.
    """
    if not isinstance(recipe.get("source"), str) or not isinstance(recipe.get("weights"), str):
        raise TypeError(f"{recipe!r} does not name its weights")
    if not isinstance(recipe.get("revision"), str | None):
        raise TypeError(f"its revision is {recipe['revision']!r}")
    if recipe.get("precision") not in ("float32", "bfloat16"):
        raise TypeError(f"its precision is {recipe.get('precision')!r}")
