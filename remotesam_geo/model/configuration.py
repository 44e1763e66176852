"""Every size of the network, checked when it is stated."""

from collections.abc import Mapping
from typing import Any, NoReturn

from transformers import BertConfig, PreTrainedConfig

from remotesam_geo.errors import ModelError

__all__ = ["RemoteSAMConfig"]

STAGES = 4
LARGEST_COUNT = 1 << 24  # beyond any network, and small enough to be multiplied
MOST_BLOCKS = 1000

# What transformers itself hands to a configuration beside the declared fields.
_FROM_TRANSFORMERS = {
    "attn_implementation",
    "experts_implementation",
    "model_type",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "torch_dtype",
}

_COUNTS = (
    "image_size",
    "patch_size",
    "window_size",
    "max_tokens",
    "reduction",
    "interaction_heads",
    "interaction_key_width",
    "interaction_value_width",
    "decoder_width",
)

_TEXT_COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)


class RemoteSAMConfig(PreTrainedConfig):
    """The sizes of a RemoteSAM network; the default is the released one.

    Attributes:
        image_size: Side of the square picture, in pixels; a multiple of ``8 * patch_size``.
        patch_size: Side of the patches that become the first tokens.
        widths: Channels of the four stages.
        depths: Transformer blocks of the four stages.
        heads: Attention heads of the four stages; each divides its width.
        window_size: Side of the attention windows, in tokens. A stage smaller than a window is one
            window.
        mlp_ratio: Hidden width of a block's perceptron over its width.
        text_config: The text encoder, a ``BertConfig`` or a mapping of its fields.
        max_tokens: Tokens of an expression; longer ones are cut.
        reduction: The cross-scale interaction works on the stages' channels divided by this.
        interaction_heads: Heads of the attention across scales.
        interaction_key_width: Width of a query and a key there.
        interaction_value_width: Width of a value there.
        decoder_width: Channels of the decoder.
        max_rotation: Largest angle by which the decoder turns its kernels, in degrees.
        norm_eps: Epsilon of the layer, batch and instance norms.
        initializer_range: Deviation of freshly drawn linear weights.
        image_mean: Mean of the red, green and blue of training pictures, in 0..1.
        image_std: Their deviation.

    Examples:
        >>> from remotesam_geo.model import RemoteSAMConfig
        >>> RemoteSAMConfig().grid_sizes
        (224, 112, 56, 28)
        >>> small = RemoteSAMConfig(
        ...     image_size=256, widths=(32, 64, 128, 256), depths=(2, 2, 4, 2), heads=(1, 2, 4, 8),
        ...     window_size=8, decoder_width=64,
        ...     text_config={"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        ...                  "intermediate_size": 512, "vocab_size": 1000})
        >>> small.window_sizes
        (8, 8, 8, 8)
    """

    model_type = "remotesam"

    image_size: int = 896
    patch_size: int = 4
    widths: tuple[int, ...] | list[int] = (128, 256, 512, 1024)
    depths: tuple[int, ...] | list[int] = (2, 2, 18, 2)
    heads: tuple[int, ...] | list[int] = (4, 8, 16, 32)
    window_size: int = 12
    mlp_ratio: float = 4.0
    text_config: Any = None  # whatever was given, a BertConfig from __post_init__ on
    max_tokens: int = 20
    reduction: int = 4
    interaction_heads: int = 8
    interaction_key_width: int = 32
    interaction_value_width: int = 64
    decoder_width: int = 512
    max_rotation: float = 40.0
    norm_eps: float = 1e-5
    initializer_range: float = 0.02
    image_mean: tuple[float, ...] | list[float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, ...] | list[float] = (0.229, 0.224, 0.225)

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse unknown names, build the text encoder's configuration, check the sizes."""
        _refuse_unknown(kwargs, RemoteSAMConfig, "RemoteSAMConfig")
        super().__post_init__(**kwargs)
        if not isinstance(self.text_config, BertConfig):
            text = {} if self.text_config is None else self.text_config
            if not isinstance(text, Mapping):
                _refuse_setting(f"text_config={text!r}", "give a BertConfig or a mapping of its fields")
            _refuse_unknown(text, BertConfig, "text_config")
            self.text_config = BertConfig(**text)
        for name in ("widths", "depths", "heads", "image_mean", "image_std"):
            setattr(self, name, tuple(getattr(self, name)))
        self._check()

    @property
    def grid_sizes(self) -> tuple[int, ...]:
        """Side of each stage's square of tokens."""
        return tuple(self.image_size // (self.patch_size << stage) for stage in range(STAGES))

    @property
    def window_sizes(self) -> tuple[int, ...]:
        """Side of each stage's attention windows."""
        return tuple(min(self.window_size, side) for side in self.grid_sizes)

    @property
    def parts(self) -> tuple[int, ...]:
        """Channels of each stage inside the cross-scale interaction."""
        return tuple(width // self.reduction for width in self.widths)

    def _check(self) -> None:
        for name in ("widths", "depths", "heads"):
            values = getattr(self, name)
            if len(values) != STAGES or not all(map(_setting_is_count, values)):
                _refuse_setting(f"{name}={values}", f"the network has {STAGES} stages; give {STAGES} counts")
        for name in _COUNTS:
            value = getattr(self, name)
            if not _setting_is_count(value):
                _refuse_setting(f"{name}={value!r}", "a whole number of at least 1 is needed")
        if sum(self.depths) > MOST_BLOCKS:
            _refuse_setting(f"depths={self.depths}", f"at most {MOST_BLOCKS} blocks in all")
        self._check_numbers()
        if not 1 <= self.mlp_ratio * min(self.widths) <= LARGEST_COUNT:
            _refuse_setting(f"mlp_ratio={self.mlp_ratio!r}", "a positive ratio is needed")
        if not 0 <= self.max_rotation <= 90:
            _refuse_setting(f"max_rotation={self.max_rotation!r}", "give degrees from 0 to 90")
        if not len(self.image_mean) == len(self.image_std) == 3 or min(self.image_std) <= 0:
            _refuse_setting(
                f"image_mean={self.image_mean}, image_std={self.image_std}",
                "three channels each, deviations positive",
            )
        self._check_picture()
        self._check_text()

    def _check_numbers(self) -> None:
        for name in ("mlp_ratio", "max_rotation", "norm_eps", "initializer_range"):
            value = getattr(self, name)
            if not _setting_is_finite(value):
                _refuse_setting(f"{name}={value!r}", "a finite number is needed")
        for name in ("image_mean", "image_std"):
            if not all(map(_setting_is_finite, getattr(self, name))):
                _refuse_setting(f"{name}={getattr(self, name)}", "finite numbers are needed")

    def _check_picture(self) -> None:
        step = self.patch_size << (STAGES - 1)
        if self.image_size % step:
            below = self.image_size // step * step
            _refuse_setting(
                f"image_size={self.image_size} is no multiple of {step} (patch_size="
                f"{self.patch_size}, halved {STAGES - 1} times)",
                f"use {below} or {below + step}" if below else f"use {step}",
            )
        for stage, (width, heads) in enumerate(zip(self.widths, self.heads, strict=True)):
            if width % heads:
                _refuse_setting(
                    f"widths[{stage}]={width} cannot be shared among heads[{stage}]={heads}",
                    "each number of heads must divide the width of its stage",
                )
            if width % self.reduction:
                _refuse_setting(
                    f"widths[{stage}]={width} is no multiple of reduction={self.reduction}",
                    "the cross-scale interaction divides every width by it",
                )

    def _check_text(self) -> None:
        text = self.text_config
        for name in _TEXT_COUNTS:
            value = getattr(text, name)
            if not _setting_is_count(value):
                _refuse_setting(f"text_config.{name}={value!r}", "a whole number of at least 1 is needed")
        if text.num_hidden_layers > MOST_BLOCKS:
            _refuse_setting(f"text_config.num_hidden_layers={text.num_hidden_layers}", f"at most {MOST_BLOCKS}")
        if text.hidden_size % text.num_attention_heads:
            _refuse_setting(
                f"text_config.hidden_size={text.hidden_size} cannot be shared among "
                f"num_attention_heads={text.num_attention_heads}",
                "the number of heads must divide the width",
            )
        if self.max_tokens > text.max_position_embeddings:
            _refuse_setting(
                f"max_tokens={self.max_tokens} exceeds text_config.max_position_embeddings="
                f"{text.max_position_embeddings}",
                "shorten max_tokens or lengthen the text encoder",
            )


def _refuse_unknown(given: Mapping[str, Any], kind: type[PreTrainedConfig], where: str) -> None:
    """Mistyped names: transformers would keep them as attributes that nothing reads."""
    known = {*kind.__annotations__, *_FROM_TRANSFORMERS}
    unknown = [
        name for name in given if name not in known and not name.startswith("_") and not hasattr(PreTrainedConfig, name)
    ]
    if unknown:
        _refuse_setting(
            f"{where} knows no {', '.join(sorted(unknown))}",
            f"known are {', '.join(kind.__annotations__)} (or was the file written by a newer version?)",
        )


def _setting_is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_COUNT


def _setting_is_finite(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e12
    )  # false for NaN as well


def _refuse_setting(problem: str, remedy: str) -> NoReturn:
    raise ModelError(f"{problem}: {remedy}.")
