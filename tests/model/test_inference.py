"""The engine against the plain network, small: every arrangement, precision and part."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel, weights_sha256
from remotesam_geo.model.inference import Arrangement, InferenceEngine, StageFeatures, kernels
from remotesam_geo.model.inference.blocks import InferenceBlock
from remotesam_geo.model.inference.kernels import (
    FoldedUpsampling,
    NamedTensors,
    Pointwise,
    keep_freed_memory,
    packs,
    position_mean,
)
from tests.model.reference import picture, pixel_values, reference_model, small_config, tokens

CPU = torch.device("cpu")
EXPRESSIONS = ([1, 9, 2], [1, 40, 41, 42, 43, 2], list(range(1, 30)))  # the last one is cut


def plan(dtype: torch.dtype = torch.float32, **changes: object) -> Arrangement:
    """The CPU's arrangement, or another device's with the same tensors here."""
    choice = "packed" if packs(dtype) else "convolution"  # older CPUs pack no bfloat16
    chosen = {"linear": choice, "folded_upsampling": True, "fused_attention": False}
    return Arrangement(device=CPU, dtype=dtype, **(chosen | changes))


LINEARS = ("packed", "convolution", "plain")
ELSEWHERE = {"linear": "plain", "folded_upsampling": False, "fused_attention": True}


def exact(model: RemoteSAMModel, images: np.ndarray, ids: torch.Tensor, mask: torch.Tensor):
    """Probabilities B x S x S by the plain network in float64."""
    network = copy.deepcopy(model).double()
    with torch.inference_mode():
        return network(pixel_values(images, model.config), ids, mask).logits.softmax(1)[:, 1]


def answers(engine: InferenceEngine, images: np.ndarray, ids: torch.Tensor, mask: torch.Tensor):
    seen = engine.look(torch.from_numpy(images))
    return engine.ask(seen, engine.encode(ids, mask), mask)


def cases(config: RemoteSAMConfig, batch: int = 3):
    images = np.stack([picture(seed, config.image_size) for seed in range(batch)])
    rows = [tokens(ids) for ids in EXPRESSIONS[:batch]]
    return images, torch.cat([ids for ids, _ in rows]), torch.cat([mask for _, mask in rows])


@pytest.fixture(scope="module")
def model() -> RemoteSAMModel:
    return reference_model(small_config())


# --- the whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "sizes",
    [
        {"image_size": 224, "window_size": 12, "depths": (2, 2, 6, 2)},  # padded, as the released
        {"image_size": 256, "window_size": 7, "widths": (32, 64, 128, 256), "decoder_width": 64},
        {"image_size": 128, "window_size": 8},  # no padding; the last stage is one window
    ],
    ids=["12", "7", "8"],
)
def test_float32_agrees_with_the_plain_network_in_float64(sizes, seed):
    model = reference_model(small_config(**sizes), seed)
    images, ids, mask = cases(model.config, 1 + seed)
    images = np.stack([picture(seed * 10 + row, len(image)) for row, image in enumerate(images)])
    difference = answers(InferenceEngine(model), images, ids, mask) - exact(model, images, ids, mask)
    assert difference.abs().max() < 5e-5
    assert difference.abs().mean() < 5e-6


@pytest.mark.parametrize(("name", "value"), [*sorted(ELSEWHERE.items()), ("linear", "convolution")])
def test_every_arrangement_gives_the_same_answers(model, name, value):
    images, ids, mask = cases(model.config)
    here = answers(InferenceEngine(model, plan()), images, ids, mask)
    there = answers(InferenceEngine(model, plan(**{name: value})), images, ids, mask)
    assert (here - there).abs().max() < 1e-5


@pytest.mark.parametrize("changes", [{}, ELSEWHERE], ids=["cpu", "elsewhere"])
def test_bfloat16_stays_near(changes):
    model = reference_model(small_config(image_size=224, window_size=12), 3)
    images, ids, mask = cases(model.config)
    near = answers(InferenceEngine(model, plan(torch.bfloat16, **changes)), images, ids, mask)
    truth = exact(model, images, ids, mask)
    assert near.dtype == torch.float32
    assert (near - truth).abs().mean() < 4e-3
    assert (near - truth).abs().max() < 4e-2
    assert ((near > 0.5) == (truth > 0.5)).double().mean() > 0.98


def test_nearly_equal_tokens_are_no_trouble(model):
    """The plain network's second instance norm enlarges rounding there; the engine's must not."""
    network = copy.deepcopy(model)
    with torch.no_grad():  # all words nearly the same
        words = network.text_encoder.embeddings
        for table in (words.word_embeddings, words.position_embeddings):
            table.weight.mul_(1e-3)
    images, ids, mask = cases(model.config)
    truth = exact(network, images, ids, mask)
    ours = answers(InferenceEngine(network), images, ids, mask)
    with torch.inference_mode():
        plain = network(pixel_values(images, model.config).float(), ids, mask).logits.softmax(1)[:, 1]
    assert (ours - truth).abs().max() < 1e-4
    assert (ours - truth).abs().max() < 0.2 * (plain - truth).abs().max()


def test_a_batch_equals_its_members(model):
    for changes in ({}, ELSEWHERE):
        engine = InferenceEngine(model, plan(**changes))
        images, ids, mask = cases(model.config)
        together = answers(engine, images, ids, mask)
        text = engine.encode(ids, mask)
        seen = [engine.look(torch.from_numpy(image[None])) for image in images]
        for row in range(3):
            one = slice(row, row + 1)
            alone = engine.ask(seen[row], text[one], mask[one])
            assert (alone[0] - together[row]).abs().max() < 1e-5
        joined = engine.ask(StageFeatures.join(seen), text, mask)
        assert (joined - together).abs().max() < 1e-5


def test_the_engine_never_drops_out_nor_touches_the_model(model):
    network = copy.deepcopy(model).train()
    before = weights_sha256(network)
    images, ids, mask = cases(model.config)
    engine = InferenceEngine(network)
    assert torch.equal(answers(engine, images, ids, mask), answers(InferenceEngine(model), images, ids, mask))
    assert network.training
    assert network.text_encoder.training
    assert weights_sha256(network) == before


def test_float32_on_the_cpu_shares_what_it_can(model):
    engine = InferenceEngine(model)
    ours = engine.stages[2].blocks[0].norm1.weight
    assert ours.data_ptr() == model.backbone.layers[2].blocks[0].norm1.weight.data_ptr()
    embeddings = engine.text_encoder.embeddings.word_embeddings.weight
    assert embeddings.data_ptr() == model.text_encoder.embeddings.word_embeddings.weight.data_ptr()


def test_the_gpu_arrangement_is_one_graph():
    """torch.compile finds nothing to stumble over, and the traced graph answers the same."""
    config = small_config(depths=(1, 2, 1, 1))
    engine = InferenceEngine(reference_model(config), plan(**ELSEWHERE))
    images, ids, mask = cases(config, 2)
    text, seen = engine.encode(ids, mask), engine.look(torch.from_numpy(images))
    compiled = torch.compile(engine.ask, backend="eager", fullgraph=True, dynamic=False)
    assert (compiled(seen, text, mask) - engine.ask(seen, text, mask)).abs().max() < 1e-5


# --- parts ----------------------------------------------------------------------------------------


def weights_of(module: torch.nn.Module) -> NamedTensors:
    return NamedTensors(module.state_dict(), norm_eps=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["plain", "overflowing"])
def test_the_softmax_without_a_shift_falls_back_where_it_must(model, scale, monkeypatch):
    """In bfloat16; scores of hundreds overflow an exponent, and the answer must not notice."""
    block = copy.deepcopy(model.backbone.layers[1].blocks[1])
    with torch.no_grad():
        block.attn.qkv.weight *= scale
        block.attn.relative_position_bias_table *= scale
    sizes = {"side": block.side, "window": block.window, "heads": 2, "shift": block.shift}
    ours = InferenceBlock(weights_of(block), **sizes, plan=plan(torch.bfloat16))
    other = InferenceBlock(weights_of(block), **sizes, plan=plan(torch.bfloat16, fused_attention=True))
    shifted = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda *args: shifted.append(1) or softmax(*args))
    x = torch.randn(2, block.side**2, 32, generator=torch.Generator().manual_seed(0))
    y = ours(x.bfloat16()).float()
    assert bool(shifted) == (scale > 1)
    truth = block(x)
    reach = truth.abs().max()
    assert torch.isfinite(y).all()
    # No worse than the fused kernel, whose softmax is shifted as usual.
    fused = (other(x.bfloat16()).float() - truth).abs().mean()
    assert (y - truth).abs().mean() < max(1.3 * fused, 5e-3 * reach)


@settings(max_examples=20)
@given(st.integers(1, 21), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(1, 2))
def test_folded_upsampling_is_upsampling_and_convolution(half, coarse, finer, out, batch):
    generator = torch.Generator().manual_seed(half)
    exactly = plan(torch.float64, linear="plain")
    weight = torch.randn(out, coarse + finer, 3, 3, generator=generator).double()
    bias = torch.randn(out, generator=generator).double()
    x = torch.randn(batch, coarse, half, half, generator=generator).double()
    c = torch.randn(batch, finer, 2 * half, 2 * half, generator=generator).double()
    up = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    expected = functional.conv2d(torch.cat([up, c], 1), weight, bias, padding=1)
    folded = FoldedUpsampling(weight, bias, coarse, 2 * half, exactly)
    packed = [m.contiguous(memory_format=torch.channels_last) for m in (x, c)]
    assert torch.allclose(folded(*packed), expected, atol=1e-10)


@pytest.mark.parametrize("linear", LINEARS)
def test_a_bias_for_each_member(linear):
    weight, x, bias = torch.randn(5, 7), torch.randn(3, 11, 7), torch.randn(3, 5)
    layer = Pointwise(weight, None, plan(linear=linear))
    expected = x @ weight.t() + bias[:, None]
    assert torch.allclose(layer.with_bias(x, bias), expected, atol=1e-5)
    assert torch.allclose(layer.with_bias(x[:1], bias[:1]), expected[:1], atol=1e-5)


@pytest.mark.parametrize("linear", LINEARS)
@pytest.mark.parametrize("activation", ["none", "gelu", "relu", "tanh"])
def test_activations_are_the_exact_ones(linear, activation):
    weight, bias, x = torch.randn(5, 7), torch.randn(5), torch.randn(3, 11, 7)
    layer = Pointwise(weight, bias, plan(linear=linear), activation)
    y = functional.linear(x.double(), weight.double(), bias.double())
    exactly = {"none": y, "gelu": functional.gelu(y), "relu": y.relu(), "tanh": y.tanh()}
    assert torch.allclose(layer(x).double(), exactly[activation], atol=1e-5)


def test_without_packed_products_the_public_way_is_taken(monkeypatch):
    packs.cache_clear()
    assert Arrangement.choose(CPU, torch.float32).linear == "packed"
    for fault in (AttributeError("no such operator"), RuntimeError("no such processor")):

        def failing(*_, fault=fault):
            raise fault

        monkeypatch.setattr(kernels, "_packed_product", failing)
        packs.cache_clear()
        assert Arrangement.choose(CPU, torch.float32).linear == "convolution"
    monkeypatch.setattr(kernels, "_packed_product", lambda *_: torch.zeros(2, 3))
    packs.cache_clear()
    assert Arrangement.choose(CPU, torch.float32).linear == "convolution"
    packs.cache_clear()


def test_means_in_bfloat16_keep_their_digits():
    x = torch.rand(2, 40, 40, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    error = (position_mean(x) - x.double().mean((1, 2))).abs().max()
    assert error < 1e-3  # a sum that is rounded to bfloat16 is off by as much as 2e-3


def test_freed_memory_is_kept_where_the_system_knows_how():
    import sys

    assert keep_freed_memory() == sys.platform.startswith("linux")
