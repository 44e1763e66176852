"""A stage for inference, in two halves: what the picture alone decides, and what the text adds.

The language branch is arranged so that rounding stays small. Where the tokens of an expression are
nearly alike, its attended values are nearly constant over the picture, and the instance norm after
them enlarges whatever rounding left. Four identities avoid that, none of them an approximation:

- a vector common to all tokens' keys changes no softmax, and one common to all values disappears
  in the instance norm, so both are centred over the tokens first;
- the instance norm centres over positions, so the softmax weights may be centred instead;
- `W` may be applied to the N values instead of to every position (its bias disappears, too);
- the norm's variance is then v' Cov v with the N x N covariance of the weights over positions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from remotesam_geo.model.swin import block_shift

from .blocks import InferenceBlock, Norm
from .kernels import Arrangement, NamedTensors, Pointwise

__all__ = ["InferenceStage", "StageFeatures"]


@dataclass(frozen=True, kw_only=True)
class StageFeatures:
    """All that a stage computes from the picture alone.

    Attributes:
        projected: What the language branch multiplies, B x T x C.
        query: The queries, nearly centred over positions, B x T x C.
        query_mean: What is left of their mean, B x 1 x C in float32.
        query_scale: One over their deviation, B x 1 x C in float32.
        stream: The tokens with the visual branch added, B x T x C; none in the last stage.
    """

    projected: Tensor
    query: Tensor
    query_mean: Tensor
    query_scale: Tensor
    stream: Tensor | None

    @classmethod
    def join(cls, several: "list[StageFeatures]") -> "StageFeatures":
        """One after the other as a batch."""
        if len(several) == 1:
            return several[0]
        streams = [seen.stream for seen in several if seen.stream is not None]
        return cls(
            projected=torch.cat([seen.projected for seen in several]),
            query=torch.cat([seen.query for seen in several]),
            query_mean=torch.cat([seen.query_mean for seen in several]),
            query_scale=torch.cat([seen.query_scale for seen in several]),
            stream=torch.cat(streams) if streams else None,
        )


class VisualGate:
    """The visual branch's gate, from the plane of channel means: B x 1 x H x W in float32."""

    def __init__(self, weights: NamedTensors, plan: Arrangement) -> None:
        self.steps = []
        for step in ("", "_2"):
            wide = weights.at(f"brb_3x3{step}")
            inner, inner_shift = wide.batch_norm("bn1")  # before the zero padding: it stays
            kernel, shift = wide.normed("conv2", "bn2")
            plain, plain_shift = weights.at(f"brb_1x1{step}").normed("conv", "bn")
            identity, identity_shift = weights.batch_norm(f"brb_identity{step}")
            values = (
                wide["conv1.weight"].flatten() * inner,
                inner_shift,
                kernel,
                plain.flatten() + identity,
                shift + plain_shift + identity_shift,
            )
            self.steps.append([plan.put(value, torch.float32) for value in values])

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape comes back, in 0..1."""
        for index, (a, a0, kernel, c, c0) in enumerate(self.steps):
            x = F.conv2d(x * a + a0, kernel, padding=1) + x * c + c0
            if index == 0:
                x = x.relu_()
        return x.sigmoid_()


class LanguageBranch:
    """The fusion with the text, well-conditioned (see the top of this file)."""

    def __init__(self, weights: NamedTensors, plan: Arrangement) -> None:
        self.project = Pointwise.of(weights.at("vis_project.0"), plan, "gelu")
        self.merge = Pointwise.of(weights.at("project_mm.0"), plan, "gelu")
        attention = weights.at("image_lang_att")
        query = attention["f_query.0.weight"][..., 0]  # its bias goes with the mean
        self.query = Pointwise(query, None, plan)
        # All that concerns the few tokens, and the means, stays in float32.
        exact = torch.float32
        self.query_weight = plan.put(query, exact)
        self.key, self.value = (
            (
                plan.put(attention[f"{name}.0.weight"][..., 0], exact),
                plan.put(attention[f"{name}.0.bias"], exact),
            )
            for name in ("f_key", "f_value")
        )
        self.output = plan.put(attention["W.0.weight"][..., 0], exact)
        self.eps = weights.norm_eps

    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From the picture alone: what the text multiplies, queries, their mean and scale."""
        projected = self.project(x)
        # The mean of the queries is known beforehand. As part of the bias it costs nothing, and
        # the queries lose no digits to a common offset; what rounding leaves of it is taken later.
        mean = F.linear(x.mean(1, dtype=torch.float32), self.query_weight)  # B x C
        query = self.query.with_bias(x, -mean)
        rest = query.mean(1, keepdim=True, dtype=torch.float32)
        square = query.float().square_() if query.dtype != torch.float32 else query.square()
        variance = square.mean(1, keepdim=True) - rest.square()
        return projected, query, rest, (variance + self.eps).rsqrt()

    def __call__(self, seen: StageFeatures, text: Tensor, mask: Tensor) -> Tensor:
        """The feature, B x T x C; text B x N x D and mask B x N in float32."""
        valid = mask[:, :, None]
        keys, values = F.linear(text, *self.key), F.linear(text, *self.value)
        values = F.linear(values, self.output)
        count = valid.sum(1, keepdim=True)
        keys = (keys - (keys * valid).sum(1, keepdim=True) / count) * valid
        values = (values - (values * valid).sum(1, keepdim=True) / count) * valid
        keys = keys * seen.query_scale * keys.shape[-1] ** -0.5  # the queries' norm, folded in
        scores = torch.matmul(seen.query, keys.to(seen.query.dtype).transpose(1, 2)).float()
        offset = (1e4 * mask - 1e4)[:, None] - seen.query_mean @ keys.transpose(1, 2)
        weights = scores.add_(offset).softmax(-1)  # B x T x N
        weights -= weights.mean(1, keepdim=True)
        covariance = weights.transpose(1, 2) @ weights / weights.shape[1]
        variance = (values * (covariance @ values)).sum(1, keepdim=True)
        values = values * (variance + self.eps).rsqrt()
        dtype = seen.projected.dtype
        answer = torch.matmul(weights.to(dtype), values.to(dtype)).mul_(seen.projected)
        return self.merge(answer)


