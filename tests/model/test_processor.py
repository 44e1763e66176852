"""The processor against Pillow, a plain interpolation, and transformers' own tokenizer."""

import hashlib
import json
import os
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertTokenizer

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning
from remotesam_geo.model import RemoteSAMConfig, RemoteSAMProcessor
from remotesam_geo.model.processor import bert_tokenizer, resize, rgb

SMALL = {
    "image_size": 64,
    "widths": (8, 16, 32, 64),
    "depths": (1, 1, 1, 1),
    "heads": (1, 1, 2, 2),
    "window_size": 4,
    "decoder_width": 8,
}


@pytest.fixture(scope="module")
def processor():
    return RemoteSAMProcessor(RemoteSAMConfig(**SMALL))


@pytest.fixture(scope="module")
def bert():
    return BertTokenizer(vocab=str(files("remotesam_geo") / "data" / "bert-base-uncased.txt"))


def random_picture(seed, height, width, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


# --- pictures ---------------------------------------------------------------------------------


def triangle_weights(source, target):
    """target x source: the anti-aliased bilinear filter, written out."""
    scale = source / target
    support = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / support
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(1, 150), st.integers(1, 150), st.integers(8, 96))
def test_resizing_agrees_with_the_filter_written_out_and_with_pillow(seed, height, width, size):
    picture = random_picture(seed, height, width)
    ours = resize(picture, size).astype(int)
    rows = np.tensordot(triangle_weights(height, size), picture, (1, 0))
    plain = np.tensordot(rows, triangle_weights(width, size), (1, 1)).transpose(0, 2, 1)
    assert np.abs(ours - np.rint(plain)).max() <= 1
    pillow = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR)
    assert np.abs(ours - np.asarray(pillow)).max() <= 1


@given(st.integers(5, 40), st.integers(5, 40), st.sampled_from([1, 3, 4]), st.integers(0, 99))
def test_every_kind_of_picture_gives_the_same_colours(height, width, channels, seed):
    array = random_picture(seed, height, width, channels)
    want = array[:, :, :3] if channels > 1 else array.repeat(3, 2)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    forms = [
        array,
        array.transpose(2, 0, 1),
        torch.from_numpy(array),
        torch.from_numpy(array).permute(2, 0, 1),
        Image.fromarray(array[:, :, 0] if channels == 1 else array, mode),
        array[::-1][::-1],  # strides that are not contiguous
        *([array[:, :, 0], torch.from_numpy(array[:, :, 0])] if channels == 1 else []),
    ]
    for form in forms:
        result = rgb(form)
        np.testing.assert_array_equal(result, want)
        assert result.flags.c_contiguous


def test_pillow_pictures_of_other_modes():
    colours = Image.fromarray(random_picture(1, 6, 7))
    palette = colours.convert("P")
    np.testing.assert_array_equal(rgb(palette), np.asarray(palette.convert("RGB")))
    palette.info["transparency"] = bytes([0] * 256)  # Pillow warns of this one
    np.testing.assert_array_equal(rgb(palette), np.asarray(palette.convert("RGBA"))[:, :, :3])
    np.testing.assert_array_equal(rgb(Image.new("1", (2, 2), 1)), np.full((2, 2, 3), 255))
    np.testing.assert_array_equal(rgb(Image.new("CMYK", (2, 2))), np.full((2, 2, 3), 255))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 9, 3)), "float64.*Stretch"),
        (torch.zeros(3, 9, 9), "float32"),
        (np.zeros((9, 9, 3), np.uint16), "uint16"),
        (Image.new("I;16", (4, 4)), "I;16"),
        (Image.new("F", (4, 4)), "'F'"),
        (np.zeros((3, 9, 3), np.uint8), "first or last"),
        (np.zeros((4, 9, 1), np.uint8), "first or last"),
        (np.zeros((8, 9, 7), np.uint8), "bands"),
        (np.zeros((2, 9, 9, 3), np.uint8), "shape"),
        (np.zeros(9, np.uint8), "shape"),
        (np.zeros((0, 9, 3), np.uint8), "no pixel"),
        ("scene.tif", "str is no picture"),
        ([[1, 2], [3, 4]], "list is no picture"),
    ],
)
def test_what_is_no_picture_is_refused(picture, message):
    with pytest.raises(InputError, match=message):
        rgb(picture)


