"""The predictor: codes, sharing, batches, memory, threads, recipes."""

import json
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError, ModelError, RemoteSAMWarning
from remotesam_geo.model import PredictorRecipe, RemoteSAMModel, RemoteSAMPredictor
from remotesam_geo.model import predictor as module
from remotesam_geo.model.hardware import choose_precision, exact_float32
from remotesam_geo.model.inference import Arrangement, InferenceEngine
from remotesam_geo.model.predictor import to_codes
from tests.model.reference import picture, pixel_values, reference_model, small_config, tokens

CPU = torch.device("cpu")


class Letters:
    """A tokenizer of letters, for a network with 120 words."""

    def tokenize(self, expressions):
        rows = [tokens([1, *(ord(letter) % 100 + 3 for letter in text), 2]) for text in expressions]
        return torch.cat([ids for ids, _ in rows]), torch.cat([mask for _, mask in rows])


@pytest.fixture(scope="module")
def model() -> RemoteSAMModel:
    return reference_model(small_config(image_size=64))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([picture(seed, 64) for seed in range(3)])


def predictor(model: RemoteSAMModel, **options) -> RemoteSAMPredictor:
    return RemoteSAMPredictor(model, Letters(), **({"device": "cpu", "precision": "float32"} | options))


@pytest.fixture
def counted(monkeypatch):
    """How often each part of the engine was called, and with how many pairs."""
    calls = {"encode": [], "look": [], "ask": []}
    for name, sizes in calls.items():
        original = getattr(InferenceEngine, name)

        def counting(self, *args, sizes=sizes, original=original):
            sizes.append(len(args[-1]))
            return original(self, *args)

        monkeypatch.setattr(InferenceEngine, name, counting)
    return calls


# --- the byte -------------------------------------------------------------------------------------


@given(
    st.integers(0, 200),
    st.integers(-3, 3),
    st.floats(0, 1, width=32),
)
def test_the_byte_answers_every_threshold_exactly(step, near, free):
    """p > t is q > 200 t, for probabilities anywhere and right beside a threshold."""
    p = np.float32(step / 200)
    for _ in range(abs(near)):
        p = np.nextafter(p, np.float32(np.sign(near) + 0.5), dtype=np.float32)
    for probability in (np.clip(p, 0, 1), np.float32(free)):
        code = int(to_codes(torch.tensor([probability]))[0])
        assert code == -(-200 * Fraction(float(probability)) // 1)
        for other in (step, code, code - 1):
            assert (Fraction(float(probability)) > Fraction(other, 200)) == (code > other)


def test_what_is_no_number_is_an_error(model, images):
    broken = reference_model(small_config(image_size=64))
    with torch.no_grad():
        broken.classifier.conv1_1.bias[1] = torch.nan
    ours = predictor(broken)
    for ask in (ours.predict, ours.probabilities):
        with pytest.raises(ModelError, match="no numbers"):
            ask(images[:1], ["a"])


# --- answers -------------------------------------------------------------------------------------------


def test_answers_are_the_networks(model, images):
    ours = predictor(model)
    expressions = ["a ship", "roof", "the largest tank of all of them"]
    p = ours.probabilities(images, expressions)
    assert p.shape == (3, 3, 64, 64)
    assert p.dtype == np.float32
    network = reference_model(small_config(image_size=64)).double()
    for row, image in enumerate(images):
        ids, mask = Letters().tokenize(expressions)
        pixels = pixel_values(image[None], model.config).expand(3, -1, -1, -1)
        with torch.inference_mode():
            truth = network(pixels, ids, mask).logits.softmax(1)[:, 1].numpy()
        assert np.abs(p[row] - truth).max() < 5e-5
    codes = ours.predict(images, expressions)
    assert codes.dtype == np.uint8
    assert np.array_equal(codes, np.ceil(p.astype(np.float64) * 200))


def test_company_changes_no_bit(model, images):
    expressions = ["a ship", "roof", "tank", "a ship"]
    for batch in (1, 4):
        ours = predictor(model, batch=batch)
        together = ours.probabilities(images, expressions)
        for row in range(3):
            for column, expression in enumerate(expressions):
                alone = ours.probabilities(images[row : row + 1], [expression])
                assert np.array_equal(alone[0, 0], together[row, column])


def test_batches_agree(model, images):
    one = predictor(model).probabilities(images, ["a ship", "roof"])
    for batch in (2, 4, 5):
        several = predictor(model, batch=batch).probabilities(images, ["a ship", "roof"])
        assert np.abs(one - several).max() < 1e-5


def test_pictures_asked_different_things_share_full_batches(model, images, counted):
    asked = [["ship"], [], ["tank", "ship", "a pier"]]
    several = predictor(model, batch=4)
    answers = several.probabilities_each(images, asked)
    assert counted["ask"] == [4]
    assert len(counted["encode"]) == 3
    assert [len(maps) for maps in answers] == [1, 0, 3]
    for image, own, maps in zip(images, asked, answers, strict=True):
        for text, found in zip(own, maps, strict=True):
            assert (found == several.probabilities(image[None], [text])[0, 0]).all()
    assert several.probabilities_each(images, [[], [], []])[0].shape == (0, 64, 64)
    with pytest.raises(InputError, match="one for each"):
        several.probabilities_each(images, [["ship"]])


def test_each_expression_is_read_once_and_each_picture_seen_once(model, images, counted):
    ours = predictor(model, batch=4)
    ours.predict(images, ["a", "b", "a"])  # 6 different pairs
    assert counted == {"encode": [1, 1], "look": [1, 1, 1], "ask": [4, 4]}
    ours.predict(images[:1], ["b", "c"])
    assert counted == {"encode": [1, 1, 1], "look": [1] * 4, "ask": [4, 4, 4]}


def test_the_texts_that_are_kept_are_bounded(model, images, counted, monkeypatch):
    monkeypatch.setattr(module, "TEXTS_KEPT", 2)
    ours = predictor(model)
    for expressions in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):  # c drives b out, not a
        ours.predict(images[:1], expressions)
    assert len(counted["encode"]) == 4
    ours.predict(images[:1], ["a", "b", "c", "d"])  # more than are kept, in one question
    assert len(ours._texts) == 2


