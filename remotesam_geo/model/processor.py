"""Pictures and words in: what the network is given, exactly as it was trained."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import NamedTuple, Self
from warnings import warn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning

from . import hub
from .configuration import RemoteSAMConfig
from .weights import CONFIG_FILE, TOKENIZER_FILE, configuration, locate

__all__ = ["Picture", "RemoteSAMProcessor", "Tokens", "bert_tokenizer", "resize", "rgb"]

Picture = NDArray[np.uint8] | Image.Image | Tensor

PAD = 0
UNKNOWN = "[UNK]"
SPECIAL = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
# What Pillow turns into RGB without a choice to be made; 16-bit and float pictures need a stretch.
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}


class Tokens(NamedTuple):
    """Expressions as the text encoder reads them.

    Attributes:
        input_ids: N x max_tokens, int64, padded with 0.
        attention_mask: N x max_tokens, int64, 1 for real tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor


def bert_tokenizer() -> Tokenizer:
    """BERT's uncased WordPiece tokenizer, from the vocabulary that is part of this package.

    Examples:
        >>> from remotesam_geo.model.processor import bert_tokenizer
        >>> bert_tokenizer().encode("storage tank").tokens
        ['[CLS]', 'storage', 'tank', '[SEP]']
    """
    text = files("remotesam_geo").joinpath("data", "bert-base-uncased.txt").read_text("utf-8")
    vocabulary = {token: index for index, token in enumerate(text.split("\n")) if token}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def rgb(picture: Picture) -> NDArray[np.uint8]:
    """One picture as H x W x 3 uint8; a grey one is repeated, an alpha channel is dropped.

    Args:
        picture: A Pillow picture, or a uint8 array or tensor H x W, H x W x C or C x H x W with
            C = 1, 3 or 4.

    Raises:
        InputError: The picture is empty, not 8-bit, or its channel axis is not certain.
    """
    if isinstance(picture, Image.Image):
        if picture.mode not in MODES:
            raise InputError(
                f"a Pillow picture of mode {picture.mode!r} does not hold 8-bit colours; stretch it to uint8 first."
            )
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")
        array = np.asarray(picture.convert("RGB"))
    elif isinstance(picture, np.ndarray | Tensor):
        if picture.dtype not in (np.uint8, torch.uint8):
            raise InputError(
                f"a picture of type {picture.dtype}: pictures are uint8, 0 to 255. Stretch other "
                f"ranges first (for 0..1: (255 * picture).round().astype('uint8'))."
            )
        array = picture if isinstance(picture, np.ndarray) else picture.detach().cpu().numpy()
        array = _channels_last(array)
    else:
        raise InputError(
            f"a {type(picture).__name__} is no picture; give a uint8 NumPy array, a Pillow picture or a torch tensor."
        )
    if array.size == 0:
        raise InputError(f"a picture of shape {array.shape} holds no pixel.")
    return np.ascontiguousarray(array)


