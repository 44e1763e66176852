"""Training: from a source of batches to weights, in steps that can be killed at any moment."""

import copy
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning, folder_of, instance_of, number_in
from remotesam_geo.model import RemoteSAMModel
from remotesam_geo.model.processor import RemoteSAMProcessor
from remotesam_geo.model.swin import WindowAttention

from .checkpoint import Log, last_checkpoint, read_checkpoint, write_checkpoint
from .expression_loss import mask_loss
from .forward import InnerHeads, shared_logits, visual_taps
from .logs import LogKind, Mirror, check_logs, opened
from .parts import merge, prepare
from .random_state import every_state, own_numbers, restore
from .samples.batches import Batch, BatchSource
from .samples.prefetch import ahead
from .settings import TrainConfig

__all__ = ["Inputs", "held_out_scores", "inputs", "train"]

CHECKPOINT, BEST, LOG, FINISH = "checkpoint.pt", "best.pt", "log.jsonl", "finish"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A batch as the network reads it, on its device; E = P * N expressions."""

    pixels: Tensor  # P x 3 x S x S
    input_ids: Tensor  # E x tokens
    attention_mask: Tensor  # E x tokens
    masks: Tensor  # E x S x S
    planes: dict[str, Tensor]  # P x S x S each


def inputs(batch: Batch, processor: RemoteSAMProcessor, device: torch.device) -> Inputs:
    """Normalise the pictures, tokenise the expressions."""
    tokens = processor.tokenize(list(chain.from_iterable(batch.expressions)))
    longest = int(tokens.attention_mask.sum(1).max())  # what all expressions leave empty is cut
    return Inputs(
        pixels=processor.pixel_values(torch.from_numpy(batch.pictures).to(device)),
        input_ids=tokens.input_ids[:, :longest].to(device),
        attention_mask=tokens.attention_mask[:, :longest].to(device),
        masks=torch.from_numpy(batch.masks).to(device).flatten(0, 1),
        planes={name: torch.from_numpy(plane).to(device) for name, plane in batch.planes.items()},
    )


def train(
    folder: Path | str,
    *,
    config: TrainConfig,
    model: RemoteSAMModel,
    processor: RemoteSAMProcessor,
    source: BatchSource,
    held_out: BatchSource | None = None,
    held_out_batches: int = 4,
    logs: Sequence[LogKind] = (),
    workers: int = 0,
) -> RemoteSAMModel:
    """Train a network, or go on where a folder stands.

    The folder holds `checkpoint.pt` (replaced as a whole), `log.jsonl` (a line a step, and the
    held-out scores) and, while a run with the schedule "hold" goes on, takes an empty file
    `finish`: from then on the rate falls to zero over `config.cooldown` steps.

    A run depends on what it is given alone; the process's own random numbers stay as they were. On the CPU
    a run that was killed and resumed gives bit for bit what it would have given, in each of its
    processes. The checkpoint before the last is kept as `checkpoint.previous.pt`, and used where the
    last one is damaged.

    Several processes of `torch.distributed` (`torchrun`) train one network: each takes batches of
    its own, gradients are averaged, the first process keeps the folder. Processes of one thread
    each train faster than one process with as many threads where others use the machine too.

    Args:
        folder: Where the run lives; one that holds a checkpoint is continued.
        config: Every choice. A continued run must state the same, except for `steps`.
        model: The network to train, where it is; its weights are the start of a new run.
        processor: Its processor.
        source: Batches by step.
        held_out: Batches never trained on, scored as they come.
        held_out_batches: How many of them.
        logs: What to write besides: "csv" keeps `log.csv`, "tensorboard" writes into the folder `tensorboard`.
        workers: Processes that make batches ahead of each training process; with none it makes them itself, which is
            as fast where it trains on the CPU.

    Returns:
        The running average of the weights where `config.ema` asks for one, else the network itself; with
        `config.patience` as it was at its best; adapters are merged into it.
    """
    check_logs(logs)
    number_in("workers", workers, 0, whole=True)
    number_in("held_out_batches", held_out_batches, 1, whole=True)
    instance_of("config", config, TrainConfig, "a TrainConfig")
    instance_of("model", model, RemoteSAMModel, "a RemoteSAMModel")
    instance_of("processor", processor, RemoteSAMProcessor, "a RemoteSAMProcessor")
    folder = folder_of("folder", folder)
    folder.mkdir(parents=True, exist_ok=True)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    with own_numbers(config.seed + rank, model.device):  # a run that goes on takes its own states
        run = _Run(config, model)
        before = last_checkpoint(folder / CHECKPOINT, model.device)
        if before is not None:
            run.load(before, rank, ranks)
        if config.patience and held_out is None:
            raise InputError(f"patience={config.patience} needs held-out batches: pass held_out.")
        if rank == 0:
            log, mirrors = Log(folder / LOG, run.step), opened(logs, folder, run.step)
        with ahead(source, workers if run.step < run.end else 0, step=ranks) as batches:
            while run.step < run.end:
                started = time.perf_counter()
                rate = config.rate(run.step, run.end)
                first = run.step * config.accumulate
                losses = run.advance(
                    (
                        inputs(batches.batch(part * ranks + rank), processor, model.device)
                        for part in range(first, first + config.accumulate)
                    ),
                    rate,
                )
                if _heard_by_all(_told_to_finish(folder / FINISH, rank)):
                    run.end = min(run.end, run.step + config.cooldown)
                judged = run.step == run.end or run.step % config.validate_every == 0
                lines: list[dict[str, Any]] = [
                    {"rate": rate, "seconds": round(time.perf_counter() - started, 3), **losses}
                ]
                if rank == 0 and held_out is not None and judged:
                    scores = held_out_scores(run.answering, processor, held_out, batches=held_out_batches)
                    lines.append({"held_out": scores})
                    run.compare(scores, folder / BEST)
                if config.patience and judged and _heard_by_all(run.stale >= config.patience):
                    run.end = run.step
                due = run.step == run.end or run.step % config.checkpoint_every == 0
                chance = every_state(model.device) if due else []
                if rank == 0:
                    _keep_step(run, folder, lines, log, mirrors, chance=chance)
    if (folder / BEST).exists() and config.patience:
        run.answering.load_state_dict(read_checkpoint(folder / BEST, model.device)["model"])
    merge(model)
    merge(run.answering)
    return run.answering.eval()


def _keep_step(
    run: "_Run",
    folder: Path,
    lines: list[dict[str, Any]],
    log: Log,
    mirrors: Sequence[Mirror],
    *,
    chance: list[dict[str, Any]],
) -> None:
    """Log a step, and write a checkpoint where one is due: where the processes' random states are given."""
    for line in lines:
        log.write(run.step, **line)
        for mirror in mirrors:
            mirror.write(run.step, line)
    if chance:
        write_checkpoint(folder / CHECKPOINT, run.state() | {"random": chance}, keep=True)
        for mirror in mirrors:
            mirror.flush()


