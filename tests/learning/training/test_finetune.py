"""Fine-tuning: words that follow flips, batches by step, frozen parts, early ends, and the folder that results."""

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.run
import typer

from remotesam_geo import RemoteSAM
from remotesam_geo.cli import app, main
from remotesam_geo.errors import InputError, MissingExtraError, ModelError, RemoteSAMWarning
from remotesam_geo.learning.datasets import (
    Example,
    Mask,
    Picture,
    Thing,
    Triplet,
    write_coco,
    write_store,
)
from remotesam_geo.learning.labelling import rules, run_engine, world_example
from remotesam_geo.learning.synthetic import CLASSES, expressions, scene
from remotesam_geo.learning.training import (
    Augment,
    TrainConfig,
    TripletSource,
    chips,
    fine_tune,
    new_words,
    split_parts,
    train,
    trained_bytes,
    with_words,
)
from remotesam_geo.learning.training.checkpoint import Log, read_checkpoint
from remotesam_geo.learning.training.loop import _Run, inputs
from remotesam_geo.learning.training.parts import merge, prepare
from remotesam_geo.learning.training.samples.flips import WAYS, flipped, moved
from remotesam_geo.learning.training.samples.triplet_source import COLOURS
from remotesam_geo.learning.training.tiny import turned
from remotesam_geo.model import RemoteSAMModel, RemoteSAMProcessor
from tests.learning.reading import read
from tests.learning.training.test_training import (
    QUICK,
    WORDS,
    Squares,
    same,
    small_model,
    small_processor,
)

# --- flips ----------------------------------------------------------------------------------------

TURNS = {
    "left-right": 4,
    "half turn": 2,
    "top-bottom": 6,
    "quarter turn": 1,
    "mirrored quarter turn": 5,
}


@pytest.mark.parametrize("way", TURNS)
def test_an_independent_reader_finds_the_same_things_after_a_flip(way):
    told = 0
    for seed in range(300, 306):
        picture = scene(seed)
        after = turned(picture, TURNS[way])
        assert (moved(picture.rgb, way) == after.rgb).all()
        for asked in expressions(picture, seed):
            text = flipped(asked.text, way, relation=asked.kind == "relation")
            if text is None:
                assert "quarter" in way
                continue
            ids, _ = read(text, after)
            assert ids == set(asked.ids), (asked.text, text)
            told += text != asked.text
    assert told > 20 or "quarter" in way


def test_words_that_are_no_direction_of_the_picture_keep_it_as_it_is():
    for text in (
        "the house with a flat top",
        "the left turn lane",
        "the plane above the clouds",
        "the car facing left",
    ):
        assert flipped(text, "half turn") is None
        assert flipped(text, "as it is") == text
    assert flipped("the upper-left ship", "half turn") == "the lower-right ship"
    assert flipped("the northwestern corner", "left-right") == "the northeastern corner"
    assert flipped("Left of the dam", "left-right") == "Right of the dam"


def test_a_flip_and_the_same_flip_again_change_nothing():
    array = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for way in ("left-right", "top-bottom", "half turn", "mirrored quarter turn"):
        assert (moved(moved(array, way), way) == array).all()
    assert {moved(array, way).tobytes() for way in WAYS} != {array.tobytes()}


# --- batches --------------------------------------------------------------------------------------


