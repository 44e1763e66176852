"""What follows the blocks of a stage: a visual branch, and the branch where the text enters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LanguageFusion", "VisualResidual", "gate"]


class TokenConv(nn.Conv1d):
    """A 1x1 convolution applied to tokens, B x T x C to B x T x C'; its weight is C' x C x 1."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight[..., 0], self.bias)


class TokenInstanceNorm(nn.Module):
    """Each channel of each picture to mean 0 and variance 1 over its tokens, B x T x C."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(1, keepdim=True)
        return x * (x.square().mean(1, keepdim=True) + self.eps).rsqrt()


class ImageLanguageAttention(nn.Module):
    """Every position asks the tokens of the expression, with one head."""

    def __init__(self, width: int, text_width: int, eps: float) -> None:
        super().__init__()
        self.f_key = nn.Sequential(TokenConv(text_width, width))
        self.f_query = nn.Sequential(TokenConv(width, width), TokenInstanceNorm(eps))
        self.f_value = nn.Sequential(TokenConv(text_width, width))
        self.W = nn.Sequential(TokenConv(width, width), TokenInstanceNorm(eps))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        # x B x T x C, text B x N x D, mask B x N x 1 with 1 for real tokens
        q = self.f_query(x)
        k, v = self.f_key(text) * mask, self.f_value(text) * mask
        scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5  # B x T x N
        scores = scores + (1e4 * mask - 1e4).transpose(1, 2)
        out: Tensor = self.W(scores.softmax(-1) @ v)
        return out


class LanguageFusion(nn.Module):
    """The picture's features multiplied by what the text says about each position."""

    def __init__(self, width: int, text_width: int, eps: float) -> None:
        super().__init__()
        self.vis_project = nn.Sequential(TokenConv(width, width), nn.GELU())
        self.image_lang_att = ImageLanguageAttention(width, text_width, eps)
        self.project_mm = nn.Sequential(TokenConv(width, width), nn.GELU())

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Tokens x B x T x C, text B x N x D, mask B x N x 1; B x T x C comes back."""
        # The instance norm after the attention enlarges rounding, hence no reduced precision here.
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.promote_types(x.dtype, torch.float32)
            language = self.image_lang_att(x.to(wide), text.to(wide), mask.to(wide))
        out: Tensor = self.project_mm(self.vis_project(x) * language.to(x.dtype))
        return out


class PlainBranch(nn.Module):
    """A 1x1 convolution of one channel and its norm."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class WideBranch(nn.Module):
    """A 1x1 and a 3x3 convolution of one channel, each with its norm."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=eps)
        self.conv2 = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        return out


class RepBlock(nn.Module):
    """Two steps of three parallel branches on one channel, B x 1 x H x W."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.brb_3x3, self.brb_1x1 = WideBranch(eps), PlainBranch(eps)
        self.brb_identity = nn.BatchNorm2d(1, eps=eps)
        self.brb_3x3_2, self.brb_1x1_2 = WideBranch(eps), PlainBranch(eps)
        self.brb_identity_2 = nn.BatchNorm2d(1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.brb_1x1(x) + self.brb_3x3(x) + self.brb_identity(x))
        out: Tensor = self.brb_1x1_2(x) + self.brb_3x3_2(x) + self.brb_identity_2(x)
        return out


class VisualResidual(nn.Module):
    """The tokens, each weighted by a gate made from the plane of their channel means."""

    def __init__(self, side: int, eps: float) -> None:
        super().__init__()
        self.side = side
        self.repblock = RepBlock(eps)

    def forward(self, x: Tensor) -> Tensor:
        """B x side^2 x C comes back in the same shape."""
        plane = x.mean(-1).view(-1, 1, self.side, self.side)
        weight: Tensor = self.repblock(plane).sigmoid().view(x.shape[0], -1, 1)
        return x * weight


def gate(width: int) -> nn.Sequential:
    """How much of a branch returns into the stream, channel by channel, in -1..1."""
    return nn.Sequential(
        nn.Linear(width, width, bias=False),
        nn.ReLU(),
        nn.Linear(width, width, bias=False),
        nn.Tanh(),
    )