def _told_to_finish(finish: Path, rank: int) -> bool:
    """Whether the file that ends a run lies there, for the first process."""
    told = rank == 0 and finish.exists()
    if told:
        finish.unlink()
    return told


def _heard_by_all(told: bool) -> bool:
    """What the first process says, for all of them at the same step."""
    if dist.is_initialized():
        heard = torch.tensor([told])
        dist.broadcast(heard, 0)
        told = bool(heard.item())
    return told


class _Run:
    """All that changes while training: weights, their average, the optimiser, the step."""

    def __init__(self, config: TrainConfig, model: RemoteSAMModel) -> None:
        self.config, self.model = config, model
        self.step, self.end = 0, config.steps
        self.best, self.stale = -1.0, 0  # the best held-out score, and how many came since
        self.still = prepare(model, config)
        if config.recompute:
            # The older name is all that older transformers know.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        self.heads = None
        if config.auxiliary:
            with torch.random.fork_rng():
                torch.manual_seed(config.seed)  # heads begin alike in every run and process
                self.heads = InnerHeads(model.config, config.planes, config.coordinates)
            self.heads.to(model.device)
        self.average = copy.deepcopy(model).requires_grad_(False) if config.ema else None
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(model, self.heads, config.weight_decay),
            lr=config.learning_rate,
            betas=config.betas,
        )

    @property
    def answering(self) -> RemoteSAMModel:
        """The weights to use: the average, where there is one."""
        return self.model if self.average is None else self.average

    def advance(self, batches: Iterable[Inputs], rate: float) -> dict[str, float]:
        """One optimiser step; its losses, the mean of the batches'."""
        config = self.config
        self.model.train()
        for part in self.still:
            part.eval()
        half = config.precision == "bfloat16"
        told: dict[str, float] = defaultdict(float)
        for batch in batches:
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=half):
                losses = self._losses(batch)
            loss = sum(losses.values(), start=torch.zeros((), device=self.model.device))
            if not torch.isfinite(loss):
                raise ModelError(
                    f"the loss of step {self.step} is {loss.item()}: lower learning_rate="
                    f"{config.learning_rate} or set clip, and go on from the last checkpoint."
                )
            (loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                told[name] += value.item() / config.accumulate
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if dist.is_initialized():
            _average_gradients(parameters)
        if config.clip:
            nn.utils.clip_grad_norm_(parameters, config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        if dist.is_initialized():
            _share_buffers([buffer for buffer in self.model.buffers() if buffer.is_floating_point()])
        self.step += 1
        self._follow()
        return dict(told)

    def compare(self, scores: Mapping[str, float], best: Path) -> None:
        """Note held-out scores, the mean over kinds, and keep the weights where they are the best so far."""
        if not self.config.patience:
            return
        score = float(np.mean(list(scores.values())))
        if score > self.best:
            self.best, self.stale = score, 0
            write_checkpoint(best, {"step": self.step, "model": self.answering.state_dict()})
        else:
            self.stale += 1

    def _losses(self, batch: Inputs) -> dict[str, Tensor]:
        """The parts that a step's loss is the sum of."""
        config, heads = self.config, self.heads
        if heads is not None and self.step < config.visual_steps:
            return {"inner": heads(visual_taps(self.model, batch.pixels), batch.planes)}
        taps: list[Tensor] = []
        features: list[Tensor] = []
        logits = shared_logits(
            self.model,
            batch.pixels,
            batch.input_ids,
            batch.attention_mask,
            taps=taps,
            features=features,
        )
        losses = {"loss": mask_loss(logits, batch.masks, config)}
        if heads is not None:
            losses["inner"] = config.auxiliary * heads(taps, batch.planes)
            losses["stages"] = config.auxiliary * heads.masks(features, batch.masks)
        return losses

    def _follow(self) -> None:
        """Move the average towards the weights; the first steps count little."""
        if self.average is None:
            return
        share = 1 - min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now, mean = self.model.state_dict(), self.average.state_dict()
            for name, value in mean.items():
                if value.dtype.is_floating_point:
                    value.lerp_(now[name], share)
                else:
                    value.copy_(now[name])

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for random states."""
        return {
            "step": self.step,
            "end": self.end,
            "config": self.config.as_json(),
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "heads": None if self.heads is None else self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **({"best": self.best, "stale": self.stale} if self.config.patience else {}),
        }

    def load(self, state: dict[str, Any], rank: int, ranks: int) -> None:
        """Go on from a checkpoint, under the same choices.

        Args:
            state: The checkpoint.
            rank: Number of this process.
            ranks: How many there are.
        """
        if lacking := {"end", "config", "model", "average", "heads", "optimizer", "random"} - state.keys():
            raise ModelError(
                f"the checkpoint of this folder lacks {', '.join(sorted(lacking))}: it is not of this version; "
                "start in another folder."
            )
        mine = self.config.as_json()
        theirs = TrainConfig(steps=1).as_json() | state["config"]  # it may be older than some choices
        other = [
            f"{name}={theirs.get(name)!r} (now {mine[name]!r})"
            for name in mine
            if name != "steps" and _plain_setting(mine[name]) != _plain_setting(theirs.get(name))
        ]
        if other:
            raise InputError(
                f"the run was begun with {', '.join(other)}: go on with the same choices, or start in another folder."
            )
        try:
            self.model.load_state_dict(state["model"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            if self.heads is not None:
                self.heads.load_state_dict(state["heads"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"the run in this folder trained another network: start in another folder. ({error})"
            ) from error
        if rank < len(state["random"]):
            restore(state["random"][rank], self.model.device)
        if rank == 0 and len(state["random"]) != ranks:
            warnings.warn(
                f"the run had {len(state['random'])} processes and has {ranks} now: batches are shared out "
                "otherwise, so that it goes on, but not to the same weights",
                RemoteSAMWarning,
                stacklevel=3,
            )
        self.step = state["step"]
        self.best, self.stale = state.get("best", -1.0), state.get("stale", 0)
        # A run that was told to finish keeps its end, unless other steps are asked for now.
        self.end = state["end"] if mine["steps"] == theirs["steps"] else mine["steps"]


def _average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace the gradients by their mean over all processes."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = torch.split(flat, [g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def _share_buffers(buffers: list[Tensor]) -> None:
    """Give all processes the first one's buffers, running statistics above all: each has seen batches of its own."""
    if buffers:
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.broadcast(flat, 0)
        parts = torch.split(flat, [buffer.numel() for buffer in buffers])
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))


