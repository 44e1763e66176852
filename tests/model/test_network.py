"""The network, small: sizes, gradients, training, saving, and its parts against other ways."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoConfig, AutoModel

from remotesam_geo.errors import InputError, ModelError
from remotesam_geo.model import RemoteSAMConfig, RemoteSAMModel, segmentation_loss
from remotesam_geo.model.decoder import rotation_matrix
from remotesam_geo.model.swin import block_shift, relative_position_index, shift_mask
from tests.model.reference import (
    manifest,
    picture,
    pixel_values,
    reference_model,
    small_config,
)

CPU = torch.device("cpu")
# Two branches of the last stage end in a stream that nothing reads.
IDLE = ("visual_residual.", "visual_gate.", "res_gate.")


def inputs(config: RemoteSAMConfig, batch: int, dtype: torch.dtype = torch.float32):
    images = np.stack([picture(seed, config.image_size) for seed in range(batch)])
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(1, config.text_config.vocab_size, (batch, 7), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(batch):  # expressions of several lengths
        mask[row, 3 + row :] = 0
    return pixel_values(images, config).to(dtype), ids * mask, mask


@pytest.fixture(scope="module")
def model() -> RemoteSAMModel:
    return reference_model(small_config())


# --- the published sizes and names ----------------------------------------------------------------


def test_the_default_has_exactly_the_published_tensors():
    with torch.device("meta"):
        ours = RemoteSAMModel(RemoteSAMConfig()).state_dict()
    assert {name: list(tensor.shape) for name, tensor in ours.items()} == manifest()


def test_every_size_follows_from_the_configuration():
    config = RemoteSAMConfig(
        image_size=160,
        widths=(8, 24, 32, 80),
        depths=(1, 2, 1, 2),
        heads=(2, 3, 4, 5),
        window_size=6,
        mlp_ratio=3,
        max_tokens=9,
        reduction=2,
        interaction_heads=3,
        interaction_key_width=5,
        interaction_value_width=7,
        decoder_width=11,
        max_rotation=15.0,
        text_config={
            "hidden_size": 30,
            "num_hidden_layers": 1,
            "num_attention_heads": 3,
            "intermediate_size": 20,
            "vocab_size": 50,
        },
    )
    assert config.grid_sizes == (40, 20, 10, 5)
    assert config.window_sizes == (6, 6, 6, 5)
    model = RemoteSAMModel(config).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes["backbone.layers.1.blocks.0.mlp.fc1.weight"] == (72, 24)
    table = "attn.relative_position_bias_table"
    assert shapes[f"backbone.layers.0.blocks.0.{table}"] == (121, 2)
    assert shapes[f"backbone.layers.3.blocks.1.{table}"] == (81, 5)
    assert shapes["backbone.cim.block.0.csa1.m.attention.proj.weight"] == (25, 25 + 9 + 4)
    assert shapes["backbone.cim.block.0.csa1.m.attention.qkv.c.weight"] == (3 * 17, 72)
    assert shapes["classifier.conv1_2.weight"] == (11, 19, 3, 3)
    pixels, ids, mask = inputs(config, 2)
    assert model(pixels, ids, mask).logits.shape == (2, 2, 160, 160)
    assert model.classifier.conv2_3.rounting_func.max_angle == math.radians(15)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_size": 900}, "use 896 or 928"),
        ({"image_size": 20}, "use 32"),
        ({"heads": (4, 8, 16, 33)}, r"widths\[3\]=1024 .* heads\[3\]=33"),
        ({"widths": (128, 256, 512)}, "give 4 counts"),
        ({"depths": (2, 2, 18, 0)}, "give 4 counts"),
        ({"widths": (126, 252, 504, 1008), "heads": (2, 2, 2, 2)}, "reduction=4"),
        ({"window_size": 0}, "window_size=0"),
        ({"decoder_width": 12.5}, "decoder_width=12.5"),
        ({"max_tokens": True}, "max_tokens=True"),
        ({"mlp_ratio": -1}, "mlp_ratio=-1"),
        ({"max_rotation": 100}, "0 to 90"),
        ({"max_tokens": 600}, "max_position_embeddings=512"),
        ({"text_config": {"hidden_size": 100}}, "num_attention_heads=12"),
        ({"image_std": (0.2, 0.2, 0.0)}, "deviations positive"),
        ({"window": 7}, "RemoteSAMConfig knows no window"),
        ({"text_config": {"hidden": 7}}, "text_config knows no hidden"),
        ({"text_config": 7}, "text_config=7"),
    ],
)
def test_impossible_sizes_are_explained(changes, told):
    with pytest.raises(ModelError, match=told):
        RemoteSAMConfig(**changes)


def test_inputs_of_another_size_are_explained(model):
    pixels, ids, mask = inputs(model.config, 1)
    with pytest.raises(InputError, match=r"\(1, 3, 96, 80\).* B x 3 x 96 x 96"):
        model(pixels[..., :80], ids, mask)
    with pytest.raises(InputError, match="one row of tokens"):
        model(pixels, ids.expand(2, -1), mask.expand(2, -1))


# --- training --------------------------------------------------------------------------------------


def test_every_parameter_that_can_receives_a_gradient():
    """All but the idle ones are part of the loss's graph. How large a gradient is says less: that of a scale in front
    of a batch norm is zero but for rounding."""
    torch.manual_seed(0)
    model = RemoteSAMModel(small_config()).train()
    pixels, ids, mask = inputs(model.config, 3)
    labels = torch.randint(0, 2, (3, 96, 96))
    model(pixels, ids, mask, labels=labels).loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(name.startswith("backbone.layers.3.") for name in without)
    assert {name.removeprefix("backbone.layers.3.").partition(".")[0] + "." for name in without} == {*IDLE}


def test_the_rotation_keeps_its_gradient(model):
    """Numbers: the loss changes with the angle as its gradient says."""
    network = copy.deepcopy(model).double()
    pixels, ids, mask = inputs(model.config, 2, torch.float64)
    weight = network.classifier.conv2_2.rounting_func.fc_theta.weight
    labels = torch.randint(0, 2, (2, 96, 96), generator=torch.Generator().manual_seed(1))

    def loss() -> torch.Tensor:
        return network(pixels, ids, mask, labels=labels).loss

    loss().backward()
    direction, step = weight.grad / weight.grad.norm(), 1e-5
    with torch.no_grad():
        weight += step * direction
        above = loss()
        weight -= 2 * step * direction
        below = loss()
    assert weight.grad.norm() > 1e-6
    slope = (above - below).item() / (2 * step)
    assert slope == pytest.approx(weight.grad.norm().item(), rel=1e-4)


def test_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    text = small_config().text_config.to_dict() | quiet
    plain = RemoteSAMModel(small_config(text_config=text)).train()
    saving = copy.deepcopy(plain)
    getattr(saving, "activation_checkpointing_enable", saving.gradient_checkpointing_enable)()
    assert all(block.gradient_checkpointing for block in saving.backbone.layers[2].blocks)
    pixels, ids, mask = inputs(plain.config, 2)
    labels = torch.randint(0, 2, (2, 96, 96))
    for network in (plain, saving):
        network(pixels, ids, mask, labels=labels).loss.backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6), name


def test_a_few_steps_learn_to_find_the_bright_half():
    torch.manual_seed(0)
    model = RemoteSAMModel(small_config(image_size=64)).train()
    images = np.zeros((2, 64, 64, 3), np.uint8)
    images[0, :, 32:] = 250
    images[1, :32] = 250
    labels = torch.from_numpy((images[..., 0] > 0).astype(np.int64))
    pixels = pixel_values(images, model.config).float()
    ids = torch.tensor([[1, 5, 2]] * 2)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(16):
        optimizer.zero_grad()
        loss = model(pixels, ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_it_trains_after_having_answered(model):
    network = copy.deepcopy(model)
    pixels, ids, mask = inputs(model.config, 2)
    with torch.inference_mode():
        network(pixels, ids, mask)
    network.train()(pixels, ids, mask).logits.sum().backward()


def test_reduced_precision_spares_the_language_branch(model):
    """Under autocast the answers stay near, and everything trains."""
    pixels, ids, mask = inputs(model.config, 2)
    exact = model(pixels, ids, mask).logits.softmax(1)
    with torch.autocast("cpu", torch.bfloat16):
        near = model(pixels, ids, mask).logits.float().softmax(1)
    assert (exact - near).abs().mean() < 5e-3


# --- one answer whatever the company -------------------------------------------------------------------


def test_a_batch_equals_its_members(model):
    pixels, ids, mask = inputs(model.config, 3)
    together = model(pixels, ids, mask).logits.softmax(1)
    for row in range(3):
        one = slice(row, row + 1)
        alone = model(pixels[one], ids[one], mask[one]).logits.softmax(1)
        assert (alone[0] - together[row]).abs().max() < 1e-5


def test_padding_does_not_matter(model):
    network = copy.deepcopy(model).double()
    pixels, ids, mask = inputs(model.config, 1, torch.float64)
    long = functional.pad(ids, (0, 6), value=3), functional.pad(mask, (0, 6))
    padded, tight = network(pixels, *long).logits, network(pixels, ids[:, :3], mask[:, :3]).logits
    assert (padded - tight).abs().max() < 1e-9
    assert (network(pixels, ids[:, :3]).logits - tight).abs().max() == 0


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    pixels, ids, mask = inputs(model.config, 1)
    before = model(pixels, ids, mask).logits
    model.save_pretrained(tmp_path)
    loaded = RemoteSAMModel.from_pretrained(tmp_path)
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert (loaded(pixels, ids, mask).logits - before).abs().max() < 1e-4
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, RemoteSAMConfig)
    ours = ("_name_or_path", "architectures", "dtype", "transformers_version")
    assert {name: value for name, value in config.to_dict().items() if name not in ours} == {
        name: value for name, value in model.config.to_dict().items() if name not in ours
    }
    assert isinstance(AutoModel.from_pretrained(tmp_path), RemoteSAMModel)


def test_a_tuple_on_request(model):
    pixels, ids, mask = inputs(model.config, 1)
    labels = torch.zeros(1, 96, 96, dtype=torch.long)
    loss, logits = model(pixels, ids, mask, labels=labels, return_dict=False)
    assert loss.ndim == 0
    assert logits.shape == (1, 2, 96, 96)
    (alone,) = model(pixels, ids, mask, return_dict=False)
    assert torch.equal(alone, logits)


# --- parts against other ways -----------------------------------------------------------------------------


@given(st.integers(0, 90), st.integers(0, 2**32 - 1))
def test_a_turned_kernel_is_a_sampled_one(degrees, seed):
    """The same rotation by torch's own sampling of pictures."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    angle = torch.tensor([math.radians(degrees)], dtype=torch.float64)
    turned = (rotation_matrix(angle)[0] @ kernel.flatten()).view(3, 3)
    cos, sin = angle.cos().item(), angle.sin().item()
    matrix = torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]], dtype=torch.float64)
    grid = functional.affine_grid(matrix, [1, 1, 3, 3], align_corners=True)
    sampled = functional.grid_sample(kernel[None, None], grid, padding_mode="border", align_corners=True)
    assert torch.allclose(turned, sampled[0, 0], atol=1e-12)


