"""A run that is broken off goes on as if nothing had happened: in every process, and over damaged checkpoints."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning
from remotesam_geo.learning.training import TrainConfig, train
from remotesam_geo.learning.training.checkpoint import Log, previous, read_checkpoint
from remotesam_geo.learning.training.random_state import every_state, restore
from tests.campaign import CASES
from tests.learning.datasets.test_hostile_files import flipped
from tests.learning.training.test_training import Squares, same, small_model, small_processor

CONFIG = TrainConfig(steps=6, learning_rate=2e-3, dice="expression", ema=0.9, checkpoint_every=2, validate_every=3)
CPU = torch.device("cpu")


class Chance(Squares):
    """Pictures under noise from every generator that a process has; the process dies where it is told to."""

    def __init__(self, seed, die_at=None):
        super().__init__(seed, pictures=1)
        self.die_at = die_at

    def batch(self, step):
        if step == self.die_at:
            raise KeyboardInterrupt
        batch = super().batch(step)
        drawn = (torch.rand(1).item(), np.random.rand(), random.random())  # noqa: NPY002, S311
        noise = np.array([round(9 * value) for value in drawn], np.uint8)
        return replace(batch, pictures=batch.pictures // 2 + noise)


def run(folder, config=CONFIG, **source):
    processor = small_processor()
    model = small_model(processor)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    return train(folder, config=config, model=model, processor=processor, source=Chance(1, **source))


WORKER = """
import sys
import torch
import torch.distributed as dist
torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
from tests.learning.training.test_resume import run
for name, die_at in (("straight", None), ("broken", 2 * 5 + rank), ("broken", None)):
    try:
        end = run(f"{folder}/{name}", die_at=die_at).state_dict()
    except KeyboardInterrupt:
        torch.rand(rank + 1)  # whatever is drawn in between
    else:
        torch.save(end, f"{folder}/{name}/end-{rank}.pt")
"""


def test_each_of_two_processes_draws_on_where_it_was(tmp_path):
    root = str(Path(__file__).parents[3])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path), str(rank)],
            env=os.environ | {"PYTHONPATH": paths},
        )
        for rank in range(2)
    ]
    assert [worker.wait(timeout=280) for worker in workers] == [0, 0]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    states = read_checkpoint(straight / "checkpoint.pt", CPU)["random"]
    assert len(states) == 2
    for kind in ("torch", "numpy", "python"):
        assert not same(states[0][kind], states[1][kind]), "processes draw different numbers"
    for name in ("checkpoint.pt", "end-0.pt", "end-1.pt"):
        ends = [torch.load(folder / name, weights_only=True) for folder in (straight, broken)]
        assert same(*ends), name
    told = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in Log.lines(folder / "log.jsonl")]
        for folder in (straight, broken)
    ]
    assert told[0] == told[1]
    with pytest.warns(RemoteSAMWarning, match="had 2 processes and has 1 now"):
        run(broken, replace(CONFIG, steps=7))


def test_the_generator_of_a_graphics_card_is_kept(monkeypatch):
    """Of a card that is not there: what would be asked of it is answered here."""
    card, held = torch.device("cuda"), [torch.arange(16, dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: held[-1])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, _: held.append(state))
    (kept,) = every_state(card)
    held.append(torch.zeros(16, dtype=torch.uint8))
    restore(kept, card)
    assert torch.equal(held[-1], torch.arange(16, dtype=torch.uint8))
    restore(kept | {"cuda": None}, card)  # begun on the CPU
    assert len(held) == 3


@pytest.mark.gpu
def test_a_real_one_draws_on_where_it_was():
    card = torch.device("cuda")
    (kept,) = every_state(card)
    first = torch.rand(5, device=card)
    restore(kept, card)
    assert torch.equal(first, torch.rand(5, device=card))


def test_a_run_leaves_the_generators_of_the_process_alone(tmp_path):
    def drawn():
        return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002, S311

    def seed():
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        random.seed(5)

    seed()
    expected = drawn()
    seed()
    first = run(tmp_path / "a").state_dict()
    assert drawn() == expected
    assert same(first, run(tmp_path / "b").state_dict()), "and depends on none of them"


class TestDamage:
    @pytest.fixture
    def broken(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, die_at=5)
        return tmp_path

    def test_the_checkpoint_before_is_used(self, broken, tmp_path_factory):
        path = broken / "checkpoint.pt"
        assert [read_checkpoint(one, CPU)["step"] for one in (path, previous(path))] == [4, 2]
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.warns(
            RemoteSAMWarning,
            match=r"checkpoint\.pt is no checkpoint.*from checkpoint\.previous\.pt",
        ):
            end = run(broken).state_dict()
        assert same(end, run(tmp_path_factory.mktemp("straight")).state_dict())

    def test_where_there_is_none_the_file_is_named(self, broken):
        path = broken / "checkpoint.pt"
        previous(path).unlink()
        path.write_bytes(b"nonsense")
        with pytest.raises(ModelError, match=r"checkpoint\.pt is no checkpoint"):
            run(broken)

    def test_a_kill_between_two_renames_loses_nothing(self, broken, tmp_path_factory):
        path = broken / "checkpoint.pt"
        path.replace(previous(path))
        assert same(run(broken).state_dict(), run(tmp_path_factory.mktemp("straight")).state_dict())

    def test_another_network_is_refused(self, broken):
        processor = small_processor(spare=9)
        with pytest.raises(ModelError, match="trained another network"):
            train(
                broken,
                config=CONFIG,
                model=small_model(processor),
                processor=processor,
                source=Squares(1),
            )

    def test_a_checkpoint_of_another_version(self, broken):
        path = broken / "checkpoint.pt"
        state = read_checkpoint(path, CPU)
        del state["random"]
        torch.save(state, path)
        with pytest.raises(ModelError, match="lacks random"):
            run(broken)

    def test_a_damaged_line_of_the_log_takes_no_other(self, tmp_path):
        path = tmp_path / "log.jsonl"
        path.write_bytes(b'{"step": 1}\n{"st\xffep": 2}\n[3]\n{"step": "x"}\n{"step": 4}\n{"ste')
        assert [line["step"] for line in Log.lines(path)] == [1, 4]

    def test_flipped_checkpoints(self, broken, campaign):
        counts = campaign(
            "Pickle and weight files",
            "checkpoints of a training run, bytes flipped, cut or repeated",
        )
        rng = np.random.default_rng(6)
        path = broken / "checkpoint.pt"
        whole, truth = path.read_bytes(), read_checkpoint(path, CPU)
        ways = (slice(0, 4000), slice(0, len(whole)), slice(len(whole) - 20_000, len(whole)))

        def check():
            assert same(read_checkpoint(path, CPU), truth)

        for _ in range(CASES // 4):
            part = ways[int(rng.integers(3))]
            path.write_bytes(whole[: part.start] + flipped(whole[part], rng) + whole[part.stop :])
            counts.case(check)


def test_a_damaged_beginning_is_named(tmp_path):
    from remotesam_geo.learning.training.finetune import _starting_point

    (tmp_path / "beginning.json").write_text('{"sha256": ')
    with pytest.raises(InputError, match=r"beginning\.json is damaged"):
        _starting_point(tmp_path, small_model(small_processor()), dict)
