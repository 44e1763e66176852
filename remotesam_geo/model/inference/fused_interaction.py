"""The cross-scale interaction for inference: norms folded into their neighbours."""

import torch
import torch.nn.functional as F
from torch import Tensor

from remotesam_geo.model.configuration import RemoteSAMConfig

from .kernels import Arrangement, Convolution, NamedTensors, Pointwise

__all__ = ["Interaction"]


class Attention:
    """Attention over three resolutions of one map, B x C x side x side."""

    def __init__(self, weights: NamedTensors, config: RemoteSAMConfig, plan: Arrangement) -> None:
        def planes(norm: str) -> list[Tensor]:
            return [plan.put(value).view(-1, 1, 1) for value in weights.batch_norm(norm)]

        # These norms stand before zero padding and before an activation: they stay.
        self.before, self.after = planes("bn1"), planes("bn4")
        groups = weights["bn1.weight"].numel()
        self.half, self.third = (
            Convolution(
                *weights.at(name).normed("0", "1"),
                plan,
                stride=stride,
                padding=stride - 1,
                groups=groups,
            )
            for name, stride in (("DWConv1", 2), ("DWConv2", 3))
        )
        inner = weights.at("attention")
        key, value = config.interaction_key_width, config.interaction_value_width
        self.heads, self.widths = config.interaction_heads, (key, key, value)
        scale, shift = inner.batch_norm("qkv.bn")
        self.qkv = Pointwise(
            self._queries_first(inner["qkv.c.weight"] * scale[:, None]),
            self._queries_first(shift[:, None])[:, 0],
            plan,
        )
        self.proj = Pointwise.of(inner.at("proj"), plan)
        self.out = Pointwise.of(inner.at("to_out"), plan)
        local = inner.at("parallel_conv.1")
        self.local = Convolution(local["weight"], local["bias"], plan, padding=1, groups=self.heads * value)
        self.conv = Convolution(weights["conv.weight"], weights["conv.bias"], plan)
        self.fused = plan.fused_attention

    def _queries_first(self, rows: Tensor) -> Tensor:
        """Rows laid out by head, each with query, key and value, to all queries, keys, values."""
        q, k, v = rows.unflatten(0, (self.heads, -1)).split(self.widths, 1)
        q = q * self.widths[0] ** -0.5  # the scale of the scores
        return torch.cat([part.flatten(0, 1) for part in (q, k, v)])

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape comes back."""
        B, C, side, _ = x.shape
        y = x * self.before[0] + self.before[1]
        maps = (y, self.half(y), self.third(y))
        tokens = torch.cat([m.permute(0, 2, 3, 1).flatten(1, 2) for m in maps], 1)
        T = tokens.shape[1]
        parts = self.qkv(tokens).split([self.heads * width for width in self.widths], -1)
        q, k, v = (part.view(B, T, self.heads, -1).transpose(1, 2) for part in parts)
        if self.fused:
            attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        else:
            attended = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        # Read as channels first without a transpose: see the network's TokenAttention.
        attended = attended.transpose(1, 2).reshape(B, -1, T)
        local = F.hardswish(v[:, :, : side * side].reshape(B, -1, side, side))
        mixed = self.proj(attended) + self.local(local).flatten(2)
        y = self.out(mixed.transpose(1, 2)).view(B, side, side, C).permute(0, 3, 1, 2)
        return self.conv(F.hardswish(y * self.after[0] + self.after[1]))


class FusedFeedForward:
    """A feed-forward of a map, B x C x side x side."""

    def __init__(self, weights: NamedTensors, plan: Arrangement) -> None:
        weight, bias = weights.prenormed("bn1", "conv1")
        scale, shift = weights.batch_norm("bn2")
        self.conv1 = Convolution(weight * scale.view(-1, 1, 1, 1), bias * scale + shift, plan)
        self.conv2 = Convolution(
            weights["conv2.weight"],
            weights["conv2.bias"],
            plan,
            padding=1,
            groups=weights["bn1.weight"].numel(),
        )
        self.conv3 = Convolution(weights["conv3.weight"], weights["conv3.bias"], plan)

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape comes back."""
        return self.conv3(F.hardtanh_(self.conv2(self.conv1(x)), 0.0, 6.0))


class FusedScaleFusion:
    """Brings the common grid's answer back into a stage's own map."""

    def __init__(self, weights: NamedTensors, plan: Arrangement) -> None:
        self.local = Convolution(*weights.normed("local_embedding", "bn1"), plan)
        self.common = Convolution(*weights.normed("global_embedding", "bn2"), plan)
        self.weight = Convolution(*weights.normed("global_act", "bn3"), plan)

    def __call__(self, own: Tensor, common: Tensor) -> Tensor:
        """Own B x C x H x W and common B x C x side x side to B x C x H x W."""

        def up(x: Tensor) -> Tensor:
            if x.shape[2:] == own.shape[2:]:
                return x
            return F.interpolate(x, own.shape[2:], mode="bilinear", align_corners=False)

        weight = F.hardsigmoid(self.weight(common))
        return self.local(own).mul_(up(weight)).add_(up(self.common(common)))


class Interaction:
    """The four maps, each told of the others; all channels-last."""

    def __init__(self, weights: NamedTensors, config: RemoteSAMConfig, plan: Arrangement) -> None:
        self.side, self.widths = config.grid_sizes[-1], list(config.widths)
        self.parts = list(config.parts)
        self.down = Convolution(weights["down_channel.weight"], weights["down_channel.bias"], plan)
        self.up = Convolution(*weights.prenormed("bn", "up_channel"), plan)
        block = weights.at("block.0")
        self.attention = [Attention(block.at(f"csa{i}.m"), config, plan) for i in (1, 2)]
        self.within = [FusedFeedForward(block.at(f"intra_ff.m.ff{i + 1}.m"), plan) for i in range(len(self.parts))]
        self.across = FusedFeedForward(block.at("ff.m"), plan)
        self.fusion = [FusedScaleFusion(weights.at(f"fusion.{i}"), plan) for i in range(len(self.widths))]

    def __call__(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps B x widths[i] x side_i x side_i; the same shapes come back."""
        pooled = torch.cat([F.adaptive_avg_pool2d(m, self.side) for m in maps], 1)
        x = self.down(_channels_last(pooled))
        x = self.attention[0](x).add_(x)
        parts = [_channels_last(part) for part in x.split(self.parts, 1)]
        pieces = [f(part).add_(part) for f, part in zip(self.within, parts, strict=True)]
        x = x + torch.cat(pieces, 1)
        x = self.attention[1](x).add_(x)
        x = self.up(self.across(x).add_(x))
        shares = [_channels_last(share) for share in x.split(self.widths, 1)]
        return [f(own, g) for f, own, g in zip(self.fusion, maps, shares, strict=True)]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
