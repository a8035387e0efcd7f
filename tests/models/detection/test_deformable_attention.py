import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DeformableDetrConfig
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrEncoderLayer,
    DeformableDetrMultiscaleDeformableAttention,
)

from cgeartheye.models.detection.deformable_attention import DeformableAttention, sample
from cgeartheye.models.detection.dino_detr import EncoderLayer

SHAPES = [(6, 7), (3, 4), (2, 2), (1, 1)]
LENGTH = sum(rows * columns for rows, columns in SHAPES)


def sample_by_grid(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """The paper's equation 3 with `grid_sample`, level by level."""
    total = 0.0
    pieces = values.split([rows * columns for rows, columns in SHAPES], dim=1)
    for level, ((rows, columns), piece) in enumerate(zip(SHAPES, pieces, strict=True)):
        picture = piece.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, (rows, columns))
        grid = 2 * places[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        read = F.grid_sample(picture, grid, padding_mode="zeros", align_corners=False)
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        total = total + (read * weight[:, None]).sum(-1)
    batch, heads = values.shape[0], values.shape[2]
    return total.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.0, 0.5, 3.0]))
def test_sampling_agrees_with_grid_sample_and_so_do_its_gradients(seed: int, spread: float) -> None:
    torch.manual_seed(seed)
    values = torch.randn(2, LENGTH, 3, 5, dtype=torch.float64, requires_grad=True)
    places = torch.rand(2, 4, 3, 4, 2, 2, dtype=torch.float64) * (1 + 2 * spread) - spread
    places.requires_grad_()
    weights = torch.rand(2, 4, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    ours = sample(values, SHAPES, places, weights)
    theirs = sample_by_grid(values, places, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    ends = torch.randn_like(ours)
    for one, other in zip(
        torch.autograd.grad((ours * ends).sum(), (values, places, weights)),
        torch.autograd.grad((theirs * ends).sum(), (values, places, weights)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("place", [math.nan, math.inf])
def test_places_that_are_no_numbers_spoil_their_own_query_alone(place: float) -> None:
    torch.manual_seed(0)
    values, weights = torch.randn(1, LENGTH, 2, 4), torch.rand(1, 3, 2, 4, 1)
    places = torch.rand(1, 3, 2, 4, 1, 2)
    expected = sample(values, SHAPES, places, weights)
    places[:, 1] = place
    found = sample(values, SHAPES, places, weights)
    assert found[:, 1].isnan().all()
    assert torch.equal(found[:, ::2], expected[:, ::2])


def _theirs() -> tuple[DeformableDetrConfig, dict[str, object]]:
    config = DeformableDetrConfig(
        d_model=24,
        num_feature_levels=4,
        encoder_attention_heads=3,
        encoder_n_points=2,
        encoder_ffn_dim=40,
        disable_custom_kernels=True,
        activation_function="relu",
        dropout=0.0,
    )
    starts = torch.tensor([0, *(rows * columns for rows, columns in SHAPES)]).cumsum(0)[:-1]
    places = {
        "spatial_shapes": torch.tensor(SHAPES),
        "spatial_shapes_list": SHAPES,
        "level_start_index": starts,
    }
    return config, places


@pytest.mark.parametrize("box_dim", [2, 4])
def test_attention_is_that_of_transformers(box_dim: int) -> None:
    torch.manual_seed(0)
    config, places = _theirs()
    theirs = DeformableDetrMultiscaleDeformableAttention(config, num_heads=3, n_points=2)
    ours = DeformableAttention(24, heads=3, levels=4, num_points=2)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.load_state_dict(ours.state_dict())
    queries, values = torch.randn(2, 9, 24), torch.randn(2, LENGTH, 24)
    reference = torch.rand(2, 9, box_dim)
    expected = theirs(
        queries,
        encoder_hidden_states=values,
        reference_points=reference[:, :, None].expand(-1, -1, 4, -1),
        **places,
    )[0]
    torch.testing.assert_close(
        ours(queries, reference, values, SHAPES), expected, rtol=1e-5, atol=1e-5
    )


def test_a_layer_of_the_encoder_is_that_of_transformers() -> None:
    torch.manual_seed(0)
    config, places = _theirs()
    theirs = DeformableDetrEncoderLayer(config).eval()
    ours = EncoderLayer(24, heads=3, num_points=2, ffn_dim=40)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    renamed = {
        name.replace("norms.0", "self_attn_layer_norm")
        .replace("norms.1", "final_layer_norm")
        .replace("ffn.layers.0.0", "mlp.fc1")
        .replace("ffn.layers.1", "mlp.fc2"): tensor
        for name, tensor in ours.state_dict().items()
    }
    theirs.load_state_dict(renamed)
    x, positions, centers = (
        torch.randn(2, LENGTH, 24),
        torch.randn(LENGTH, 24),
        torch.rand(2, LENGTH, 2),
    )
    expected = theirs(
        x,
        None,
        spatial_position_embeddings=positions,
        reference_points=centers[:, :, None].expand(-1, -1, 4, -1),
        **places,
    )
    torch.testing.assert_close(ours(x, positions, centers, SHAPES), expected, rtol=1e-5, atol=1e-5)


def test_offsets_turn_with_an_oriented_box() -> None:
    """In a picture that is turned by a quarter, a turned box reads what it read before."""
    torch.manual_seed(1)
    attention = DeformableAttention(16, heads=2, levels=4, num_points=3).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    shapes = [(8, 8), (4, 4), (2, 2), (1, 1)]
    levels = [torch.randn(1, 16, *shape, dtype=torch.float64) for shape in shapes]

    def flat(maps: list[Tensor]) -> Tensor:
        return torch.cat([level.flatten(2).mT for level in maps], 1)

    queries = torch.randn(1, 5, 16, dtype=torch.float64)
    boxes = torch.rand(1, 5, 5, dtype=torch.float64)
    level_boxes = boxes[..., :4]
    zero = torch.cat([level_boxes, torch.zeros(1, 5, 1)], -1)
    torch.testing.assert_close(
        attention(queries, zero, flat(levels), shapes),
        attention(queries, level_boxes, flat(levels), shapes),
        rtol=1e-5,
        atol=1e-5,
    )
    turned = boxes.clone()  # clockwise on the screen: x = 1 - y, y = x
    turned[..., 0], turned[..., 1] = 1 - boxes[..., 1], boxes[..., 0]
    turned[..., 4] = boxes[..., 4] + math.pi / 2
    turned_levels = [level.rot90(-1, (2, 3)) for level in levels]
    torch.testing.assert_close(
        attention(queries, turned, flat(turned_levels), shapes),
        attention(queries, boxes, flat(levels), shapes),
        rtol=1e-4,
        atol=1e-4,
    )
