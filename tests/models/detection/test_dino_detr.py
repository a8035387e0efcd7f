import pytest
import torch

from cgeartheye.models.detection.box_coder import coder_of
from cgeartheye.models.detection.dino_detr import DINO
from cgeartheye.models.detection.matcher import pad_targets
from cgeartheye.models.detection.position_encoding import box_positions, pixel_positions


def detector(oriented: bool = False, **changes: int) -> DINO:
    torch.manual_seed(0)
    options = {
        "channels": 16,
        "queries": 12,
        "heads": 2,
        "ffn_dim": 24,
        "num_dn_queries": 4,
    } | changes
    return DINO(8, 3, coder_of(oriented), layers=(1, 2), **options)


def maps(side: int = 4) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 8, side, side) for _ in range(3)]


@pytest.mark.parametrize("oriented", [False, True])
def test_at_first_a_small_square_is_at_every_pixel(oriented: bool) -> None:
    """Fewer pixels than queries: none is left out. Sides double from level to level."""
    logits, boxes = detector(oriented, queries=300).eval()(maps(side=2))
    expected = [
        [(column + 0.5) / side, (row + 0.5) / side, 0.05 * 2**level, 0.05 * 2**level]
        for level, side in enumerate((4, 2, 1, 1))
        for row in range(side)
        for column in range(side)
    ]
    for found in boxes:
        order = sorted(
            range(len(found)), key=lambda n: found[n, [2, 1, 0]].round(decimals=3).tolist()
        )
        torch.testing.assert_close(found[order, :4], torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert logits.sigmoid().mean() < 0.1, "at first nothing is likely anywhere"


def test_the_best_pixels_are_proposed() -> None:
    model = detector().eval()
    memory = torch.randn(2, 30, 16)
    shapes = [(4, 4), (3, 3), (2, 2), (1, 1)]
    logits, _, _ = model._propose(memory, shapes)
    each = model.bbox_head.cls_branches[-1](model.memory_trans_norm(model.memory_trans_fc(memory)))
    expected = each.amax(-1).sort(dim=1, descending=True).values[:, :12]
    torch.testing.assert_close(logits.amax(-1), expected)


@pytest.mark.parametrize("channels", [16, 32])
def test_a_level_of_one_pixel_has_an_output(channels: int) -> None:
    """A group norm of one channel would give zero, and an error with one image."""
    neck = detector(channels=channels).neck
    levels = neck([level[:1] for level in maps(side=2)])
    assert levels[-1].shape == (1, channels, 1, 1)
    assert levels[-1].abs().max() > 0.1


@pytest.mark.parametrize("oriented", [False, True])
def test_what_is_found_does_not_depend_on_the_noised_queries(oriented: bool) -> None:
    model = detector(oriented).eval()
    boxes = torch.rand(3, 8 if oriented else 4).sort(1).values * 56
    labels = torch.tensor([0, 1, 2])
    truth = pad_targets([boxes, boxes[:1]], [labels, labels[:1]], model.coder, 56)
    outputs = model.training_outputs(maps(), truth)
    logits, found = model(maps())
    torch.testing.assert_close(outputs.logits[-1], logits)
    torch.testing.assert_close(outputs.boxes[-1], found)
    assert outputs.logits.shape[0] == 3  # proposals and two layers
    assert outputs.noised_logits.shape == (2, 2, 8, 3)


def test_modules_carry_mmdetections_names() -> None:
    names = set(detector().state_dict())
    assert {
        "neck.convs.2.conv.weight",
        "neck.convs.0.gn.bias",
        "neck.extra_convs.0.conv.weight",
        "level_embed",
        "encoder.layers.0.self_attn.sampling_offsets.weight",
        "encoder.layers.0.ffn.layers.0.0.weight",
        "encoder.layers.0.ffn.layers.1.bias",
        "encoder.layers.0.norms.1.weight",
        "decoder.layers.1.self_attn.attn.in_proj_weight",
        "decoder.layers.1.cross_attn.value_proj.weight",
        "decoder.layers.1.norms.2.weight",
        "decoder.ref_point_head.layers.0.weight",
        "decoder.norm.weight",
        "memory_trans_fc.weight",
        "memory_trans_norm.weight",
        "query_embedding.weight",
        "dn_query_generator.label_embedding.weight",
        "bbox_head.cls_branches.2.weight",
        "bbox_head.reg_branches.2.4.bias",
    } <= names
    assert not any("3." in name for name in names if name.startswith("bbox_head.cls_branches"))


def test_positions_are_sines_of_the_place() -> None:
    found = pixel_positions(2, 3, 8, torch.device("cpu")).unflatten(0, (2, 3))
    y, x = 2 / 2, 1 / 3  # of the last row and the first column
    frequencies = [2 * torch.pi / 20 ** (2 * (n // 2) / 4) for n in range(4)]
    expected = [
        (torch.sin if n % 2 == 0 else torch.cos)(torch.tensor(place * frequencies[n]))
        for place in (y, x)
        for n in range(4)
    ]
    torch.testing.assert_close(found[1, 0], torch.stack(expected))


def test_positions_of_boxes_do_not_change_by_half_a_turn() -> None:
    boxes = torch.rand(6, 5)
    around = boxes + torch.tensor([0, 0, 0, 0, torch.pi])
    torch.testing.assert_close(
        box_positions(boxes, 16), box_positions(around, 16), atol=1e-4, rtol=0
    )
    assert not torch.allclose(box_positions(boxes, 16), box_positions(boxes + 0.1, 16), atol=1e-2)


def test_it_compiles_without_a_break_and_agrees() -> None:
    model = detector(True).eval()
    explained = torch._dynamo.explain(model)(maps())
    assert explained.graph_break_count == 0, explained.break_reasons
