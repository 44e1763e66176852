"""Fine-tuning: from triplets and any weights to a model folder, with a card that says how it was made."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from remotesam_geo.errors import InputError, folder_of, instance_of, number_in, one_of
from remotesam_geo.files import place_of
from remotesam_geo.learning.datasets import Triplet
from remotesam_geo.learning.datasets.picture_files import write_whole
from remotesam_geo.model import RemoteSAMModel, weights_sha256
from remotesam_geo.model.processor import RemoteSAMProcessor
from remotesam_geo.model.weights import without_bar
from remotesam_geo.outputs.atomic import replacing

from .checkpoint import Log
from .logs import LogKind, check_logs
from .loop import LOG, held_out_scores, train
from .new_words import new_words, with_words
from .parts import trained_bytes
from .samples.triplet_source import Augment, TripletSource, split_parts
from .settings import TrainConfig

__all__ = ["FineTuned", "fine_tune"]

BEGINNING = "beginning.json"
MODEL = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
"""Files of a model folder."""
WORDS = "text_encoder.embeddings.word_embeddings"  # new words need their rows trained
LIMITS = (
    "The figures hold for places and pictures like those held out, asked with expressions like theirs. The licence "
    "follows from those of the weights it started from and of the data, which this card does not know."
)


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """What came of fine-tuning.

    Attributes:
        folder: The model, as `from_pretrained` takes it.
        before: Held-out IoU by kind of expression, of the weights it started from.
        after: The same, of what it became.
        steps: Steps that were made; fewer than asked for where it ended early.
        trained: Bytes of the weights that were trained: those of adapters, where it had them.
    """

    folder: Path
    before: Mapping[str, float]
    after: Mapping[str, float]
    steps: int
    trained: int


def fine_tune(
    folder: Path | str,
    triplets: Sequence[Triplet],
    *,
    start: str | Path | None = None,
    revision: str | None = None,
    config: TrainConfig | None = None,
    held_out: Sequence[Triplet] | float = 0.1,
    square: float = 2000.0,
    pictures: int = 2,
    questions: int = 2,
    augment: Augment | None = None,
    logs: Sequence[LogKind] = ("csv",),
    workers: int = 0,
    device: str = "auto",
) -> FineTuned:
    """Train weights further on triplets; a folder that holds a run is gone on with.

    A network with a word list of its own ("tiny") learns the words of `triplets` that it has not met, as far as there
    is room (see `new_words`).

    Args:
        folder: Of the run: its checkpoint and logs, and the result in `model`.
        triplets: A `TripletStore`, or a list.
        start: Weights, as `from_pretrained` takes them: nothing for the released ones, "tiny", a model folder, a
            published `.pth`, a repository.
        revision: Commit of a repository.
        config: Every choice of the training; by default the published ones, for 1,000 steps.
        held_out: Triplets never trained on, or the share of the ground to hold out.
        square: Side in metres of the squares of ground that are held out as a whole.
        pictures: Pictures a batch and process.
        questions: Expressions a picture.
        augment: What is changed from visit to visit; by default flips, turns and light.
        logs: As in `train`.
        workers: As in `train`.
        device: "auto", "cpu" or "cuda".

    Raises:
        InputError: Nothing to train on or held out, a run that was begun otherwise, or other things in `model`.
        ModelError: The weights are missing or damaged.
    """
    check_logs(logs)
    number_in("pictures", pictures, 1, whole=True)
    number_in("questions", questions, 1, whole=True)
    number_in("workers", workers, 0, whole=True)
    number_in("square", square, 0, open_low=True)
    one_of("device", device, ("auto", "cpu", "cuda"))
    instance_of("config", config, (TrainConfig, NoneType), "a TrainConfig")
    instance_of("augment", augment, (Augment, NoneType), "an Augment")
    given: Any = held_out
    if isinstance(given, str) or not isinstance(given, Sequence):
        number_in("held_out", given, 0, 1)
    instance_of("start", start, (str, Path, NoneType), "a name, a folder or a file of weights")
    folder = folder_of("folder", folder)
    place_of(folder / "model", ours=_is_model)  # said before hours of training
    config = TrainConfig(steps=1000) if config is None else config
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    model = RemoteSAMModel.from_pretrained(start, revision=revision).to(torch.device(where))
    processor = RemoteSAMProcessor.from_pretrained(start, revision=revision)
    own: Sequence[Triplet] = triplets
    if isinstance(held_out, float | int):
        own, held_out = split_parts(triplets, held_out=held_out, square=square)
    _check_held_out_apart(own, held_out)
    side = model.config.image_size
    source = TripletSource(
        own, side, pictures=pictures, questions=questions, augment=Augment() if augment is None else augment,
        seed=config.seed,
    )  # fmt: skip
    judge = TripletSource(held_out, side, pictures=pictures, questions=questions, seed=1)
    batches = min(judge.batches, 64)
    begun = _starting_point(
        folder, model, lambda: {
            "words": new_words(processor, own),
            "scores": held_out_scores(model, processor, judge, batches=batches),
        },
    )  # fmt: skip
    processor = with_words(processor, begun["words"])
    if config.adapters and begun["words"]:
        config = replace(config, whole=(*config.whole, WORDS))
    size = trained_bytes(model, config)
    trained = train(
        folder, config=config, model=model, processor=processor, source=source, held_out=judge,
        held_out_batches=batches, logs=logs, workers=workers,
    )  # fmt: skip
    after = held_out_scores(trained, processor, judge, batches=batches)
    steps = max((line["step"] for line in Log.lines(folder / LOG)), default=0)
    result = FineTuned(folder=folder / "model", before=begun["scores"], after=after, steps=steps, trained=size)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        card = _model_card(result, begun, trained, config=config, parts=(own, held_out))
        _save_model_folder(trained, processor, result.folder, card)
    return result


def _check_held_out_apart(own: Sequence[Triplet], held_out: Sequence[Triplet]) -> None:
    both = {triplet.picture.name for triplet in own} & {t.picture.name for t in held_out}
    if both:
        raise InputError(
            f"{len(both)} pictures are trained on and held out, {min(both)!r} among them: keep them apart."
        )


def _starting_point(folder: Path, model: RemoteSAMModel, found: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the run started from; found out and noted once, and other weights in the same folder are refused."""
    path, sha256 = folder / BEGINNING, weights_sha256(model)
    if path.exists():
        try:
            noted: dict[str, Any] = json.loads(path.read_text("utf-8"))
            began = str(noted["sha256"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}): start in another folder.") from error
        if began != sha256:
            raise InputError(
                f"the run in {folder} started from weights {began[:12]}, not {sha256[:12]}: go on with the "
                "same, or start in another folder."
            )
        return {"words": ()} | noted  # a run may be older than the learning of words
    name = "unnamed" if model.origin is None else model.origin.source
    noted = {
        "start": Path(name).name if Path(name).is_absolute() else name,
        "sha256": sha256,
        **found(),
    }
    write_whole(path, json.dumps(noted).encode())
    return noted