class Gate:
    """A branch's tokens times their gate: gate(x) * x, B x T x C."""

    def __init__(self, weights: NamedTensors, plan: Arrangement) -> None:
        self.first = Pointwise.of(weights.at("0"), plan, "relu")
        self.second = Pointwise.of(weights.at("2"), plan, "tanh")

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape comes back."""
        return self.second(self.first(x)).mul_(x)


class InferenceStage:
    """One resolution: `look` at the picture once, `ask` for each expression."""

    def __init__(
        self,
        weights: NamedTensors,
        norm: NamedTensors,
        *,
        side: int,
        window: int,
        heads: int,
        depth: int,
        plan: Arrangement,
    ) -> None:
        self.side = side
        self.blocks = [
            InferenceBlock(
                weights.at(f"blocks.{number}"),
                side=side,
                window=window,
                heads=heads,
                shift=block_shift(side, window, number),
                plan=plan,
            )
            for number in range(depth)
        ]
        self.language = LanguageBranch(weights.at("fusion"), plan)
        self.norm = Norm(norm, plan)
        self.merging: tuple[Norm, Pointwise] | None = None
        if weights.get("downsample.reduction.weight") is not None:
            self.visual = VisualGate(weights.at("visual_residual.repblock"), plan)
            self.visual_gate = Gate(weights.at("visual_gate"), plan)
            self.language_gate = Gate(weights.at("res_gate"), plan)
            merging = weights.at("downsample")
            self.merging = (
                Norm(merging.at("norm"), plan),
                Pointwise.of(merging.at("reduction"), plan),
            )

    def look(self, x: Tensor) -> StageFeatures:
        """The blocks and all that needs no text, from tokens B x T x C."""
        for block in self.blocks:
            x = block(x)
        stream = None
        if self.merging is not None:
            plane = x.mean(-1, dtype=torch.float32).view(-1, 1, self.side, self.side)
            visual = x * self.visual(plane).view(*x.shape[:2], 1).to(x.dtype)
            stream = self.visual_gate(visual).add_(x)
        projected, query, mean, scale = self.language.look(x)
        return StageFeatures(projected=projected, query=query, query_mean=mean, query_scale=scale, stream=stream)

    def ask(self, seen: StageFeatures, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """The stage's map, B x C x side x side channels-last, and the next stage's tokens."""
        feature = self.language(seen, text, mask)
        B, _, C = feature.shape
        side, half = self.side, self.side // 2
        feature_map = self.norm(feature).view(B, side, side, C).permute(0, 3, 1, 2)
        if self.merging is None or seen.stream is None:
            return feature_map, None
        norm, reduction = self.merging
        x = self.language_gate(feature).add_(seen.stream)
        x = x.view(B, half, 2, half, 2, C).permute(0, 1, 3, 4, 2, 5)  # as PatchMerging
        return feature_map, reduction(norm(x.reshape(B, half * half, 4 * C)))
