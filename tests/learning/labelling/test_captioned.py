"""Expressions by a captioner: its inputs by hand, its answers without trust, masks where referrers agree."""

import functools
import json
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.learning.datasets import Example, Mask, Picture, Thing
from remotesam_geo.learning.labelling import (
    AskedModel,
    Captioned,
    Engine,
    Material,
    Refused,
    read_reply,
    run_engine,
)
from remotesam_geo.learning.teachers import QwenWriter
from remotesam_geo.learning.teachers.pixels import qwen_pixels, qwen_size

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


# --- what the network is given --------------------------------------------------------------------


def test_patches_are_those_cut_by_hand():
    """Two tokens beside each other, of 2 x 2 patches of 2 x 2 pixels: each pixel is its own number."""
    rgb = np.zeros((4, 8, 3), np.uint8)
    rgb[..., 0] = np.arange(32).reshape(4, 8)
    rgb[..., 1], rgb[..., 2] = rgb[..., 0] + 100, rgb[..., 0] + 200
    patches, grid = qwen_pixels(rgb, patch=2, merge=2, frames=2, least=1)
    assert grid.tolist() == [[1, 2, 4]]
    corners = [(0, 0), (0, 2), (2, 0), (2, 2), (0, 4), (0, 6), (2, 4), (2, 6)]  # y, x in order
    wanted = []
    for y, x in corners:
        row = []
        for channel in range(3):
            square = rgb[y : y + 2, x : x + 2, channel].astype(np.float32) / 255
            square = (square - MEAN[channel]) / DEVIATION[channel]
            row += [*square.ravel(), *square.ravel()]  # two equal frames
        wanted.append(row)
    assert patches.shape == (8, 3 * 2 * 2 * 2)
    assert np.allclose(patches.numpy(), np.array(wanted), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((56, 84), (56, 84)),
        ((57, 83), (56, 84)),
        ((10, 10), (56, 56)),  # too few pixels: both sides grow
        ((14, 500), (28, 336)),
        ((42, 70), (56, 56)),  # halves go to the even number
        ((1000, 2000), (700, 1400)),  # 1,280 tokens at most
    ],
)
def test_sizes_are_multiples_that_fit(shape, wanted):
    assert qwen_size(*shape) == wanted


@pytest.mark.parametrize("shape", [(448, 448), (100, 333), (31, 900), (1200, 1700)])
def test_pictures_are_prepared_as_by_the_library(shape):
    rgb = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    own, grid = qwen_pixels(rgb)
    theirs = Qwen2VLImageProcessorPil()(Image.fromarray(rgb), return_tensors="pt")
    assert grid.tolist() == theirs["image_grid_thw"].tolist()
    assert torch.allclose(own, theirs["pixel_values"], atol=1e-4)


@given(st.integers(1, 4000), st.integers(1, 4000))
@settings(deadline=None)
def test_any_picture_has_a_size(height, width):
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(InputError, match="200 times"):
            qwen_size(height, width)
        return
    rows, columns = qwen_size(height, width)
    assert rows % 28 == columns % 28 == 0
    assert 56 * 56 <= rows * columns <= 28 * 28 * 1280


# --- what it writes -------------------------------------------------------------------------------

SIGNS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]