def world_triplets(folder, count=6, size=64):
    return run_engine(
        (world_example(scene(seed, size=size)) for seed in range(count)),
        folder,
        engine=rules(list(CLASSES)),
    )[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return world_triplets(tmp_path_factory.mktemp("store") / "world")


def test_the_same_step_gives_the_same_batch_whoever_asks(store):
    one, other = (TripletSource(store, 64, augment=Augment(), seed=3) for _ in range(2))
    for step in (5, 0, 9):
        a, b = (
            one.batch(step),
            TripletSource(list(store), 64, augment=Augment(), seed=3).batch(step),
        )
        assert (a.pictures == b.pictures).all()
        assert (a.masks == b.masks).all()
        assert a.expressions == b.expressions == other.batch(step).expressions


def test_a_round_shows_each_picture_once(store):
    source = TripletSource(store, 64, pictures=3, questions=1)
    names = {t.picture.name for t in store}
    seen = [rgb.tobytes() for step in range(2) for rgb in source.batch(step).pictures]
    assert len(set(seen)) == len(names) == 6
    assert source.batches == 2


def test_augmented_answers_are_those_of_the_moved_truth(store):
    """Each mask is one of the picture's own, moved as the picture was; colours asked for are left alone."""
    by_picture = {}
    for t in store:
        by_picture.setdefault(t.picture.read().tobytes(), []).append(t)
    source = TripletSource(store, 64, pictures=1, questions=2, augment=Augment(light=0.0))
    ways = set()
    for step in range(36):
        batch = source.batch(step)
        fits = [
            (way, some)
            for raw, some in by_picture.items()
            for way in WAYS
            if (moved(some[0].picture.read(), way) == batch.pictures[0]).all()
        ]
        ((way, some),) = fits
        ways.add(way)
        for text, mask in zip(batch.expressions[0], batch.masks[0], strict=True):
            assert any(
                flipped(t.expression, way, relation=t.attributes["rule"] == "relation") == text
                and (moved(t.mask.pixels().astype(np.uint8), way) == mask).all()
                for t in some
            )
    assert len(ways) >= 4


def test_light_changes_only_where_no_colour_is_asked():
    rgb = np.random.default_rng(0).integers(60, 200, (32, 32, 3)).astype(np.uint8)
    mask = Mask.of_box((2, 2, 9, 9), (32, 32))
    for text, kept in (("the red roof", True), ("the roof", False), ("the dark-grey roof", True)):
        one = Triplet(picture=Picture.of("a", rgb), expression=text, mask=mask, kind="one-to-one")
        source = TripletSource([one], 32, pictures=1, questions=1, augment=Augment(flip=False, turn=False))
        changed = [not (source.batch(step).pictures[0] == rgb).all() for step in range(4)]
        assert any(changed) != kept
    assert {"red", "dark"} <= COLOURS


def test_parts_share_no_picture(store):
    own, held_out = split_parts(store, held_out=0.4)
    names = [{part[k].picture.name for k in range(len(part))} for part in (own, held_out)]
    assert names[0]
    assert names[1]
    assert not names[0] & names[1]
    said = [replace(t, split="val" if t.picture.name == "world-2" else "train") for t in store]
    _, held = split_parts(said)
    assert {held[k].picture.name for k in range(len(held))} == {"world-2"}
    with pytest.raises(InputError, match="held_out"):
        split_parts(store, held_out=0.0)


def test_chips_cover_a_picture_and_each_shows_its_part_of_a_thing():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (70, 130, 3)).astype(np.uint8)
    pixels = np.zeros((70, 130), bool)
    pixels[10:55, 30:100] = rng.random((45, 70)) < 0.5
    ship = Thing(label="ship", box=(30, 10, 100, 55), mask=Mask.of(pixels), id="7")
    far = Thing(label="dam", box=(0, 60, 5, 65))
    one = Example(picture=Picture.of("a.jpg", rgb), things=(ship, far), split="val", source="s")
    seen = np.zeros((70, 130), int)
    for chip in chips([one], size=50, overlap=0.25):
        x, y = map(int, chip.picture.name.removeprefix("a ").split())
        assert (chip.picture.read() == rgb[y : y + 50, x : x + 50]).all()
        assert (chip.split, chip.source) == ("val", "s")
        part = pixels[y : y + 50, x : x + 50]
        (same_ship,) = (thing for thing in chip.things if thing.label == "ship")
        assert (same_ship.mask.pixels() == part).all()
        assert same_ship.id == "7"
        assert same_ship.attributes == {"cut": "yes"}
        assert ("dam" in {thing.label for thing in chip.things}) == (x < 5 and y + 50 > 60)
        seen[y : y + 50, x : x + 50] += 1
    assert seen.min() == 1
    assert seen.sum() == 2500 * 2 * 4
    half = next(chips([one], size=500, side=35))  # no larger than the picture
    assert half.picture.shape == (35, 35)
    assert half.things[0].mask.area == pytest.approx(pixels[:, :70].sum() / 4, rel=0.1)
    alone = Example(picture=one.picture, things=(far,))
    assert len(list(chips([alone], size=50))) == 1
    assert len(list(chips([alone], size=50, empty=True))) == 8
    with pytest.raises(InputError, match="overlap"):
        next(chips([one], size=50, overlap=1.0))