def test_eight_threads_get_the_answers_of_one(model, images):
    ours = predictor(model)
    questions = [(row, name) for row in range(3) for name in ("a", "b", "c", "d")] * 3
    before = [ours.predict(images[row : row + 1], [name]) for row, name in questions]
    fresh = predictor(model)
    with ThreadPoolExecutor(8) as pool:
        after = pool.map(lambda q: fresh.predict(images[q[0] : q[0] + 1], [q[1]]), questions)
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_no_picture_no_answer(model, images):
    assert predictor(model).predict(images[:0], ["a"]).shape == (0, 1, 64, 64)


def test_read_only_pictures_are_welcome(model, images):
    locked = images.copy()
    locked.flags.writeable = False
    ours = predictor(model)
    assert np.array_equal(ours.predict(locked, ["a"]), ours.predict(images, ["a"]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda images: images[0], r"\(64, 64, 3\)"),
        (lambda images: images[:, :32], r"B x 64 x 64 x 3"),
        (lambda images: images.astype(np.float32), "float32"),
    ],
)
def test_unusable_pictures_are_explained(model, images, change, told):
    with pytest.raises(InputError, match=told):
        predictor(model).predict(change(images), ["a"])


@pytest.mark.parametrize("expressions", ["a ship", []])
def test_unusable_expressions_are_explained(model, images, expressions):
    with pytest.raises(InputError, match="list of one or more"):
        predictor(model).predict(images, expressions)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"device": "gpu"}, '"auto", "cpu", "cuda" or "mps"'),
        ({"device": "meta"}, "these can: .*cpu"),
        ({"precision": "float16"}, "'float32' or 'bfloat16'"),
        ({"batch": 0}, "1 or more"),
        ({"batch": True}, "1 or more"),
        ({"compiled": True}, "for GPUs"),
    ],
)
def test_unusable_options_are_explained(model, options, told):
    with pytest.raises(InputError, match=told):
        predictor(model, **options)


# --- precision and memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("avx2", "float32"),
    ],
)
def test_automatic_precision_asks_the_processor(flags, expected, monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: f"flags\t\t: {flags}\n")
    monkeypatch.setattr("pathlib.Path.is_file", lambda *_, **__: True)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("float32", CPU) == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_engine_is_the_one_that_was_asked_for(model, images, precision):
    engine = InferenceEngine(model, Arrangement.choose(CPU, getattr(torch, precision)))
    ids, mask = Letters().tokenize(["a"])
    seen = engine.look(torch.from_numpy(images[:1]))
    expected = engine.ask(seen, engine.encode(ids, mask), mask).numpy()
    answers = predictor(model, precision=precision).probabilities(images[:1], ["a"])
    assert np.array_equal(answers[0], expected)


def test_float32_is_exact_whatever_the_process_allows():
    place = torch.backends.mkldnn.matmul
    before = place.fp32_precision
    try:
        place.fp32_precision = "bf16"
        with exact_float32(CPU, deterministic=True):
            assert place.fp32_precision == "ieee"
        assert place.fp32_precision == "bf16"
    finally:
        place.fp32_precision = before


def short_of_memory(largest: int, message: str = "CUDA out of memory. Tried to allocate"):
    original = InferenceEngine.ask

    def ask(self, seen, text, mask):
        if len(text) > largest:
            raise torch.OutOfMemoryError(message)
        return original(self, seen, text, mask)

    return ask


def test_batches_halve_until_they_fit(model, images, counted, monkeypatch):
    expected = predictor(model).probabilities(images, ["a", "b", "c"])
    monkeypatch.setattr(InferenceEngine, "ask", short_of_memory(2))
    ours = predictor(model, batch=8)
    with pytest.warns(RemoteSAMWarning) as told:
        answers = ours.probabilities(images, ["a", "b", "c"])
    assert [str(warning.message).split(" pairs")[0][-1] for warning in told] == ["4", "2"]
    assert told[0].filename == __file__
    assert np.abs(answers - expected).max() < 1e-5
    assert ours.batch == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(ours.probabilities(images, ["a", "b", "c"]), answers)


