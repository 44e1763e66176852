"""How a network is trained: every choice, checked when it is stated."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any, Literal

from remotesam_geo.errors import InputError, each_of, instance_of, number_in, one_of

__all__ = ["TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Loss, optimiser and schedule; the defaults are those RemoteSAM was trained with.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Of AdamW, at its peak.
        weight_decay: On weights; norms, biases of norms and position-bias tables have none.
        betas: Of AdamW.
        clip: Largest norm of the gradient; 0 leaves it as it is.
        warmup: Steps of linear rise at the start.
        schedule: "poly" decays from the start with `power`. "hold" stays at the peak and falls to
            zero over the last `cooldown` steps; when it ends may be decided while it runs (see
            `finish` of `train`).
        power: Of the polynomial decay.
        cooldown: Steps of the fall of "hold".
        class_weights: Background and target in the cross-entropy.
        dice_share: Share of dice in the loss; the rest is cross-entropy.
        dice: "batch" sums dice over batch, classes and pixels, as published; "expression" scores
            the target of each expression by itself, which counts a vehicle as much as a field.
        planes: Number of values of each plane that the inner stages learn to predict by heads which
            only training has; they need the source's `planes`.
        coordinates: Let those heads predict where in the picture a token lies, too.
        auxiliary: Weight of these heads' loss.
        visual_steps: The first steps train the picture's side by these heads alone, without any
            expression: each costs a fraction of a whole step.
        ema: Decay of the running average of the weights; 0 keeps none.
        precision: "float32", or "bfloat16" where autocast finds it safe.
        seed: Of fresh weights, and of what is drawn to train on.
        checkpoint_every: Steps between checkpoints.
        validate_every: Steps between held-out scores.
        freeze: Parts of the network that stay as they are, by name ("text_encoder", "backbone.layers.0"): their running
            statistics, too.
        adapters: Rank of low-rank adapters (peft) beside the linear layers; all else stays as it is, the running
            statistics of norms too. What they learned is merged into the weights at the end. 0 trains the weights.
        adapt: Parts of the network whose linear layers get adapters, by name; nothing for all.
        whole: Parts that are trained as they are beside adapters.
        accumulate: Batches whose gradients are averaged for one step. Batch norms and the dice of a whole batch see
            each by itself.
        recompute: Keep less in memory and compute the blocks of the backbone twice.
        patience: Held-out scores in a row that are no better than the best before training ends early, with the best
            weights; 0 never ends early.

    Examples:
        >>> from remotesam_geo.learning.training import TrainConfig
        >>> config = TrainConfig(steps=100)
        >>> config.rate(0), round(config.rate(50) / config.rate(0), 3)
        (3e-05, 0.536)
    """

    steps: int
    learning_rate: float = 3e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.0
    warmup: int = 0
    schedule: Literal["poly", "hold"] = "poly"
    power: float = 0.9
    cooldown: int = 0
    class_weights: tuple[float, float] = (0.9, 1.1)
    dice_share: float = 0.1
    dice: Literal["batch", "expression"] = "batch"
    planes: Mapping[str, int] = field(default_factory=dict)
    coordinates: bool = False
    auxiliary: float = 0.0
    visual_steps: int = 0
    ema: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    checkpoint_every: int = 500
    validate_every: int = 500
    freeze: tuple[str, ...] = ()
    adapters: int = 0
    adapt: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    accumulate: int = 1
    recompute: bool = False
    patience: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with."""
        one_of("schedule", self.schedule, ("poly", "hold"))
        one_of("dice", self.dice, ("batch", "expression"))
        one_of("precision", self.precision, ("float32", "bfloat16"))
        for name in ("steps", "checkpoint_every", "validate_every", "accumulate"):
            number_in(name, getattr(self, name), 1, whole=True)
        for name in ("warmup", "cooldown", "visual_steps", "patience", "adapters"):
            number_in(name, getattr(self, name), 0, whole=True)
        number_in("seed", self.seed, 0, 2**32 - 1, whole=True)
        for name in ("clip", "auxiliary", "weight_decay"):
            number_in(name, getattr(self, name), 0)
        number_in("learning_rate", self.learning_rate, 0, open_low=True)
        number_in("power", self.power, 0)
        for name in ("dice_share", "ema"):
            number_in(name, getattr(self, name), 0, 1)
        self._check_pairs_and_names()
        if self.cooldown and self.schedule != "hold":
            raise InputError(f"cooldown={self.cooldown} has no effect with schedule={self.schedule!r}: leave it out")
        for name, needed in (
            ("visual_steps", "auxiliary"),
            ("adapt", "adapters"),
            ("whole", "adapters"),
        ):
            if getattr(self, name) and not getattr(self, needed):
                raise InputError(f"{name}={getattr(self, name)}: it needs {needed}, set that above 0.")

    def _check_pairs_and_names(self) -> None:
        for name, high in (("betas", 1), ("class_weights", math.inf)):
            if len(pair := each_of(name, getattr(self, name), Real, "two numbers")) != 2:
                raise InputError(f"{name} has {len(pair)} values: give two numbers")
            for number in pair:
                number_in(name, number, 0, high)
        for name in ("coordinates", "recompute"):
            one_of(name, getattr(self, name), (True, False))
        for name in ("freeze", "adapt", "whole"):
            each_of(name, getattr(self, name), str, "names of parts")
        instance_of("planes", self.planes, Mapping, "how many classes each plane has")
        for count in self.planes.values():
            number_in("planes", count, 1, whole=True)

    def rate(self, step: int, end: int | None = None) -> float:
        """The learning rate of a step, when training ends after `end` (without it: `steps`) steps."""
        end = self.steps if end is None else end
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "poly":
            return self.learning_rate * rise * float((1 - step / end) ** self.power)
        left = (end - step) / self.cooldown if self.cooldown else math.inf
        return self.learning_rate * min(rise, max(0.0, left))

    def as_json(self) -> dict[str, Any]:
        """Every choice as plain values."""
        return {**asdict(self), "planes": dict(self.planes)}
