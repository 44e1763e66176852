"""Which parts of a network are trained: all, all but some, or low-rank adapters beside weights that stay."""

from collections.abc import Sequence

import torch
from torch import nn

from remotesam_geo.errors import InputError, MissingExtraError
from remotesam_geo.model import RemoteSAMModel

from .settings import TrainConfig

__all__ = ["merge", "prepare", "trained_bytes"]


def prepare(model: RemoteSAMModel, config: TrainConfig) -> list[nn.Module]:
    """Put adapters beside the layers that are to have them, and take out of training what is to stay as it is.

    Args:
        model: The network; it is changed where it lies.
        config: Its `adapters`, `adapt`, `whole` and `freeze`.

    Returns:
        What is never to be in the mode of training: frozen parts, and norms whose running statistics are to stay.

    Raises:
        InputError: There is no such part, or it has nothing to adapt.
        MissingExtraError: peft is not installed.
    """
    still: list[nn.Module] = []
    if config.adapters:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)  # adapters begin alike in every process
            _adapt_layers(model, config)
        still += [m for m in model.modules() if _keeps_statistics(m)]
    return still + [_part_by_name(model, "freeze", name).requires_grad_(False) for name in config.freeze]


def trained_bytes(model: RemoteSAMModel, config: TrainConfig) -> int:
    """How much training would change: the bytes of the weights that get a gradient, adapters included.

    Examples:
        >>> from remotesam_geo.learning.training import TrainConfig, tiny, trained_bytes
        >>> model = tiny.new_model()
        >>> [trained_bytes(model, TrainConfig(steps=1, freeze=f)) for f in ((), ("text_encoder", "backbone"))]
        [18964780, 744084]
    """
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    prepare(model, config)
    sizes = [p.numel() * p.element_size() for p in model.parameters() if p.requires_grad]
    _take_away_parts(model, merged=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(flags[name])
    return sum(sizes)


def merge(model: RemoteSAMModel) -> None:
    """Add what adapters have learned to the weights they adapt, and take them away."""
    _take_away_parts(model, merged=True)


def _take_away_parts(model: RemoteSAMModel, *, merged: bool) -> None:
    adapted = [(name, one) for name, one in model.named_modules() if hasattr(one, "lora_A")]
    for name, module in adapted:
        if merged:
            module.merge()
        model.set_submodule(name, module.get_base_layer())
    if adapted:
        model.requires_grad_(True)
        vars(model).pop("peft_config", None)  # peft's note: nothing is left to find by it


def _adapt_layers(model: RemoteSAMModel, config: TrainConfig) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("adapters need the extra: pip install 'remotesam-geo[adapters]'") from error
    rank, names = config.adapters, []
    for name in config.adapt or [child for child, _ in model.named_children()]:
        layers = [
            f"{name}.{inner}".rstrip(".")
            for inner, layer in _part_by_name(model, "adapt", name).named_modules()
            if type(layer) is nn.Linear  # others are called linear and are not
            and rank * (layer.in_features + layer.out_features) < layer.weight.numel()
        ]
        if config.adapt and not layers:
            raise InputError(
                f"adapt={name!r} has no linear layer that is larger than adapters of rank {rank}: give another part, "
                "such as 'backbone', or a smaller rank."
            )
        names += layers
    if not names:
        raise InputError(f"adapters={rank}: no layer is larger than its adapter, give a smaller rank.")
    choices = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, lora_dropout=0.0)
    inject_adapter_in_model(choices, model)  # all other weights get no gradient from here on
    for name in config.whole:
        _part_by_name(model, "whole", name).requires_grad_(True)


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether it is a norm that is not trained."""
    return getattr(module, "running_mean", None) is not None and not any(
        parameter.requires_grad for parameter in module.parameters()
    )


def _part_by_name(model: RemoteSAMModel, choice: str, name: str) -> nn.Module:
    try:
        part: nn.Module = model.get_submodule(name)
    except AttributeError:
        known: Sequence[str] = [child for child, _ in model.named_children()]
        raise InputError(
            f"{choice}={name!r} is no part of the network: give {', '.join(known)}, or a part of one of them."
        ) from None
    return part
