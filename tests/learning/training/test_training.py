"""The training core: exact resume, what is shared is the same, losses, schedule, overfit."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.learning.training import Batch, TrainConfig, held_out_scores, train
from remotesam_geo.learning.training.checkpoint import Log, read_checkpoint, write_checkpoint
from remotesam_geo.learning.training.expression_loss import expression_loss, mask_loss
from remotesam_geo.learning.training.forward import InnerHeads, shared_logits, visual_taps
from remotesam_geo.learning.training.loop import inputs
from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel, segmentation_loss
from remotesam_geo.model.processor import RemoteSAMProcessor

SIDE = 32
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "bright", "dark", "left", "right"]


def small_processor(spare: int = 0) -> RemoteSAMProcessor:
    """A processor of few words, and so many rows for more."""
    config = RemoteSAMConfig(
        image_size=SIDE,
        widths=(8, 16, 16, 16),
        depths=(1, 1, 2, 1),
        heads=(1, 2, 2, 2),
        window_size=3,
        decoder_width=8,
        interaction_heads=2,
        interaction_key_width=4,
        interaction_value_width=8,
        max_tokens=6,
        text_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "vocab_size": len(WORDS) + spare,
            "max_position_embeddings": 8,
        },
    )
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token=WORDS[1]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return RemoteSAMProcessor(config, tokenizer=tokenizer)


def small_model(processor: RemoteSAMProcessor) -> RemoteSAMModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RemoteSAMModel(processor.config)


class Squares:
    """A bright and a dark square on grey, and a few questions."""

    def __init__(self, seed: int, pictures: int = 2) -> None:
        self.seed, self.pictures = seed, pictures

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        shape = (self.pictures, SIDE, SIDE)
        pictures = rng.integers(100, 140, (*shape, 3)).astype(np.uint8)
        planes = np.zeros(shape, np.uint8)
        for p in range(self.pictures):
            for value, level in ((1, 250), (2, 5)):
                y, x = rng.integers(0, SIDE - 12, 2)
                planes[p, y : y + 12, x : x + 12] = value
                pictures[p, y : y + 12, x : x + 12] = level
        masks = np.stack([planes == 1, planes == 2, np.zeros(shape, bool)], 1).astype(np.uint8)
        return Batch(
            pictures=pictures,
            expressions=(("bright", "dark", "zebra"),) * self.pictures,
            masks=masks,
            kinds=(("class", "class", "unknown"),) * self.pictures,
            planes={"square": planes},
        )


QUICK = TrainConfig(
    steps=12,
    learning_rate=2e-3,
    dice="expression",
    dice_share=0.5,
    planes={"square": 3},
    coordinates=True,
    auxiliary=0.3,
    visual_steps=3,
    ema=0.9,
    clip=1.0,
    checkpoint_every=4,
    validate_every=4,
)


def run(folder: Path, config: TrainConfig) -> RemoteSAMModel:
    processor = small_processor()
    return train(
        folder,
        config=config,
        model=small_model(processor),
        processor=processor,
        source=Squares(1),
        held_out=Squares(2),
        held_out_batches=1,
    )


CHILD = """
import os, signal, sys
from pathlib import Path
from dataclasses import replace
import torch
sys.path.insert(0, sys.argv[2])
torch.set_num_threads(1)
from test_training import QUICK, Squares, run
batch = Squares.batch
def dying(self, step):
    if step == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, step)
