"""The visual backbone's blocks: a Swin Transformer on a square of tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

__all__ = [
    "PatchEmbed",
    "PatchMerging",
    "SwinBlock",
    "block_shift",
    "relative_position_index",
    "shift_mask",
]


def relative_position_index(window: int, device: torch.device) -> Tensor:
    """Row of the position-bias table for each pair of a window's tokens, window^2 x window^2.

    Row (dy + w - 1) * (2w - 1) + dx + w - 1 holds the offset (dy, dx) = query - key.
    """
    y, x = torch.meshgrid(torch.arange(window, device=device), torch.arange(window, device=device), indexing="ij")
    y, x = y.flatten(), x.flatten()
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def shift_mask(side: int, window: int, shift: int, device: torch.device) -> Tensor:
    """What to add to the scores of rolled windows, windows x window^2 x window^2.

    Rolling brings rows and columns together that are no neighbours; -100 keeps them apart.
    `side` is the padded side, a multiple of `window`.
    """
    line = torch.zeros(side, dtype=torch.long, device=device)
    line[side - window : side - shift] = 1
    line[side - shift :] = 2
    region = line[:, None] * 3 + line[None, :]
    region = to_windows(region[None, :, :, None], window)[..., 0]
    return torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)


def block_shift(side: int, window: int, number: int) -> int:
    """By how much the windows of a stage's block are rolled: every other one, by half a window."""
    return window // 2 if number % 2 and side > window else 0  # one window has no neighbours


def to_windows(x: Tensor, window: int) -> Tensor:
    """B x H x W x C to (B * windows) x window^2 x C."""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.transpose(2, 3).reshape(-1, window * window, C)


def from_windows(x: Tensor, window: int, side: int) -> Tensor:
    """(B * windows) x window^2 x C to B x side x side x C."""
    C, n = x.shape[-1], side // window
    return x.view(-1, n, n, window, window, C).transpose(2, 3).reshape(-1, side, side, C)


class PatchEmbed(nn.Module):
    """Patches of pixels to tokens: B x 3 x S x S to B x HW x C."""

    def __init__(self, patch: int, width: int, eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """B x 3 x S x S to B x (S / patch)^2 x C."""
        tokens: Tensor = self.norm(self.proj(pixels).flatten(2).transpose(1, 2))
        return tokens


class WindowAttention(nn.Module):
    """Attention inside windows, with a learned bias for each relative position."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        n, T, C = x.shape  # (B * windows) x window^2 x C
        qkv = self.qkv(x).view(n, T, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each n x heads x T x C / heads
        index = relative_position_index(self.window, x.device)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)  # heads x T x T
        if mask is not None:  # every picture has the same windows
            bias = (bias + mask[:, None].to(bias.dtype)).repeat(n // len(mask), 1, 1, 1)
        scores = q @ k.transpose(-2, -1) * (C // self.heads) ** -0.5 + bias
        out: Tensor = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, T, C))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwinBlock(GradientCheckpointingLayer):
    """Windowed attention and a perceptron, each with its norm and residual."""

    def __init__(
        self,
        side: int,
        width: int,
        *,
        heads: int,
        window: int,
        mlp_ratio: float,
        shift: int,
        eps: float,
    ) -> None:
        super().__init__()
        self.side, self.window = side, window
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = WindowAttention(width, heads, window)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """B x side^2 x C comes back in the same shape."""
        B, T, C = x.shape
        side, window, shift = self.side, self.window, self.shift
        padding = -side % window
        padded = side + padding
        y = self.norm1(x).view(B, side, side, C)
        y = F.pad(y, (0, 0, 0, padding, 0, padding))  # zeros after the norm take part in attention
        mask = None
        if shift:
            y = y.roll((-shift, -shift), (1, 2))
            mask = shift_mask(padded, window, shift, x.device)
        y = from_windows(self.attn(to_windows(y, window), mask), window, padded)
        if shift:
            y = y.roll((shift, shift), (1, 2))
        x = x + y[:, :side, :side].reshape(B, T, C)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchMerging(nn.Module):
    """Four neighbours become one token of the next stage: B x side^2 x C to B x side^2/4 x C'."""

    def __init__(self, side: int, width: int, next_width: int, eps: float) -> None:
        super().__init__()
        self.side = side
        self.reduction = nn.Linear(4 * width, next_width, bias=False)
        self.norm = nn.LayerNorm(4 * width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """B x side^2 x C to B x (side / 2)^2 x next width."""
        B, _, C = x.shape
        half = self.side // 2
        x = x.view(B, half, 2, half, 2, C)  # B, y, row in the square, x, column in the square, C
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(B, half * half, 4 * C)  # the row runs fastest
        out: Tensor = self.reduction(self.norm(x))
        return out