def test_one_picture_several_and_a_batch(processor):
    pictures = [random_picture(1, 30, 50), random_picture(2, 90, 64)]
    both = processor.images(pictures)
    assert both.shape == (2, 64, 64, 3)
    assert both.dtype == np.uint8
    for picture, row in zip(pictures, both, strict=True):
        np.testing.assert_array_equal(processor.images(picture)[0], row)
        np.testing.assert_array_equal(processor.images(Image.fromarray(picture))[0], row)
    batch = np.stack([pictures[0]] * 2)
    np.testing.assert_array_equal(processor.images(batch)[1], both[0])
    tensors = torch.from_numpy(batch).permute(0, 3, 1, 2)
    np.testing.assert_array_equal(processor.images(tensors)[1], both[0])
    with pytest.raises(InputError, match="no picture"):
        processor.images([])


def test_a_picture_of_the_right_size_is_untouched(processor):
    picture = random_picture(3, 64, 64)
    np.testing.assert_array_equal(processor.images(picture)[0], picture)


def test_normalisation_is_the_published_one(processor):
    images = random_picture(4, 64, 64)[None]
    values = processor.pixel_values(torch.from_numpy(images))
    assert values.shape == (1, 3, 64, 64)
    assert values.dtype == torch.float32
    want = (images[0] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(values[0].permute(1, 2, 0).numpy(), want, atol=1e-6)


# --- text -------------------------------------------------------------------------------------


def test_the_vocabulary_is_bert_s():
    text = (files("remotesam_geo") / "data" / "bert-base-uncased.txt").read_bytes()
    assert hashlib.sha256(text).hexdigest() == ("07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3")
    assert bert_tokenizer().get_vocab_size() == len(text.split()) == 30522


def test_known_ids(processor):
    ids, mask = processor.tokenize(["airplane in the image", "the airplane on the right"])
    assert ids.dtype == mask.dtype == torch.int64
    assert ids.tolist() == [
        [101, 13297, 1999, 1996, 3746, 102] + [0] * 14,
        [101, 1996, 13297, 2006, 1996, 2157, 102] + [0] * 13,
    ]
    assert mask.tolist() == [[1] * 6 + [0] * 14, [1] * 7 + [0] * 13]


WORDS = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(["ship", "Größe", "naïve", "storage-tank", "[SEP]", "[MASK]", "##s", "飛行機", "🛩️"]),
        st.text("abcdeXYZ' -.,#[]12\t\u00e9\u0301\u200b\ufffd", max_size=12),
    ),
    max_size=14,
).map(" ".join)


@given(WORDS)
def test_ids_are_those_of_transformers(bert, processor, text):
    want = bert(text)["input_ids"]
    assert bert_tokenizer_ids(processor, text) == want
    if len(want) > 2:
        row = (want[:20] + [0] * 20)[:20]
        assert processor.tokenize(text).input_ids.tolist() == [row]


def bert_tokenizer_ids(processor, text):
    return processor.tokenizer.encode(text).ids


def test_a_long_expression_loses_its_tail_and_the_separator(processor):
    ids, mask = processor.tokenize("ship " * 30)
    assert ids.tolist() == [[101] + [2911] * 19]
    assert mask.tolist() == [[1] * 20]