# --- the loop's new choices -----------------------------------------------------------------------

PLAIN = replace(QUICK, auxiliary=0.0, visual_steps=0, ema=0.0, clip=0.0, planes={}, coordinates=False)


def gradients(config, batches):
    """What the optimiser is given for one step."""
    processor = small_processor()
    run = _Run(config, small_model(processor).double())
    run.model.train = lambda: torch.nn.Module.train(run.model, False)  # running statistics
    kept = {}
    run.optimizer.step = lambda: kept.update(
        {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}
    )
    ready = [inputs(batch, processor, torch.device("cpu")) for batch in batches]
    run.advance((replace(one, pixels=one.pixels.double()) for one in ready), 1e-3)
    return kept


def joined(one, other):
    return replace(
        one,
        pictures=np.concatenate([one.pictures, other.pictures]),
        masks=np.concatenate([one.masks, other.masks]),
        expressions=one.expressions + other.expressions,
        kinds=one.kinds + other.kinds,
        planes={k: np.concatenate([v, other.planes[k]]) for k, v in one.planes.items()},
    )


def test_two_batches_give_the_gradient_of_both_together():
    config = replace(PLAIN, dice="expression", class_weights=(1.0, 1.0))
    one, other = Squares(1).batch(0), Squares(1).batch(1)
    two = gradients(replace(config, accumulate=2), [one, other])
    both = gradients(config, [joined(one, other)])
    assert two.keys() == both.keys()
    for name, gradient in both.items():
        torch.testing.assert_close(two[name], gradient, msg=name)


@pytest.mark.parametrize("adapters", [0, 2])
def test_recomputing_changes_no_gradient(adapters):
    batch, config = Squares(1).batch(0), replace(PLAIN, adapters=adapters)
    plain, again = (gradients(replace(config, recompute=r), [batch]) for r in (False, True))
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


def test_half_precision_gives_much_the_same_loss_and_keeps_weights_in_full(tmp_path):
    found = {}
    for precision in ("float32", "bfloat16"):
        trained = run(tmp_path / precision, replace(PLAIN, steps=2, precision=precision))
        assert {p.dtype for p in trained.parameters()} == {torch.float32}
        found[precision] = Log.lines(tmp_path / precision / "log.jsonl")[0]["loss"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.03)
    assert found["bfloat16"] != found["float32"]


def run(folder, config, **more):
    processor = small_processor()
    return train(
        folder, config=config, model=small_model(processor), processor=processor, source=Squares(1),
        held_out=Squares(2), held_out_batches=1, **more,
    )  # fmt: skip


def test_frozen_parts_stay_to_the_bit(tmp_path):
    before = small_model(small_processor()).state_dict()
    after = run(tmp_path, replace(PLAIN, freeze=("text_encoder", "classifier"), steps=4)).state_dict()
    for name, value in before.items():
        if name.startswith(("text_encoder", "classifier")):
            assert torch.equal(after[name], value), name
    assert not torch.equal(before["backbone.patch_embed.proj.weight"], after["backbone.patch_embed.proj.weight"])
    with pytest.raises(InputError, match="no part"):
        run(tmp_path / "other", replace(PLAIN, freeze=("head",)))


ADAPTED = replace(PLAIN, adapters=2, whole=("classifier.conv1_1",))


def test_adapters_alone_get_gradients():
    found = gradients(ADAPTED, [Squares(1).batch(0)])
    names = {"classifier.conv1_1.weight", "classifier.conv1_1.bias"}
    assert names < found.keys()
    assert all(".lora_A." in name or ".lora_B." in name for name in found.keys() - names)
    for part in ("text_encoder.", "backbone."):
        assert any(name.startswith(part) for name in found)
    few = gradients(replace(ADAPTED, adapt=("backbone.layers.1",), whole=()), [Squares(1).batch(0)])
    assert few
    assert all(name.startswith("backbone.layers.1.") for name in few)


