"""Networks of others as steps, by small ones of the very classes: shapes, coordinates, and a missing one."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    GroundingDinoForObjectDetection,
    PreTrainedTokenizerFast,
    SamConfig,
    SamImageProcessorPil,
    SamModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning
from remotesam_geo.learning.datasets import Example, Mask, Picture, Thing, Triplet
from remotesam_geo.learning.labelling import Engine, KindClasses, Material, TaughtMasks
from remotesam_geo.learning.teachers import (
    PINNED,
    BoxedSegmenter,
    DetectedThings,
    QwenWriter,
    Sam2Teacher,
    SamTeacher,
    Similar,
)
from remotesam_geo.predictors.image_tensors import square_pixels
from tests.predictors.networks import SIDE, write_dino, write_sam2


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 16,
            "output_channels": 16, "mlp_dim": 32, "window_size": 2, "global_attn_indexes": [0], "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": SIDE, "patch_size": 16, "image_embedding_size": 4,
        },
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(folder)
    SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sam2(tmp_path_factory):
    return write_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(params=["sam", "sam2"])
def segmenter(request):
    kind = {"sam": SamTeacher, "sam2": Sam2Teacher}[request.param]
    return kind.from_pretrained(request.getfixturevalue(request.param), device="cpu")


def things(*boxes):
    return [Thing(label="ship", box=tuple(map(float, box))) for box in boxes]


@pytest.mark.parametrize("shape", [(48, 96), (100, 40), (64, 64)])
def test_a_segmenter_gives_a_mask_of_the_pictures_size_for_each_box(segmenter, shape):
    rgb = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    boxes = things((2, 2, 20, 30), (10, 12, 30, 36), (1, 1, 9, 9))
    masks = segmenter(rgb, boxes)
    assert [(m.shape, m.dtype) for m in masks] == [(shape, np.bool_)] * 3
    assert segmenter(rgb, []) == []
    one_by_one = type(segmenter)(**{**vars(segmenter), "together": 1})(rgb, boxes)
    assert all((a == b).mean() > 0.99 for a, b in zip(masks, one_by_one, strict=True))


@pytest.mark.parametrize("shape", [(48, 96), (100, 40), (200, 120)])
def test_a_box_drawn_at_a_known_place_comes_back_there(segmenter, shape, monkeypatch):
    size = SIDE // 4

    def draws(self, image_embeddings, input_boxes):
        """Answers each box with the box, on the coarse grid that SAM answers on."""
        boxes = input_boxes[0] / 4
        line = torch.arange(size) + 0.5
        inside = [
            (line[None] > x0) & (line[None] < x1) & (line[:, None] > y0) & (line[:, None] < y1)
            for x0, y0, x1, y1 in boxes
        ]
        low = torch.stack(inside).float()[:, None].repeat(1, 3, 1, 1) * 2 - 1
        low[:, :2] = -1
        scores = torch.tensor([[0.1, 0.2, 0.9]]).repeat(len(boxes), 1)
        return SimpleNamespace(pred_masks=low[None], iou_scores=scores[None])

    monkeypatch.setattr(type(segmenter.model), "__call__", draws)
    step = max(shape) / size  # one pixel of the answer, in the picture
    boxes = [(0, 0, 3 * step, 5 * step), (2 * step, 3 * step, 5 * step, 7 * step)]
    for box, mask in zip(boxes, segmenter(np.zeros((*shape, 3), np.uint8), things(*boxes)), strict=True):
        found = Mask.of(mask).box
        for wanted, got, most in zip(box, found, (shape[1], shape[0]) * 2, strict=True):
            assert abs(min(wanted, most) - got) <= step / 2 + 1, (box, found)


def test_the_network_is_given_boxes_in_the_pixels_that_it_sees(segmenter):
    given = []

    def listen(module, args, kwargs):
        given.append(kwargs["input_boxes"])

    segmenter.model.prompt_encoder.register_forward_pre_hook(listen, with_kwargs=True)
    segmenter(np.zeros((32, 128, 3), np.uint8), things((32, 8, 96, 24)))
    # SAM keeps the shape of a picture, SAM 2 squeezes it to its square.
    down = 0.5 if isinstance(segmenter, SamTeacher) else 2.0
    assert given[0].tolist() == [[[16.0, 8 * down, 48.0, 24 * down]]]


def test_sam2_sees_a_picture_squeezed_and_normalised():
    """Of even patches the average is known; the borders of the published mean and deviation too."""
    rgb = np.zeros((8, 16, 3), np.uint8)
    rgb[:, :8], rgb[:, 8:, 0] = (255, 51, 102), 255
    seen = square_pixels(rgb, 4)
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for k, (left, right) in enumerate([(1, 1), (0.2, 0), (0.4, 0)]):
        for column, share in ((0, left), (3, right)):
            wanted = (share - mean[k]) / deviation[k]
            assert torch.allclose(seen[0, k, :, column], torch.full((4,), wanted), atol=1e-5)
    assert seen.shape == (1, 3, 4, 4)
    same = np.random.default_rng(0).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    flat = torch.from_numpy(same).permute(2, 0, 1)[None] / 255
    wanted = (flat - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(deviation).view(1, 3, 1, 1)
    assert torch.allclose(square_pixels(same, 6), wanted, atol=1e-5)
    # Bilinear with its triangle widened by the scale, by hand: halving weighs 1 3 3 1 inside.
    line = np.zeros((1, 8, 3), np.uint8)
    line[0, :, 0] = np.arange(8) * 30
    halved = square_pixels(np.repeat(line, 8, 0), 4)[0, 0, 0] * 0.229 + 0.485
    inner = [(30 * (1 * a + 3 * (a + 1) + 3 * (a + 2) + (a + 3)) / 8) / 255 for a in (1, 3)]
    assert torch.allclose(halved[1:3], torch.tensor(inner), atol=1e-5)


def test_a_segmenter_is_a_teacher_of_the_engine(segmenter):
    example = Example(
        picture=Picture.of("a", np.zeros((40, 60, 3), np.uint8)),
        things=tuple(things((3, 3, 20, 20))),
    )
    engine = Engine(
        expressions=(KindClasses(),),
        masks=(TaughtMasks(teachers=(segmenter, segmenter)),),
        filters=(),
    )
    made = engine.made(example)
    assert len(made.triplets) + sum(made.dropped.values()) == 1
    assert segmenter.name in engine.about


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = SiglipConfig(
        text_config={**sizes, "vocab_size": 6, "max_position_embeddings": 8, "projection_size": 16},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
    )
    folder = tmp_path_factory.mktemp("siglip")
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    words = {"<pad>": 0, "<unk>": 1, "the": 2, "red": 3, "ship": 4, "</s>": 5}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"  # noqa: S106
    ).save_pretrained(folder)  # fmt: skip
    return folder


def asked(text="the red ship", box=(20, 10, 40, 20)):
    rgb = np.random.default_rng(0).integers(100, 255, (60, 80, 3)).astype(np.uint8)
    mask = Mask.of_box(box, (60, 80))
    return Triplet(picture=Picture.of("a", rgb), expression=text, mask=mask, kind="one-to-one"), rgb


def test_similarity_is_of_the_region_and_its_words(siglip):
    test = Similar.from_pretrained(siglip)
    one, rgb = asked()
    cosine = test.cosine(one, rgb)
    assert -1 <= cosine <= 1
    assert test.cosine(asked("the ship")[0], rgb) != cosine
    far = rgb.copy()
    far[40:] = 0
    assert test.cosine(one, far) == cosine
    near = rgb.copy()
    near[12:15, 25:30] = 0
    assert test.cosine(one, near) != cosine
    kept, dropped = (Similar.from_pretrained(siglip, least=cosine + off) for off in (-1e-3, 1e-3))
    assert kept(one, rgb) is None
    assert dropped(one, rgb) == "unlike its words"
    nothing = Triplet(picture=one.picture, expression="dam", mask=Mask.empty((60, 80)), kind="one-to-zero")
    assert dropped(nothing, rgb) is None


def test_the_region_is_the_box_with_a_margin_and_its_surroundings_darkened(siglip):
    test = Similar.from_pretrained(siglip)
    one, rgb = asked()
    region = test.region(one, rgb)
    assert region.shape == (20, 30, 3)
    assert (region[5:15, 5:25] == rgb[10:20, 20:40]).all()
    assert (region[0] == rgb[5, 15:45] // 2).all()


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return write_dino(tmp_path_factory.mktemp("dino"))


def empty(shape):
    rgb = np.zeros((*shape, 3), np.uint8)
    return Material(example=Example(picture=Picture.of("a", rgb)), rgb=rgb)


def test_the_detector_gives_boxes_within_the_picture(dino):
    step = DetectedThings.from_pretrained(dino, classes=["ship", "storage_tank"], least=0.0)
    found = step(empty((50, 90))).example.things
    assert found
    assert {thing.label for thing in found} <= {"ship", "storage_tank"}
    assert all(0 <= t.box[0] < t.box[2] <= 90 and 0 <= t.box[1] < t.box[3] <= 50 for t in found)


def test_detected_boxes_come_back_where_they_are_and_with_their_names(dino, monkeypatch):
    step = DetectedThings.from_pretrained(dino, classes=["ship", "storage_tank"])
    asked = {}

    def draws(self, **given):
        asked.update(given)
        logits = torch.full((1, 3, given["input_ids"].shape[1]), -9.0)
        logits[0, 0, given["input_ids"][0] == 6] = 3.0  # "tank"
        logits[0, 1, given["input_ids"][0] == 4] = 2.0  # "ship"
        boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.25, 0.2, 0.5], [0.5, 0.5, 0.5, 0.5]]])
        return SimpleNamespace(logits=logits, pred_boxes=boxes)

    monkeypatch.setattr(GroundingDinoForObjectDetection, "__call__", draws)
    tank, ship = step(empty((50, 90))).example.things
    assert (tank.label, ship.label) == ("storage_tank", "ship")
    assert np.allclose(tank.box, (36, 15, 54, 35), atol=1e-3)
    assert np.allclose(ship.box, (0, 0, 18, 25), atol=1e-3)
    assert max(asked["pixel_values"].shape[-2:]) == 96


def test_an_expression_is_drawn_by_its_one_box(dino, monkeypatch):
    finder = DetectedThings.from_pretrained(dino)
    found = {"the red ship": [(0, 0.5, (10.0, 5.0, 30.0, 25.0)), (0, 0.36, (60.0, 5.0, 80.0, 25.0))]}
    found["the tank"] = [(0, 0.5, (10.0, 5.0, 30.0, 25.0)), (0, 0.49, (60.0, 5.0, 80.0, 25.0))]
    found["the ship 2 m"] = [(0, 0.5, (10.0, 5.0, 30.0, 25.0)), (0, 0.49, (11.0, 5.0, 30.0, 25.0))]

    def boxes(self, rgb, names):
        return found.get(names[0], [])

    def drawn(rgb, things):
        return [thing.pixels(rgb.shape[:2]).pixels() for thing in things]

    monkeypatch.setattr(DetectedThings, "boxes", boxes)
    refer = BoxedSegmenter(finder=finder, teacher=drawn)
    asked = ["The red ship", "the tank", "the dam", "the ship 2.m"]
    masks = refer(np.zeros((50, 90, 3), np.uint8), asked)
    assert [m.shape for m in masks] == [(50, 90)] * 4
    assert [Mask.of(m).box for m in masks] == [(10, 5, 30, 25), None, None, (10, 5, 30, 25)]
    assert "drawn" in repr(refer)
    assert finder.name in repr(refer)
    assert "0x" not in repr(refer)
    with pytest.raises(InputError, match="rival"):
        BoxedSegmenter(finder=finder, teacher=drawn, rival=0)


def test_a_detector_without_classes_finds_nothing(dino):
    material = empty((40, 40))
    assert DetectedThings.from_pretrained(dino)(material).example.things == ()


def test_a_box_and_its_mask_come_from_small_networks_together(dino, sam2):
    finder = DetectedThings.from_pretrained(dino, least=0.0)
    refer = BoxedSegmenter(finder=finder, teacher=Sam2Teacher.from_pretrained(sam2))
    masks = refer(np.zeros((50, 90, 3), np.uint8), ["ship", "storage tank"])
    assert [(m.shape, m.dtype) for m in masks] == [((50, 90), np.bool_)] * 2


KINDS = (SamTeacher, Sam2Teacher, Similar, DetectedThings, QwenWriter)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_said(kind, tmp_path):
    with pytest.raises(InputError, match=r"some/model'.*commit"):
        kind.from_pretrained("some/model")
    with pytest.raises(InputError, match="40 digits"):
        kind.from_pretrained("some/model", revision="main")
    with pytest.raises(InputError, match="option='lest' is not allowed"):
        kind.from_pretrained("some/model", lest=0.5)
    with pytest.raises(ModelError, match=r"a size not known here from huggingface.co/some/model at a{40}"):
        kind.from_pretrained("some/model", revision="a" * 40, local_files_only=True)
    with pytest.raises(ModelError, match=rf"{re.escape(str(tmp_path))}.*safetensors"):
        kind.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pinned_commit_is_what_would_be_downloaded(kind, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    pin = PINNED[kind._SOURCE]
    with pytest.raises(ModelError, match=rf"about {pin.megabytes:,} MB.*{pin.revision}.*--local-dir"):
        kind.from_pretrained(local_files_only=True)


def test_pins_are_commits():
    assert all(re.fullmatch("[0-9a-f]{40}", pin.revision) for pin in PINNED.values())
    assert len({pin.revision for pin in PINNED.values()}) == len(PINNED)


def test_weights_that_are_not_there_are_told(sam2, tmp_path):
    for file in sam2.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["no_memory_embedding"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(RemoteSAMWarning, match=r"lacks 1 weights of Sam2Model.*no_memory_embedding"):
        Sam2Teacher.from_pretrained(tmp_path)


def test_weights_that_are_cut_off_are_an_error(sam2, tmp_path):
    (tmp_path / "config.json").write_bytes((sam2 / "config.json").read_bytes())
    whole = (sam2 / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="not whole in the folder"):
        Sam2Teacher.from_pretrained(tmp_path)


def test_pickled_weights_are_not_read(sam2, tmp_path):
    (tmp_path / "config.json").write_bytes((sam2 / "config.json").read_bytes())
    torch.save(load_file(sam2 / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        Sam2Teacher.from_pretrained(tmp_path)


def test_the_threshold_of_likeness_is_chosen_on_triplets(siglip, monkeypatch):
    test = Similar.from_pretrained(siglip)
    picture = Picture.of("a", np.zeros((40, 40, 3), np.uint8))
    known = [
        Triplet(picture=picture, expression=f"the {label}", mask=Mask.of_box((k, 0, k + 9, 9), (40, 40)),
                kind="one-to-one", label=label)
        for k, label in enumerate(["ship", "dam"] * 10)
    ]  # fmt: skip

    def cosine(self, triplet, rgb):
        return (0.2 if triplet.label in triplet.expression else 0.1) + triplet.mask.box[0] / 1000

    assert all(-1 <= test.cosine(one, picture.read()) <= 1 for one in known[:2])
    monkeypatch.setattr(Similar, "cosine", cosine)
    better, chosen = test.calibrated(known)
    assert better.least == chosen.least == pytest.approx(0.2)
    assert (chosen.precision, chosen.recall, chosen.right, chosen.wrong) == (1, 1, 20, 20)
    assert (better.name, better.margin) == (test.name, test.margin)
