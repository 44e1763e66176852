"""The decoder for inference: from four channels-last maps to probabilities."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from remotesam_geo.model.configuration import RemoteSAMConfig
from remotesam_geo.model.decoder import rotation_matrix

from .blocks import Norm
from .kernels import Arrangement, Convolution, FoldedUpsampling, NamedTensors, position_mean

__all__ = ["InferenceDecoder"]


class FusedRotatedConv:
    """The convolution whose kernel is turned for each picture, with norm and ReLU."""

    def __init__(
        self,
        weights: NamedTensors,
        norm: tuple[Tensor, Tensor],
        max_rotation: float,
        plan: Arrangement,
    ) -> None:
        # norm: scale and shift of the batch norm after it
        exact = torch.float32
        kernel = weights["weight"][0] * norm[0].view(-1, 1, 1, 1)
        self.kernel = plan.put(kernel.permute(0, 2, 3, 1).flatten(1, 2), exact)  # O x 9 x C
        self.bias = plan.put(norm[1])
        routing = weights.at("rounting_func")
        self.around = Convolution(routing["dwc.weight"], None, plan, padding=1, groups=kernel.shape[1])
        self.norm = Norm(routing.at("norm.norm"), plan)
        self.gain = [plan.put(routing[f"fc_alpha.{name}"], exact) for name in ("weight", "bias")]
        self.angle = plan.put(routing["fc_theta.weight"], exact)
        self.max_angle = math.radians(max_rotation)

    def __call__(self, x: Tensor) -> Tensor:
        """B x C x H x W to the same shape."""
        around = self.norm(self.around(x).permute(0, 2, 3, 1)).relu_()  # B x H x W x C
        seen = position_mean(around)
        del around  # as large as the largest map there is
        gain = F.linear(seen, *self.gain).sigmoid()
        angle = F.softsign(F.linear(seen, self.angle)[:, 0]) * self.max_angle
        turns = rotation_matrix(angle) * gain[:, None]  # B x 9 x 9
        # Picture by picture: each convolution fills the machine, a grouped one would not.
        maps = []
        for member, turn in zip(x.split(1), turns, strict=True):
            kernel = torch.matmul(turn, self.kernel).to(x.dtype)
            kernel = kernel.unflatten(1, (3, 3)).permute(0, 3, 1, 2)  # channels last in memory
            maps.append(F.conv2d(member, kernel, self.bias, padding=1).relu_())
        return maps[0] if len(maps) == 1 else torch.cat(maps)


class InferenceDecoder:
    """Maps finest first, B x widths[i] x side_i x side_i, to probabilities B x S x S in float32."""

    ROWS = 2048  # positions whose logits are computed at once

    def __init__(self, weights: NamedTensors, config: RemoteSAMConfig, plan: Arrangement) -> None:
        self.size = config.image_size
        self.joins: list[FoldedUpsampling | UpsampledJoin] = []
        self.turned = []
        for step, stage in ((4, 2), (3, 1), (2, 0)):
            weight, bias = weights.normed(f"conv1_{step}", f"bn1_{step}")
            if plan.folded_upsampling:
                coarse, side = weight.shape[1] - config.widths[stage], config.grid_sizes[stage]
                self.joins.append(FoldedUpsampling(weight, bias, coarse, side, plan))
            else:
                self.joins.append(UpsampledJoin(weight, bias, plan))
            conv, norm = weights.at(f"conv2_{step}"), weights.batch_norm(f"bn2_{step}")
            self.turned.append(FusedRotatedConv(conv, norm, config.max_rotation, plan))
        # A softmax over two logits is the sigmoid of their difference.
        weight, bias = weights["conv1_1.weight"][:, :, 0, 0], weights["conv1_1.bias"]
        self.weight = plan.put(weight[1:] - weight[:1], torch.float32)
        self.bias = plan.put(bias[1:] - bias[:1], torch.float32)

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """See the class."""
        x = maps[3]
        for join, turned, finer in zip(self.joins, self.turned, maps[2::-1], strict=True):
            x = turned(join(x, finer).relu_())
        B, C, H, W = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, C)
        # In float32, and in pieces that stay in the cache on the way.
        logits = torch.cat([F.linear(piece.float(), self.weight, self.bias) for piece in rows.split(self.ROWS)])
        logits = F.interpolate(logits.view(B, 1, H, W), (self.size, self.size), mode="bilinear", align_corners=True)
        return logits[:, 0].sigmoid_()


class UpsampledJoin:
    """The 3x3 convolution of cat(x upsampled to twice its side, finer), as it is written."""

    def __init__(self, weight: Tensor, bias: Tensor, plan: Arrangement) -> None:
        self.conv = Convolution(weight, bias, plan, padding=1)

    def __call__(self, x: Tensor, finer: Tensor) -> Tensor:
        """Maps B x C x side/2 x side/2 and B x C' x side x side to B x O x side x side."""
        x = F.interpolate(x, finer.shape[2:], mode="bilinear", align_corners=True)
        return self.conv(torch.cat([x, finer], 1))
