"""The decoder: from the coarsest map to the finest, with kernels that turn to fit each picture."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configuration import RemoteSAMConfig

__all__ = ["Decoder", "rotation_matrix"]


def rotation_matrix(angle: Tensor) -> Tensor:
    """How the nine taps of a turned kernel mix those of the kernel: angle B to B x 9 x 9.

    The tap at (x, y), x to the right and y down, takes the value that the kernel has at
    (x cos - y sin, x sin + y cos), clamped to the kernel's square and read bilinearly. Taps are in
    row-major order. The angle keeps its gradient.
    """
    line = torch.tensor([-1.0, 0.0, 1.0], dtype=angle.dtype, device=angle.device)
    y, x = line.repeat_interleave(3), line.repeat(3)  # of the nine taps
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]

    def shares(position: Tensor) -> Tensor:
        """Bilinear weight of each of the three lines for positions B x 9: B x 9 x 3."""
        position = position.clamp(-1, 1) + 1
        lower = position.detach().floor().clamp(max=1)
        upper_share = (position - lower)[..., None]
        at_lower = F.one_hot(lower.long(), 3).to(position.dtype)
        return at_lower * (1 - upper_share) + at_lower.roll(1, -1) * upper_share

    rows, columns = shares(x * sin + y * cos), shares(x * cos - y * sin)
    return (rows[..., :, None] * columns[..., None, :]).flatten(-2)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map, B x C x H x W."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class Routing(nn.Module):
    """Looks at a map and says, for each picture, a gain and an angle (radians): both B."""

    def __init__(self, width: int, max_rotation: float, eps: float) -> None:
        super().__init__()
        self.max_angle = math.radians(max_rotation)
        self.dwc = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = ChannelNorm(width, eps)
        self.fc_alpha, self.fc_theta = nn.Linear(width, 1), nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = F.relu(self.norm(self.dwc(x))).mean((2, 3))
        gain = self.fc_alpha(seen).sigmoid()[:, 0]
        return gain, F.softsign(self.fc_theta(seen))[:, 0] * self.max_angle


class RotatedConv(nn.Module):
    """A 3x3 convolution whose kernel is scaled and turned for each picture."""

    def __init__(self, width: int, max_rotation: float, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, width, width, 3, 3))
        nn.init.kaiming_normal_(self.weight[0], mode="fan_out", nonlinearity="relu")
        self.rounting_func = Routing(width, max_rotation, eps)  # spelt as in the checkpoint

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        gain, angle = self.rounting_func(x)
        turn = rotation_matrix(angle) * gain[:, None, None]  # B x 9 x 9
        kernels = self.weight[0].flatten(2) @ turn.transpose(1, 2)[:, None]  # B x C x C x 9
        # One group of a grouped convolution for each picture.
        y = F.conv2d(
            x.reshape(1, B * C, H, W),
            kernels.reshape(B * C, C, 3, 3).to(x.dtype),
            padding=1,
            groups=B,
        )
        return y.view(B, C, H, W)


class Decoder(nn.Module):
    """Four maps to two logits a position, at the resolution of the finest map."""

    def __init__(self, config: RemoteSAMConfig) -> None:
        super().__init__()
        width, eps = config.decoder_width, config.norm_eps
        first, second, third, fourth = config.widths
        for step, inputs in ((4, fourth + third), (3, width + second), (2, width + first)):
            self.add_module(f"conv1_{step}", nn.Conv2d(inputs, width, 3, padding=1, bias=False))
            self.add_module(f"bn1_{step}", nn.BatchNorm2d(width, eps=eps))
            self.add_module(f"conv2_{step}", RotatedConv(width, config.max_rotation, eps))
            self.add_module(f"bn2_{step}", nn.BatchNorm2d(width, eps=eps))
        self.conv1_1 = nn.Conv2d(width, 2, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps B x widths[i] x side_i x side_i, finest first, to B x 2 x side_0 x side_0."""
        x = maps[3]
        for step, finer in ((4, maps[2]), (3, maps[1]), (2, maps[0])):
            x = F.interpolate(x, finer.shape[2:], mode="bilinear", align_corners=True)
            x = torch.cat([x, finer], 1)
            for half in (1, 2):
                conv = self.get_submodule(f"conv{half}_{step}")
                norm = self.get_submodule(f"bn{half}_{step}")
                x = F.relu(norm(conv(x)))
        logits: Tensor = self.conv1_1(x)
        return logits
