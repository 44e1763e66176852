"""The released size against the published network's numbers, and against the plain one.

The published network's answers (in float64, with weights and pictures that anyone can draw again) are
in `tests/data/parity/reference.npz`.
"""

import numpy as np
import pytest
import torch

from remotesam_geo.model import RemoteSAMModel
from remotesam_geo.model.hardware import fast_at_bfloat16
from remotesam_geo.model.inference import Arrangement, InferenceEngine, keep_freed_memory
from tests.model.reference import CASES, PARITY, picture, pixel_values, reference_model, tokens

pytestmark = pytest.mark.timeout(1200)

GPU = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(scope="module")
def model() -> RemoteSAMModel:
    keep_freed_memory()
    return reference_model()


@pytest.fixture(scope="module")
def published() -> dict[str, np.ndarray]:
    with np.load(PARITY / "reference.npz") as file:
        return dict(file)


def case(published: dict[str, np.ndarray], name: str):
    """Picture 1 x S x S x 3, token ids and mask of one case."""
    image = picture(int(published[f"{name}/image_seed"]))[None]
    return image, *tokens(published[f"{name}/token_ids"].tolist())


def sampled(feature: torch.Tensor) -> torch.Tensor:
    _, C, _, W = feature.shape
    return feature[0, :: C // 8, :: W // 14, :: W // 14]


def check_plain(model: RemoteSAMModel, published: dict[str, np.ndarray], name: str) -> None:
    image, ids, mask = case(published, name)
    count = int(mask.sum())
    met: list[list[torch.Tensor]] = []
    hook = model.backbone.cim.register_forward_hook(lambda _, args, fused: met.extend((args[0], fused)))
    with torch.inference_mode():
        text = model.text(ids, mask)
        logits = model(pixel_values(image, model.config).float(), ids, mask).logits
    hook.remove()
    expected = {key: torch.from_numpy(published[f"{name}/{key}"]) for key in ("text_hidden", "logits")}
    assert (text[0, :count] - expected["text_hidden"]).abs().max() < 1e-5
    for maps, kind in zip(met, ("stage", "fused"), strict=True):
        for index, feature in enumerate(maps):
            reference = torch.from_numpy(published[f"{name}/{kind}{index}"])
            difference = (sampled(feature) - reference).abs()
            assert difference.mean() < 4e-3, (kind, index)
            assert difference.max() < 4e-2, (kind, index)
    assert (logits[0, :, ::8, ::8] - expected["logits"]).abs().max() < 2e-3
    p = logits.double().softmax(1)[0, 1]
    ours = [p.mean(), p.max(), p.min(), (p > 0.5).double().mean()]
    assert np.abs(np.array(ours) - published[f"{name}/prob_stats"]).max() < 1e-3


def test_the_plain_network_is_the_published_one(model, published):
    check_plain(model, published, "long")


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES[:2])
def test_the_plain_network_is_the_published_one_in_every_case(model, published, name):
    check_plain(model, published, name)


def differences(device: str, dtype: torch.dtype, model: RemoteSAMModel, published):
    """Per case: how far the engine's probabilities are, and where the masks agree."""
    engine = InferenceEngine(model, Arrangement.choose(torch.device(device), dtype))
    looks: dict[int, object] = {}
    for name in CASES:
        image, ids, mask = (m if isinstance(m, np.ndarray) else m.to(device) for m in case(published, name))
        seed = int(published[f"{name}/image_seed"])
        if seed not in looks:
            looks[seed] = engine.look(torch.from_numpy(image).to(device))
        p = engine.ask(looks[seed], engine.encode(ids, mask), mask).cpu()[0, ::8, ::8]
        logits = torch.from_numpy(published[f"{name}/logits"]).double()
        expected = logits.softmax(0)[1]
        yield name, (p - expected).abs(), (p > 0.5) == (expected > 0.5)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_the_engine_in_float32_gives_the_published_answers(model, published, device):
    for name, difference, _ in differences(device, torch.float32, model, published):
        assert difference.max() < 5e-5, name


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_the_engine_in_bfloat16_gives_nearly_the_published_answers(model, published, device):
    if not fast_at_bfloat16(torch.device(device)):
        pytest.skip('takes minutes in emulation; precision="auto" is float32 here')
    for name, difference, agree in differences(device, torch.bfloat16, model, published):
        assert difference.mean() < 2e-3, name
        assert difference.max() < 2e-2, name
        assert agree.double().mean() >= 0.99, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_other_weights_and_pictures_hold_as_well(seed):
    """Against the plain network in float64, at full size."""
    model = reference_model(seed=seed)
    image, (ids, mask) = picture(100 + seed)[None], tokens([101, 2417, 8117, 2015, 2379, 102])
    ours = {}
    for dtype in (torch.float32, torch.bfloat16):
        engine = InferenceEngine(model, Arrangement.choose(torch.device("cpu"), dtype))
        seen = engine.look(torch.from_numpy(image))
        ours[dtype] = engine.ask(seen, engine.encode(ids, mask), mask)[0]
    del engine, seen
    network = model.double()
    with torch.inference_mode():
        truth = network(pixel_values(image, model.config), ids, mask).logits.softmax(1)[0, 1]
    assert (ours[torch.float32] - truth).abs().max() < 5e-5
    difference = (ours[torch.bfloat16] - truth).abs()
    assert difference.mean() < 2e-3
    assert difference.max() < 2e-2
    assert ((ours[torch.bfloat16] > 0.5) == (truth > 0.5)).double().mean() >= 0.99
