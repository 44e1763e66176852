"""The recipe of the built-in model "tiny": its sizes, its words, its data, its training."""

import copy
import random
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from remotesam_geo.errors import InputError, instance_of, number_in
from remotesam_geo.learning.synthetic import (
    CLASSES,
    COLOURS,
    Expression,
    Instance,
    WorldScene,
    expressions,
    scene,
)
from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel
from remotesam_geo.model.processor import RemoteSAMProcessor
from remotesam_geo.model.weights import without_bar

from .samples.batches import Batch
from .settings import TrainConfig

__all__ = ["EXAM_SEEDS", "WorldSource", "begun", "further", "new_model", "processor", "training"]

_Number = TypeVar("_Number", bound=np.generic)

SEEDS = 1_000_000
TRAINING_SEEDS, HELD_OUT_SEEDS, EXAM_SEEDS = SEEDS, 2 * SEEDS, 3 * SEEDS
"""Where the seeds of each purpose begin; each has as many scenes as lie between them."""

SPARE_ROWS = 256  # of the word embeddings: words can be added without changing any shape
WORDS = (  # noqa: SIM905 - words read best as words
    "[PAD] [UNK] [CLS] [SEP] in the image a an all of and or is are that which with not "
    "airplane airplanes building buildings harbor harbors ship ships sports field fields storage "
    "tank tanks swimming pool pools tennis court courts tree trees vehicle vehicles "
    "white grey black red yellow green blue brown coloured colored gray "
    "large largest small smallest big biggest little tiny long longest short shortest medium "
    "left right top bottom upper lower center centre middle corner side half part edge leftmost "
    "rightmost topmost bottommost north south east west picture near next to nearest closest "
    "beside by far farthest from between above below on at under over around inside outside "
    "touching "
    "one two three four single each every other any object objects"
).split()

# How often each kind of expression is asked; what a picture does not offer goes to the others.
SHARES = {
    "class": 6.0,
    "colour": 4.0,
    "absent": 2.0,
    "absent colour": 1.0,
    "unknown": 0.3,
    "size": 0.2,
    "position": 0.3,
    "relation": 0.1,
}
NONSENSE = ("zebra", "piano", "volcano", "giraffe", "lighthouse", "wombat", "spoon", "castle")


def tokenizer() -> Tokenizer:
    """Whole words; one that is not in the list becomes [UNK].

    Examples:
        >>> tokenizer().encode("Storage tank and zebra").tokens
        ['[CLS]', 'storage', 'tank', 'and', '[UNK]', '[SEP]']
    """
    index = {word: number for number, word in enumerate(dict.fromkeys(WORDS))}
    made = Tokenizer(WordLevel(index, unk_token="[UNK]"))  # noqa: S106 - a token, not a secret
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, index[name]) for name in ("[CLS]", "[SEP]")]
    )
    return made


