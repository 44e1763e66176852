"""The contour model, with small SegFormers of the released one's class."""

import concurrent.futures
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSemanticSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)
from transformers.models.segformer.image_processing_pil_segformer import (
    SegformerImageProcessorPil,
)

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.model import ContourModel
from remotesam_geo.model.contour_model import RELEASED


def segformer(labels=1):
    torch.manual_seed(3)
    config = SegformerConfig(
        num_labels=labels,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 24, 32],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    network = SegformerForSemanticSegmentation(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:  # strong enough to answer from near 0 to near 1
                fan_in = parameter[0].numel()
                parameter.normal_(std=2 / fan_in**0.5)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("contours")
    segformer().save_pretrained(path)
    return path


def pictures(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
    resized = [Image.fromarray(image).resize((width, height)) for image in small]
    return np.stack([np.asarray(image) for image in resized])


@pytest.mark.parametrize(("height", "width"), [(96, 96), (128, 128), (40, 70)])
def test_codes_are_those_of_transformers_own_pipeline(folder, height, width):
    images = pictures(3, height, width)
    model = ContourModel.from_pretrained(folder, resolution=128, device="cpu", precision="float32")
    codes = model(images)
    assert codes.dtype == np.uint8
    assert codes.shape == (3, height, width)
    network = AutoModelForSemanticSegmentation.from_pretrained(folder)
    processor = SegformerImageProcessorPil(size={"height": 128, "width": 128})
    inputs = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    with torch.inference_mode():
        outputs = network(**inputs)
    maps = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(height, width)] * 3, return_segmentation_scores=True
    )
    scores = torch.stack([one["segmentation_scores"][0] for one in maps])
    want = 200 * scores.sigmoid().numpy().astype(float)
    assert np.ptp(want) > 60
    assert (codes >= want - 1e-3).all()
    assert (codes < want + 1 + 1e-3).all()


def test_the_file_has_the_layout_of_the_released_one(folder):
    """Written by transformers 4, before it renamed the parts of SegFormer."""
    names = load_file(folder / "model.safetensors").keys()
    assert "segformer.encoder.block.0.0.attention.self.query.weight" in names
    assert "decode_head.linear_c.0.proj.weight" in names


def test_a_batch_equals_its_members(folder):
    images = pictures(5, 64, 64)
    one = ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="float32")
    several = ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="float32", batch=4)
    codes = one(images)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(one(image[None])[0], codes[index])
        np.testing.assert_array_equal(several(image[None])[0], several(images)[index])
    assert np.abs(codes.astype(int) - several(images)).max() <= 1
    assert one(images[:0]).shape == (0, 64, 64)


def test_threads_get_the_answers_of_one(folder):
    images = pictures(8, 64, 64)
    model = ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="float32")
    want = model(images)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda index: model(images[index : index + 1])[0], list(range(8)) * 2))
    np.testing.assert_array_equal(np.stack(got), np.concatenate([want, want]))


def test_bfloat16_is_close(folder):
    images = pictures(2, 64, 64)
    exact = ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="float32")(images).astype(int)
    model = ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="bfloat16")
    error = np.abs(model(images) - exact)
    assert 0 < error.max() <= 40
    assert error.mean() <= 4


@pytest.mark.gpu
def test_cuda_is_close(folder):
    images = pictures(5, 64, 64)
    exact = ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="float32")(images).astype(int)
    assert np.abs(ContourModel.from_pretrained(folder, resolution=64)(images) - exact).max() <= 40