def _save_model_folder(model: RemoteSAMModel, processor: RemoteSAMProcessor, folder: Path, card: str) -> None:
    """Write the model folder as a whole: it is the old one or the new one."""
    with replacing(folder, ours=_is_model) as partial:
        with without_bar():
            model.save_pretrained(partial)
        # A temporary file's mode would travel with it.
        (partial / "model.safetensors").chmod(0o644)
        processor.save_pretrained(partial)
        (partial / "README.md").write_text(card, "utf-8")


def _is_model(folder: Path) -> bool:
    """Whether a folder holds a model that `_save_model_folder` wrote, and nothing else."""
    try:
        kind = json.loads((folder / "config.json").read_bytes())["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return kind == [RemoteSAMModel.__name__] and {path.name for path in folder.iterdir()} <= MODEL


def _model_card(
    result: FineTuned,
    begun: Mapping[str, Any],
    model: RemoteSAMModel,
    *,
    config: TrainConfig,
    parts: tuple[Sequence[Triplet], Sequence[Triplet]],
) -> str:
    """A model card, written from the run."""
    origin = (
        f"Made by remotesam_geo {version('remotesam-geo')} from the weights `{begun['start']}` (identity "
        f"`{begun['sha256'][:16]}`); its own identity is `{weights_sha256(model)[:16]}`."
    )
    rows = [
        "# A fine-tuned RemoteSAM",
        "",
        origin,
        "",
        "## Held out",
        "",
        "Mean IoU by kind of expression, on pictures never trained on; 1 where nothing was there nor found.",
        "",
        "| kind | before | after |",
        "| --- | --- | --- |",
        *(f"| {kind} | {result.before.get(kind, 0):.3f} | {after:.3f} |" for kind, after in result.after.items()),
        "",
        "## Data",
        "",
        "| | trained on | held out |",
        "| --- | --- | --- |",
    ]  # fmt: skip
    counts = [_counts_of_held_out_part(part) for part in parts]
    rows += [f"| {name} | {counts[0][name]:,} | {counts[1][name]:,} |" for name in counts[0]]
    labels = Counter(triplet.label for triplet in _all_finetuning_triplets(parts[0]) if triplet.kind != "one-to-zero")
    rows += [
        "",
        "Classes: " + ", ".join(f"{label} ({n:,})" for label, n in labels.most_common(50)) + ".",
    ]
    if begun["words"]:
        rows += ["", "Words it had not met: " + ", ".join(begun["words"]) + "."]
    rows += [
        "",
        "## Training",
        "",
        f"{result.steps:,} steps, {result.trained / 1e6:.2f} MB of weights trained.",
        "",
        "| choice | |",
        "| --- | --- |",
    ]
    rows += [f"| {name} | {value} |" for name, value in config.as_json().items()]
    rows += [
        "",
        "## Limits",
        "",
    ]
    rows += [LIMITS, ""]
    return "\n".join(rows)


def _all_finetuning_triplets(part: Sequence[Triplet]) -> list[Triplet]:
    return [part[k] for k in range(len(part))]


def _counts_of_held_out_part(part: Sequence[Triplet]) -> dict[str, int]:
    triplets = _all_finetuning_triplets(part)
    kinds = Counter(triplet.kind for triplet in triplets)
    return {
        "pictures": len({triplet.picture.name for triplet in triplets}),
        **{kind: kinds[kind] for kind in ("one-to-one", "one-to-many", "one-to-zero")},
    }  # fmt: skip
