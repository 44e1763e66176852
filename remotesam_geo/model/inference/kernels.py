"""The few operations that cost most, each in the form that its device runs fastest."""

import ctypes
import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "Arrangement",
    "Convolution",
    "FoldedUpsampling",
    "NamedTensors",
    "Pointwise",
    "keep_freed_memory",
    "position_mean",
]


Linear = Literal["packed", "convolution", "plain"]
Activation = Literal["none", "gelu", "relu", "tanh"]
IN_PLACE: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "gelu": torch.ops.aten.gelu_,
    "relu": torch.relu_,
    "tanh": torch.tanh_,
}


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """How the weights are laid out and multiplied; `choose` knows what suits a device.

    Attributes:
        device: Where the weights live.
        dtype: The precision of the products: float32 or bfloat16.
        linear: How linear layers are computed. `"packed"`: by oneDNN, from weights in its own
            layout, the activation in the same pass; torch's compiler does the same, through
            operators that have no public name. `"convolution"`: as channels-last 1x1 convolutions,
            by oneDNN from weights that it lays out each time. `"plain"`: as they are written.
        folded_upsampling: The decoder never forms its upsampled maps.
        fused_attention: One fused kernel for the attention in windows.
    """

    device: torch.device
    dtype: torch.dtype
    linear: Linear
    folded_upsampling: bool
    fused_attention: bool

    @classmethod
    def choose(cls, device: torch.device, dtype: torch.dtype) -> Self:
        """The arrangement for a device and a precision."""
        on_cpu = device.type == "cpu"
        linear: Linear = "plain"
        if on_cpu and torch.backends.mkldnn.is_available():
            linear = "packed" if packs(dtype) else "convolution"
        return cls(
            device=device,
            dtype=dtype,
            linear=linear,
            folded_upsampling=on_cpu,
            fused_attention=not on_cpu,
        )

    def put(self, tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor on this device, in this precision; shared with the model where nothing changes."""
        return tensor.detach().to(self.device, dtype or self.dtype).contiguous()


class NamedTensors:
    """A model's tensors under one prefix of their names."""

    def __init__(self, state: Mapping[str, Tensor], norm_eps: float, prefix: str = "") -> None:
        self._state, self.norm_eps, self._prefix = state, norm_eps, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self._state[self._prefix + name].detach()

    def get(self, name: str) -> Tensor | None:
        """The tensor, or None where there is none of this name."""
        return self[name] if self._prefix + name in self._state else None

    def at(self, name: str) -> "NamedTensors":
        """Those of a part."""
        return NamedTensors(self._state, self.norm_eps, f"{self._prefix}{name}.")

    def batch_norm(self, name: str) -> tuple[Tensor, Tensor]:
        """A batch norm in inference: scale and shift."""
        norm = self.at(name)
        scale = norm["weight"] * (norm["running_var"] + self.norm_eps).rsqrt()
        return scale, norm["bias"] - norm["running_mean"] * scale

    def normed(self, conv: str, norm: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a convolution and the batch norm after it as one convolution."""
        scale, shift = self.batch_norm(norm)
        weight, bias = self[f"{conv}.weight"], self.get(f"{conv}.bias")
        return (
            weight * scale.view(-1, 1, 1, 1),
            shift if bias is None else bias * scale + shift,
        )

    def prenormed(self, norm: str, conv: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a batch norm and the 1x1 convolution after it as one convolution."""
        scale, shift = self.batch_norm(norm)
        weight, bias = self[f"{conv}.weight"], self[f"{conv}.bias"]
        return weight * scale.view(1, -1, 1, 1), bias + weight[:, :, 0, 0] @ shift


class Pointwise:
    """A linear layer over the last axis, with an activation if wished."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        plan: Arrangement,
        activation: Activation = "none",
    ) -> None:
        self.weight = plan.put(weight)  # O x C
        self.bias = None if bias is None else plan.put(bias)
        self.linear, self.activation = plan.linear, activation
        if self.linear == "packed":
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    @classmethod
    def of(cls, weights: NamedTensors, plan: Arrangement, activation: Activation = "none") -> Self:
        """From a layer's own weights; a 1x1 convolution's trailing axes go."""
        weight = weights["weight"]
        return cls(weight.view(weight.shape[:2]), weights.get("bias"), plan, activation)

    def __call__(self, x: Tensor) -> Tensor:
        """... x C to ... x O."""
        return self._product(x, self.bias)

    def with_bias(self, x: Tensor, bias: Tensor) -> Tensor:
        """The same for x B x T x C with a bias for each member, B x O."""
        bias = bias.to(x.dtype)
        if len(x) == 1:
            return self._product(x, bias[0])
        if self.linear == "plain":
            weight = self.weight.t().expand(len(x), -1, -1)
            return IN_PLACE[self.activation](torch.baddbmm(bias[:, None], x, weight))
        members = zip(x.split(1), bias, strict=True)
        return torch.cat([self._product(member, shift) for member, shift in members])

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.linear == "packed":
            return _packed_product(x, self.weight, bias, self.activation)
        if self.linear == "plain":
            y = F.linear(x, self.weight, bias)
        else:
            columns = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # 1 x C x rows x 1
            y = F.conv2d(columns, self.weight[:, :, None, None], bias)
            y = y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)
        return IN_PLACE[self.activation](y)


def _packed_product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    kind = "none" if activation == "gelu" else ""  # of GELU: not the approximation by tanh
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], kind)
    return y


@functools.cache
def packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed products are there and right; they have no public name in torch."""
    weight = torch.linspace(-1, 1, 15).view(3, 5).to(dtype)
    x = torch.linspace(-2, 2, 10).view(2, 5).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        y = _packed_product(x, packed, None, "gelu")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    expected = F.gelu(F.linear(x.double(), weight.double()))
    return y.dtype == dtype and torch.allclose(y.double(), expected, rtol=0.01, atol=1e-5)


class Convolution:
    """A convolution of channels-last maps, B x C x H x W."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        plan: Arrangement,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        self.weight = plan.put(weight).contiguous(memory_format=torch.channels_last)
        self.bias = None if bias is None else plan.put(bias)
        self.stride, self.padding, self.groups = stride, padding, groups

    def __call__(self, x: Tensor) -> Tensor:
        """B x C x H x W to B x O x H' x W'."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


def position_mean(x: Tensor) -> Tensor:
    """Mean of B x H x W x C over positions, B x C in float32."""
    # Row by row first: a plain mean in float32 converts all of x to float32 on the way.
    B, H, W, C = x.shape
    ones = x.new_ones(1, 1, W).expand(B * H, 1, W)
    rows = torch.bmm(ones, x.reshape(B * H, W, C)).view(B, H, C)
    return rows.mean(1, dtype=torch.float32) / W


class FoldedUpsampling:
    """The 3x3 convolution of cat(x upsampled to twice its side, finer), without forming the former.

    Upsampling (bilinear, corners aligned) and convolution are both linear, so they may trade
    places: the nine taps are applied to x as products at half the resolution, and two products with
    banded interpolation matrices, one along each axis, upsample, shift and add them.
    """

    BLOCK = 16  # rows of the interpolation matrices taken at once: few products, narrow bands

    def __init__(self, weight: Tensor, bias: Tensor, coarse: int, side: int, plan: Arrangement) -> None:
        # weight O x (coarse + finer) x 3 x 3 with `coarse` channels of x, side of the finer map
        self.side, self.width = side, len(weight)
        self.finer = Convolution(weight[:, coarse:], bias, plan, padding=1)
        self.taps = [  # one for each row of the kernel: C to (3 columns of the kernel) x O
            Pointwise(weight[:, :coarse, row].permute(2, 0, 1).flatten(0, 1), None, plan) for row in range(3)
        ]
        self.bands = [
            (start, stop, first, last, plan.put(block))
            for start, stop, first, last, block in _row_bands(_shifted_upsampling(side), self.BLOCK)
        ]

    def __call__(self, x: Tensor, finer: Tensor) -> Tensor:
        """Maps B x C x side/2 x side/2 and B x C' x side x side to B x O x side x side."""
        y = self.finer(finer).permute(0, 2, 3, 1).contiguous()  # B x side x side x O
        for member, target in zip(x, y, strict=True):
            self._add(member.permute(1, 2, 0), target)
        return y.permute(0, 3, 1, 2)

    def _add(self, x: Tensor, y: Tensor) -> None:
        """Add the share of x, half x half x C, to y, side x side x O."""
        side, half, width = self.side, self.side // 2, self.width
        wide = x.new_empty(half, 3, side, width)  # source row, kernel row, column, O
        for row, tap in enumerate(self.taps):
            source = tap(x).view(half, 3 * half, width)  # source row, (column, tap), O
            for start, stop, first, last, block in self.bands:
                torch.bmm(
                    block.expand(half, -1, -1),
                    source[:, first:last],
                    out=wide[:, row, start:stop],
                )
        rows = wide.view(3 * half, side * width)  # (source row, kernel row)
        for start, stop, first, last, block in self.bands:
            y[start:stop].view(stop - start, -1).addmm_(block, rows[first:last])


def _shifted_upsampling(side: int) -> Tensor:
    """Upsampling from half the side, seen through three taps: side x (half * 3), zero outside."""
    half = side // 2
    unit = torch.eye(half, dtype=torch.float64)
    up = F.interpolate(unit[None], size=side, mode="linear", align_corners=True)[0].t()
    nothing = up.new_zeros(1, half)
    taps = [torch.cat([nothing, up[:-1]]), up, torch.cat([up[1:], nothing])]
    return torch.stack(taps, 2).flatten(1)


def _row_bands(matrix: Tensor, rows: int) -> list[tuple[int, int, int, int, Tensor]]:
    """The matrix cut into blocks of rows, each with only the columns that it uses.

    Each is (first row, end row, first column, end column, the block).
    """
    bands = []
    for start in range(0, len(matrix), rows):
        block = matrix[start : start + rows]
        used = block.ne(0).any(0).nonzero()[:, 0].tolist()
        first, last = used[0], used[-1] + 1
        bands.append((start, start + len(block), first, last, block[:, first:last]))
    return bands


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory in the process; True where it does.

    Activations of tens of megabytes come and go; returned to the system each time, their fresh
    pages cost more than most element-wise operations on them. Only glibc knows the options, and
    they hold for the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False  # another C library
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 << 20))
    return all(mallopt(option, value) for option, value in settings)


def drop_freed_memory() -> None:
    """Give the system back what `keep_freed_memory` keeps, where the C library knows how.

    What was freed between two phases lies in pieces that the next phase's larger maps do not fit
    into. Before the largest of them this costs two hundredths of the time, and spares a tenth of
    the memory.
    """
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)
