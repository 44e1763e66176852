"""The numbers that parity is shown on: weights and pictures that anyone can make again.

`tests/data/parity/manifest.json` lists the tensors of the published checkpoint; each is drawn from a
stream of its own, seeded by its name. `RandomState` is used because NumPy has frozen its streams.
`tests/data/parity/reference.npz` holds what the published network answers with these weights, in
float64.
"""

import json
import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel

PARITY = Path(__file__).parents[1] / "data" / "parity"
CASES = ("airplane", "right", "long")


def manifest() -> dict[str, list[int]]:
    """Name and shape of every tensor of the published checkpoint."""
    return json.loads((PARITY / "manifest.json").read_text())["tensors"]


def drawn(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The tensor of this name."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    stream = np.random.RandomState((zlib.crc32(name.encode()) + seed) & 0xFFFFFFFF)
    value = stream.standard_normal(shape)
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        value = 1 + 0.2 * np.abs(value)
    elif last in ("running_mean", "bias"):
        value *= 0.1
    elif last == "relative_position_bias_table":
        value *= 0.5
    elif len(shape) == 1:
        value = 1 + 0.1 * value
    else:  # a rotated convolution has one more axis, for its single kernel
        value /= np.sqrt(math.prod(shape[2:] if len(shape) == 5 else shape[1:]))
    return torch.from_numpy(value.astype(np.float32))


def reference_model(config: RemoteSAMConfig | None = None, seed: int = 0) -> RemoteSAMModel:
    """A network with drawn weights; the released size without a configuration."""
    with torch.device("meta"):
        model = RemoteSAMModel(RemoteSAMConfig() if config is None else config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    with ThreadPoolExecutor(2) as pool:
        tensors = pool.map(lambda name: drawn(name, shapes[name], seed), shapes)
        model.load_state_dict(dict(zip(shapes, tensors, strict=True)), assign=True)
    embeddings = model.text_encoder.embeddings  # derived buffers, not in any checkpoint
    embeddings.position_ids = torch.arange(model.config.text_config.max_position_embeddings)[None]
    embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)
    return model.eval()


def picture(seed: int, size: int = 896) -> np.ndarray:
    """Smooth waves, blocks and noise, size x size x 3 uint8."""
    stream = np.random.RandomState(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    levels = np.zeros((size, size, 3))
    for channel in range(3):
        for _ in range(4):
            across, down = stream.uniform(0.5, 12), stream.uniform(0.5, 12)
            phase = stream.uniform(0, 2 * np.pi)
            levels[..., channel] += np.sin(2 * np.pi * (across * x + down * y) + phase)
    for _ in range(40):
        top, left = stream.randint(0, size - 8, 2)
        height, width = stream.randint(8, size // 6, 2)
        levels[top : top + height, left : left + width] = stream.uniform(-4, 4, 3)
    levels += stream.standard_normal(levels.shape) * 0.3
    return np.clip(128 + 30 * levels, 0, 255).astype(np.uint8)


def pixel_values(images: np.ndarray, config: RemoteSAMConfig) -> torch.Tensor:
    """B x S x S x 3 uint8 to B x 3 x S x S, normalised in float64."""
    mean, std = (np.array(values) for values in (config.image_mean, config.image_std))
    return torch.from_numpy((images / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def tokens(ids: list[int], length: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids, cut or padded to the length, and their mask: each 1 x length."""
    kept = ids[:length]
    padding = [0] * (length - len(kept))
    return torch.tensor([kept + padding]), torch.tensor([[1] * len(kept) + padding])


def small_config(**changes: object) -> RemoteSAMConfig:
    """A network that a test can afford."""
    sizes = {
        "image_size": 96,
        "widths": (16, 32, 64, 128),
        "depths": (2, 2, 3, 2),
        "heads": (1, 2, 4, 8),
        "window_size": 5,
        "decoder_width": 24,
        "interaction_heads": 2,
        "interaction_key_width": 8,
        "interaction_value_width": 16,
        "text_config": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "vocab_size": 120,
        },
    }
    return RemoteSAMConfig(**(sizes | changes))
