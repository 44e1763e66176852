"""The Swin blocks for inference: tokens stay in place, only queries, keys and values move."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from remotesam_geo.model.inference.kernels import Arrangement, NamedTensors, Pointwise
from remotesam_geo.model.swin import relative_position_index, shift_mask

__all__ = ["InferenceBlock", "Norm"]


class Norm:
    """A layer norm over the last axis."""

    def __init__(self, weights: NamedTensors, plan: Arrangement) -> None:
        self.weight, self.bias = plan.put(weights["weight"]), plan.put(weights["bias"])
        self.eps = weights.norm_eps

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape comes back."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class WindowOrder:
    """Where the tokens of a square stand when it is cut into (rolled) windows.

    Rows of queries, keys and values are numbered as the layer before makes them: token, then (query,
    key or value), then head. In windows they are ordered (query, key or value), window, head, place.
    """

    def __init__(self, side: int, window: int, shift: int, heads: int, device: torch.device) -> None:
        padded = -(-side // window) * window
        self.lines = padded // window  # windows a line
        self.windows, self.places = self.lines**2, window * window
        token = torch.full((padded, padded), -1)
        token[:side, :side] = torch.arange(side * side).view(side, side)
        if shift:
            token = token.roll((-shift, -shift), (0, 1))
        token = token.view(self.lines, window, self.lines, window).transpose(1, 2).flatten()
        empty = (token < 0).nonzero()[:, 0]
        place_of = torch.empty(side * side, dtype=torch.long)
        place_of[token[token >= 0]] = (token >= 0).nonzero()[:, 0]

        head, kind = torch.arange(heads), torch.arange(3)
        rows = token.clamp(min=0).view(1, self.windows, 1, self.places) * (3 * heads)
        rows = rows + kind.view(3, 1, 1, 1) * heads + head.view(1, 1, heads, 1)
        self.rows = rows.flatten().to(device)

        def in_windows(place: Tensor) -> Tensor:
            """Row numbers, place x heads, of places numbered through all windows."""
            inside = place % self.places
            return ((place // self.places)[:, None] * heads + head) * self.places + inside[:, None]

        self.back = in_windows(place_of).flatten().to(device)  # token, head
        self.empty = in_windows(empty).flatten().to(device)  # padded place, head
        self.empty_head = head.repeat(len(empty)).to(device)


@functools.lru_cache(maxsize=64)
def window_order(side: int, window: int, shift: int, heads: int, device: torch.device) -> WindowOrder:
    """The order, shared by the blocks of a stage."""
    return WindowOrder(side, window, shift, heads, device)


class InferenceBlock:
    """A Swin block, B x side^2 x C."""

    def __init__(
        self,
        weights: NamedTensors,
        *,
        side: int,
        window: int,
        heads: int,
        shift: int,
        plan: Arrangement,
    ) -> None:
        self.heads, self.fused = heads, plan.fused_attention
        self.order = window_order(side, window, shift, heads, plan.device)
        attention = weights.at("attn")
        qkv, bias, table = (attention[name] for name in ("qkv.weight", "qkv.bias", "relative_position_bias_table"))
        width = qkv.shape[1]
        scale = qkv.new_ones(3 * width)  # that of the scores goes into the queries
        scale[:width] = (width // heads) ** -0.5
        self.qkv = Pointwise(qkv * scale[:, None], bias * scale, plan)
        self.padding = plan.put(bias * scale).view(3, heads, -1)
        self.proj = Pointwise.of(attention.at("proj"), plan)
        self.fc1 = Pointwise.of(weights.at("mlp.fc1"), plan, "gelu")
        self.fc2 = Pointwise.of(weights.at("mlp.fc2"), plan)
        self.norm1, self.norm2 = (Norm(weights.at(f"norm{i}"), plan) for i in (1, 2))
        bias = table[relative_position_index(window, table.device)].permute(2, 0, 1)
        mask = None
        if shift:
            mask = shift_mask(self.order.lines * window, window, shift, table.device)
        if self.fused and mask is not None:  # one mask for all windows and heads
            bias, mask = (bias + mask[:, None]).flatten(0, 1), None
        self.bias = plan.put(bias)
        # Only the last window of a line, and all of the last line, hold several regions.
        self.last_line = self.last_window = None
        if mask is not None:
            self.last_line = plan.put(mask[-self.order.lines :, None])
            self.last_window = plan.put(mask[self.order.lines - 1])

    def __call__(self, x: Tensor) -> Tensor:
        """The same shape comes back."""
        x = self._attend(self.norm1(x)).add_(x)
        return self.fc2(self.fc1(self.norm2(x))).add_(x)

    def _attend(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        heads, order = self.heads, self.order
        width = C // heads
        qkv = _select_rows(self.qkv(x).view(B, -1, width), order.rows).view(B, 3, -1, width)
        if len(order.empty):  # zeros after the norm: only the bias arrives there
            qkv[:, :, order.empty] = self.padding[:, order.empty_head]
        q, k, v = qkv.view(B, 3, order.windows * heads, order.places, width).unbind(1)
        y = self._fused(q, k, v) if self.fused else self._plain(q, k, v)
        y = _select_rows(y.reshape(B, -1, width), order.back).view(B, T, C)
        return self.proj(y)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # q, k, v B x (windows * heads) x places x width; the bias is for the heads, or for all
        places, width = q.shape[-2:]
        shape = (-1, len(self.bias), places, width)
        q, k, v = (m.reshape(shape) for m in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, self.bias[None], scale=1.0)

    def _plain(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Line of windows by line of windows: the scores stay in the cache.
        lines, (places, width) = self.order.lines, q.shape[-2:]
        q, k, v = (m.reshape(-1, lines * self.heads, places, width) for m in (q, k, v))
        y = torch.empty_like(q)
        for line in range(len(q)):
            last = line % lines == lines - 1
            self._attend_line(q[line], k[line], v[line], y[line], last=last)
        return y

    def _attend_line(self, q: Tensor, k: Tensor, v: Tensor, y: Tensor, *, last: bool) -> None:
        # q, k, v and the answer y: (windows of the line * heads) x places x width
        scores = self._scores(q, k, last=last)
        if scores.dtype == torch.float32:
            torch.bmm(torch.softmax(scores, -1, out=scores), v, out=y)
            return
        # In bfloat16 the softmax's own passes cost more than the products. Exponents without the
        # usual shift are as exact, as long as they neither overflow nor vanish.
        weights = scores.exp_()
        total = weights.sum(-1, keepdim=True)
        least, most = torch.aminmax(total)
        if least > 1e-30 and most < 1e30:  # false for NaN
            torch.bmm(weights, v, out=y)
            y.div_(total)
        else:
            torch.bmm(self._scores(q, k, last=last).softmax(-1), v, out=y)

    def _scores(self, q: Tensor, k: Tensor, *, last: bool) -> Tensor:
        scores = torch.bmm(q, k.transpose(1, 2))
        windows = scores.view(self.order.lines, self.heads, *scores.shape[1:])
        windows += self.bias
        if last and self.last_line is not None:
            windows += self.last_line
        elif self.last_window is not None:
            windows[-1] += self.last_window
        return scores


def _select_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Rows of each member: B x R x width to B x len(index) x width."""
    if len(rows) == 1:
        return rows[0].index_select(0, index)[None]
    return rows.index_select(1, index)