def test_weights_stored_in_half_precision_are_computed_in_full(folder, tmp_path):
    """As the released ones are."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    state = load_file(folder / "model.safetensors")
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    save_file(halves, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = ContourModel.from_pretrained(tmp_path, resolution=64, device="cpu", precision="float32")
    assert {p.dtype for p in model._network.parameters()} == {torch.float32}


def test_the_checkpoint_s_own_normalisation_is_used(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    stated = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 0.25], "size": 7}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    images = pictures(1, 64, 64)
    ours = ContourModel.from_pretrained(tmp_path, resolution=64, device="cpu", precision="float32")
    plain = ContourModel(
        segformer(),
        resolution=64,
        image_mean=(0.5, 0.4, 0.3),
        image_std=(0.5, 0.5, 0.25),
        device="cpu",
        precision="float32",
    )
    np.testing.assert_array_equal(ours(images), plain(images))
    assert not np.array_equal(
        ours(images),
        ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="float32")(images),
    )
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": 3}')
    with pytest.raises(ModelError, match="is damaged"):
        ContourModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 8, 8), np.uint8)],
)
def test_other_pictures_are_refused(folder, images):
    with pytest.raises(InputError, match="uint8 B x H x W x 3"):
        ContourModel.from_pretrained(folder, device="cpu", precision="float32")(images)


def test_unknown_words_are_refused(folder):
    with pytest.raises(InputError, match="float8"):
        ContourModel.from_pretrained(folder, precision="float8")
    with pytest.raises(InputError, match="batch=0"):
        ContourModel.from_pretrained(folder, batch=0)


def test_what_is_no_number_is_an_error_and_no_contour(folder):
    model = ContourModel.from_pretrained(folder, resolution=64, device="cpu")
    with torch.no_grad():
        model._network.decode_head.classifier.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        model(pictures(1, 64, 64))


RECIPE = """
import pickle, sys
import numpy as np
from remotesam_geo.model import ContourModel
recipe = pickle.loads(bytes.fromhex(sys.argv[1]))
model = ContourModel.open(recipe)
assert ContourModel.open(recipe) is model
np.save(sys.argv[3], model(np.load(sys.argv[2])))
"""


def test_another_process_finds_the_same_contours(folder, tmp_path):
    model = ContourModel.from_pretrained(folder, resolution=64, device="cpu", precision="float32")
    images = pictures(2, 48, 48)
    np.save(tmp_path / "images.npy", images)
    recipe = pickle.dumps(model.recipe)
    assert len(recipe) < 1000
    places = [str(tmp_path / "images.npy"), str(tmp_path / "codes.npy")]
    subprocess.run([sys.executable, "-c", RECIPE, recipe.hex(), *places], check=True)
    np.testing.assert_array_equal(np.load(places[1]), model(images))
    with pytest.raises(ModelError, match="another process cannot open"):
        _ = ContourModel(segformer(), device="cpu").recipe


def test_the_identity_can_be_pinned(folder):
    model = ContourModel.from_pretrained(folder, device="cpu", precision="float32")
    assert model.origin.source == str(folder)
    ContourModel.from_pretrained(folder, device="cpu", sha256=model.origin.sha256)
    with pytest.raises(ModelError, match="not the pinned"):
        ContourModel.from_pretrained(folder, device="cpu", sha256="0" * 64)


# --- what is no contour network ---------------------------------------------------------------


def test_two_channels_are_no_contour(tmp_path):
    segformer(labels=2).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has 2 channels"):
        ContourModel.from_pretrained(tmp_path)


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_is_never_opened(folder, tmp_path):
    mark = tmp_path / "executed"
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(ModelError, match=r"lacks model\.safetensors.*safetensors only"):
        ContourModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    ContourModel.from_pretrained(tmp_path, device="cpu", precision="float32")
    assert not mark.exists()


@pytest.mark.parametrize("model_type", ["segformer", "unheard-of"])
def test_code_that_comes_with_a_checkpoint_is_not_run(folder, tmp_path, model_type):
    mark = tmp_path / "executed"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = model_type
    config["auto_map"] = {
        "AutoConfig": "evil.Config",
        "AutoModelForSemanticSegmentation": "evil.Model",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()")
    if model_type == "segformer":  # transformers' own class is taken
        network = ContourModel.from_pretrained(tmp_path, device="cpu", precision="float32")._network
        assert isinstance(network, SegformerForSemanticSegmentation)
    else:
        with pytest.raises(ModelError, match="holds no contour network"):
            ContourModel.from_pretrained(tmp_path)
    assert not mark.exists()


def test_damaged_and_unfit_weights_are_explained(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="cut short or damaged"):
        ContourModel.from_pretrained(tmp_path)
    state = load_file(folder / "model.safetensors")
    state["decode_head.klassifier.bias"] = state.pop("decode_head.classifier.bias")
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"missing_keys: decode_head\.classifier\.bias"):
        ContourModel.from_pretrained(tmp_path)
    state = load_file(folder / "model.safetensors")
    state["decode_head.classifier.bias"] = torch.zeros(3)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"holds no contour network|do not fit"):
        ContourModel.from_pretrained(tmp_path)
    path.write_bytes(whole)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="holds no contour network"):
        ContourModel.from_pretrained(tmp_path)


def test_what_is_missing_is_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"could not be downloaded") as error:
        ContourModel.from_pretrained()
    text = str(error.value)
    assert f"https://huggingface.co/{RELEASED.repo}/resolve/main/" in text
    assert "config.json, model.safetensors" in text
    with pytest.raises(ModelError, match=r"there is no '\./nowhere'"):
        ContourModel.from_pretrained("./nowhere")
    with pytest.raises(InputError, match="40 digits"):
        ContourModel.from_pretrained("them/theirs")
    with pytest.raises(InputError, match="is a folder"):
        ContourModel.from_pretrained(tmp_path, revision="main")


def test_files_put_by_hand_are_found(folder, tmp_path, monkeypatch):
    """Where the message above says."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    place = tmp_path / "remotesam_geo" / "DirectSAM-EntitySeg-1024px-0501"
    shutil.copytree(folder, place)
    model = ContourModel.from_pretrained(device="cpu", resolution=64)
    assert model(pictures(1, 32, 32)).shape == (1, 32, 32)
    assert model.origin.source == RELEASED.repo