@given(WORDS)
def test_the_words_that_are_cut(processor, text):
    """What is left is read in full, and one word more would not fit."""
    cut = processor.cut_words(text)
    ids = bert_tokenizer_ids(processor, text)
    assert bool(cut) == (len(ids) - 1 > 20)
    if cut:
        start = text.rindex(cut)
        kept = text[:start]
        assert text[start:].strip() == cut
        assert not processor.cut_words(kept)
        assert len(bert_tokenizer_ids(processor, kept)) - 1 <= 20


def test_a_word_cut_in_its_middle_is_named_whole(processor):
    text = "a " * 17 + "ship unaffable words"  # un ##aff ##able: the first piece is the 20th
    assert processor.cut_words(text) == "unaffable words"
    assert processor.cut_words("a " * 19) == ""  # only the separator is lost
    assert processor.cut_words("a " * 20) == "a"


@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\u0000"])
def test_an_expression_without_a_word_is_refused(processor, text):
    with pytest.raises(InputError, match="no word"):
        processor.tokenize(["ship", text])


# --- both -------------------------------------------------------------------------------------


def test_pictures_and_expressions_pair_up(processor):
    picture = random_picture(5, 20, 20)
    shapes = [(1, ["a", "b", "c"], 3), (2, "a ship", 2), (2, ["a", "b"], 2), (1, "a ship", 1)]
    for count, expressions, rows in shapes:
        inputs = processor([picture] * count, expressions)
        assert {len(value) for value in inputs.values()} == {rows}
    with pytest.raises(InputError, match="2 pictures and 3 expressions"):
        processor([picture] * 2, ["a", "b", "c"])


def test_cut_words_are_shown_in_a_warning(processor):
    with pytest.warns(RemoteSAMWarning, match="cut: 'the long pier'"):
        processor(random_picture(6, 9, 9), "a " * 17 + "ship beside the long pier")


def own_tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "ship", "tank", "a"]
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]")  # noqa: S106
    )
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def test_a_small_model_brings_its_own_tokenizer(tmp_path):
    text = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "intermediate_size": 8,
        "vocab_size": 7,
    }
    config = RemoteSAMConfig(**SMALL, text_config=text)
    with pytest.raises(ModelError, match=r"30521.*7 words.*tokenizer\.json"):
        RemoteSAMProcessor(config)
    tokenizer = own_tokenizer()
    tokenizer.enable_truncation(3)  # ours is the only cut
    tokenizer.enable_padding(length=50, pad_id=6)
    processor = RemoteSAMProcessor(config, tokenizer=tokenizer)
    assert processor.tokenize("a ship tank").input_ids[0, :6].tolist() == [2, 6, 4, 5, 3, 0]
    processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()  # where the weights would lie
    again = RemoteSAMProcessor.from_pretrained(tmp_path)
    assert again.config.to_dict() == config.to_dict()
    assert again.tokenize("a ship").input_ids.tolist() == (processor.tokenize("a ship").input_ids.tolist())


def test_a_damaged_folder_is_explained(tmp_path):
    with pytest.raises(ModelError, match=r"lacks config\.json"):
        RemoteSAMProcessor.from_pretrained(tmp_path)
    RemoteSAMProcessor(RemoteSAMConfig(**SMALL)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 1}))
    with pytest.raises(ModelError, match="is no tokenizer"):
        RemoteSAMProcessor.from_pretrained(tmp_path)


def test_saving_keeps_the_configuration_that_is_there(tmp_path):
    (tmp_path / "config.json").write_text('{"kept": 1}')
    RemoteSAMProcessor(RemoteSAMConfig(**SMALL)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"kept": 1}


def test_no_hub_is_asked(tmp_path):
    """In a process of its own with an empty cache and no network at all."""
    code = (
        "import socket\n"
        "def refuse(*args, **kwargs): raise SystemExit('the network was used')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from remotesam_geo.model import RemoteSAMProcessor\n"
        "print(RemoteSAMProcessor().tokenize('airplane').input_ids[0, :3].tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HOME": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stdout == "[101, 13297, 102]\n", done.stderr
    assert not any(tmp_path.iterdir())