def test_what_adapters_learned_is_merged_into_plain_weights(tmp_path):
    before = small_model(small_processor()).state_dict()
    processor = small_processor()
    model = small_model(processor)
    loop = _Run(ADAPTED, model)
    ready = inputs(Squares(1).batch(0), processor, torch.device("cpu"))
    for _ in range(3):
        loop.advance([ready], 1e-2)
    model.eval()
    with torch.no_grad():
        pixels = ready.pixels.repeat_interleave(3, 0)
        adapted = model(pixels, ready.input_ids, ready.attention_mask).logits
        merge(model)
        plain = model(pixels, ready.input_ids, ready.attention_mask).logits
        start = small_model(processor).eval()
        old = start(pixels, ready.input_ids, ready.attention_mask).logits
    assert (old - plain).abs().max() > 0.01
    torch.testing.assert_close(plain, adapted, atol=1e-4, rtol=1e-4)
    after = model.state_dict()
    assert after.keys() == before.keys()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert {"classifier.conv1_1.weight", "backbone.layers.1.blocks.0.mlp.fc1.weight"} <= moved
    assert not any("norm" in name or "running" in name or "bn" in name for name in moved)
    assert all(parameter.requires_grad for parameter in model.parameters())
    _Run(ADAPTED, model)  # a plain network again, that may be adapted once more


def test_the_bytes_that_are_trained_are_counted_without_a_trace():
    model = small_model(small_processor())
    before, flags = model.state_dict(), [p.requires_grad for p in model.parameters()]
    counted = trained_bytes(model, ADAPTED)
    assert same(model.state_dict(), before)
    assert [p.requires_grad for p in model.parameters()] == flags
    prepare(model, ADAPTED)
    assert counted == 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted < trained_bytes(small_model(small_processor()), PLAIN) / 8


def test_adapters_learn_two_pictures_and_resume_bit_for_bit(tmp_path):
    class One(Squares):
        def batch(self, step):
            return super().batch(0 * step)

    processor = small_processor()
    config = replace(
        ADAPTED, adapters=4, whole=("classifier",), steps=40, schedule="hold", learning_rate=5e-3,
        validate_every=999,
    )  # fmt: skip

    def tuned(folder, config):
        return train(folder, config=config, model=small_model(processor), processor=processor, source=One(1))

    tuned(tmp_path / "straight", config)
    first, *_, last = Log.lines(tmp_path / "straight" / "log.jsonl")
    assert last["loss"] < 0.7 * first["loss"]
    tuned(tmp_path / "broken", replace(config, steps=4))
    state = read_checkpoint(tmp_path / "broken" / "checkpoint.pt", torch.device("cpu"))
    assert any("lora_A" in name for name in state["model"])
    short = replace(config, steps=6)
    ends = [tuned(tmp_path / name, short).state_dict() for name in ("broken", "whole")]
    assert same(*ends)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (
            {"adapt": ("head",)},
            "adapt='head' is no part of the network: give text_encoder, backbone",
        ),
        ({"adapt": ("classifier",)}, "adapt='classifier' has no linear layer"),
        ({"whole": ("backbone.layer",)}, "whole='backbone.layer' is no part"),
        ({"adapters": 500}, "no layer is larger"),
    ],
)
def test_parts_that_cannot_be_adapted_are_refused(tmp_path, choice, words):
    with pytest.raises(InputError, match=re.escape(words)):
        run(tmp_path, replace(ADAPTED, **choice))
    with pytest.raises(InputError, match="needs adapters"):
        replace(PLAIN, adapt=("backbone",))


def test_adapters_without_peft_name_their_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"remotesam-geo\[adapters\]"):
        run(tmp_path, ADAPTED)


