"""RemoteSAM, from pixels and tokens to two logits a pixel."""

from dataclasses import dataclass
from os import PathLike
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertModel, PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from remotesam_geo.errors import InputError

from . import weights as checkpoint
from .configuration import STAGES, RemoteSAMConfig
from .decoder import Decoder, RotatedConv
from .fusion import LanguageFusion, VisualResidual, gate
from .interaction import CrossScaleInteraction
from .loss import segmentation_loss
from .swin import PatchEmbed, PatchMerging, SwinBlock, WindowAttention, block_shift

__all__ = ["RemoteSAMModel", "RemoteSAMOutput"]

_FROM_AUTO_MODEL = {"_from_auto", "adapter_kwargs", "trust_remote_code"}


@dataclass
class RemoteSAMOutput(ModelOutput):
    """What the network answers.

    Attributes:
        loss: A scalar, where labels were given.
        logits: Background and target, B x 2 x S x S.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class Stage(nn.Module):
    """The blocks of one resolution, then the visual and the language branch."""

    def __init__(self, config: RemoteSAMConfig, index: int) -> None:
        super().__init__()
        side, width, eps = config.grid_sizes[index], config.widths[index], config.norm_eps
        self.blocks = nn.ModuleList(
            SwinBlock(
                side,
                width,
                heads=config.heads[index],
                window=config.window_sizes[index],
                mlp_ratio=config.mlp_ratio,
                shift=block_shift(side, config.window_sizes[index], block),
                eps=eps,
            )
            for block in range(config.depths[index])
        )
        self.visual_residual = VisualResidual(side, eps)
        self.fusion = LanguageFusion(width, config.text_config.hidden_size, eps)
        self.res_gate, self.visual_gate = gate(width), gate(width)
        self.downsample = PatchMerging(side, width, config.widths[index + 1], eps) if index + 1 < STAGES else None

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens B x side^2 x C to the stage's feature (same shape) and the next stage's tokens."""
        for block in self.blocks:
            x = block(x)
        feature = self.fusion(x, text, mask)
        if self.downsample is None:  # nothing reads the last stage's stream
            return feature, None
        visual = self.visual_residual(x)
        x = x + self.res_gate(feature) * feature + self.visual_gate(visual) * visual
        return feature, self.downsample(x)