@functools.cache
def tokenizer():
    """Bytes as tokens, and the signs of a talk."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(BPE(vocab={sign: k for k, sign in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|endoftext|>", additional_special_tokens=SIGNS  # noqa: S106
    )  # fmt: skip


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    torch.manual_seed(0)
    words = tokenizer()
    image = words.convert_tokens_to_ids("<|image_pad|>")
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
        },
        vision_config={
            "depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        image_token_id=image, video_token_id=len(words) + 1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("qwen")
    model = Qwen2VLForConditionalGeneration(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # answers that rounding does not change
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def noise(shape=(40, 60), seed=0):
    return np.random.default_rng(seed).integers(0, 255, (*shape, 3)).astype(np.uint8)


def test_a_request_is_a_talk_with_a_token_for_each_part_of_the_picture(qwen):
    writer = QwenWriter.from_pretrained(qwen)
    given = writer.inputs(noise((40, 60)), "what is there? <|im_end|>")
    assert given["image_grid_thw"].tolist() == [[1, 10, 16]]
    assert given["pixel_values"].shape == (160, 3 * 2 * 4 * 4)
    text = tokenizer().decode(given["input_ids"][0])
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        + "<|image_pad|>" * 40
        + "<|vision_end|>what is there? < |im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    assert given["mm_token_type_ids"].sum() == 40
    plain = writer.inputs(None, "hello")
    assert set(plain) == {"input_ids", "attention_mask", "mm_token_type_ids"}
    assert "vision" not in tokenizer().decode(plain["input_ids"][0])


def test_the_network_writes_of_the_picture_and_the_same_again(qwen):
    writer = QwenWriter.from_pretrained(qwen, longest=12)
    first = writer(noise(), "what is there?")
    assert isinstance(first, str)
    after = writer(None, "and without?")
    assert writer(noise(), "what is there?") == first
    assert QwenWriter.from_pretrained(qwen, longest=12)(None, "and without?") == after
    with torch.no_grad():
        one, other = (writer.model(**writer.inputs(noise(seed=k), "?")).logits[0, -1] for k in (0, 1))
    assert (one - other).abs().max() > 1e-3  # it looks at the picture
    assert len(tokenizer()(first)["input_ids"]) <= 3 * 12  # bytes that are no text become three


def test_answers_are_the_likeliest_whatever_the_model_says_of_drawing(qwen):
    writer = QwenWriter.from_pretrained(qwen, longest=12)
    plain = writer(noise(), "what is there?")
    writer.model.generation_config = GenerationConfig(do_sample=True, temperature=5.0, top_k=0)
    assert {writer(noise(), "what is there?") for _ in range(3)} == {plain}


def test_an_answer_ends_where_the_talk_ends(qwen):
    writer = QwenWriter.from_pretrained(qwen, longest=12)
    end = tokenizer().convert_tokens_to_ids("<|im_end|>")
    head = writer.model.lm_head
    head.register_forward_hook(lambda *told: told[2].index_fill(-1, torch.tensor([end]), 1e4))
    assert writer(noise(), "what is there?") == ""


def test_a_foreign_tokenizer_is_refused(qwen):
    writer = QwenWriter.from_pretrained(qwen)
    alien = Tokenizer(BPE(vocab={"a": 0}, merges=[]))
    with pytest.raises(ModelError, match="im_start"):
        QwenWriter(model=writer.model, words=PreTrainedTokenizerFast(tokenizer_object=alien), name="alien")
    with pytest.raises(InputError, match="longest=0"):
        QwenWriter.from_pretrained(qwen, longest=0)


# --- what was written, read -----------------------------------------------------------------------

SHIP = '{"ship": "the white ship at the pier"}'


@pytest.mark.parametrize(
    "text",
    [
        SHIP,
        f"```json\n{SHIP}\n```",
        f"Of course! This is it:\n\n```\n{SHIP}\n```\nTell me if you need more.",
        f"Sure: {SHIP} (one object).",
        f"```json\r\n{SHIP}",  # the fence was never closed
        f"{SHIP}\n\nAs JSON again:\n```json\n{SHIP}\n```",
        '{"Ship": "the  white ship\\nat the pier"}',
        '{"Ships": "the white ship at the pier"}',
    ],
)
def test_what_language_models_write_is_read(text):
    reply = read_reply(text, classes=["ship", "storage_tank"])
    assert dict(reply.said) == {"ship": "the white ship at the pier"}
    assert reply.refused == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no object"),
        ("I cannot see anything.", "no object"),
        ('["ship"]', "no object"),
        ('{"ship": "the white ship",}', "trailing comma"),
        ('{"ship": ["a", ], "dam": "b"}', "trailing comma"),
        ('{"ship": "the white ship", \n }', "trailing comma"),
        ('{"ship": "the white', "cut off"),
        ('{"ship": "the white ship"', "cut off"),
        ('{"ship": ', "cut off"),
        ("{'ship': 'the white ship'}", "not JSON"),
        ('{"ship": "the white ship" // the best\n}', "not JSON"),
        ('{"ship": __import__("os").system("true")}', "not JSON"),
        (SHIP + '\n{"dam": "the old dam"}', "several objects"),
        ('{"ship": ' + "[" * 9_000, "absurd values"),
        ('{"ship": ' + "9" * 9_000 + "}", "absurd values"),
        ("x" * 30_000, "far too long"),
        ('{"ship": {"colour": "white"}}', "expression is no text"),
        ('{"ship": ["the white ship"]}', "expression is no text"),
        ('{"ship": null}', "expression is no text"),
        ('{"ship": "  "}', "empty expression"),
        ('{"ship": "the \\u202e ship"}', "unprintable expression"),
        ('{"ship": "' + "very " * 20 + 'white ship"}', "expression too long"),
        ('{"ship": "The ship."}', "nothing but the class"),
        ('{"ship": "the ships"}', "nothing but the class"),
        ('{"zebra": "the striped zebra"}', "class not asked for"),
        ('{"": "the ship"}', "no class name"),
        ('{"<b>": "the ship"}', "no class name"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(text, reason):
    reply = read_reply(text, classes=["ship"])
    assert (dict(reply.said), reply.refused) == ({}, (reason,))


def test_a_class_that_comes_twice_is_not_chosen_for():
    text = '{"ship": "the red ship", "dam": "the old dam", "SHIP": "the blue ship", "tug": "x y"}'
    reply = read_reply(text, classes=["ship", "dam"])
    assert dict(reply.said) == {"dam": "the old dam"}
    assert sorted(reply.refused) == ["class not asked for", "class twice", "class twice"]


def test_any_class_where_none_is_named():
    reply = read_reply('{"Storage_Tank": "the rusty tank", "zebra": "the striped zebra"}')
    assert dict(reply.said) == {"storage tank": "the rusty tank", "zebra": "the striped zebra"}


names = st.from_regex(r"[a-z]{3,9}( [a-z]{3,9})?", fullmatch=True)
sentences = st.lists(st.from_regex(r"[A-Za-z0-9,.'-]{1,9}", fullmatch=True), min_size=3, max_size=20)
prose = st.text(st.characters(exclude_characters="{}`", exclude_categories=["Cs"]), max_size=60)


# Time is no sign of health on a busy machine.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(
    st.dictionaries(names, sentences.map(" ".join), min_size=1, max_size=5),
    prose,
    prose,
    st.booleans(),
)
@settings(PATIENT, max_examples=40)
def test_objects_come_back_from_any_prose(said, before, after, fenced):
    written = json.dumps(said, indent=1)
    if fenced:
        written = f"\n```json\n{written}\n```\n"
    reply = read_reply(before + written + after)
    kept = {name: text for name, text in said.items() if dict(reply.said).get(name) == text}
    assert len(reply.said) == len(kept)
    assert len(kept) + len(reply.refused) == len(said)
    assert set(reply.refused) <= {"nothing but the class", "class twice"}


@given(st.text(st.sampled_from('{}[]":,`\n \\json1é'), max_size=80) | st.text(max_size=80))
@settings(PATIENT, max_examples=200)
def test_any_text_is_read_or_refused(text):
    reply = read_reply(text)
    assert reply.said or reply.refused or "{}" in "".join(text.split())
    assert all(isinstance(value, str) and value for value in reply.said.values())


# --- from captions to triplets --------------------------------------------------------------------


def scene(**things):
    """Coloured rectangles x0, y0, x1, y1 on grey, 100 x 200; the label is the first word of a name."""
    rgb = np.full((100, 200, 3), 120, np.uint8)
    made = []
    for k, (name, box) in enumerate(things.items()):
        x0, y0, x1, y1 = box
        rgb[y0:y1, x0:x1] = (200, 30 * k, 40)
        mask = Mask.of_box(box, (100, 200))
        made.append(Thing(label=name.split("_")[0], box=tuple(map(float, box)), mask=mask, id=name))
    example = Example(picture=Picture.of("a", rgb), things=tuple(made))
    return Material(example=example, rgb=rgb)


class Scripted:
    """A writer that says what it was told to say of the patch whose upper left pixel is at a place."""

    def __init__(self, material, replies):
        self.rgb, self.replies, self.asked = material.rgb, replies, []

    def __call__(self, rgb, request):
        if rgb is not None:
            self.asked.append(rgb.copy())
            return f"caption {len(self.asked) - 1} with {{braces}}"
        number = int(request.rpartition("caption ")[2].split()[0])
        return self.replies[number]


def refer_to(masks):
    def refer(rgb, expressions):
        return [masks.get(text, np.zeros(rgb.shape[:2], bool)) for text in expressions]

    return refer


def box_mask(*box):
    return Mask.of_box(box, (100, 200)).pixels()


def asked(step, material):
    said = list(step(material, random.Random(0)))  # noqa: S311 - no secrets
    refused = sorted(f"{one.what}: {one.reason}" for one in said if isinstance(one, Refused))
    return [one for one in said if not isinstance(one, Refused)], refused


def test_expressions_are_of_their_patch_and_drawn_where_they_lie():
    material = scene(ship_1=(10, 10, 30, 20), ship_2=(150, 40, 180, 60))
    writer = Scripted(
        material,
        ['{"ship": "the long ship"}', '```\n{"ship": "the red ship", "dam": "the old dam"}\n```'],
    )
    masks = {"the long ship": box_mask(10, 10, 30, 20), "the red ship": box_mask(150, 40, 180, 60)}
    step = Captioned(writer=writer, referrers=(refer_to(masks),), side=100)
    triplets, refused = asked(step, material)
    assert [one.shape for one in writer.asked] == [(100, 100, 3)] * 2
    assert (writer.asked[1] == material.rgb[:, 100:]).all()
    found = [(t.expression, t.label, t.kind, t.mask.box, t.attributes["patch"]) for t in triplets]
    assert found == [
        ("the long ship", "ship", "one-to-one", (10, 10, 30, 20), "0 0 100 100"),
        ("the red ship", "ship", "one-to-one", (150, 40, 180, 60), "100 0 200 100"),
    ]
    assert refused == ["one-to-one: nobody finds it"]


def test_what_is_doubtful_is_refused_and_counted():
    material = scene(ship_1=(10, 10, 30, 20), ship_2=(150, 40, 180, 60), ship_3=(40, 60, 60, 90))
    writer = Scripted(
        material,
        [
            '{"ship": "the grey ship", "dam": "the leftmost dam", "car": "the fast car"}',
            '{"ship": "the white ship",}',
        ],
    )
    both = box_mask(10, 10, 30, 20) | box_mask(150, 40, 180, 60)
    one = {"the grey ship": both, "the fast car": box_mask(10, 10, 30, 20)}
    other = {"the grey ship": both, "the fast car": box_mask(40, 60, 60, 90)}
    step = Captioned(writer=writer, referrers=(refer_to(one), refer_to(other)), side=100)
    triplets, refused = asked(step, material)
    assert triplets == []
    assert refused == [
        "caption: trailing comma",
        "caption: true of its patch only",
        "one-to-one: means something outside its patch",
        "one-to-one: referrers disagree",
    ]


def test_words_of_the_view_hold_where_the_patch_is_the_picture():
    material = scene(ship_1=(10, 10, 30, 20))
    writer = Scripted(material, ['{"ship": "the ship on the left"}'])
    masks = {"the ship on the left": box_mask(10, 10, 30, 20)}
    triplets, refused = asked(Captioned(writer=writer, referrers=(refer_to(masks),)), material)
    assert [t.mask.box for t in triplets] == [(10, 10, 30, 20)]
    assert refused == []


def test_words_that_several_known_things_answer_to_are_one_to_many():
    material = scene(ship_1=(10, 10, 30, 20), ship_2=(40, 10, 60, 20), dam_1=(10, 60, 90, 70))
    writer = Scripted(material, ['{"ship": "the ships at the quay", "dam": "the long dam"}'])
    both = box_mask(10, 10, 30, 20) | box_mask(40, 10, 60, 20)
    masks = {"the ships at the quay": both, "the long dam": box_mask(10, 60, 90, 70)}
    triplets, _ = asked(Captioned(writer=writer, referrers=(refer_to(masks),)), material)
    assert {t.label: t.kind for t in triplets} == {"ship": "one-to-many", "dam": "one-to-one"}


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300), st.integers(0, 299))
@settings(deadline=None, max_examples=50)
def test_patches_cover_the_picture_and_overlap_enough(height, width, side, overlap):
    overlap = min(overlap, side - 1)
    if (height + side) * (width + side) > 4000 * (side - overlap) ** 2:
        return  # very many patches
    rgb = np.zeros((height, width, 3), np.uint8)
    seen = np.zeros((height, width), int)
    places = []

    def writer(patch, request):
        if patch is not None:
            places.append(patch.shape[:2])
        return "{}"

    material = Material(example=Example(picture=Picture.of("a", rgb)), rgb=rgb)
    step = Captioned(writer=writer, referrers=(refer_to({}),), side=side, overlap=overlap)
    assert list(step(material, random.Random(0))) == []  # noqa: S311 - no secrets
    assert set(places) == {(min(side, height), min(side, width))}
    from remotesam_geo.learning.labelling.captioned import _patches_of_picture

    boxes = _patches_of_picture((height, width), side, overlap)
    assert len(boxes) == len(places)
    for x0, y0, x1, y1 in boxes:
        seen[y0:y1, x0:x1] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        starts = sorted({box[axis] for box in boxes})
        steps = np.diff(starts)
        assert (steps <= side - overlap).all()


def test_captions_run_through_the_engine_resume_and_are_counted(tmp_path):
    material = scene(ship_1=(10, 10, 30, 20))
    example = material.example
    masks = {"the red ship": box_mask(10, 10, 30, 20), "the speck": box_mask(0, 0, 3, 3)}
    writer = Scripted(material, ['{"ship": "the red ship", "car": "the speck", "dam": 3}'] * 2)
    step = Captioned(writer=writer, referrers=(refer_to(masks),))
    engine = Engine(expressions=(step,))
    store, report = run_engine([example], tmp_path, engine=engine)
    assert report.kept == {"one-to-one caption": 1}
    assert report.dropped == {"caption: expression is no text": 1, "one-to-one: too small": 1}
    assert store[0].attributes == {"rule": "caption", "patch": "0 0 200 100"}
    again, same = run_engine([example], tmp_path, engine=engine)
    assert (len(again), same) == (1, report)
    assert len(writer.asked) == 1


def test_a_model_that_takes_expressions_refers():
    class Left:
        identity, image_size = "left half", 32

        def answers(self, picture, expressions):
            assert picture.shape == (50, 80, 3)
            for text in expressions:
                chance = np.zeros((32, 32), np.float32)
                chance[:, :16] = 1 if "left" in text else 0
                yield chance

    refer = AskedModel(model=Left())
    masks = refer(np.zeros((50, 80, 3), np.uint8), ["the left", "else"])
    assert masks[0].shape == (50, 80)
    assert masks[0][:, :38].all()
    assert not masks[0][:, 42:].any()
    assert not masks[1].any()
    assert "left half" in repr(refer)


def test_a_small_network_captions_through_the_engine(qwen):
    writer = QwenWriter.from_pretrained(qwen, longest=8)
    step = Captioned(writer=writer, referrers=(refer_to({}),), side=100)
    engine = Engine(expressions=(step,))
    made = engine.made(scene(ship_1=(10, 10, 30, 20)).example)
    assert made.triplets == []
    assert sum(made.dropped.values()) == 2  # a random network writes no JSON
    assert writer.name in engine.about
    assert "0x" not in engine.about


def test_captioning_is_set_up_sensibly():
    def writer(rgb, request):
        return ""

    refer = refer_to({})
    for wrong in (
        {"referrers": ()},
        {"least": 1.5},
        {"overlap": 448},
        {"side": 0},
        {"parse": "{who} {caption}"},
        {"parse": '{"a"}'},
    ):
        with pytest.raises(InputError, match=r"give|name"):
            Captioned(**{"writer": writer, "referrers": (refer,), **wrong})