def _plain_setting(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _parameter_groups(model: RemoteSAMModel, heads: nn.Module | None, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay: none on biases, norms and position biases."""
    spared = {
        id(module.relative_position_bias_table) for module in model.modules() if isinstance(module, WindowAttention)
    }
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in chain(model.parameters(), () if heads is None else heads.parameters()):
        if not parameter.requires_grad:
            continue
        small = parameter.ndim <= 1 or id(parameter) in spared
        (free if small else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


@torch.no_grad()
def held_out_scores(
    model: RemoteSAMModel, processor: RemoteSAMProcessor, source: BatchSource, *, batches: int
) -> dict[str, float]:
    """The mean IoU of each kind of expression; 1 where nothing was to be found and nothing was."""
    model.eval()
    found: dict[str, list[float]] = defaultdict(list)
    for step in range(batches):
        batch = source.batch(step)
        ready = inputs(batch, processor, model.device)
        logits = shared_logits(model, ready.pixels, ready.input_ids, ready.attention_mask)
        size = ready.masks.shape[1:]
        logits = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=True)
        answer = (logits[:, 1] > logits[:, 0]) & (ready.masks != 255)
        truth = ready.masks == 1
        overlap = (answer & truth).sum((1, 2)).double()
        union = (answer | truth).sum((1, 2)).double()
        scores = torch.where(union > 0, overlap / union.clamp(min=1), 1.0).tolist()
        for kind, score in zip(chain.from_iterable(batch.kinds), scores, strict=True):
            found[kind].append(score)
    return {kind: round(float(np.mean(found[kind])), 4) for kind in sorted(found)}
