"""Answers for many pictures and expressions: one network, one device, one precision."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remotesam_geo.errors import InputError, ModelError, one_of

from .hardware import (
    Precision,
    check_compute,
    choose_device,
    choose_precision,
    exact_float32,
    halved_batch,
    is_out_of_memory,
)
from .inference import Arrangement, InferenceEngine, StageFeatures, keep_freed_memory
from .network import RemoteSAMModel
from .processor import RemoteSAMProcessor
from .weights import weights_sha256

__all__ = ["PredictorRecipe", "RemoteSAMPredictor", "Tokenizer", "to_codes"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NOT_A_NUMBER = 250  # a code that no probability has
TEXTS_KEPT = 512  # 60 kB each at the released size
LARGEST_BATCH = 8  # pairs that together fill a large GPU


class Tokenizer(Protocol):
    """What a predictor needs to read expressions: a `RemoteSAMProcessor` has it."""

    def tokenize(self, expressions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, both N x max_tokens, int64."""


@dataclass(frozen=True, kw_only=True)
class PredictorRecipe:
    """All that another process needs to answer alike; plain strings and numbers.

    Attributes:
        source: What `RemoteSAMModel.from_pretrained` takes.
        revision: The commit, where the source is a repository.
        weights: SHA-256 that the weights must have.
        device: Where to compute.
        precision: Of the products.
        batch: Pairs of picture and expression that are computed together.
        deterministic: Whether only reproducible kernels are used.
        compiled: Whether the network goes through torch.compile.
    """

    source: str
    revision: str | None
    weights: str
    device: str
    precision: Precision
    batch: int
    deterministic: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        one_of("precision", self.precision, get_args(Precision))


