"""The cross-scale interaction: the four stages, pooled to one grid, exchange what they saw."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration import RemoteSAMConfig

__all__ = ["CrossScaleInteraction"]


class LinearNorm(nn.Module):
    """A linear layer and a batch norm over its channels, B x T x C."""

    def __init__(self, width: int, out: int, eps: float) -> None:
        super().__init__()
        self.c, self.bn = nn.Linear(width, out, bias=False), nn.BatchNorm1d(out, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(x)
        out: Tensor = self.bn(y.flatten(0, 1)).view_as(y)
        return out


class TokenAttention(nn.Module):
    """Attention over the tokens of three resolutions; answers for those of the finest."""

    def __init__(self, side: int, width: int, config: RemoteSAMConfig) -> None:
        super().__init__()
        self.side, self.heads = side, config.interaction_heads
        self.widths = 2 * [config.interaction_key_width] + [config.interaction_value_width]
        inner = self.heads * config.interaction_value_width
        tokens = side**2 + (-(-side // 2)) ** 2 + (-(-side // 3)) ** 2
        self.qkv = LinearNorm(width, self.heads * sum(self.widths), config.norm_eps)
        self.parallel_conv = nn.Sequential(nn.Hardswish(), nn.Conv2d(inner, inner, 3, padding=1, groups=inner))
        self.to_out, self.proj = nn.Linear(inner, width), nn.Linear(tokens, side**2)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        side = self.side
        qkv = self.qkv(x).view(B, T, self.heads, -1).transpose(1, 2)
        q, k, v = qkv.split(self.widths, -1)  # each B x heads x T x width
        attended = (q @ k.transpose(-2, -1) * self.widths[0] ** -0.5).softmax(-1) @ v
        # The released weights were trained on these two arrays read as channels first, without a
        # transpose: B x T x inner as B x inner x T, and heads x side^2 x width as inner x side^2.
        attended = attended.transpose(1, 2).reshape(B, -1, T)
        local = v[:, :, : side * side].reshape(B, -1, side, side)
        mixed = self.proj(attended) + self.parallel_conv(local).flatten(2)  # B x inner x side^2
        out: Tensor = self.to_out(mixed.transpose(1, 2))
        return out


class CrossScaleAttention(nn.Module):
    """A map attends to itself at full, half and third resolution, B x C x side x side."""

    def __init__(self, side: int, width: int, config: RemoteSAMConfig) -> None:
        super().__init__()
        eps = config.norm_eps
        self.bn1 = nn.BatchNorm2d(width, eps=eps)
        self.DWConv1 = nn.Sequential(nn.Conv2d(width, width, 3, 2, 1, groups=width), nn.BatchNorm2d(width, eps=eps))
        self.DWConv2 = nn.Sequential(nn.Conv2d(width, width, 5, 3, 2, groups=width), nn.BatchNorm2d(width, eps=eps))
        self.attention = TokenAttention(side, width, config)
        self.bn4, self.conv = nn.BatchNorm2d(width, eps=eps), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(x)
        tokens = [m.flatten(2) for m in (y, self.DWConv1(y), self.DWConv2(y))]
        y = self.attention(torch.cat(tokens, 2).transpose(1, 2))  # B x side^2 x C
        out: Tensor = self.conv(F.hardswish(self.bn4(y.transpose(1, 2).reshape(x.shape))))
        return out


class FeedForward(nn.Module):
    """Each position and its neighbours through twice the width."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(width, eps=eps), nn.BatchNorm2d(2 * width, eps=eps)
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=width)
        self.conv3 = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(F.relu6(self.conv2(self.bn2(self.conv1(self.bn1(x))))))
        return out


class Residual(nn.Module):
    """A module and a way past it."""

    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.m(x)
        return out


class IntraScale(nn.Module):
    """Each scale's channels through a feed-forward of their own."""

    def __init__(self, parts: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.parts = list(parts)
        for i, width in enumerate(parts):
            self.add_module(f"ff{i + 1}", Residual(FeedForward(width, eps)))

    def forward(self, x: Tensor) -> Tensor:
        pieces = zip(self.children(), x.split(self.parts, 1), strict=True)
        return torch.cat([module(piece) for module, piece in pieces], 1)


class InteractionBlock(nn.Module):
    """Attention, feed-forward within scales, attention, feed-forward across."""

    def __init__(self, side: int, config: RemoteSAMConfig) -> None:
        super().__init__()
        width = sum(config.parts)
        self.csa1 = Residual(CrossScaleAttention(side, width, config))
        self.intra_ff = Residual(IntraScale(config.parts, config.norm_eps))
        self.csa2 = Residual(CrossScaleAttention(side, width, config))
        self.ff = Residual(FeedForward(width, config.norm_eps))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ff(self.csa2(self.intra_ff(self.csa1(x))))
        return out


class ScaleFusion(nn.Module):
    """Brings the common grid's answer g back into a stage's own map l."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.local_embedding, self.bn1 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width, eps=eps)
        self.global_embedding, self.bn2 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width, eps=eps)
        self.global_act, self.bn3 = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width, eps=eps)

    def forward(self, own: Tensor, common: Tensor) -> Tensor:
        def up(x: Tensor) -> Tensor:
            return F.interpolate(x, own.shape[2:], mode="bilinear", align_corners=False)

        weight = F.hardsigmoid(self.bn3(self.global_act(common)))
        local = self.bn1(self.local_embedding(own))
        out: Tensor = local * up(weight) + up(self.bn2(self.global_embedding(common)))
        return out


class CrossScaleInteraction(nn.Module):
    """The four maps of the stages (B x widths[i] x side_i x side_i), each told of the others."""

    def __init__(self, config: RemoteSAMConfig) -> None:
        super().__init__()
        self.side, self.widths = config.grid_sizes[-1], list(config.widths)
        full, reduced = sum(config.widths), sum(config.parts)
        self.down_channel = nn.Conv2d(full, reduced, 1)
        self.up_channel = nn.Conv2d(reduced, full, 1)
        self.block = nn.ModuleList([InteractionBlock(self.side, config)])
        self.bn = nn.BatchNorm2d(reduced, eps=config.norm_eps)
        self.fusion = nn.ModuleList(ScaleFusion(width, config.norm_eps) for width in config.widths)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """The same shapes come back."""
        x = torch.cat([F.adaptive_avg_pool2d(m, self.side) for m in maps], 1)
        x = self.up_channel(self.bn(self.block[0](self.down_channel(x))))
        shares = x.split(self.widths, 1)
        return [f(own, g) for f, own, g in zip(self.fusion, maps, shares, strict=True)]