def test_fine_tuned_adapters_are_a_model_like_any_other(store, beginning, tmp_path):
    config = replace(SHORT, adapters=2)
    result = fine_tune(tmp_path, store, start=beginning, config=config, held_out=0.4)
    state = RemoteSAMModel.from_pretrained(result.folder).state_dict()
    assert state.keys() == RemoteSAMModel.from_pretrained(beginning).state_dict().keys()
    card = (result.folder / "README.md").read_text()
    assert f"{result.trained / 1e6:.2f} MB of weights trained" in card
    assert "| adapters | 2 |" in card
    assert fine_tune(tmp_path, store, start=beginning, config=config, held_out=0.4) == result


def test_training_ends_early_with_its_best_weights_also_after_a_break(tmp_path, monkeypatch):
    from remotesam_geo.learning.training import loop

    told = [0.2, 0.5, 0.4, 0.3, 0.9]
    config = replace(PLAIN, steps=20, validate_every=2, checkpoint_every=2, patience=2)

    def scores(*args, **more):
        log = tmp_path / monkeypatch_folder[0] / "log.jsonl"
        return {"class": told[(Log.lines(log)[-1]["step"] + 1) // 2 - 1 if log.exists() else 0]}

    monkeypatch_folder = ["straight"]
    monkeypatch.setattr(loop, "held_out_scores", scores)
    straight = run(tmp_path / "straight", config)
    assert Log.lines(tmp_path / "straight" / "log.jsonl")[-1]["step"] == 8
    best = read_checkpoint(tmp_path / "straight" / "best.pt", torch.device("cpu"))
    assert best["step"] == 4
    assert same(straight.state_dict(), best["model"])
    monkeypatch_folder[0] = "broken"

    def broken(state, file, real=torch.save):
        if state.get("step") == 6:
            raise OSError("killed")
        real(state, file)

    with monkeypatch.context() as context:
        context.setattr(torch, "save", broken)
        with pytest.raises(OSError, match="killed"):
            run(tmp_path / "broken", config)
    assert same(run(tmp_path / "broken", config).state_dict(), straight.state_dict())
    assert same(run(tmp_path / "broken", config).state_dict(), straight.state_dict())  # and asked again


def test_a_checkpoint_from_before_these_choices_is_gone_on_with(tmp_path):
    run(tmp_path, replace(PLAIN, steps=4))
    state = read_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))
    for name in (
        "freeze", "accumulate", "recompute", "patience", "adapters", "adapt", "whole",
    ):  # fmt: skip
        del state["config"][name]
    assert "best" not in state
    torch.save(state, tmp_path / "checkpoint.pt")
    run(tmp_path, replace(PLAIN, steps=6))
    assert read_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))["step"] == 6


def test_logs_agree_after_a_break(tmp_path):
    run(tmp_path, replace(PLAIN, steps=4), logs=["csv"])
    run(tmp_path, replace(PLAIN, steps=8), logs=["csv"])
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert float(rows[3]["held_out/class"]) >= 0
    assert rows[0]["held_out/class"] == ""
    with pytest.raises(InputError, match="wandb"):
        run(tmp_path, replace(PLAIN, steps=9), logs=["wandb"])


def test_tensorboard_shows_each_step_once_after_a_break(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator as reading

    run(tmp_path, replace(PLAIN, steps=3), logs=["tensorboard"])
    run(tmp_path, replace(PLAIN, steps=5), logs=["tensorboard"])
    shown = reading.EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [one.step for one in shown] == [1, 2, 3, 4, 5]


def test_a_missing_tensorboard_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"remotesam-geo\[tensorboard\]"):
        run(tmp_path, replace(PLAIN, steps=1), logs=["tensorboard"])


WORKER = """
import sys
import torch, torch.distributed as dist
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=int(sys.argv[3]), world_size=2)
from dataclasses import replace
from tests.learning.training.test_finetune import PLAIN, gradients, Squares
config = replace(PLAIN, dice="expression", class_weights=(1.0, 1.0))
found = gradients(config, [Squares(1).batch(int(sys.argv[3]))])
torch.save(found, sys.argv[2] + "." + sys.argv[3])
"""