class Backbone(nn.Module):
    """Pixels and text features to four maps that know of each other."""

    def __init__(self, config: RemoteSAMConfig) -> None:
        super().__init__()
        self.sides = config.grid_sizes
        self.patch_embed = PatchEmbed(config.patch_size, config.widths[0], config.norm_eps)
        self.layers = nn.ModuleList(Stage(config, index) for index in range(STAGES))
        for index, width in enumerate(config.widths):
            self.add_module(f"norm{index}", nn.LayerNorm(width, eps=config.norm_eps))
        self.cim = CrossScaleInteraction(config)

    def stages(self, pixels: Tensor, text: Tensor, mask: Tensor) -> list[Tensor]:
        """The four maps before the interaction, B x widths[i] x side_i x side_i.

        pixels B x 3 x S x S, text B x N x D, mask B x N.
        """
        x = self.patch_embed(pixels)
        mask = mask[:, :, None].to(text.dtype)
        maps = []
        for index, stage in enumerate(self.layers):
            feature, x = stage(x, text, mask)
            feature = self.get_submodule(f"norm{index}")(feature).transpose(1, 2)
            maps.append(feature.unflatten(2, (self.sides[index], self.sides[index])))
        return maps

    def forward(self, pixels: Tensor, text: Tensor, mask: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.cim(self.stages(pixels, text, mask))
        return maps


class RemoteSAMModel(PreTrainedModel):
    """A picture and an expression to a mask; the published network, under its own names.

    The visual and gate weights of the last stage are in the checkpoint but act on nothing.

    Examples:
        >>> import torch
        >>> from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel
        >>> config = RemoteSAMConfig(
        ...     image_size=64, widths=(8, 16, 32, 64), depths=(1, 1, 2, 1), heads=(1, 2, 4, 8),
        ...     window_size=4, decoder_width=16,
        ...     text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        ...                  "intermediate_size": 64, "vocab_size": 100})
        >>> model = RemoteSAMModel(config).eval()
        >>> ids = torch.tensor([[1, 7, 2]])
        >>> model(torch.zeros(1, 3, 64, 64), ids, torch.ones_like(ids)).logits.shape
        torch.Size([1, 2, 64, 64])
    """

    config: RemoteSAMConfig
    config_class = RemoteSAMConfig
    base_model_prefix = "remotesam"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SwinBlock", "BertLayer"]  # noqa: RUF012 - typed so by transformers
    _supports_sdpa = True
    origin: checkpoint.WeightsOrigin | None = None  # which weights were loaded, where any were

    def __init__(self, config: RemoteSAMConfig) -> None:
        super().__init__(config)
        self.text_encoder = BertModel(config.text_config, add_pooling_layer=False)
        self.backbone = Backbone(config)
        self.classifier = Decoder(config)
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        source: str | PathLike[str] | None = None,
        *,
        config: RemoteSAMConfig | None = None,
        sha256: str | None = None,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
        dtype: torch.dtype = torch.float32,
        **auto: object,
    ) -> Self:
        """Load weights, after checking that they are whole, harmless and fit.

        Args:
            source: Nothing for the released weights (downloaded once), `"tiny"` for the small model
                of this package, a model folder, a published `.pth`, or a repository that holds a
                model folder.
            config: The configuration of a `.pth` that has not the released size.
            sha256: The identity the weights must have, as `weights_sha256` gives it.
            revision: Commit of a repository; needed for others than the released one.
            cache_dir: Another cache than huggingface_hub's.
            local_files_only: Never ask the network.
            dtype: Type of the parameters in memory.
            auto: What `AutoModel` adds of its own; nothing else is accepted.

        Returns:
            The model in evaluation mode; its `origin` says what was loaded.

        Raises:
            ModelError: The weights are missing, damaged, unsafe, or others than they should be.
        """
        if unknown := auto.keys() - _FROM_AUTO_MODEL:
            raise TypeError(f"from_pretrained takes no {', '.join(sorted(unknown))}")
        if not isinstance(dtype, torch.dtype):
            raise InputError(f"dtype={dtype!r}: give a torch type, such as torch.float32.")
        found = checkpoint.locate(source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
        config = checkpoint.configuration(found, config)
        expected = checkpoint.expected_tensors(cls, config)
        state, origin = checkpoint.read(found, expected, sha256=sha256, dtype=dtype)
        with checkpoint.without_bar():
            model: Self = super().from_pretrained(None, config=config, state_dict=state, dtype=dtype)
        model.origin = origin
        model.name_or_path = model.config.name_or_path = origin.source
        return model

    def get_input_embeddings(self) -> nn.Module:
        """The text encoder's word embeddings."""
        embeddings: nn.Module = self.text_encoder.get_input_embeddings()
        return embeddings

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, WindowAttention):
            init.trunc_normal_(module.relative_position_bias_table, std=self.config.initializer_range)
        elif isinstance(module, RotatedConv):
            # Each output sees all inputs through nine taps: keep the variance through the ReLU.
            init.normal_(module.weight, std=(2 / (9 * module.weight.shape[1])) ** 0.5)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The text encoder's last hidden state, B x N to B x N x D."""
        hidden: Tensor = self.text_encoder(input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return hidden

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> RemoteSAMOutput | tuple[Tensor, ...]:
        """Answer one expression for each picture.

        Args:
            pixel_values: Normalised pictures, B x 3 x S x S.
            input_ids: The expressions' tokens, B x N.
            attention_mask: 1 for real tokens and 0 for padding, B x N; without it all are real.
            labels: 0 for background, 1 for target, 255 for pixels without truth, B x S x S.
            return_dict: False for a tuple (loss where labels are given, logits).

        Returns:
            Logits B x 2 x S x S, and the loss where labels are given.
        """
        size = self.config.image_size
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != (3, size, size):
            raise InputError(
                f"pixel_values of shape {tuple(pixel_values.shape)}: this network takes "
                f"B x 3 x {size} x {size}. The processor makes them from pictures of any size."
            )
        if input_ids.ndim != 2 or len(input_ids) != len(pixel_values):
            raise InputError(
                f"input_ids of shape {tuple(input_ids.shape)} for {len(pixel_values)} pictures: "
                f"one row of tokens is needed for each picture."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        text = self.text(input_ids, attention_mask)
        logits = self.classifier(self.backbone(pixel_values, text, attention_mask))
        logits = F.interpolate(logits, (size, size), mode="bilinear", align_corners=True)
        loss = None if labels is None else segmentation_loss(logits, labels)
        output = RemoteSAMOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output


# Known to transformers' Auto classes as soon as the network is used, and not before.
AutoConfig.register(RemoteSAMConfig.model_type, RemoteSAMConfig, exist_ok=True)
AutoModel.register(RemoteSAMConfig, RemoteSAMModel, exist_ok=True)
