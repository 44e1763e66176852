"""Weights in: any layout gives the same model, and whatever is wrong is one clear error of ours."""

import argparse
import copy
import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from remotesam_geo import RemoteSAM
from remotesam_geo.errors import InputError, ModelError, RemoteSAMError
from remotesam_geo.model import (
    ContourModel,
    RemoteSAMConfig,
    RemoteSAMModel,
    RemoteSAMPredictor,
    RemoteSAMProcessor,
    convert,
    weights_sha256,
)
from remotesam_geo.model import pth as pth_module
from remotesam_geo.model import weights as checkpoint_module
from remotesam_geo.model.weights import expected_tensors, locate, read
from tests.model.reference import reference_model

TEXT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 24,
    "vocab_size": 30522,
}
CONFIG = RemoteSAMConfig(
    image_size=32,
    widths=(4, 8, 16, 32),
    depths=(1, 1, 1, 1),
    heads=(1, 1, 2, 2),
    window_size=4,
    decoder_width=4,
    interaction_heads=2,
    interaction_key_width=4,
    interaction_value_width=4,
    text_config=TEXT,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = RemoteSAMModel(CONFIG).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor), alpha=0.1)
    return model


def published(model, **changes):
    """A checkpoint with everything a training script leaves in it."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(copy.deepcopy(model).parameters(), lr=3e-5)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 39,
        "args": argparse.Namespace(img_size=896, swin_type="base", lr=3e-5, ddp=True),
        **changes,
    }


@pytest.fixture(scope="module")
def pth(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "published.pth"
    torch.save(published(model), path)
    return path


@pytest.fixture(scope="module")
def folder(pth, tmp_path_factory):
    path = tmp_path_factory.mktemp("folder") / "model"
    convert(pth, path, config=CONFIG)
    return path


@pytest.fixture(scope="module")
def files(pth, folder):
    return [pth, folder / "model.safetensors"]


@pytest.fixture(scope="module")
def expected():
    return expected_tensors(RemoteSAMModel, CONFIG)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def refused(tmp_path, content, message):
    """Write a checkpoint, see it refused, and give the words of the refusal."""
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelError, match=message) as error:
        read(locate(path), expected_tensors(RemoteSAMModel, CONFIG))
    assert str(path) in str(error.value)
    return str(error.value)


# --- round trips ------------------------------------------------------------------------------


@pytest.mark.parametrize("spare", [0, checkpoint_module.SPARE])  # mapped often, and once
def test_a_published_file_gives_the_model(model, pth, spare, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "SPARE", spare)
    loaded = RemoteSAMModel.from_pretrained(pth, config=CONFIG)
    assert same(model, loaded)
    assert not loaded.training
    for (name, buffer), (_, want) in zip(loaded.named_buffers(), model.named_buffers(), strict=True):
        assert torch.equal(buffer, want), name
    assert loaded.origin.source == str(pth.resolve())
    assert loaded.origin.revision is None
    inputs = (torch.rand(1, 3, 32, 32), torch.tensor([[101, 2911, 102]]))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(*inputs).logits, model(*inputs).logits)


def test_every_layout_holds_the_same_model_with_the_same_identity(model, pth, folder, tmp_path):
    loaded = RemoteSAMModel.from_pretrained(folder)
    assert same(model, loaded)
    sizes = RemoteSAMConfig.__annotations__.keys() - {"text_config"}
    assert all(getattr(loaded.config, size) == getattr(CONFIG, size) for size in sizes)
    assert all(getattr(loaded.config.text_config, size) == TEXT[size] for size in TEXT)
    assert loaded.name_or_path == str(folder)
    loaded.save_pretrained(tmp_path / "saved")
    assert str(folder) not in (tmp_path / "saved" / "config.json").read_text()
    again = RemoteSAMModel.from_pretrained(tmp_path / "saved")
    assert same(model, again)
    auto = AutoModel.from_pretrained(folder)
    assert isinstance(auto, RemoteSAMModel)
    assert same(model, auto)
    assert isinstance(AutoConfig.from_pretrained(folder), RemoteSAMConfig)
    from_pth = RemoteSAMModel.from_pretrained(pth, config=CONFIG)
    identities = {weights_sha256(model)} | {m.origin.sha256 for m in (from_pth, loaded, again, auto)}
    assert len(identities) == 1
    assert loaded.origin.in_memory == loaded.origin.sha256
    convert(folder, tmp_path / "twice", sha256=identities.pop())
    assert (tmp_path / "twice" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_the_identity_is_what_the_documentation_says(model):
    lines = []
    for name, tensor in sorted(model.state_dict().items()):
        data = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        lines.append(f"{name} {tensor.numpy().dtype} {tuple(tensor.shape)} {data}\n")
    want = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert weights_sha256(model) == want


def test_any_change_of_a_weight_changes_the_identity(model):
    changed = copy.deepcopy(model)
    before = weights_sha256(changed)
    with torch.no_grad():
        changed.classifier.conv1_1.bias[0] += 1e-6
    assert weights_sha256(changed) != before


def test_the_folder_is_complete_and_plain(folder, model):
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    state = load_file(folder / "model.safetensors")
    assert state.keys() == model.state_dict().keys()
    processor = RemoteSAMProcessor.from_pretrained(folder)
    assert processor.config.image_size == 32
    assert processor.tokenize("airplane").input_ids[0, :3].tolist() == [101, 13297, 102]


@pytest.mark.parametrize("prefix", ["module.", "module.module."])
def test_prefixes_of_parallel_training_and_derived_buffers_are_tolerated(model, tmp_path, prefix):
    state = model.state_dict() | {
        "backbone.layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=int),
        "text_encoder.embeddings.position_ids": torch.arange(24)[None],
    }
    path = tmp_path / "ddp.pth"
    torch.save({"model": {prefix + name: tensor for name, tensor in state.items()}}, path)
    assert same(model, RemoteSAMModel.from_pretrained(path, config=CONFIG))


def test_bare_weights_are_tolerated(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    assert same(model, RemoteSAMModel.from_pretrained(tmp_path / "bare.pth", config=CONFIG))


def test_half_precision_is_kept_on_disk_and_widened_in_memory(model, tmp_path):
    half = copy.deepcopy(model).to(torch.bfloat16)
    path = tmp_path / "half.pth"
    torch.save({"model": half.state_dict()}, path)
    loaded = RemoteSAMModel.from_pretrained(path, config=CONFIG)
    assert loaded.dtype == torch.float32
    assert same(half.float(), loaded)
    assert loaded.origin.in_memory == weights_sha256(loaded) != loaded.origin.sha256
    identity = convert(path, tmp_path / "half", config=CONFIG).sha256
    assert identity == loaded.origin.sha256 == weights_sha256(copy.deepcopy(model).bfloat16())
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16, torch.int64}
    narrow = RemoteSAMModel.from_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    assert same(half.bfloat16(), narrow)
    processor = RemoteSAMProcessor(CONFIG)
    assert RemoteSAMPredictor(loaded, processor, device="cpu").recipe.weights == identity
    with pytest.raises(ModelError, match="not as they were loaded"):  # as another would load them
        _ = RemoteSAMPredictor(narrow, processor, device="cpu").recipe


def test_loaded_weights_do_not_hang_on_the_file(pth, model, tmp_path):
    """A model saved over the folder it came from, as training scripts do."""
    for source in (pth, tmp_path / "own"):
        if source.suffix != ".pth":
            convert(pth, source, config=CONFIG)
        target = tmp_path / "copy.pth" if source.suffix else source
        if source.suffix:
            target.write_bytes(source.read_bytes())
        loaded = RemoteSAMModel.from_pretrained(target, config=CONFIG)
        if source.suffix:
            target.write_bytes(b"")
        else:
            loaded.save_pretrained(target)
        assert same(model, loaded)


# --- what does not fit ------------------------------------------------------------------------


def test_missing_renamed_unknown_and_misshapen_keys_are_listed(model, tmp_path):
    state = dict(model.state_dict())
    state["backbone.norm0.wieght"] = state.pop("backbone.norm0.weight")
    del state["classifier.conv1_1.bias"]
    state["classifier.conv1_1.weight"] = torch.zeros(3, 4, 1, 1)
    state["head.weight"] = torch.zeros(2)
    state["backbone.norm1.bias"] = torch.zeros(8, dtype=torch.int64)
    text = refused(tmp_path, {"model": state}, "does not fit")
    assert "2 missing: backbone.norm0.weight (4), classifier.conv1_1.bias (2)" in text
    assert "2 unknown: backbone.norm0.wieght (was backbone.norm0.weight?), head.weight" in text
    assert "1 misshapen: classifier.conv1_1.weight is 3x4x1x1, should be 2x4x1x1" in text
    assert "1 of another type: backbone.norm1.bias is torch.int64" in text


def test_a_long_list_is_shortened_with_its_count(model, tmp_path):
    state = {f"other.{name}": tensor for name, tensor in model.state_dict().items()}
    text = refused(tmp_path, {"model": state}, f"{len(state)} missing")
    assert f"{len(state)} unknown" in text
    assert f"and {len(state) - 12} more" in text
    assert len(text) < 4000


def test_weights_of_another_size_name_the_remedy(pth):
    with pytest.raises(ModelError, match="config= that these weights"):
        RemoteSAMModel.from_pretrained(pth)  # the released size


def test_one_tensor_with_the_prefix_is_no_prefix(model, tmp_path):
    state = dict(model.state_dict())
    state["module.backbone.norm0.weight"] = state.pop("backbone.norm0.weight")
    refused(tmp_path, {"model": state}, r"unknown: module\.backbone\.norm0\.weight")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "a list, not a dict"),
        ({"model": {}}, "no weights under 'model'"),
        ({"model": [torch.zeros(1)]}, "no weights under 'model'"),
        ({"model": {"a": 1.0}}, "'a' is a float"),
        ({"model": {"a": {"b": torch.zeros(1)}}}, "'a' is a dict"),
        (
            {"model": {"a": torch.zeros(2, 2).to_sparse()}},
            "_rebuild_sparse_tensor.*Nothing was run",
        ),
        ({"model": {"a": torch.zeros(2, device="meta")}}, "_rebuild_meta_tensor.*Nothing was run"),
        ({"state_dict": {"a": torch.zeros(2)}, "epoch": 3}, "this one has 'state_dict', 'epoch'"),
        ({1: torch.zeros(2)}, "1 is a Tensor"),
    ],
)
def test_what_holds_no_weights(tmp_path, content, message):
    refused(tmp_path, content, message)


# --- identity ---------------------------------------------------------------------------------


def test_a_pinned_identity_is_held(pth, folder, model, tmp_path):
    right, wrong = weights_sha256(model), "0" * 64
    RemoteSAMModel.from_pretrained(pth, config=CONFIG, sha256=right.upper())
    for source in (pth, folder):
        with pytest.raises(ModelError, match=f"{right}, not the pinned {wrong}"):
            RemoteSAMModel.from_pretrained(source, config=CONFIG, sha256=wrong)
    with pytest.raises(ModelError, match="not the pinned"):
        convert(pth, tmp_path / "new", config=CONFIG, sha256=wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_converted_file_that_rots_says_so(folder, tmp_path):
    path = tmp_path / "model.safetensors"
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ModelError, match="damaged: its tensors have the SHA-256"):
        RemoteSAMModel.from_pretrained(tmp_path)


# --- damage -----------------------------------------------------------------------------------


@given(st.data())
def test_a_file_cut_short_anywhere_is_refused(files, expected, tmp_path_factory, data):
    whole = data.draw(st.sampled_from(files))
    content = whole.read_bytes()
    length = data.draw(st.integers(0, len(content) - 1))
    part = tmp_path_factory.mktemp("cut") / whole.name
    part.write_bytes(content[:length])
    source = checkpoint_module.LocalWeights(weights=part, folder=None, name="cut")
    with pytest.raises(ModelError, match=r"cut short|damaged|empty|no checkpoint") as error:
        read(source, expected)
    assert str(part) in str(error.value)


@given(st.data())
def test_a_damaged_file_is_refused_or_gives_the_same_weights(files, expected, model, tmp_path_factory, data):
    """With its identity pinned, no flipped byte anywhere gives other weights or a foreign error."""
    whole = data.draw(st.sampled_from(files))
    content = bytearray(whole.read_bytes())
    last = len(content) - 1
    where = st.one_of(st.integers(0, min(200_000, last)), st.integers(0, last))
    for place in data.draw(st.lists(where, min_size=1, max_size=3, unique=True)):
        content[place] ^= data.draw(st.integers(1, 255))
    part = tmp_path_factory.mktemp("flip") / whole.name
    part.write_bytes(content)
    source = checkpoint_module.LocalWeights(weights=part, folder=None, name="flip")
    try:
        state, _ = read(source, expected, sha256=weights_sha256(model))
    except ModelError:
        return
    want = model.state_dict()
    assert all(torch.equal(state[name], want[name]) for name in want)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!doctype html><html>", "web page"),
        (b"PK\x05\x06" + bytes(18), "damaged"),
        (b"\x89HDF\r\n\x1a\n", "no checkpoint"),
    ],
)
def test_what_a_download_may_turn_out_to_be(tmp_path, content, message):
    refused(tmp_path, content, message)


def test_the_old_format_is_refused_with_the_way_out(model, tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"model": model.state_dict()}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match=r"before 1\.6.*torch\.save\(torch\.load"):
        RemoteSAMModel.from_pretrained(path, config=CONFIG)
    torch.save(torch.load(path, weights_only=True), tmp_path / "new.pth")
    assert same(model, RemoteSAMModel.from_pretrained(tmp_path / "new.pth", config=CONFIG))


def test_a_compressed_archive_is_refused(pth, tmp_path):
    """Mapped tensors would be read from packed bytes, and a small file could unfold without end."""
    path = tmp_path / "packed.pth"
    with zipfile.ZipFile(pth) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ModelError, match="is compressed"):
        RemoteSAMModel.from_pretrained(path, config=CONFIG)


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "forged.pth"
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    pickled, forged = struct.pack("<H", 1000), struct.pack("<H", 65000)
    with zipfile.ZipFile(path) as archive:
        code = archive.read("forged/data.pkl")
    assert code.count(b"M" + pickled) == 2  # in the storage and in the shape
    replace_pickle(path, code.replace(b"M" + pickled, b"M" + forged))
    with pytest.raises(ModelError, match="is damaged"):
        RemoteSAMModel.from_pretrained(path, config=CONFIG)


def test_a_file_that_changes_while_it_is_read_is_noticed(pth, expected, model, monkeypatch):
    opened = []

    def other(path):
        opened.append(path)
        found = pth_module.read_pth(path)
        return found if len(opened) == 1 else dict(list(found.items())[1:])

    monkeypatch.setattr(checkpoint_module, "SPARE", 0)
    monkeypatch.setattr(checkpoint_module, "read_pth", other)
    with pytest.raises(ModelError, match="changed while it was read"):
        read(locate(pth), expected)


def test_an_old_torch_is_refused(pth, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    with pytest.raises(ModelError, match=r"torch 2\.9\.1\+cu128 has known holes.*2\.10"):
        RemoteSAMModel.from_pretrained(pth, config=CONFIG)


# --- malice -----------------------------------------------------------------------------------


def replace_pickle(path, code):
    """Write another pickle into a checkpoint's archive."""
    entries = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            entries[entry.filename] = archive.read(entry)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(name, code if name.endswith("data.pkl") else data)