def test_two_processes_give_the_gradient_of_one_with_the_doubled_batch(tmp_path):
    here = Path(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parents[2]), os.environ.get("PYTHONPATH", "")])}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(here.parent), str(tmp_path / "meet"), str(rank)],
            env=environment,
        )
        for rank in range(2)
    ]
    assert [worker.wait(timeout=200) for worker in workers] == [0, 0]
    config = replace(PLAIN, dice="expression", class_weights=(1.0, 1.0))
    both = gradients(config, [joined(Squares(1).batch(0), Squares(1).batch(1))])
    found = [torch.load(f"{tmp_path / 'meet'}.{rank}") for rank in range(2)]
    for name, gradient in both.items():
        torch.testing.assert_close(found[0][name], gradient, msg=name)
        assert torch.equal(found[0][name], found[1][name])


# --- from triplets to a model ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def beginning(tmp_path_factory):
    """A small model in a folder, as any weights to start from."""
    folder = tmp_path_factory.mktemp("start")
    processor = small_processor(spare=200)
    small_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


SHORT = TrainConfig(steps=4, learning_rate=1e-3, checkpoint_every=2, validate_every=2)


def test_fine_tuning_gives_a_folder_that_is_loaded_and_answers(store, beginning, tmp_path):
    result = fine_tune(tmp_path, store, start=beginning, config=SHORT, held_out=0.4)
    assert result.steps == 4
    assert set(result.before) == set(result.after) <= {"one-to-one", "one-to-many", "one-to-zero"}
    model = RemoteSAM.from_pretrained(result.folder)
    answer = model.segment(np.zeros((40, 40, 3), np.uint8), ["harbor"])
    assert list(answer.columns)
    card = (result.folder / "README.md").read_text()
    begun = json.loads((tmp_path / "beginning.json").read_text())
    assert begun["sha256"][:16] in card
    assert re.search(r"\| one-to-many \| \d", card)
    assert "| learning_rate | 0.001 |" in card
    assert str(tmp_path) not in card
    again = fine_tune(tmp_path, store, start=beginning, config=SHORT, held_out=0.4)
    assert again == result
    with pytest.raises(InputError, match="started from weights"):
        fine_tune(tmp_path, store, start=result.folder, config=SHORT, held_out=0.4)


def asked(text, kind="one-to-one", name="a"):
    rgb = np.random.default_rng(len(name)).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    mask = Mask.empty((40, 40)) if kind == "one-to-zero" else Mask.of_box((5, 5, 20, 20), (40, 40))
    return Triplet(picture=Picture.of(name, rgb), expression=text, mask=mask, kind=kind, label="x")


def test_new_words_are_those_that_mean_something_frequent_ones_first():
    some = [asked("the bridge or dam"), asked("the dam", name="b"), asked("a zebra", "one-to-zero")]
    processor = small_processor(spare=3)
    with pytest.warns(RemoteSAMWarning, match=r"4 words are new and there is room for 3: or \.\.\."):
        found = new_words(processor, some)
    assert found == ("dam", "the", "bridge")
    wider = with_words(processor, found)
    assert wider.tokenize("left dam zebra").input_ids[0].tolist() == [2, 6, 8, 1, 3, 0]
    before, after = (one.tokenize(WORDS[4:]).input_ids for one in (processor, wider))
    assert (before == after).all()
    assert new_words(wider, [asked("bridge")]) == ()
    assert new_words(RemoteSAMProcessor(), [asked("an unheardof dam")]) == ()  # knows parts of words
    with pytest.raises(ModelError, match="knows 11 words"):
        with_words(wider, ["more"])


def test_a_run_that_learns_words_keeps_them(beginning, tmp_path):
    known, new = asked("bright"), asked("storage tank", name="bb")
    held_out = [asked("storage tank", name="ccc")]
    config = replace(SHORT, freeze=("backbone", "classifier"), steps=2)
    tuned = fine_tune(tmp_path, [known, new], start=beginning, config=config, held_out=held_out)
    text = (tuned.folder / "README.md").read_text()
    assert "Words it had not met: storage, tank." in text
    processor = RemoteSAMProcessor.from_pretrained(tuned.folder)
    assert processor.tokenize("tank").input_ids[0, 1] == len(WORDS) + 1
    rows = [
        RemoteSAMModel.from_pretrained(folder).get_input_embeddings().weight for folder in (beginning, tuned.folder)
    ]
    learned = (rows[0] - rows[1]).abs().amax(1) > 1e-4  # decay alone moves them less
    assert learned.nonzero().flatten().tolist() == [2, 3, 4, len(WORDS), len(WORDS) + 1]
    more = [known, new, asked("quay", name="dddd")]  # other data do not move words that have rows
    later = replace(config, steps=4)
    fine_tune(tmp_path, more, start=beginning, config=later, held_out=held_out)
    again = RemoteSAMProcessor.from_pretrained(tuned.folder)
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_held_out_pictures_must_be_others(store, beginning, tmp_path):
    with pytest.raises(InputError, match="keep them apart"):
        fine_tune(tmp_path, store, start=beginning, config=SHORT, held_out=list(store))


