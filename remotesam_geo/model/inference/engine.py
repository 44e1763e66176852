"""The whole network, its weights arranged for one device and precision."""

from dataclasses import replace

import torch
from torch import Tensor
from transformers import BertModel

from remotesam_geo.model.inference.blocks import Norm
from remotesam_geo.model.inference.kernels import (
    Arrangement,
    Convolution,
    NamedTensors,
    drop_freed_memory,
)
from remotesam_geo.model.network import RemoteSAMModel

from .fused_decoder import InferenceDecoder
from .fused_interaction import Interaction
from .split_stages import InferenceStage, StageFeatures

__all__ = ["InferenceEngine"]

LARGE = 32 << 20
"""Bytes of a map above which freed memory is dropped before it is made."""


class InferenceEngine:
    """The network of a model as it is now, for answering only.

    The work is split where sharing pays: `encode` once an expression, `look` once a picture, `ask`
    for each pair. Weights that need no other form are shared with the model, so build a new engine
    after training it further.

    Examples:
        >>> import torch
        >>> from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel
        >>> from remotesam_geo.model.inference import InferenceEngine, StageFeatures
        >>> config = RemoteSAMConfig(
        ...     image_size=64, widths=(8, 16, 32, 64), depths=(1, 1, 2, 1), heads=(1, 2, 4, 8),
        ...     window_size=4, decoder_width=16,
        ...     text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        ...                  "intermediate_size": 64, "vocab_size": 100})
        >>> engine = InferenceEngine(RemoteSAMModel(config))
        >>> ids = torch.tensor([[1, 7, 2], [1, 9, 2]])
        >>> mask = torch.ones_like(ids)
        >>> seen = engine.look(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
        >>> engine.ask(StageFeatures.join([seen, seen]), engine.encode(ids, mask), mask).shape
        torch.Size([2, 64, 64])
    """

    def __init__(self, model: RemoteSAMModel, arrangement: Arrangement | None = None) -> None:
        plan = arrangement or Arrangement.choose(torch.device("cpu"), torch.float32)
        config = model.config
        self.arrangement, self.config = plan, config
        with torch.no_grad():
            self.text_encoder = _text_encoder(model, plan)
            weights = NamedTensors(model.state_dict(), config.norm_eps)
            backbone = weights.at("backbone")
            # Patches straight from grey levels: the normalisation goes into the convolution. Always
            # in float32; it is a thousandth of the work and all the rest builds on it.
            exactly = replace(plan, dtype=torch.float32)
            weight, bias = (backbone[f"patch_embed.proj.{name}"] for name in ("weight", "bias"))
            weight = weight / (255 * weight.new_tensor(config.image_std)).view(1, 3, 1, 1)
            level = (255 * weight.new_tensor(config.image_mean)).view(1, 3, 1, 1)
            bias = bias - (weight * level).sum((1, 2, 3))
            self.patches = Convolution(weight, bias, exactly, stride=config.patch_size)
            self.patch_norm = Norm(backbone.at("patch_embed.norm"), exactly)
            self.stages = [
                InferenceStage(
                    backbone.at(f"layers.{index}"),
                    backbone.at(f"norm{index}"),
                    side=config.grid_sizes[index],
                    window=config.window_sizes[index],
                    heads=config.heads[index],
                    depth=config.depths[index],
                    plan=plan,
                )
                for index in range(len(config.widths))
            ]
            self.interaction = Interaction(backbone.at("cim"), config, plan)
            self.decoder = InferenceDecoder(weights.at("classifier"), config, plan)
        largest = config.grid_sizes[0] ** 2 * config.decoder_width * plan.dtype.itemsize
        self.drops_memory = plan.device.type == "cpu" and largest > LARGE

    @torch.no_grad()
    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Expressions B x N to text features B x N x D, in float32."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        hidden: Tensor = self.text_encoder(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=torch.zeros_like(input_ids),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return hidden

    @torch.no_grad()
    def look(self, images: Tensor) -> StageFeatures:
        """What the pictures alone decide, from uint8 B x S x S x 3."""
        pixels = images.permute(0, 3, 1, 2).float()  # channels last in memory, as it came
        patches = self.patches(pixels).permute(0, 2, 3, 1).flatten(1, 2)
        return self.stages[0].look(self.patch_norm(patches).to(self.arrangement.dtype))

    @torch.no_grad()
    def ask(self, seen: StageFeatures, text: Tensor, attention_mask: Tensor) -> Tensor:
        """Probabilities B x S x S in float32, for B pairs of a picture and an expression.

        `seen` holds a picture for each expression; text B x N x D, attention mask B x N.
        """
        mask = attention_mask.to(torch.float32)
        maps = []
        for index, stage in enumerate(self.stages):
            feature_map, x = stage.ask(seen, text, mask)
            maps.append(feature_map)
            if x is not None:
                seen = self.stages[index + 1].look(x)
        del seen, x, feature_map
        maps = self.interaction(maps)
        if self.drops_memory:
            drop_freed_memory()
        return self.decoder(maps)


def _text_encoder(model: RemoteSAMModel, plan: Arrangement) -> BertModel:
    """A text encoder of our own on the same weights, in float32, that never drops anything out."""
    with torch.device("meta"):
        encoder = BertModel(model.config.text_config, add_pooling_layer=False)
    state = model.text_encoder.state_dict()
    encoder.load_state_dict({key: plan.put(value, torch.float32) for key, value in state.items()}, assign=True)
    encoder.eval().requires_grad_(requires_grad=False)
    return encoder