class RemoteSAMPredictor:
    """A network ready to answer; any number of threads may ask it.

    The same pair gets the same answer whatever else it is asked with: expressions are encoded
    one at a time, pictures seen one at a time, and pairs computed in batches of one shape, the last
    one padded. Text is encoded once for each expression (the most recent ones are kept), and what
    no text can change is computed once for each picture.

    On Linux the first predictor that computes on the CPU asks the C library to keep freed memory in
    the process, since fresh pages cost a tenth of the time.

    Args:
        model: The network. Its weights are taken as they are now; most of them are shared where
            neither device nor precision differ, so train a copy.
        tokenizer: Reads the expressions; the network's `RemoteSAMProcessor`.
        device: `"auto"` for CUDA, then MPS, then the CPU; or a torch device.
        precision: `"auto"` for bfloat16 where the hardware is fast at it, else float32.
        batch: Pairs computed together; `"auto"` for 1 on the CPU, where more bring nothing, and
            for what fits on others. It is halved, with a warning, when memory runs out.
        deterministic: Use only kernels that give the same bits every time. On the CPU they do
            anyway, for one number of threads.
        compiled: Send the network through torch.compile, on a GPU: minutes at the first answer.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.model import RemoteSAMPredictor, RemoteSAMConfig, RemoteSAMModel
        >>> from remotesam_geo.model import RemoteSAMProcessor
        >>> config = RemoteSAMConfig(
        ...     image_size=64, widths=(8, 16, 32, 64), depths=(1, 1, 2, 1), heads=(1, 2, 4, 8),
        ...     window_size=4, decoder_width=16,
        ...     text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        ...                  "intermediate_size": 64})
        >>> predictor = RemoteSAMPredictor(RemoteSAMModel(config), RemoteSAMProcessor(config), device="cpu")
        >>> images = np.zeros((3, 64, 64, 3), np.uint8)
        >>> predictor.predict(images, ["ship in the image", "the red roof"]).shape
        (3, 2, 64, 64)
    """

    def __init__(
        self,
        model: RemoteSAMModel,
        tokenizer: Tokenizer,
        *,
        device: str | torch.device = "auto",
        precision: Precision | Literal["auto"] = "auto",
        batch: int | Literal["auto"] = "auto",
        deterministic: bool = False,
        compiled: bool = False,
    ) -> None:
        check_compute(precision, batch)
        one_of("deterministic", deterministic, (True, False))
        one_of("compiled", compiled, (True, False))
        self.config, self._tokenizer = model.config, tokenizer
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.deterministic, self.compiled = deterministic, compiled
        if compiled and self.device.type == "cpu":
            raise InputError("compiled=True is for GPUs: on the CPU torch.compile brings nothing.")
        self.identity = weights_sha256(model)
        self._origin = model.origin
        self._unchanged = (  # so that loading them again gives the same
            self._origin is not None and model.dtype == torch.float32 and self.identity == self._origin.in_memory
        )
        dtype = DTYPES[self.precision]
        if self.device.type == "cpu":
            keep_freed_memory()
        self._engine = InferenceEngine(model, Arrangement.choose(self.device, dtype))
        self._ask: Callable[[StageFeatures, Tensor, Tensor], Tensor] = self._engine.ask
        if compiled:
            self._ask = torch.compile(self._engine.ask, dynamic=False)
        self._batch = self._fitting_batch() if batch == "auto" else batch
        self._texts: OrderedDict[bytes, tuple[Tensor, Tensor]] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def open(cls, recipe: PredictorRecipe) -> "RemoteSAMPredictor":
        """The predictor of a recipe; this process opens it once, and keeps the last two."""
        with _opening:
            return _open_predictor(recipe)

    @property
    def batch(self) -> int:
        """Pairs that are computed together; less than at the start once memory ran out."""
        return self._batch

    @property
    def recipe(self) -> PredictorRecipe:
        """How to open the same predictor in another process.

        Raises:
            ModelError: The weights were made or changed in this process; save them first.
        """
        if self._origin is None or not self._unchanged:
            state = "were not loaded" if self._origin is None else "are not as they were loaded"
            raise ModelError(
                f"another process cannot open this predictor: its weights {state}. Save the model "
                f"(save_pretrained), load it from there, and build the predictor of that."
            )
        return PredictorRecipe(
            source=self._origin.source,
            revision=self._origin.revision,
            weights=self._origin.sha256,
            device=str(self.device),
            precision=self.precision,
            batch=self._batch,
            deterministic=self.deterministic,
            compiled=self.compiled,
        )

    def predict(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.uint8]:
        """Probabilities as codes: the byte q = ceil(200 p), 0 to 200.

        So p > t is q > 200 t for every threshold t in steps of 0.005.

        Args:
            images: RGB, B x S x S x 3 uint8, S the network's image size.
            expressions: P expressions, as they are.

        Returns:
            B x P x S x S.

        Raises:
            InputError: The images or expressions cannot be used.
            ModelError: The network gives no numbers, or one pair does not fit into memory.
        """
        codes: NDArray[np.uint8] = self._answer(images, expressions, np.dtype(np.uint8))
        if codes.size and codes.max() > 200:
            raise ModelError(_NO_NUMBERS)
        return codes

    def probabilities(self, images: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities as they are; else as `predict`.

        Returns:
            B x P x S x S float32, 0 to 1.
        """
        answers: NDArray[np.float32] = self._answer(images, expressions, np.dtype(np.float32))
        if not np.isfinite(answers.sum(dtype=np.float64)):
            raise ModelError(_NO_NUMBERS)
        return answers

    def probabilities_each(
        self, images: NDArray[np.uint8], expressions: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float32]]:
        """Probabilities for pictures that are asked different things, in full batches all the same.

        Args:
            images: As in `predict`.
            expressions: For each picture its own, any number.

        Returns:
            For each picture P x S x S float32, as `probabilities` gives for it alone.
        """
        images = self._checked(images)
        if isinstance(expressions, str) or len(expressions) != len(images):
            raise InputError(f"{len(expressions)} lists of expressions for {len(images)} images: give one for each.")
        size = self.config.image_size
        answers = [np.empty((len(own), size, size), np.float32) for own in expressions]
        asked = [text for own in expressions for text in own]
        if not asked:
            return answers
        keys, tokens = self._tokenize(asked)
        place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        targets = [(picture, own) for picture, maps in enumerate(answers) for own in maps]
        with self._lock, exact_float32(self.device, deterministic=self.deterministic):
            texts = [self._text(key, *tokens[key]) for key in place]
            pairs = [(picture, place[key], target) for key, (picture, target) in zip(keys, targets, strict=True)]
            self._answer_pairs(images, texts, pairs)
        if not all(np.isfinite(maps.sum(dtype=np.float64)) for maps in answers):
            raise ModelError(_NO_NUMBERS)
        return answers

    # --- inside ---------------------------------------------------------------------------------

    def _checked(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = self.config.image_size
        images = np.require(images, requirements=["C", "W"])  # as torch wants them
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise InputError(
                f"images of shape {images.shape} and type {images.dtype}: this network takes "
                f"uint8 B x {size} x {size} x 3. The processor makes them from any picture."
            )
        return images

    def _answer(self, images: NDArray[np.uint8], expressions: Sequence[str], dtype: np.dtype[Any]) -> NDArray[Any]:
        images, size = self._checked(images), self.config.image_size
        if isinstance(expressions, str) or not expressions:
            raise InputError(f"expressions={expressions!r}: give a list of one or more.")
        keys, tokens = self._tokenize(expressions)
        first = {key: position for position, key in reversed(list(enumerate(keys)))}
        answers = np.empty((len(images), len(keys), size, size), dtype)
        with self._lock, exact_float32(self.device, deterministic=self.deterministic):
            texts = [self._text(key, *tokens[key]) for key in first]
            pairs = [
                (picture, text, answers[picture, position])
                for picture in range(len(images))
                for text, position in enumerate(first.values())
            ]
            self._answer_pairs(images, texts, pairs)
        for position, key in enumerate(keys):  # asked once, answered as often as asked
            if first[key] != position:
                answers[:, position] = answers[:, first[key]]
        return answers

    def _tokenize(self, expressions: Sequence[str]) -> tuple[list[bytes], dict[bytes, tuple[Tensor, Tensor]]]:
        """A key for each expression, and the tokens (1 x N) of each key."""
        ids, masks = self._tokenizer.tokenize(expressions)
        tokens = {}
        keys = []
        for row, mask in zip(ids.split(1), masks.split(1), strict=True):
            key = (row * mask).numpy().tobytes()
            keys.append(key)
            tokens[key] = row, mask
        return keys, tokens

    def _text(self, key: bytes, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features 1 x N x D and mask 1 x N of an expression, from the most recent ones if there."""
        if key not in self._texts:
            mask = mask.to(self.device)
            self._texts[key] = self._engine.encode(ids.to(self.device), mask), mask
            while len(self._texts) > TEXTS_KEPT:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return self._texts[key]

    def _answer_pairs(
        self,
        images: NDArray[np.uint8],
        texts: list[tuple[Tensor, Tensor]],
        pairs: list[tuple[int, int, NDArray[Any]]],
    ) -> None:
        """Fill each pair's target S x S with the answer to (picture, text)."""
        seen: dict[int, StageFeatures] = {}
        leaving = Leaving(self.device)
        start = 0
        while start < len(pairs):
            chunk = pairs[start : start + self._batch]
            try:
                first = chunk[0][0]
                seen = {picture: known for picture, known in seen.items() if picture >= first}
                for picture, _, _ in chunk:
                    if picture not in seen:
                        seen[picture] = self._engine.look(self._upload(images[picture]))
                padded = chunk + chunk[-1:] * (self._batch - len(chunk))
                answers = self._ask(
                    StageFeatures.join([seen[picture] for picture, _, _ in padded]),
                    torch.cat([texts[text][0] for _, text, _ in padded]),
                    torch.cat([texts[text][1] for _, text, _ in padded]),
                )
                leaving.add(answers, [target for _, _, target in chunk])
                del answers
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                problem = str(error)
            else:
                start += len(chunk)
                continue
            seen.clear()
            self._batch = halved_batch(
                self._batch,
                "pairs",
                self.config.image_size,
                device=self.device,
                precision=self.precision,
                problem=problem,
            )
        leaving.finish()

    def _upload(self, image: NDArray[np.uint8]) -> Tensor:
        """One picture, 1 x S x S x 3, on the device."""
        tensor = torch.from_numpy(image[None])
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _fitting_batch(self) -> int:
        if self.device.type == "cpu":
            return 1
        if self.device.type != "cuda":
            return 2
        # The decoder's finest maps are the largest thing alive: about eight of its width at once.
        side, width = self.config.grid_sizes[0], self.config.decoder_width
        pair = side * side * 8 * width * DTYPES[self.precision].itemsize
        free, _ = torch.cuda.mem_get_info(self.device)
        fitting = max(1, int(free * 0.6) // pair)
        return int(min(LARGEST_BATCH, 1 << (fitting.bit_length() - 1)))


class Leaving:
    """Answers on their way from the device into arrays, while the device goes on."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.waiting: tuple[Tensor, list[NDArray[Any]], torch.cuda.Event] | None = None

    def add(self, answers: Tensor, targets: list[NDArray[Any]]) -> None:
        """Probabilities B x S x S for (the first of) them, in the targets' type."""
        answers = answers[: len(targets)]
        if targets[0].dtype == np.uint8:
            answers = to_codes(answers)
        if not self.cuda:
            _fill_predicted_targets(answers.cpu(), targets)
            return
        host = torch.empty(answers.shape, dtype=answers.dtype, pin_memory=True)
        host.copy_(answers, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self.finish()  # those before, while these are computed
        self.waiting = host, targets, arrived

    def finish(self) -> None:
        """Wait for what is on its way."""
        if self.waiting is not None:
            host, targets, arrived = self.waiting
            self.waiting = None
            arrived.synchronize()
            _fill_predicted_targets(host, targets)


def _fill_predicted_targets(answers: Tensor, targets: list[NDArray[Any]]) -> None:
    for answer, target in zip(answers.numpy(), targets, strict=True):
        target[...] = answer


def to_codes(probabilities: Tensor) -> Tensor:
    """The byte ceil(200 p) of probabilities in float32, exactly.

    Examples:
        >>> import torch
        >>> from remotesam_geo.model.predictor import to_codes
        >>> to_codes(torch.tensor([0.0, 0.001, 0.5, 0.50001, 1.0])).tolist()
        [0, 1, 100, 101, 200]
    """
    # A product in float32 may round down to a whole number, and lose p > t.
    if probabilities.device.type == "mps":  # knows no float64
        probabilities = probabilities.cpu()
    codes = (probabilities.double() * 200).ceil_()
    return codes.nan_to_num_(nan=NOT_A_NUMBER).to(torch.uint8)


_NO_NUMBERS = (
    "the network's answer holds values that are no numbers: its weights are damaged, or too large "
    'for this precision. Try precision="float32".'
)


_opening = Lock()


@functools.lru_cache(maxsize=2)
def _open_predictor(recipe: PredictorRecipe) -> RemoteSAMPredictor:
    model = RemoteSAMModel.from_pretrained(recipe.source, revision=recipe.revision, sha256=recipe.weights)
    return RemoteSAMPredictor(
        model,
        RemoteSAMProcessor.from_pretrained(recipe.source, revision=recipe.revision),
        device=recipe.device,
        precision=recipe.precision,
        batch=recipe.batch,
        deterministic=recipe.deterministic,
        compiled=recipe.compiled,
    )