def test_torchrun_leaves_the_options_of_the_command_alone():
    options = ["train", "runs/mine", "--from", "tiny"]
    for option in typer.main.get_command(app).commands["train"].params:
        if option.param_type_name == "option" and option.name != "start":
            options += [option.opts[0], *([] if option.is_flag else ["1"])]
    launched = ["--standalone", "-m", "remotesam_geo", *options]
    taken = torch.distributed.run.get_args_parser().parse_args(launched)
    assert taken.training_script_args == options


KILLED = """
import os, signal, sys
import torch
from remotesam_geo.cli import main
from remotesam_geo.learning.training import loop
torch.set_num_threads(1)
write, written = loop.write_checkpoint, []
def dying(path, state, **options):
    write(path, state, **options)
    if path.name == loop.CHECKPOINT:
        written.append(path)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
loop.write_checkpoint = dying
main(["train", *sys.argv[1:]])
"""


def test_the_command_killed_goes_on_bit_for_bit(store, beginning, tmp_path, capsys):
    path = write_store(list(store), tmp_path / "data").folder
    options = [
        "--data", str(path), "--from", str(beginning), "--steps", "12", "--every", "2", "--held-out", "0.4",
        "--learning-rate", "1e-3", "--pictures", "2", "--threads", "1",
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    }
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), *options],
        env=environment,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    threads = torch.get_num_threads()
    try:
        assert main(["train", str(tmp_path / "killed"), *options]) == 0
        assert main(["train", str(tmp_path / "straight"), *options]) == 0
    finally:
        torch.set_num_threads(threads)
    assert "after" in capsys.readouterr().out
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("killed", "straight")]
    assert weights[0] == weights[1]


# --- real pictures, by a stand-in of their layout -------------------------------------------------


def test_nwpu_vhr_10_end_to_end_in_its_layout(tmp_path, capsys):
    """Procedural scenes under NWPU's file names: the script's path, not its figures."""
    path = Path(__file__).parents[3] / "benchmarks" / "bench_nwpu.py"
    spec = importlib.util.spec_from_file_location("bench_nwpu", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    examples, named = [], {"vehicle": "vehicle", "tree": "ground_track_field"}
    for number in (3, 5, 6):
        chip = next(chips([world_example(scene(number, size=300))], size=200))
        some = [replace(t, label=named[t.label]) for t in chip.things if t.label in named]
        picture = Picture.of(f"{number:03}", chip.picture.read())
        examples.append(Example(picture=picture, things=tuple(some)))
    write_coco(examples, tmp_path / "data")
    own, held_out = script.parts(tmp_path / "data")
    assert [Path(one.picture.name).stem for one in (*own, *held_out)] == ["003", "006", "005"]
    threads = torch.get_num_threads()
    try:
        reports = script.main([str(tmp_path / "data"), str(tmp_path / "run"), "--steps", "1", "--pictures", "1"])
    finally:
        torch.set_num_threads(threads)
    assert set(reports) == {"untrained", "tiny", "fine-tuned"}
    out = capsys.readouterr().out
    assert re.search(r"\| ground track field \| \d+ \|( 0\.\d{3} \|){6}", out)
    words = RemoteSAMProcessor.from_pretrained(tmp_path / "run" / "run" / "model").tokenizer
    assert {"ground", "track"} <= words.get_vocab().keys()
    assert not list((tmp_path / "run" / "evaluation").glob("* maps"))
