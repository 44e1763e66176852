"""One pass of training: several expressions of a picture share all that precedes the text."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel
from remotesam_geo.model.network import Stage

__all__ = ["InnerHeads", "shared_logits", "visual_taps"]


def shared_logits(
    model: RemoteSAMModel,
    pixels: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    taps: list[Tensor] | None = None,
    features: list[Tensor] | None = None,
) -> Tensor:
    """What `model(pixels, ...)` answers, with N expressions for each picture.

    The text enters after the blocks of the first stage, so that patches, these blocks and the
    visual branch are computed once a picture.

    Args:
        model: The network.
        pixels: P x 3 x S x S, normalised.
        input_ids: (P * N) x tokens, the expressions of the first picture first.
        attention_mask: The same shape, 1 for real tokens.
        taps: Receives the token stream after the blocks of each stage, P x T x C; of the later
            stages that of each picture's first expression.
        features: Receives the map of each stage, (P * N) x C x side x side.

    Returns:
        Logits (P * N) x 2 x S/patch x S/patch: not yet enlarged to the picture.
    """
    backbone, n = model.backbone, len(input_ids) // len(pixels)
    # BERT is small beside the pictures, and its last layer feeds norms that enlarge rounding.
    with torch.autocast(pixels.device.type, enabled=False):
        text = model.text(input_ids, attention_mask)
    mask = attention_mask[:, :, None].to(text.dtype)
    x = backbone.patch_embed(pixels)
    maps = []
    for index, stage in enumerate(backbone.layers):
        for block in stage.blocks:
            x = block(x)
        if taps is not None:
            taps.append(x[:: 1 if index == 0 else n])
        residual = _stage_residual(stage, x) if stage.downsample is not None else None
        if index == 0:
            x = x.repeat_interleave(n, 0)
            residual = None if residual is None else residual.repeat_interleave(n, 0)
        feature = stage.fusion(x, text, mask)
        if residual is not None:
            x = stage.downsample(residual + stage.res_gate(feature) * feature)
        side = backbone.sides[index]
        feature = backbone.get_submodule(f"norm{index}")(feature)
        maps.append(feature.transpose(1, 2).unflatten(2, (side, side)))
    if features is not None:
        features += maps
    logits: Tensor = model.classifier(backbone.cim(maps))
    return logits


def visual_taps(model: RemoteSAMModel, pixels: Tensor) -> list[Tensor]:
    """The taps of `shared_logits` where no text says anything: P x T x C for each stage."""
    x = model.backbone.patch_embed(pixels)
    taps = []
    for stage in model.backbone.layers:
        for block in stage.blocks:
            x = block(x)
        taps.append(x)
        if stage.downsample is not None:
            x = stage.downsample(_stage_residual(stage, x))
    return taps


def _stage_residual(stage: Stage, x: Tensor) -> Tensor:
    visual = stage.visual_residual(x)
    out: Tensor = x + stage.visual_gate(visual) * visual
    return out


class InnerHeads(nn.Module):
    """Heads that only training has: the inner stages say what every pixel is, and where.

    A mask teaches a network about one expression; these teach it about all of the picture. Coarse
    stages are added to the finer ones, so that each is asked for what it can add.
    """

    def __init__(self, config: RemoteSAMConfig, planes: Mapping[str, int], coordinates: bool, width: int = 64) -> None:
        super().__init__()
        self.sides = config.grid_sizes
        self.planes, self.coordinates = dict(planes), coordinates
        outputs = sum(self.planes.values()) + 2 * coordinates
        self.enter = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width)) for inputs in config.widths
        )
        self.answer = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, outputs)) for _ in config.widths
        )
        self.target = nn.ModuleList(nn.Conv2d(inputs, 1, 1) for inputs in config.widths)

    def masks(self, features: list[Tensor], masks: Tensor) -> Tensor:
        """The loss of each stage's own idea of the mask: the text has a short way to the pixels.

        Args:
            features: As `shared_logits` gives them.
            masks: E x S x S; pixels without truth count as background.
        """
        truth = (masks == 1).float()[:, None]
        total = truth.new_zeros(())
        for head, feature in zip(self.target, features, strict=True):
            share = F.adaptive_avg_pool2d(truth, feature.shape[-1])
            margin = head(feature).float()
            # What is to be found counts as much as the ground, however small it is.
            weight = share / share.mean().clamp(min=1e-4) + (1 - share)
            loss = F.binary_cross_entropy_with_logits(margin, share, weight, reduction="sum")
            total = total + loss / weight.sum()
        return total / len(features)

    def forward(self, taps: list[Tensor], planes: Mapping[str, Tensor]) -> Tensor:
        """The heads' loss: the sum over stages of cross-entropies and of the error of the place.

        Args:
            taps: As `shared_logits` gives them, finest first.
            planes: P x S x S, whole numbers, by name.
        """
        total = taps[0].new_zeros((), dtype=torch.float32)
        finest = {n: _pooled_shares(planes[n], size, self.sides[0]) for n, size in self.planes.items()}
        above: Tensor | None = None
        for level in reversed(range(len(taps))):
            side = self.sides[level]
            x = self.enter[level](taps[level]).transpose(1, 2).unflatten(2, (side, side))
            if above is not None:
                x = x + F.interpolate(above, scale_factor=2, mode="nearest")
            above = x
            out = self.answer[level](x.permute(0, 2, 3, 1)).float().permute(0, 3, 1, 2)
            start = 0
            for name, size in self.planes.items():
                target = F.avg_pool2d(finest[name], self.sides[0] // side)
                # Ground fills most of a picture, vehicles little: the rare counts for more.
                rarity = (target.mean((0, 2, 3)) + 1e-3) ** -0.5
                weight = (target * rarity[:, None, None]).sum(1)
                entropy = -(target * out[:, start : start + size].log_softmax(1)).sum(1)
                total = total + (entropy * weight).sum() / weight.sum()
                start += size
            if self.coordinates:
                line = torch.linspace(-1, 1, side, device=out.device)
                place = torch.stack(torch.meshgrid(line, line, indexing="ij"))
                total = total + (out[:, start:] - place).square().mean()
        return total / len(self.sides)


def _pooled_shares(plane: Tensor, size: int, side: int) -> Tensor:
    """Share of each value in each of side x side squares: P x S x S to P x size x side x side."""
    P, S, _ = plane.shape
    step = S // side
    squares = plane.view(P, side, step, side, step).permute(0, 1, 3, 2, 4).reshape(-1, step * step)
    counts = torch.zeros(len(squares), size, device=plane.device)
    counts.scatter_add_(1, squares.long(), counts.new_ones(1).expand(squares.shape))
    return (counts / step**2).view(P, side, side, size).permute(0, 3, 1, 2)
