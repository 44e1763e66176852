"""Networks of others as steps, by small ones of the very classes: shapes, coordinates, and a missing one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    PreTrainedTokenizerFast,
    SamConfig,
    SamImageProcessorPil,
    SamModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.learning.engine import Engine, KindClasses, Material, TaughtMasks
from remotesam_geo.learning.engine.neural import DetectedThings, SamTeacher, Similar
from remotesam_geo.learning.triplets import Example, Mask, Picture, Thing, Triplet

SIDE = 64


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
    SamImageProcessorPil(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)
    return folder


def things(*boxes):
    return [Thing(label="ship", box=tuple(map(float, box))) for box in boxes]


@pytest.mark.parametrize("shape", [(48, 96), (100, 40), (64, 64)])
def test_sam_gives_a_mask_of_the_pictures_size_for_each_box(sam, shape):
    teacher = SamTeacher.from_pretrained(sam)
    rgb = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    masks = teacher(rgb, things((2, 2, 20, 30), (10, 12, 30, 36), (1, 1, 9, 9)))
    assert [(m.shape, m.dtype) for m in masks] == [(shape, np.bool_)] * 3


@pytest.mark.parametrize("shape", [(48, 96), (100, 40), (200, 120)])
def test_a_box_drawn_at_a_known_place_comes_back_there(sam, shape, monkeypatch):
    teacher = SamTeacher.from_pretrained(sam)
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

    monkeypatch.setattr(SamModel, "__call__", draws)
    step = max(shape) / size  # one pixel of the answer, in the picture
    boxes = [(0, 0, 3 * step, 5 * step), (2 * step, 3 * step, 5 * step, 7 * step)]
    for box, mask in zip(
        boxes, teacher(np.zeros((*shape, 3), np.uint8), things(*boxes)), strict=True
    ):
        found = Mask.of(mask).box
        for wanted, got, most in zip(box, found, (shape[1], shape[0]) * 2, strict=True):
            assert abs(min(wanted, most) - got) <= step / 2 + 1, (box, found)


def test_sam_is_a_teacher_of_the_engine(sam):
    example = Example(
        picture=Picture.of("a", np.zeros((40, 60, 3), np.uint8)),
        things=tuple(things((3, 3, 20, 20))),
    )
    teacher = SamTeacher.from_pretrained(sam)
    engine = Engine(
        expressions=(KindClasses(),), masks=(TaughtMasks(teachers=(teacher, teacher)),), filters=()
    )
    made = engine.made(example)
    assert len(made.triplets) + sum(made.dropped.values()) == 1
    assert teacher.name in engine.about


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
    nothing = Triplet(
        picture=one.picture, expression="dam", mask=Mask.empty((60, 80)), kind="one-to-zero"
    )
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
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin", "image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2],
            "window_size": 4, "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "vocab_size": 9, "max_position_embeddings": 32,
        },
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=5, max_text_len=16, encoder_n_points=2, decoder_n_points=2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("dino")
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(
        folder
    )
    words = {
        "[PAD]": 0,
        "[UNK]": 1,
        "[CLS]": 2,
        "[SEP]": 3,
        "ship": 4,
        "storage": 5,
        "tank": 6,
        ".": 7,
    }
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"  # noqa: S106
    ).save_pretrained(folder)  # fmt: skip
    return folder


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


@pytest.mark.parametrize("kind", [SamTeacher, Similar])
def test_what_is_missing_is_said(kind, tmp_path):
    with pytest.raises(InputError, match="commit"):
        kind.from_pretrained("facebook/sam-vit-base")
    with pytest.raises(ModelError, match=r"huggingface.co/some/model at a{40}"):
        kind.from_pretrained("some/model", revision="a" * 40, local_files_only=True)
    with pytest.raises(ModelError, match=r"safetensors"):
        kind.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="commit"):
        DetectedThings.from_pretrained("IDEA-Research/grounding-dino-tiny", classes=["ship"])
