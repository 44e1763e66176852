"""A campaign against the arguments of training and evaluation (see tests/test_arguments_campaign.py)."""

import numpy as np
import pytest

from remotesam_geo.learning.datasets import Example, Picture, Thing, triplets_of
from remotesam_geo.learning.evaluation import Oracle, Setting, asked_as, compare, evaluate, judge
from remotesam_geo.learning.labelling import AbsentClasses, AreaFilter, Confirmed, Engine, KindClasses, Relabelling
from remotesam_geo.learning.training import Augment, TrainConfig, TripletSource, fine_tune, split_parts, train
from remotesam_geo.learning.training.tiny import WorldSource, further, new_model, processor, training
from tests.campaign import CASES
from tests.remotesam.test_options import ODD
from tests.test_arguments_campaign import OTHERS, run

PICTURES = [
    Example(picture=Picture.of(name, np.full((8, 8, 3), 90, np.uint8)), things=(Thing(label="ship", box=(1, 1, 4, 4)),))
    for name in ("a", "b")
]
TRIPLETS = [triplet for one in PICTURES for triplet in triplets_of(one)]
CLASSES = asked_as(["ship"])


@pytest.mark.filterwarnings("ignore")
def test_training_and_evaluation_with_odd_arguments(campaign, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some values name files
    oracle, setting = Oracle(PICTURES, CLASSES), Setting(classes=CLASSES)
    report = evaluate("detection", PICTURES, oracle, setting=setting, folder=tmp_path / "kept")
    right = {"model": oracle, "setting": setting}
    trained = {"folder": tmp_path / "run", "config": None, "model": None, "processor": None, "source": None}
    doors = [
        *((evaluate, right | {"task": task, "data": PICTURES}) for task in ("detection", "counting", "multi-label")),
        (evaluate, right | {"task": "referring", "data": TRIPLETS}),
        (judge, {"folder": tmp_path / "kept"}),
        (compare, {"before": report, "after": report}),
        (Setting, {}),
        (Setting, {"classes": CLASSES}),
        (asked_as, {"labels": ["ship"]}),
        (TrainConfig, {"steps": 10}),
        (TrainConfig, {"steps": 10, "adapters": 2, "auxiliary": 0.5}),
        (training, {"steps": 10}),
        (further, {"steps": 10}),
        (Augment, {}),
        (WorldSource, {}),
        (TripletSource, {"triplets": TRIPLETS, "size": 32}),
        (split_parts, {"triplets": TRIPLETS, "held_out": 0.5}),
        (new_model, {"seed": 0}),
        (train, trained),
        (AreaFilter, {}),
        (Relabelling, {}),
        (Engine, {"expressions": (KindClasses(),)}),
        (AbsentClasses, {"classes": ("ship",)}),
        (Confirmed, {"teachers": (oracle,)}),
        (fine_tune, {"folder": tmp_path / "tuned", "triplets": [], "start": "nowhere"}),
    ]
    odd = [*ODD, *OTHERS, PICTURES, TRIPLETS, oracle, setting, report, CLASSES, TrainConfig(steps=5), processor()]
    tried = campaign("Arguments", "odd values for arguments of training and evaluation")
    run(tried, doors, odd, np.random.default_rng(9))
    assert tried.right + tried.refused == CASES
    assert tried.refused > CASES / 2