def _channels_last(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H x W, H x W x C or C x H x W to H x W x 3."""
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim != 3:
        raise InputError(f"a picture of shape {array.shape}: give H x W x 3 (or 3 x H x W).")
    else:
        first, last = (array.shape[axis] in (1, 3, 4) for axis in (0, 2))
        if first and last:
            raise InputError(
                f"a picture of shape {array.shape} may have its channels first or last; wrap it "
                f"as a Pillow picture (PIL.Image.fromarray) to say which."
            )
        if not (first or last):
            raise InputError(
                f"a picture of shape {array.shape} has no axis of 1, 3 or 4 channels at either "
                f"end; choose its red, green and blue bands."
            )
        if first:
            array = array.transpose(1, 2, 0)
    return array.repeat(3, axis=2) if array.shape[2] == 1 else array[:, :, :3]


def resize(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """H x W x 3 to size x size x 3, bilinear and anti-aliased: what the network was trained on."""
    if picture.shape[:2] == (size, size):
        return picture
    square = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square)


class RemoteSAMProcessor:
    """Pictures of any size and expressions, made ready for one network.

    Args:
        config: The network's configuration; without it the released one.
        tokenizer: A tokenizer of one's own, for a network with a small vocabulary; without it
            BERT's, whose vocabulary is part of this package.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.model import RemoteSAMProcessor
        >>> processor = RemoteSAMProcessor()
        >>> inputs = processor(np.zeros((600, 800, 3), np.uint8), "airplane in the image")
        >>> {name: tuple(value.shape) for name, value in inputs.items()}
        {'pixel_values': (1, 3, 896, 896), 'input_ids': (1, 20), 'attention_mask': (1, 20)}
    """

    def __init__(self, config: RemoteSAMConfig | None = None, *, tokenizer: Tokenizer | None = None) -> None:
        self.config = RemoteSAMConfig() if config is None else config
        self.tokenizer = bert_tokenizer() if tokenizer is None else tokenizer
        self.tokenizer.no_padding()  # cutting and padding are ours: the published cut loses [SEP]
        self.tokenizer.no_truncation()
        largest = max(self.tokenizer.get_vocab(with_added_tokens=True).values())
        known = self.config.text_config.vocab_size
        if largest >= known:
            raise ModelError(
                f"the tokenizer gives ids up to {largest}, the network's text encoder knows "
                f"{known} words: put the network's own {TOKENIZER_FILE} into its folder, or pass "
                f"tokenizer=."
            )

    @classmethod
    def from_pretrained(
        cls,
        source: str | PathLike[str] | None = None,
        *,
        config: RemoteSAMConfig | None = None,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """The processor of a network, by what `RemoteSAMModel.from_pretrained` takes.

        Examples:
            >>> from remotesam_geo.model import RemoteSAMProcessor
            >>> RemoteSAMProcessor.from_pretrained().config.image_size
            896
        """
        if source is None or source == hub.RELEASED.repo:  # all of it is in this package
            return cls(config)
        found = locate(source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
        tokenizer = None if found.folder is None else _read_tokenizer(found.folder)
        return cls(configuration(found, config), tokenizer=tokenizer)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write the tokenizer into a model folder, and the configuration where there is none."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        if not (folder / CONFIG_FILE).exists():
            self.config.save_pretrained(folder)

    def images(self, pictures: Picture | Sequence[Picture]) -> NDArray[np.uint8]:
        """One or several pictures of any size as B x S x S x 3 uint8.

        Args:
            pictures: A picture (see `rgb`), a sequence of them, or a batch with four axes.
        """
        single = isinstance(pictures, Image.Image) or (isinstance(pictures, np.ndarray | Tensor) and pictures.ndim != 4)
        several: Iterable[Picture] = [pictures] if single else pictures  # type: ignore[list-item, assignment]
        size = self.config.image_size
        squares = [resize(rgb(picture), size) for picture in several]
        if not squares:
            raise InputError("no picture was given.")
        return np.stack(squares)

    def pixel_values(self, images: Tensor) -> Tensor:
        """Scale and normalise: B x S x S x 3 uint8 to B x 3 x S x S float32, where they lie."""
        mean, std = (
            torch.tensor(values, device=images.device) for values in (self.config.image_mean, self.config.image_std)
        )
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def tokenize(self, expressions: str | Sequence[str]) -> Tokens:
        """Expressions to ids, cut to `config.max_tokens`; `cut_words` tells what is lost.

        Args:
            expressions: One or several, as they are: no word is added to a class name.

        Raises:
            InputError: An expression without a word.
        """
        expressions = [expressions] if isinstance(expressions, str) else expressions
        length = self.config.max_tokens
        ids = np.full((len(expressions), length), PAD, np.int64)
        mask = np.zeros_like(ids)
        for row, expression in enumerate(expressions):
            encoding = self.tokenizer.encode(expression)
            if all(encoding.special_tokens_mask):
                raise InputError(f"the expression {expression!r} holds no word.")
            known = encoding.ids[:length]  # the tail is lost, [SEP] included
            ids[row, : len(known)] = known
            mask[row, : len(known)] = 1
        return Tokens(torch.from_numpy(ids), torch.from_numpy(mask))

    def cut_words(self, expression: str) -> str:
        """The end of an expression that the network will not see; empty where all of it fits.

        A word that is cut in its middle counts as cut.

        Examples:
            >>> from remotesam_geo.model import RemoteSAMProcessor
            >>> RemoteSAMProcessor().cut_words("a " * 17 + "ship beside the long pier")
            'the long pier'
        """
        encoding = self.tokenizer.encode(expression)
        special = encoding.special_tokens_mask
        lost = next((i for i in range(self.config.max_tokens, len(special)) if not special[i]), None)
        if lost is None:
            return ""
        word = encoding.word_ids[lost]
        first = lost if word is None else encoding.word_ids.index(word)
        return expression[encoding.offsets[first][0] :].strip()

    def unknown_words(self, expression: str) -> tuple[str, ...]:
        """The words of an expression that the tokenizer cannot represent, as they are written.

        A network with a word list of its own, such as "tiny", cannot tell them from each other.

        Examples:
            >>> from remotesam_geo.model import RemoteSAMProcessor
            >>> RemoteSAMProcessor.from_pretrained("tiny").unknown_words("the red zebra in the image")
            ('zebra',)
            >>> RemoteSAMProcessor().unknown_words("the red zebra in the image")
            ()
        """
        encoding = self.tokenizer.encode(expression)
        return tuple(
            dict.fromkeys(
                expression[start:stop]
                for token, (start, stop) in zip(encoding.tokens, encoding.offsets, strict=True)
                if token == UNKNOWN
            )
        )

    def __call__(self, pictures: Picture | Sequence[Picture], expressions: str | Sequence[str]) -> dict[str, Tensor]:
        """The network's inputs, a row per pair of picture and expression.

        Args:
            pictures: One picture is asked every expression; otherwise as many as expressions.
            expressions: One expression is asked of every picture. A word beyond the last token
                is cut with a warning.

        Returns:
            `pixel_values` B x 3 x S x S, `input_ids` and `attention_mask` B x max_tokens.
        """
        expressions = [expressions] if isinstance(expressions, str) else list(expressions)
        for expression in expressions:
            if words := self.cut_words(expression):
                warn(
                    f"only {self.config.max_tokens} tokens of {expression!r} are read; cut: {words!r}.",
                    RemoteSAMWarning,
                    stacklevel=2,
                )
        pixels = self.pixel_values(torch.from_numpy(self.images(pictures)))
        tokens = self.tokenize(expressions)
        rows = max(len(pixels), len(expressions))
        if len(pixels) not in (1, rows) or len(expressions) not in (1, rows):
            raise InputError(
                f"{len(pixels)} pictures and {len(expressions)} expressions do not pair up; give "
                f"one of either, or as many of each."
            )
        return {
            "pixel_values": pixels.expand(rows, -1, -1, -1),
            "input_ids": tokens.input_ids.expand(rows, -1),
            "attention_mask": tokens.attention_mask.expand(rows, -1),
        }


def _read_tokenizer(folder: Path) -> Tokenizer | None:
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        return None
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelError(f"{path} is no tokenizer: {error}") from error
