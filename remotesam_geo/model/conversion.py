"""A model folder of our own, made from any weights that can be loaded."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from remotesam_geo.errors import InputError

from .configuration import RemoteSAMConfig
from .network import RemoteSAMModel
from .processor import RemoteSAMProcessor
from .weights import (
    WEIGHTS_FILE,
    LocalWeights,
    WeightsOrigin,
    check,
    configuration,
    digest,
    expected_tensors,
    locate,
    open_tensors,
    origin,
    stream,
    write_order,
)

__all__ = ["convert"]

# How safetensors calls the types that weights may have.
TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


def convert(
    source: str | PathLike[str] | None,
    folder: str | PathLike[str],
    *,
    config: RemoteSAMConfig | None = None,
    tokenizer: Tokenizer | None = None,
    sha256: str | None = None,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
) -> WeightsOrigin:
    """Write a model folder: weights as safetensors, configuration, tokenizer.

    The folder appears whole or not at all, and no more than half of the weights is in memory at a
    time. Types and identity of the weights stay as they are.

    Args:
        source: As for `RemoteSAMModel.from_pretrained`.
        folder: The new folder; it must not exist, or be empty.
        config: The configuration of a `.pth` that has not the released size.
        tokenizer: The tokenizer of a `.pth` that has not BERT's vocabulary.
        sha256: The identity the weights must have.
        revision: Commit of a repository.
        cache_dir: Another cache than huggingface_hub's.
        local_files_only: Never ask the network.

    Examples:
        >>> from remotesam_geo.model import convert
        >>> convert("RemoteSAMv1.pth", "remotesam")  # doctest: +SKIP
    """
    target = Path(folder).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} is there already; name a new folder.")
    found = locate(source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
    config = configuration(found, config)
    processor = (
        RemoteSAMProcessor.from_pretrained(found.folder or None, config=config)
        if tokenizer is None
        else RemoteSAMProcessor(config, tokenizer=tokenizer)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        config.architectures = [RemoteSAMModel.__name__]
        config.save_pretrained(partial)
        processor.save_pretrained(partial)
        expected = expected_tensors(RemoteSAMModel, config)
        written = _write_weights(partial / WEIGHTS_FILE, found, expected, sha256=sha256)
        if target.exists():
            target.rmdir()  # it is empty; not every system replaces a folder
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return replace(written, source=str(target), revision=None)


def _write_weights(
    path: Path, source: LocalWeights, expected: Mapping[str, Tensor], *, sha256: str | None
) -> WeightsOrigin:
    """Stream weights into a safetensors file, which records their identity."""
    stored = open_tensors(source.weights)
    check(stored, expected, source.weights)
    header: dict[str, object] = {"__metadata__": {"format": "pt", "weights_sha256": "0" * 64}}
    end = 0
    for name in write_order(stored):
        start, end = end, end + stored[name].nbytes
        header[name] = {
            "dtype": TYPE_NAMES[stored[name].dtype],
            "shape": list(stored[name].shape),
            "data_offsets": [start, end],
        }
    del stored
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digests: dict[str, str] = {}
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in stream(source.weights, expected):
            digests[name] = digest(tensor)
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        found = origin(source, digests, sha256)
        file.seek(8 + text.index(b"0" * 64))
        file.write(found.sha256.encode())
        file.flush()
        os.fsync(file.fileno())
    return found