def test_what_never_fits_is_explained(model, images, monkeypatch):
    monkeypatch.setattr(InferenceEngine, "ask", short_of_memory(0))
    with (
        pytest.warns(RemoteSAMWarning),
        pytest.raises(ModelError, match=r"64 pixels a side does not fit .* cpu in float32"),
    ):
        predictor(model, batch=2).predict(images, ["a"])


def test_other_faults_pass(model, images, monkeypatch):
    def ask(self, seen, text, mask):
        raise RuntimeError("something else")

    monkeypatch.setattr(InferenceEngine, "ask", ask)
    with pytest.raises(RuntimeError, match="something else"):
        predictor(model, batch=2).predict(images, ["a"])


# --- recipes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved network with BERT's vocabulary."""
    text = small_config().text_config.to_dict() | {"vocab_size": 30522}
    path = tmp_path_factory.mktemp("model")
    reference_model(small_config(image_size=64, text_config=text)).save_pretrained(path)
    return path


@pytest.fixture(autouse=True)
def _forget():
    yield
    module._open_predictor.cache_clear()


def opened(folder, **options) -> RemoteSAMPredictor:
    from remotesam_geo.model import RemoteSAMProcessor

    network = RemoteSAMModel.from_pretrained(folder)
    processor = RemoteSAMProcessor.from_pretrained(folder)
    return RemoteSAMPredictor(network, processor, **({"device": "cpu"} | options))


def test_another_process_opens_the_same(folder, images, tmp_path):
    ours = opened(folder, precision="bfloat16", batch=2, deterministic=True)
    recipe = ours.recipe
    assert recipe.weights == RemoteSAMModel.from_pretrained(folder).origin.sha256
    assert (recipe.device, recipe.precision, recipe.batch) == ("cpu", "bfloat16", 2)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import json, sys, numpy as np, torch; torch.set_num_threads(int(sys.argv[3]));"
        "from remotesam_geo.model import RemoteSAMPredictor, PredictorRecipe;"
        "predictor = RemoteSAMPredictor.open(PredictorRecipe(**json.loads(sys.argv[1])));"
        "assert RemoteSAMPredictor.open(predictor.recipe) is predictor;"
        "images = np.load(sys.argv[2] + '/images.npy');"
        "np.save(sys.argv[2] + '/codes.npy', predictor.predict(images, ['a ship', 'the red roof']))"
    )
    threads = str(torch.get_num_threads())
    arguments = [json.dumps(asdict(recipe)), str(tmp_path), threads]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    theirs = np.load(tmp_path / "codes.npy")
    assert np.array_equal(theirs, ours.predict(images, ["a ship", "the red roof"]))


def test_a_recipe_is_opened_once(folder):
    recipe = opened(folder, precision="float32").recipe
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(RemoteSAMPredictor.open, [recipe] * 4))
    assert all(one is several[0] for one in several)


def test_other_weights_are_not_opened(folder):
    recipe = asdict(opened(folder).recipe) | {"weights": "0" * 64}
    with pytest.raises(ModelError, match="SHA-256"):
        RemoteSAMPredictor.open(PredictorRecipe(**recipe))


def test_weights_that_no_other_process_can_have_have_no_recipe(model, folder):
    with pytest.raises(ModelError, match="were not loaded"):
        _ = predictor(model).recipe
    trained = RemoteSAMModel.from_pretrained(folder)
    with torch.no_grad():
        trained.classifier.conv1_1.bias += 1
    with pytest.raises(ModelError, match="not as they were loaded"):
        _ = predictor(trained).recipe


# --- on a GPU ---------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_the_gpu_answers_as_the_cpu(model, images, compiled):
    here = predictor(model).probabilities(images, ["a", "b", "c"])
    options = {"device": "cuda", "batch": 4, "deterministic": True, "compiled": compiled}
    there = predictor(model, **options)
    answers = there.probabilities(images, ["a", "b", "c"])
    assert np.abs(here - answers).max() < 5e-5
    assert np.array_equal(answers, there.probabilities(images, ["a", "b", "c"]))
    near = predictor(model, **options, precision="bfloat16").probabilities(images, ["a", "b", "c"])
    assert np.abs(here - near).mean() < 5e-3


@pytest.mark.gpu
def test_eight_threads_on_one_gpu(model, images):
    ours = predictor(model, device="cuda", precision="bfloat16", batch=2)
    before = [ours.predict(images[row : row + 1], ["a", "b"]) for row in range(3)] * 8
    with ThreadPoolExecutor(8) as pool:
        after = pool.map(lambda row: ours.predict(images[row : row + 1], ["a", "b"]), [0, 1, 2] * 8)
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