class Payload:
    """Unpickled without care, it leaves a file behind."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def leave(path):
    Path(path).touch()


def payloads(mark):
    command = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    return {
        "os.system": Payload(os.system, f"touch {mark}"),
        "exec": Payload(exec, command),
        "eval": Payload(eval, f"__import__('pathlib').Path({str(mark)!r}).touch()"),
        "Popen": Payload(subprocess.Popen, ["touch", str(mark)]),
        "leave": Payload(leave, mark),
        "Path": Payload(Path.touch, mark),
        "torch.load": Payload(torch.load, str(mark)),
    }


NAMES = {  # what each asks for, as the refusal has to say
    "os.system": "posix.system",
    "exec": "builtins.exec",
    "eval": "builtins.eval",
    "Popen": "subprocess.Popen",
    "leave": "leave",
    "Path": "builtins.getattr",
    "torch.load": "torch.serialization.load",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("place", ["args", "optimizer", "model", "top", "namespace"])
def test_nothing_in_a_malicious_file_is_executed(model, tmp_path, kind, place):
    mark = tmp_path / "executed"
    evil = payloads(mark)[kind]
    content = {"model": dict(model.state_dict())}
    if place == "model":
        content["model"]["backbone.norm0.weight"] = evil
    elif place == "namespace":
        content["args"] = argparse.Namespace(lr=evil)
    elif place == "top":
        content = evil
    else:
        content[place] = evil
    text = refused(tmp_path, content, "Nothing was run")
    assert NAMES[kind] in text
    assert "argparse" not in text
    assert not mark.exists()


def test_the_payloads_would_be_noticed(tmp_path):
    """Unpickled as torch did for years, the same files do leave their mark."""
    for kind, evil in payloads(tmp_path / "executed").items():
        if kind == "torch.load":
            continue
        path = tmp_path / "evil.pth"
        torch.save({"model": {}, "args": evil}, path)
        result = torch.load(path, weights_only=False)["args"]
        if isinstance(result, subprocess.Popen):
            result.wait()
        assert (tmp_path / "executed").exists(), kind
        (tmp_path / "executed").unlink()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("posix", b"cposix\nsystem\n(S'touch %b'\ntR."),
        ("stack global", b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."),
        ("instance", b"(S'touch %b'\niposix\nsystem\n."),
        ("object", b"(cposix\nsystem\nS'touch %b'\no."),
        ("new object", b"\x80\x02csubprocess\nPopen\n(X\x04\x00\x00\x00truet\x81."),
        ("extension", b"\x80\x02\x82\x01."),
        (
            "build on a safe class",
            b"\x80\x02cargparse\nNamespace\n)\x81}X\x01\x00\x00\x00acos\nsystem\nsb.",
        ),
        ("no end", b"\x80\x02}"),
        ("only a stop", b"\x80\x02."),
        ("many marks", b"\x80\x02" + b"(" * 100_000),
        ("a long string", b"\x80\x02X\xff\xff\xff\x7f"),
    ],
)
def test_hand_made_pickles_are_refused(tmp_path, name, code):
    mark = tmp_path / "executed"
    path = tmp_path / "evil.pth"
    torch.save({"model": {"a": torch.zeros(1)}}, path)
    replace_pickle(path, code.replace(b"%b", str(mark).encode()))
    with pytest.raises(ModelError, match=r"refused|damaged"):
        RemoteSAMModel.from_pretrained(path, config=CONFIG)
    assert not mark.exists()


def test_a_module_named_in_a_file_is_not_imported(tmp_path):
    path = tmp_path / "evil.pth"
    torch.save({"model": {"a": torch.zeros(1)}}, path)
    replace_pickle(path, b"\x80\x02cthis\ns\n.")
    sys.modules.pop("this", None)
    with pytest.raises(ModelError, match=r"asks for this\.s"):
        RemoteSAMModel.from_pretrained(path, config=CONFIG)
    assert "this" not in sys.modules


@pytest.mark.parametrize("variable", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "NOTHING"])
def test_the_environment_cannot_open_the_door(tmp_path, variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    mark = tmp_path / "executed"
    refused(tmp_path, {"model": {}, "args": Payload(leave, mark)}, "Nothing was run")
    assert not mark.exists()


def test_what_the_program_allowed_elsewhere_is_not_allowed_here(tmp_path):
    mark = tmp_path / "executed"
    with torch.serialization.safe_globals([leave]):
        refused(tmp_path, {"model": {}, "args": Payload(leave, mark)}, "Nothing was run")
    assert not mark.exists()


def test_our_permission_does_not_outlive_the_load(pth, expected):
    before = torch.serialization.get_safe_globals()
    read(locate(pth), expected)
    assert set(torch.serialization.get_safe_globals()) == set(before)
    assert argparse.Namespace not in before


def test_files_load_in_many_threads_at_once(pth, expected, model):
    results = []

    def work():
        results.append(read(locate(pth), expected)[1].sha256)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [weights_sha256(model)] * 3


# --- where weights are looked for -------------------------------------------------------------


def test_sources_that_are_none(tmp_path, folder):
    with pytest.raises(ModelError, match=r"there is no .*released.*tiny.*folder.*\.pth.*owner/name"):
        RemoteSAMModel.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"lacks config\.json and model.safetensors"):
        RemoteSAMModel.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="pass its folder"):
        RemoteSAMModel.from_pretrained(folder / "model.safetensors")
    with pytest.raises(InputError, match="revision='main' is a commit of a hub"):
        RemoteSAMModel.from_pretrained(folder, revision="main")
    with pytest.raises(TypeError, match="takes no device_map"):
        RemoteSAMModel.from_pretrained(folder, device_map="auto")
    with pytest.raises(InputError, match="dtype='auto'"):
        RemoteSAMModel.from_pretrained(folder, dtype="auto")


def test_a_built_in_model_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint_module, "files", lambda _: tmp_path)
    with pytest.raises(ModelError, match="'tiny' is not part of this installation"):
        RemoteSAMModel.from_pretrained("tiny")


def test_a_built_in_model_that_is_there(monkeypatch, tmp_path, pth, model):
    monkeypatch.setattr(checkpoint_module, "files", lambda _: tmp_path)
    convert(pth, tmp_path / "data" / "tiny", config=CONFIG)
    loaded = RemoteSAMModel.from_pretrained("tiny")
    assert same(model, loaded)
    assert loaded.origin.source == "tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"model_type": "bert"}', "describes a 'bert' model"),
        ("{}", "describes a None model"),
        ('{"model_type": "remotesam", "image_size": 30}', "image_size=30"),
        ('{"model_type": "remotesam", "sizes": 30}', "knows no sizes"),
    ],
)
def test_a_configuration_that_cannot_be_read(tmp_path, folder, text, message):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=message):
        RemoteSAMModel.from_pretrained(tmp_path)


def test_conversion_leaves_nothing_half_done(model, tmp_path, monkeypatch):
    state = dict(model.state_dict())
    del state["classifier.conv1_1.bias"]
    torch.save({"model": state}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match="1 missing"):
        convert(tmp_path / "bad.pth", tmp_path / "new", config=CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]

    def full(descriptor):
        raise OSError(28, "No space left on device")

    torch.save({"model": model.state_dict()}, tmp_path / "good.pth")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        convert(tmp_path / "good.pth", tmp_path / "new", config=CONFIG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pth", "good.pth"]


def test_conversion_replaces_nothing(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        convert(folder, tmp_path)
    with pytest.raises(InputError, match="is there already"):
        convert(folder, tmp_path / "mine.txt")
    (tmp_path / "empty").mkdir()
    convert(folder, tmp_path / "empty")
    assert RemoteSAMModel.from_pretrained(tmp_path / "empty").config.image_size == 32


def test_safetensors_of_other_hands_load_too(model, tmp_path):
    """Written by the library itself, in its own order and without our record."""
    CONFIG.save_pretrained(tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert same(model, RemoteSAMModel.from_pretrained(tmp_path))
    header = json.loads((tmp_path / "config.json").read_text())
    assert header["model_type"] == "remotesam"


# --- memory -----------------------------------------------------------------------------------

PEAK = """
import sys
from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel
def peak():  # of this process alone; getrusage's would know of the one that started it
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) << 10
config = RemoteSAMConfig.from_pretrained(sys.argv[2])
RemoteSAMModel(RemoteSAMConfig(image_size=32, widths=(4,) * 4, heads=(1,) * 4, depths=(1,) * 4,
    window_size=2, decoder_width=2, text_config=dict(hidden_size=4, num_hidden_layers=1,
    num_attention_heads=1, intermediate_size=4, vocab_size=4)))  # what is imported late is here