@given(st.integers(1, 9))
def test_position_rows_say_query_minus_key(window):
    index = relative_position_index(window, CPU)
    places = [divmod(place, window) for place in range(window * window)]
    for q, (qy, qx) in enumerate(places):
        for k, (ky, kx) in enumerate(places):
            row = (qy - ky + window - 1) * (2 * window - 1) + qx - kx + window - 1
            assert index[q, k] == row


@given(st.integers(2, 7), st.integers(2, 4), st.data())
def test_the_shift_mask_parts_what_rolling_joined(window, lines, data):
    """Two tokens of a window may meet if they were as near before the roll as they are now."""
    shift = data.draw(st.integers(1, window - 1))
    side = window * lines
    mask = shift_mask(side, window, shift, CPU)
    where = torch.arange(side * side).view(side, side).roll((-shift, -shift), (0, 1))
    where = where.view(lines, window, lines, window).transpose(1, 2).reshape(lines**2, -1)
    y, x = where // side, where % side
    place = torch.arange(window * window)
    joined = torch.zeros_like(mask, dtype=torch.bool)
    for old, new in ((y, place // window), (x, place % window)):
        distance = old[:, :, None] - old[:, None, :]
        joined |= distance != new[:, None] - new[None, :]
    assert torch.equal(mask, torch.where(joined, -100.0, 0.0))


def test_windows_shift_every_other_block_where_there_are_several():
    assert [block_shift(28, 12, number) for number in range(4)] == [0, 6, 0, 6]
    assert [block_shift(12, 12, number) for number in range(2)] == [0, 0]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.1, 3), st.floats(0.1, 3))
def test_the_loss_is_what_it_says(seed, dice_share, background, target):
    stream = np.random.RandomState(seed)
    logits = stream.standard_normal((2, 2, 4, 5))
    labels = stream.choice([0, 1, 255], (2, 4, 5))
    labels[0, 0, 0] = 1
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = weight = inside = sizes = 0.0
    for b, y, x in np.argwhere(labels != 255):
        truth = labels[b, y, x]
        share = (background, target)[truth]
        entropy -= share * np.log(p[b, truth, y, x])
        weight += share
        inside += p[b, truth, y, x]
        sizes += p[b, :, y, x].sum() + 1
    expected = (1 - dice_share) * entropy / weight + dice_share * (1 - 2 * inside / sizes)
    loss = segmentation_loss(
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        class_weights=(background, target),
        dice_share=dice_share,
    )
    assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_a_batch_without_truth_teaches_nothing():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0
