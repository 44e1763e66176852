"""What the machine can do, and what it is asked to do exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args
from warnings import warn

import torch

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning, number_in, one_of

__all__ = [
    "Precision",
    "check_compute",
    "choose_device",
    "choose_precision",
    "exact_float32",
    "fast_at_bfloat16",
    "halved_batch",
    "is_out_of_memory",
]

Precision = Literal["float32", "bfloat16"]


def choose_device(device: str | torch.device) -> torch.device:
    """The device of this name; for "auto" CUDA, then MPS, then the CPU.

    Raises:
        InputError: There is no such device here.
    """
    usable = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(name for name, works in usable.items() if works))
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f'device={device!r}: give "auto", "cpu", "cuda" or "mps".') from error
    if not usable.get(chosen.type, False):
        names = ", ".join(name for name, works in usable.items() if works)
        raise InputError(f"device={str(device)!r} cannot be used here; these can: {names}.")
    return chosen


def choose_precision(precision: str, device: torch.device) -> Precision:
    """The precision of this name; for "auto" the one that the device is fast at.

    Raises:
        InputError: There is no such precision.
    """
    one_of("precision", precision, ("auto", *get_args(Precision)))
    if precision == "auto":
        return "bfloat16" if fast_at_bfloat16(device) else "float32"
    return "bfloat16" if precision == "bfloat16" else "float32"


def check_compute(precision: object, batch: object) -> None:
    """Check how a model is to compute, before its weights are read.

    Raises:
        InputError: There is no such precision, or no such batch.
    """
    one_of("precision", precision, ("auto", *get_args(Precision)))
    if isinstance(batch, str):
        one_of("batch", batch, ("auto",))
    else:
        number_in("batch", batch, 1, whole=True)


def fast_at_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16 itself; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # torch has no public name for this. Other systems than Linux are not asked: float32 it is.
    info = Path("/proc/cpuinfo")
    flags = info.read_text("utf-8") if info.is_file() else ""
    return any(flag in flags.split() for flag in ("avx512_bf16", "amx_bf16"))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's or this machine's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        part in str(error) for part in ("can't allocate memory", "out of memory")
    )


def halved_batch(batch: int, unit: str, side: int, *, device: torch.device, precision: str, problem: str) -> int:
    """The batch to go on with after memory ran out, with a warning.

    Args:
        batch: How many were computed together.
        unit: What they are, for the warning: "pairs".
        side: Of the images, in pixels.
        device: Whose memory ran out.
        precision: In which numbers was computed.
        problem: The message of the error.

    Raises:
        ModelError: A single one does not fit.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if batch == 1:
        raise ModelError(
            f"one image of {side} pixels a side does not fit into the free memory of {device} in {precision}; free "
            f"some, or compute on another device. ({problem.splitlines()[0]})"
        )
    half = batch // 2
    warn(
        f"memory ran out: from now on {half} {unit} at a time. Start with batch={half} to get the same bits again.",
        RemoteSAMWarning,
        stacklevel=5,
    )
    return half


@contextmanager
def exact_float32(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Products in float32 are just that, whatever shortcuts the process allows elsewhere.

    Args:
        device: Where the products are computed.
        deterministic: Choose kernels that give the same bits every time, too.
    """
    backends: Any = torch.backends
    on_cuda = device.type == "cuda"
    cuda = backends.cuda.matmul, backends.cudnn.conv  # cuDNN's own default is TF32
    places = cuda if on_cuda else (backends.mkldnn.matmul, backends.mkldnn.conv)
    before = [(place, place.fp32_precision) for place in places]
    short = [(place, value) for place, value in before if value not in ("ieee", "none")]
    kernels = backends.cudnn.deterministic
    for place, _ in short:
        place.fp32_precision = "ieee"
    if on_cuda and deterministic:
        backends.cudnn.deterministic = True
    try:
        yield
    finally:
        for place, value in short:
            place.fp32_precision = value
        if on_cuda and deterministic:
            backends.cudnn.deterministic = kernels