before = peak()
model = RemoteSAMModel.from_pretrained(sys.argv[1], config=config)
print(before, peak(), sum(t.nbytes for t in model.state_dict().values()))
"""


def memory(path, config):
    """What a process of its own needed at most: before, after, and the size of the weights."""
    config.save_pretrained(path.parent)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(path.parent)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return [int(number) for number in done.stdout.split()]


def with_optimizer(model):
    """The checkpoint of a training run: three times the weights."""
    moments = {
        index: {
            "step": torch.tensor(1.0),
            "exp_avg": torch.rand_like(parameter),
            "exp_avg_sq": torch.rand_like(parameter),
        }
        for index, parameter in enumerate(model.parameters())
    }
    return {
        "model": model.state_dict(),
        "optimizer": {"state": moments, "param_groups": [{"params": list(moments)}]},
        "epoch": 39,
        "args": argparse.Namespace(lr=3e-5),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_optimizer_state_is_not_read(tmp_path):
    config = RemoteSAMConfig(
        image_size=32,
        widths=(32, 64, 128, 256),
        depths=(1, 1, 1, 1),
        heads=(1, 2, 4, 8),
        window_size=4,
        decoder_width=64,
        text_config={**TEXT, "hidden_size": 160, "intermediate_size": 160},
    )
    torch.save(with_optimizer(RemoteSAMModel(config)), tmp_path / "run.pth")
    before, after, weights = memory(tmp_path / "run.pth", config)
    assert weights > 24 << 20
    assert (tmp_path / "run.pth").stat().st_size > 2.9 * weights
    assert after - before < 1.5 * weights


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_of_the_released_size(tmp_path):
    """The whole process, Python and torch included, stays under 1.5 times the weights."""
    config = RemoteSAMConfig()
    torch.save(with_optimizer(reference_model()), tmp_path / "run.pth")
    _, after, weights = memory(tmp_path / "run.pth", config)
    assert weights == 966_507_148
    assert after < 1.5 * weights


@pytest.mark.parametrize("source", [{}, 5, b"tiny", ["tiny"], "a\0b", "", " ", object()])
def test_a_source_that_names_nothing_is_an_error_of_ours(source):
    for opener in (RemoteSAM.from_pretrained, RemoteSAMModel.from_pretrained, ContourModel.from_pretrained):
        with pytest.raises(RemoteSAMError):
            opener(source)