Squares.batch = dying
run(Path(sys.argv[1]), replace(QUICK, steps=int(sys.argv[3])))
"""


def run_and_die(folder: Path, *, steps: int, at: int) -> None:
    """A run in a process of its own, which kills itself when it asks for the batch of step `at`."""
    here = Path(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parents[2]), os.environ.get("PYTHONPATH", "")])}
    options = [str(folder), str(here.parent), str(steps), str(at)]
    child = subprocess.run([sys.executable, "-c", CHILD, *options], env=environment, check=False)
    assert child.returncode == -signal.SIGKILL


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    steps = 14
    run_and_die(tmp_path / "killed", steps=steps, at=10)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        at = read_checkpoint(tmp_path / "killed" / "checkpoint.pt", torch.device("cpu"))["step"]
        assert at == 8
        resumed = run(tmp_path / "killed", replace(QUICK, steps=steps))
        straight = run(tmp_path / "straight", replace(QUICK, steps=steps))
    finally:
        torch.set_num_threads(threads)
    assert same(resumed.state_dict(), straight.state_dict())
    ends = [read_checkpoint(tmp_path / name / "checkpoint.pt", torch.device("cpu")) for name in ("killed", "straight")]
    assert same(*ends)

    def told(name):
        lines = Log.lines(tmp_path / name / "log.jsonl")
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]

    assert told("killed") == told("straight")


def test_a_run_depends_on_its_choices_alone(tmp_path):
    config = replace(QUICK, steps=5)
    run(tmp_path / "one", config)
    torch.rand(1)  # drawn by whatever else runs in the process
    run(tmp_path / "again", config)
    run(tmp_path / "other", replace(config, seed=1))
    one, again, other = (
        read_checkpoint(tmp_path / name / "checkpoint.pt", torch.device("cpu"))["heads"]
        for name in ("one", "again", "other")
    )
    assert same(one, again)
    assert not same(one, other)


def test_more_steps_may_be_asked_for_but_no_other_choice(tmp_path):
    run(tmp_path, replace(QUICK, steps=4))
    run(tmp_path, replace(QUICK, steps=6))
    assert read_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))["step"] == 6
    with pytest.raises(InputError, match=r"learning_rate=0\.002"):
        run(tmp_path, replace(QUICK, steps=6, learning_rate=1e-3))


def test_a_running_run_can_be_told_to_finish(tmp_path):
    (tmp_path / "finish").touch()
    run(tmp_path, replace(QUICK, steps=1000, schedule="hold", cooldown=3))
    lines = [line for line in Log.lines(tmp_path / "log.jsonl") if "rate" in line]
    assert len(lines) == 4
    assert [round(line["rate"] / 2e-3, 3) for line in lines] == [1, 1, 0.667, 0.333]
    assert not (tmp_path / "finish").exists()


def test_a_write_that_is_cut_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"step": 1})

    def cut(state, file):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(path, {"step": 2})
    assert read_checkpoint(path, torch.device("cpu")) == {"step": 1}


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    if content is None:
        torch.save([1], path)
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"checkpoint\.pt"):
        read_checkpoint(path, torch.device("cpu"))


def test_a_log_drops_half_a_line_and_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [json.dumps({"step": s, "loss": s / 2}) for s in range(1, 6)]
    path.write_text("\n".join(lines) + '\n{"step": 6, "lo', "utf-8")
    Log(path, 3).write(4, loss=9.0)
    assert [line["step"] for line in Log.lines(path)] == [1, 2, 3, 4]
    assert Log.lines(path)[-1]["loss"] == 9.0


def test_overfits_two_pictures_to_near_zero_loss(tmp_path):
    class One(Squares):
        def batch(self, step: int) -> Batch:
            return super().batch(0 * step)

    processor = small_processor()
    config = replace(
        QUICK,
        steps=300,
        visual_steps=0,
        learning_rate=4e-3,
        ema=0.0,
        auxiliary=0.0,
        checkpoint_every=999,
    )
    trained = train(
        tmp_path,
        config=config,
        model=small_model(processor),
        processor=processor,
        source=One(1),
    )
    first, *_, last = Log.lines(tmp_path / "log.jsonl")
    assert first["loss"] > 0.5
    assert last["loss"] < 0.03
    scores = held_out_scores(trained, processor, One(1), batches=1)
    assert scores["class"] > 0.9
    assert scores["unknown"] == 1.0


@torch.no_grad()
def test_sharing_the_prefix_changes_no_answer():
    processor = small_processor()
    model = small_model(processor).eval()
    ready = inputs(Squares(3).batch(0), processor, torch.device("cpu"))
    logits = shared_logits(model, ready.pixels, ready.input_ids, ready.attention_mask)
    logits = torch.nn.functional.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=True)
    plain = model(ready.pixels.repeat_interleave(3, 0), ready.input_ids, ready.attention_mask)
    torch.testing.assert_close(logits, plain.logits, atol=1e-4, rtol=1e-4)


def test_sharing_the_prefix_changes_no_gradient():
    processor = small_processor()
    ready = inputs(Squares(3).batch(0), processor, torch.device("cpu"))
    gradients = []
    for shared in (True, False):
        model = small_model(processor).double().eval()  # norms by their running statistics
        pixels = ready.pixels.double()
        if shared:
            logits = shared_logits(model, pixels, ready.input_ids, ready.attention_mask)
            logits = torch.nn.functional.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=True)
        else:
            logits = model(pixels.repeat_interleave(3, 0), ready.input_ids, ready.attention_mask).logits
        segmentation_loss(logits, ready.masks).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_the_inner_heads_reach_every_stage_and_nothing_of_the_text():
    processor = small_processor()
    model = small_model(processor)
    heads = InnerHeads(processor.config, {"square": 3}, coordinates=True)
    ready = inputs(Squares(3).batch(0), processor, torch.device("cpu"))
    heads(visual_taps(model, ready.pixels), ready.planes).backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert all(f"backbone.layers.{stage}.blocks.0.mlp.fc1.weight" in with_gradient for stage in range(4))
    assert not any("text_encoder" in n or "fusion" in n for n in with_gradient)


def test_the_default_loss_is_the_published_one():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 8, 8, generator=generator)
    masks = torch.randint(0, 2, (3, 32, 32), generator=generator)
    large = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear", align_corners=True)
    config = TrainConfig(steps=1)
    assert mask_loss(logits, masks, config) == segmentation_loss(large, masks)
    assert (config.learning_rate, config.weight_decay, config.power) == (3e-5, 0.01, 0.9)


@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_the_loss_by_expression_agrees_with_its_definition(seed, share):
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 3, (3, 8, 8))
    masks = rng.choice([0, 1, 255], (3, 8, 8), p=[0.6, 0.3, 0.1])
    masks[0][masks[0] == 1] = 0
    chance = 1 / (1 + np.exp(-margin))
    entropy = weights = dice = 0.0
    for p, t in zip(chance, masks, strict=True):
        a = b = c = 0.0
        for y in range(8):
            for x in range(8):
                if t[y, x] == 255:
                    continue
                truth = t[y, x] == 1
                weight = 1.1 if truth else 0.9
                entropy -= weight * math.log(p[y, x] if truth else 1 - p[y, x])
                weights += weight
                a, b, c = a + p[y, x] * truth, b + p[y, x], c + truth
        dice += (1 - (2 * a + 64 / 1024) / (b + c + 64 / 1024)) / 3
    expected = (1 - share) * entropy / weights + share * dice
    got = expression_loss(
        torch.from_numpy(margin).float(),
        torch.from_numpy(masks),
        class_weights=(0.9, 1.1),
        dice_share=share,
    )
    assert got.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_norms_and_position_biases_are_not_decayed():
    from remotesam_geo.learning.training.loop import _parameter_groups

    model = small_model(small_processor())
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, free = ({names[id(p)] for p in group["params"]} for group in _parameter_groups(model, None, 0.01))
    assert not decayed & free
    assert decayed | free == set(names.values())
    assert all("norm" not in n and "bias" not in n for n in decayed)
    assert any(n.endswith("relative_position_bias_table") for n in free)


def test_the_rate_falls_as_published():
    config = TrainConfig(steps=10)
    assert config.rate(0) == 3e-5
    assert config.rate(5) == pytest.approx(3e-5 * 0.5**0.9)
    hold = TrainConfig(steps=10, schedule="hold", cooldown=4, warmup=1)
    shares = [round(hold.rate(s) / 3e-5, 3) for s in range(10)]
    assert shares == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    "choice",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"ema": 1.5},
        {"schedule": "cosine"},
        {"precision": "float16"},
        {"clip": -1.0},
        {"visual_steps": 3},
    ],
)
def test_choices_that_cannot_be_are_refused(choice):
    with pytest.raises(InputError, match=next(iter(choice))):
        TrainConfig(**{"steps": 5} | choice)


def test_parts_of_a_batch_must_fit_together():
    good = Squares(0).batch(0)
    with pytest.raises(InputError, match="P x N x S x S"):
        replace(good, masks=good.masks[:, :2])
    with pytest.raises(InputError, match="planes"):
        replace(good, planes={"square": good.planes["square"][:1]})


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    processor = small_processor()
    model = small_model(processor)
    with torch.no_grad():
        model.classifier.conv1_1.bias.fill_(math.nan)
    with pytest.raises(ModelError, match="learning_rate"):
        train(
            tmp_path,
            config=replace(QUICK, visual_steps=0),
            model=model,
            processor=processor,
            source=Squares(1),
        )