def configuration() -> RemoteSAMConfig:
    """Tiny's sizes.

    Windows of 7 divide no stage's side, so every stage pads, as the released network does; without
    padding a Swin sees no absolute position.
    """
    return RemoteSAMConfig(
        image_size=256,
        widths=(32, 64, 128, 256),
        depths=(2, 2, 4, 2),
        heads=(1, 2, 4, 8),
        window_size=7,
        interaction_heads=4,
        interaction_key_width=16,
        interaction_value_width=32,
        decoder_width=32,
        text_config={
            "vocab_size": SPARE_ROWS,
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "max_position_embeddings": 24,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
    )


def processor() -> RemoteSAMProcessor:
    """Tiny's processor."""
    return RemoteSAMProcessor(configuration(), tokenizer=tokenizer())


def new_model(seed: int = 0) -> RemoteSAMModel:
    """Tiny before its first step.

    The usual deviation of fresh weights, 0.02, suits a thousand channels. With 32 it leaves what
    the text says a thousandth as loud as the picture, and its gradient with it: the language branch
    starts with weights that keep a signal's size, the words louder than their places.
    """
    number_in("seed", seed, 0, 2**32 - 1, whole=True)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = RemoteSAMModel(configuration())
    with torch.no_grad():
        model.text_encoder.embeddings.word_embeddings.weight *= 5
        for stage in model.backbone.layers:
            for name, weight in stage.named_parameters():
                if weight.ndim > 1 and name.startswith(("fusion", "res_gate")):
                    gain = 0.7 if name.startswith("res_gate") else 1.0
                    if "vis_project" in name or "project_mm" in name:
                        gain = 2**0.5  # a GELU follows
                    weight.normal_(std=gain / weight.shape[1] ** 0.5)
    torch.set_rng_state(state)
    return model


def begun(start: str | Path | None = None, seed: int = 0) -> RemoteSAMModel:
    """Tiny before its first step, or with the weights of a tiny to train further.

    Args:
        start: "tiny" or a folder of one; by default fresh weights.
        seed: Of fresh weights.

    Raises:
        InputError: Weights of another network, or of a tiny that has learned other words.
    """
    model = new_model(seed)
    if start is None:
        return model
    weights = RemoteSAMModel.from_pretrained(start).float().state_dict()
    words = RemoteSAMProcessor.from_pretrained(start).tokenizer.get_vocab()
    own = model.state_dict()
    same = weights.keys() == own.keys() and all(weights[n].shape == own[n].shape for n in own)
    if not same or words != processor().tokenizer.get_vocab():
        raise InputError(
            f"{str(start)!r} is no tiny, or one that has learned other words: start from "
            '"tiny", or train it on triplets (fine_tune, --data).'
        )
    model.load_state_dict(weights)
    return model


def training(steps: int, cooldown: int | None = None, visual_steps: int | None = None) -> TrainConfig:
    """Tiny's loss and schedule.

    Args:
        steps: Steps in all.
        cooldown: Steps of the falling rate at the end; by default a quarter.
        visual_steps: Steps without text at the start; by default a quarter.
    """
    number_in("steps", steps, 1, whole=True)
    return TrainConfig(
        steps=steps,
        learning_rate=1.2e-3,
        betas=(0.9, 0.98),
        clip=1.0,
        warmup=60,
        schedule="hold",
        cooldown=max(1, steps // 4) if cooldown is None else cooldown,
        class_weights=(0.9, 1.6),
        dice_share=0.4,
        dice="expression",
        planes={"class": 1 + len(CLASSES), "colour": 1 + len(COLOURS)},
        coordinates=True,
        auxiliary=0.5,
        visual_steps=steps // 4 if visual_steps is None else visual_steps,
        ema=0.995,
        checkpoint_every=50,
        validate_every=200,
    )


def further(steps: int, cooldown: int | None = None, visual_steps: int | None = None) -> TrainConfig:
    """Tiny's loss and schedule from weights that answer already.

    The rate is half as high and falls from the start, the answer counts for more and the heads of
    the inner stages for less.

    Args:
        steps: Steps in all.
        cooldown: Steps of the falling rate at the end; by default all.
        visual_steps: Steps without text at the start; by default none.
    """
    return replace(
        training(steps, steps if cooldown is None else cooldown, 0 if visual_steps is None else visual_steps),
        learning_rate=6e-4,
        dice_share=0.5,
        auxiliary=0.15,
    )


class WorldSource:
    """Scenes of the procedural world with expressions over them.

    Args:
        first_seed: Where its seeds begin.
        pictures: Pictures a batch.
        questions: Expressions a picture.
        pool: Different scenes; each comes back turned or mirrored, under other expressions.
        shares: How often each kind of expression is asked.
        seed: Sources of as large a pool and another seed share no scene.

    Raises:
        InputError: Scenes that would reach into those of another purpose.
    """

    def __init__(
        self,
        first_seed: int = TRAINING_SEEDS,
        *,
        pictures: int = 8,
        questions: int = 2,
        pool: int = 4096,
        shares: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        number_in("pictures", pictures, 1, whole=True)
        number_in("questions", questions, 1, whole=True)
        number_in("first_seed", first_seed, 0, whole=True)
        if shares is not None:
            instance_of("shares", shares, dict, "a share for each kind of expression")
        number_in("pool", pool, 1, SEEDS, whole=True)
        number_in("seed", seed, 0, whole=True)
        if (seed + 1) * pool > SEEDS:
            raise InputError(
                f"seed={seed}, pool={pool}: a source takes the scenes from seed x pool on, of the {SEEDS:,} "
                "that are there to train on; choose smaller ones."
            )
        self.first_seed = first_seed + seed * pool
        self.pictures, self.questions = pictures, questions
        self.pool, self.shares = pool, SHARES if shares is None else shares
        self._kept: dict[int, WorldScene] = {}

    def _scene(self, number: int) -> WorldScene:
        if number not in self._kept:
            drawn = scene(self.first_seed + number)
            self._kept[number] = replace(drawn, landcover=np.empty((0, 0), np.uint8))
        return self._kept[number]

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        pictures, asked, masks, kinds = [], [], [], []
        planes: dict[str, list[NDArray[np.uint8]]] = {"class": [], "colour": []}
        for number in range(step * self.pictures, (step + 1) * self.pictures):
            rng = random.Random(self.first_seed * 1_000_003 + number)  # noqa: S311
            round_, place = divmod(number, self.pool)
            view = self._scene(place)
            view = view if round_ == 0 else turned(view, rng.randrange(8))
            chosen = ask(view, rng, self.questions, self.shares)
            pictures.append(view.rgb)
            asked.append(tuple(e.text for _, e in chosen))
            kinds.append(tuple(kind for kind, _ in chosen))
            masks.append([view.mask(e.ids).astype(np.uint8) for _, e in chosen])
            for name, some in planes.items():
                some.append(plane(view, name))
        return Batch(
            pictures=np.stack(pictures),
            expressions=tuple(asked),
            masks=np.array(masks),
            kinds=tuple(kinds),
            planes={name: np.stack(some) for name, some in planes.items()},
        )


def plane(view: WorldScene, name: str) -> NDArray[np.uint8]:
    """H x W: 1 + the place of each pixel's "class" or "colour" among all; 0 where no object is."""
    values = list(CLASSES if name == "class" else COLOURS)
    codes = np.zeros(len(view.instances) + 1, np.uint8)
    for one in view.instances:
        codes[one.id] = 1 + values.index(one.name if name == "class" else one.colour)
    return np.asarray(codes[view.labels])


def ask(view: WorldScene, rng: random.Random, count: int, shares: dict[str, float]) -> list[tuple[str, Expression]]:
    """Different expressions over a picture, kinds drawn by their shares; each with its kind."""
    left = {kind: some for kind, some in offered(view, rng).items() if kind in shares}
    chosen: list[tuple[str, Expression]] = []
    while len(chosen) < count and left:
        kind = rng.choices(list(left), [shares[kind] for kind in left])[0]
        expression = left[kind].pop(rng.randrange(len(left[kind])))
        if kind in ("class", "absent"):
            expression = _reworded_class(expression, rng)
        chosen.append((kind, expression))
        if not left[kind]:
            del left[kind]
    return chosen


def offered(view: WorldScene, rng: random.Random) -> dict[str, list[Expression]]:
    """All that may be asked of a picture, by kind: the world's own, and more to be denied."""
    found: dict[str, list[Expression]] = {}
    for expression in [*expressions(view, rng), *_negative_expressions(view, rng)]:
        found.setdefault(_kind_of_tiny_expression(expression), []).append(expression)
    return found


def _kind_of_tiny_expression(expression: Expression) -> str:
    if expression.kind == "absent" and any(w in expression.text.split() for w in COLOURS):
        return "absent colour"
    if expression.kind == "absent" and expression.name not in CLASSES:
        return "unknown"
    return expression.kind


def _negative_expressions(view: WorldScene, rng: random.Random) -> list[Expression]:
    """Questions to be answered with nothing: colours that a class does not show, unknown things."""
    made = []
    for name in sorted({one.name for one in view.instances}):
        there = {one.colour for one in view.of(name)}
        for colour in COLOURS:
            if colour not in there:
                text = _coloured_name(colour, name, rng)
                made.append(Expression(text=text, kind="absent", name=name, ids=(), every=()))
    for word in rng.sample(NONSENSE, 2):
        text = rng.choice(
            (
                f"{word} in the image",
                f"{word} {rng.choice(list(CLASSES))} in the image",
                _coloured_name(rng.choice(list(COLOURS)), word, rng),
                f"the largest {word}",
            )
        )
        made.append(Expression(text=text, kind="absent", name=word, ids=(), every=()))
    return made


def _coloured_name(colour: str, name: str, rng: random.Random) -> str:
    """Worded like what the world asks about colours that are there."""
    noun = rng.choice((name, CLASSES[name].plural if name in CLASSES else f"{name}s"))
    be = "is" if noun == name else "are"
    forms = ("the {0} {1}", "{0} {1}", "all {0} {1}", "the {1} that {2} {0}", "{1} that {2} {0}")
    return rng.choice(forms).format(colour, noun, be)


def _reworded_class(expression: Expression, rng: random.Random) -> Expression:
    """A class asked for in other words, now and then."""
    if expression.name not in CLASSES or rng.random() > 0.3:
        return expression
    plural = CLASSES[expression.name].plural
    text = rng.choice((expression.name, plural, f"all {plural}", f"the {plural} in the image"))
    return replace(expression, text=text)


def turned(view: WorldScene, way: int) -> WorldScene:
    """The picture and its truth mirrored (way >= 4) and turned by quarter turns (way % 4).

    Examples:
        >>> picture = scene(1, size=64)
        >>> bool((turned(picture, 0).rgb == picture.rgb).all())
        True
    """
    size = view.rgb.shape[0]

    def move(plane: NDArray[_Number]) -> NDArray[_Number]:
        plane = plane[:, ::-1] if way >= 4 else plane
        return np.ascontiguousarray(np.rot90(plane, way % 4))

    def carry(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points[:, 0], points[:, 1]
        x = size - x if way >= 4 else x
        for _ in range(way % 4):  # rot90 turns counter-clockwise: (x, y) goes to (y, size - x)
            x, y = y, size - x
        return np.column_stack([x, y])

    def follow(one: Instance) -> Instance:
        box = carry(np.array(one.box, float).reshape(2, 2)).astype(int)
        (x0, y0), (x1, y1) = box.min(0).tolist(), box.max(0).tolist()
        return replace(one, outline=carry(one.outline), box=(x0, y0, x1, y1))

    return replace(
        view,
        rgb=move(view.rgb),
        labels=move(view.labels),
        instances=tuple(map(follow, view.instances)),
    )


def save(model: RemoteSAMModel, processor: RemoteSAMProcessor, folder: Path) -> None:
    """Write weights in 16 bit, configuration and tokenizer, as `from_pretrained` reads them."""
    with without_bar():
        copy.deepcopy(model).to("cpu").half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # a temporary file's mode would travel with it
    processor.save_pretrained(folder)
