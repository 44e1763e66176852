"""Files that training and evaluation read, damaged or hostile: never trusted, never silently wrong."""

import contextlib
import copy
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from remotesam_geo.errors import ModelError
from remotesam_geo.learning.datasets import (
    DamageError,
    Example,
    Mask,
    Picture,
    Thing,
    Triplet,
    TripletStore,
    load_plain_pickle,
    read_captions,
    read_coco,
    read_counts,
    read_dota,
    read_published,
    read_refsegrs,
    read_rsvg,
    read_voc,
    write_captions,
    write_coco,
    write_counts,
    write_dota,
    write_published,
    write_refsegrs,
    write_rsvg,
    write_store,
    write_voc,
)
from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel, convert
from remotesam_geo.model.pth import read_pth
from remotesam_geo.model.weights import configuration, expected_tensors, locate, read
from tests.campaign import CASES
from tests.scenes.mutations import mutate

REFS = [
    {"ref_id": 0, "ann_id": 7, "split": "test", "file_name": "a.png", "sentences": [{"raw": "the ship", "sent_id": 1}]},
    {"ref_id": 1, "ann_id": 8, "split": "val", "score": 0.5, "box": (1, 2), "none": None, "raw": b"x", "big": 2**70},
]  # fmt: skip


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes with a few bits flipped, some bytes cut out, repeated or replaced, or the end missing."""
    changed = bytearray(data)
    way = int(rng.integers(4))
    place = int(rng.integers(len(data)))
    if way == 0:
        for spot in rng.integers(len(data), size=int(rng.integers(1, 5))):
            changed[spot] ^= 1 << int(rng.integers(8))
    elif way == 1:
        changed = changed[:place]
    elif way == 2:
        changed[place : place + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(0, 9)))
    else:
        changed[place:place] = changed[place : place + int(rng.integers(1, 40))]
    return bytes(changed)


def plain(value) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str | int | float | bytes | None) and plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or type(value) in (str, bytes, int, float, bool)


def nested_tuples(depth: int) -> bytes:
    return b")" + b"\x85" * depth


BOMBS = {
    "memo of 4 GB": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "memo of 32 GB": b"\x80\x02Nr\xff\xff\xff\xff.",
    "memo by text": b"Np99999999999\n.",
    "buffer of 1 TB": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "bytes of 1 TB": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "text of 1 TB": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",
    "text of 4 GB": b"\x80\x02X\xff\xff\xff\xff.",
    "number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "frame of 1 TB": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    "out of band": b"\x80\x05\x97.",
    "a key that overflows the stack": b"\x80\x02}" + nested_tuples(200_000) + b"Ns.",
    "keys that do": b"\x80\x02}(" + nested_tuples(200_000) + b"Nu.",
    "a mapping of such": b"(" + nested_tuples(200_000) + b"Nd.",
    "a set of such": b"\x80\x04\x8f(" + nested_tuples(200_000) + b"\x90.",
    "a frozen set of such": b"\x80\x04(" + nested_tuples(200_000) + b"\x91.",
    "a long number": b"L" + b"9" * 100_000 + b"L\n.",
}


def test_a_small_pickle_takes_little_memory():
    """In a process that may not have more: without care these take gigabytes, or end the process."""
    code = (
        "import pickle, resource, sys\n"
        "from remotesam_geo.learning.datasets import DamageError, load_plain_pickle\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)\n"
        "for what, data in pickle.load(sys.stdin.buffer).items():\n"
        "    try:\n"
        "        print(f'{what}:', load_plain_pickle(data))\n"
        "    except DamageError:\n"
        "        print(f'{what}: refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(BOMBS), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    harmless = ("memo of 4 GB", "memo of 32 GB", "memo by text", "frame of 1 TB")
    expected = [f"{what}: {None if what in harmless else 'refused'}" for what in BOMBS]
    assert done.stdout.decode().splitlines() == expected


def test_a_value_full_of_itself_is_shown_shortly(tmp_path):
    laughs = ["x"]
    for _ in range(60):
        laughs = [laughs] * 10
    itself = []
    itself.append(itself)
    for odd in (laughs, itself, {"a": laughs}):
        (tmp_path / "instances.json").write_text('{"images": [], "annotations": [], "categories": []}')
        (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([{"split": odd}]))
        with pytest.raises(DamageError, match="a reference has split="):
            list(read_published(tmp_path))


def test_plain_pickles_of_every_protocol_are_read():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert load_plain_pickle(pickle.dumps(REFS[:1], protocol=protocol)) == REFS[:1]
    for protocol in (3, 4, 5):
        assert load_plain_pickle(pickle.dumps(REFS, protocol=protocol)) == REFS


@pytest.mark.parametrize("value", [{1, 2}, frozenset([1]), bytearray(b"x"), 1j, np.float32(1), Path("x"), {(1,): 2}])
def test_anything_else_is_refused(value):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(DamageError, match="pickle"):
            load_plain_pickle(pickle.dumps([value], protocol=protocol))


class TestCampaigns:
    def test_pickles(self, campaign):
        counts = campaign(
            "Pickle and weight files",
            "pickles of references, bytes flipped, cut, replaced, repeated",
        )
        rng = np.random.default_rng(1)
        whole = [pickle.dumps(REFS[:1] if p < 3 else REFS, protocol=p) for p in range(6)]

        def check(data):
            assert plain(load_plain_pickle(data))

        for _ in range(CASES):
            data = flipped(whole[int(rng.integers(6))], rng)
            counts.case(lambda data=data: check(data))

    def test_weights(self, campaign, tmp_path):
        counts = campaign("Pickle and weight files", ".pth and safetensors files, mutated in the same way")
        rng = np.random.default_rng(2)
        torch.manual_seed(0)
        model = RemoteSAMModel(SMALL)
        truth = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        torch.save({"model": truth, "epoch": 3}, tmp_path / "w.pth")
        folder = tmp_path / "folder"
        convert(tmp_path / "w.pth", folder, config=SMALL)
        data = {path: path.read_bytes() for path in (tmp_path / "w.pth", folder / "model.safetensors")}
        # What describes the tensors is small beside them, and where mistakes are made.
        with zipfile.ZipFile(tmp_path / "w.pth") as archive:
            entry = next(e for e in archive.infolist() if e.filename.endswith("data.pkl"))
        ends = {
            "w.pth": (0, entry.header_offset + entry.file_size + 200),
            "model.safetensors": (0, 20_000),
        }

        expected = expected_tensors(RemoteSAMModel, SMALL)

        def check(path):
            state, _ = read(locate(path if path.suffix == ".pth" else folder), expected)
            assert all(torch.equal(state[name], truth[name]) for name in expected), path

        for _ in range(CASES // 4):
            path = list(data)[int(rng.integers(2))]
            start, end = ends[path.name]
            if way := int(rng.integers(3)):
                start, end = (0, len(data[path])) if way == 1 else (len(data[path]) - 9000, len(data[path]))
            path.write_bytes(data[path][:start] + flipped(data[path][start:end], rng) + data[path][end:])
            counts.case(lambda path=path: check(path))
            path.write_bytes(data[path])

    def test_configurations(self, campaign, tmp_path):
        counts = campaign("Pickle and weight files", "config.json of a model folder, one node mutated")
        rng = np.random.default_rng(3)
        RemoteSAMModel(SMALL).save_pretrained(tmp_path)
        whole = json.loads((tmp_path / "config.json").read_text())

        def check():
            found = locate(tmp_path)
            expected_tensors(RemoteSAMModel, configuration(found, None))

        for _ in range(CASES // 4):
            changed, _ = mutate(whole, rng)
            text = json.dumps(changed)
            (tmp_path / "config.json").write_text(text if rng.integers(9) else text[: int(rng.integers(len(text)))])
            counts.case(check)

    @pytest.mark.parametrize("layout", ["coco", "voc", "rsvg", "dota", "captions", "counts", "published", "refsegrs"])
    def test_labels(self, campaign, tmp_path, layout):
        counts = campaign("Label files", f"labels of the layout {layout}, mutated")
        rng = np.random.default_rng(sum(layout.encode()))
        write, read, files = LAYOUTS[layout]
        write(tmp_path)
        truth = list(read(tmp_path))
        assert truth
        places = [path for pattern in files for path in sorted(tmp_path.glob(pattern))]

        def check():
            for one in read(tmp_path):
                assert isinstance(one, Example | Triplet)

        for _ in range(CASES // 4):
            path = places[int(rng.integers(len(places)))]
            before = path.read_bytes()
            if path.suffix in (".json", ".p") and rng.integers(4):
                form = json if path.suffix == ".json" else pickle
                changed, _ = mutate(form.loads(before), rng)
                with contextlib.suppress(RecursionError):  # pickle.dumps cannot nest as deep as a pickle
                    text = form.dumps(changed)
                    path.write_bytes(text if isinstance(text, bytes) else text.encode())
            else:
                path.write_bytes(flipped(before, rng))
            counts.case(check)
            path.write_bytes(before)

    def test_stores(self, campaign, tmp_path):
        counts = campaign("Label files", "shards, pictures and the table of contents of a store of triplets")
        rng = np.random.default_rng(5)
        store = write_store(triplets(), tmp_path / "store", shard=2)
        truth = [(t.expression, t.mask, t.kind, t.picture.read().tobytes()) for t in store]
        files = sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())

        def check():
            read = [
                (t.expression, t.mask, t.kind, t.picture.read().tobytes()) for t in TripletStore(tmp_path / "store")
            ]
            assert read == truth

        for _ in range(CASES):
            path = files[int(rng.integers(len(files)))]
            before = path.read_bytes()
            path.write_bytes(flipped(before, rng))
            counts.case(check)
            path.write_bytes(before)


TEXT = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 30522,
}
SMALL = RemoteSAMConfig(
    image_size=32, widths=(4, 8, 16, 32), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2), window_size=4, decoder_width=4,
    interaction_heads=2, interaction_key_width=4, interaction_value_width=4, text_config=TEXT,
)  # fmt: skip


def picture(name: str) -> Picture:
    return Picture.of(name, np.full((20, 30, 3), 7, np.uint8))


def examples() -> list[Example]:
    boxes = ((1.0, 2.0, 9.0, 8.0), (10.0, 3.0, 20.0, 18.0))
    things = tuple(
        Thing(label="ship", box=b, mask=Mask.of_box(b, (20, 30)), expressions=("the ship",), id=str(k))
        for k, b in enumerate(boxes)
    )
    return [
        Example(
            picture=picture(name),
            things=things,
            captions=("a ship",),
            counts={"ships": 2},
            split="test",
        )
        for name in ("a.png", "b.png")
    ]


def triplets() -> list[Triplet]:
    mask = Mask.of_box((1, 2, 9, 8), (20, 30))
    return [
        Triplet(picture=picture(f"{k}.png"), expression=f"ship {k}", mask=mask, kind="one-to-one", label="ship",
                split="test", id=str(k))
        for k in range(4)
    ]  # fmt: skip


LAYOUTS = {
    "coco": (
        lambda folder: write_coco(examples(), folder),
        lambda folder: read_coco(folder / "annotations.json", folder / "images"), ("*.json",),
    ),
    "voc": (
        lambda folder: write_voc(examples(), folder),
        lambda folder: read_voc(folder / "Annotations", folder / "JPEGImages"), ("Annotations/*",),
    ),
    "rsvg": (
        lambda folder: write_rsvg(examples(), folder), lambda folder: read_rsvg(folder, "test"),
        ("Annotations/*", "test.txt"),
    ),
    "dota": (
        lambda folder: write_dota(examples(), folder),
        lambda folder: read_dota(folder / "labelTxt", folder / "images"), ("labelTxt/*",),
    ),
    "captions": (
        lambda folder: write_captions(examples(), folder),
        lambda folder: read_captions(folder / "dataset.json", folder / "images"), ("*.json",),
    ),
    "counts": (
        lambda folder: write_counts(examples(), folder),
        lambda folder: read_counts(folder / "counts.json", folder / "images"), ("*.json",),
    ),
    "published": (lambda folder: write_published(triplets(), folder), read_published, ("*.json", "*.p")),
    "refsegrs": (
        lambda folder: write_refsegrs(triplets(), folder), lambda folder: read_refsegrs(folder, "test"), ("*.txt",),
    ),
}  # fmt: skip


class TestWeights:
    def test_a_file_of_tensors_that_claim_more_than_it_has(self, tmp_path):
        one = torch.zeros(1000)
        wide = {"wide": torch.zeros(1).expand(10_000, 10_000)}
        shared = {str(k): one for k in range(100)}
        for name, weights in (("wide", wide), ("shared", shared)):
            torch.save({"model": weights}, tmp_path / f"{name}.pth")
            with pytest.raises(ModelError, match="claim far more bytes than the file has"):
                read_pth(tmp_path / f"{name}.pth")

    def test_tuples_that_overflow_the_stack(self, tmp_path):
        path = tmp_path / "deep.pth"
        torch.save({"model": {"a": torch.zeros(1)}}, path)
        with zipfile.ZipFile(path) as archive:
            entries = {e.filename: archive.read(e) for e in archive.infolist()}
        for code in (
            b"\x80\x02}" + nested_tuples(200_000) + b"Ns.",
            b"\x80\x02" + nested_tuples(101) + b".",
        ):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for name, data in entries.items():
                    archive.writestr(name, code if name.endswith("data.pkl") else data)
            with pytest.raises(ModelError, match="nests tuples more than 100 deep"):
                read_pth(path)

    @pytest.mark.parametrize(
        "change",
        [
            {"depths": [10**9, 1, 1, 1]}, {"widths": [10**12] * 4}, {"mlp_ratio": "4"}, {"mlp_ratio": 1e300},
            {"mlp_ratio": float("nan")}, {"norm_eps": None}, {"image_mean": ["a", 1, 1]}, {"image_std": 5},
            {"text_config": {"num_hidden_layers": 10**9}}, {"text_config": {"hidden_size": -8}},
            {"text_config": {"vocab_size": "x"}}, {"text_config": {"num_attention_heads": 0}}, {"dtype": 5},
            {"text_config": [5]}, {"widths": None}, {"depths": {}}, {"heads": "1122"}, {"model_type": ["remotesam"]},
        ],
    )  # fmt: skip
    def test_a_configuration_of_no_network(self, tmp_path, change):
        SMALL.save_pretrained(tmp_path)
        save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
        path = tmp_path / "config.json"
        doc = copy.deepcopy(json.loads(path.read_text()))
        for key, value in change.items():
            doc[key] = doc[key] | value if isinstance(doc.get(key), dict) and isinstance(value, dict) else value
        path.write_text(json.dumps(doc))
        with pytest.raises(ModelError):
            RemoteSAMModel.from_pretrained(tmp_path)
