from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import UperNetConfig
from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

from cgeartheye.models.segmentation import UPerNet
from cgeartheye.models.segmentation.upernet import ConvModule

WIDTH, CHANNELS, CLASSES = 12, 8, 5

MMSEG_BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def maps(grid: tuple[int, int], images: int = 2) -> list[Tensor]:
    return list(torch.randn(4, images, WIDTH, *grid))


def randomized(module: nn.Module) -> nn.Module:
    """With norms and biases that a mistake would show in."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor) * 0.3
            tensor.copy_(noise.abs() + 0.5 if name.endswith(("bn.weight", "var")) else noise)
    return module


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same names in transformers."""
    return {
        name.replace("conv_seg", "classifier").replace(".bn.", ".batch_norm."): tensor
        for name, tensor in state.items()
    }


def mmseg_keys() -> Iterator[str]:
    """As mmsegmentation 1.2 names them: neck with biases, heads with norms."""

    def conv_module(prefix: str) -> Iterator[str]:
        yield f"{prefix}.conv.weight"
        yield from (f"{prefix}.bn.{name}" for name in MMSEG_BN)

    for part in ("lateral_convs", "convs"):
        for i in range(4):
            yield from (f"neck.{part}.{i}.conv.{name}" for name in ("weight", "bias"))
    for i in range(4):
        yield from conv_module(f"decode_head.psp_modules.{i}.1")
    for part in ("lateral_convs", "fpn_convs"):
        for i in range(3):
            yield from conv_module(f"decode_head.{part}.{i}")
    for part in ("bottleneck", "fpn_bottleneck"):
        yield from conv_module(f"decode_head.{part}")
    yield from conv_module("auxiliary_head.convs.0")
    for head in ("decode_head", "auxiliary_head"):
        yield from (f"{head}.conv_seg.{name}" for name in ("weight", "bias"))


def test_parameters_have_the_names_and_shapes_of_mmsegmentation() -> None:
    state = UPerNet(1536, 16).state_dict()
    assert sorted(state) == sorted(mmseg_keys())
    # Those of the published CGEarthEye-Giant-518-ISAID.
    shapes = {
        "neck.lateral_convs.0.conv.weight": (1536, 1536, 1, 1),
        "neck.convs.3.conv.weight": (1536, 1536, 3, 3),
        "decode_head.psp_modules.0.1.conv.weight": (512, 1536, 1, 1),
        "decode_head.bottleneck.conv.weight": (512, 1536 + 4 * 512, 3, 3),
        "decode_head.lateral_convs.2.conv.weight": (512, 1536, 1, 1),
        "decode_head.fpn_convs.2.conv.weight": (512, 512, 3, 3),
        "decode_head.fpn_bottleneck.conv.weight": (512, 4 * 512, 3, 3),
        "decode_head.conv_seg.weight": (16, 512, 1, 1),
        "auxiliary_head.convs.0.conv.weight": (256, 1536, 3, 3),
        "auxiliary_head.conv_seg.weight": (16, 256, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("grid", [(6, 6), (9, 5)])
@torch.no_grad()
def test_logits_agree_with_transformers(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = randomized(UPerNet(WIDTH, CLASSES, CHANNELS)).eval()
    config = UperNetConfig(
        backbone_config={"model_type": "resnet"}, hidden_size=CHANNELS, num_labels=CLASSES
    )
    head = UperNetHead(config, in_channels=[WIDTH] * 4).eval()
    config.auxiliary_in_channels = WIDTH
    auxiliary = UperNetFCNHead(config, in_channels=[WIDTH] * 4).eval()
    head.load_state_dict(renamed(ours.decode_head.state_dict()))
    auxiliary.load_state_dict(renamed(ours.auxiliary_head.state_dict()))
    levels = [torch.randn(2, WIDTH, *(int(scale * n) for n in grid)) for scale in (4, 2, 1, 0.5)]
    torch.testing.assert_close(ours.decode_head(levels), head(levels), atol=1e-5, rtol=1e-4)
    found = ours.auxiliary_head(levels[2])
    torch.testing.assert_close(found, auxiliary(levels), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_neck_agrees_with_a_resize_before_both_convolutions() -> None:
    neck = randomized(UPerNet(WIDTH, CLASSES, CHANNELS)).neck
    given = maps((5, 7))
    levels = neck(given)
    assert [tuple(x.shape[2:]) for x in levels] == [(20, 28), (10, 14), (5, 7), (2, 3)]
    for x, level, scale, first, second in zip(
        given, levels, (4, 2, 1, 0.5), neck.lateral_convs, neck.convs, strict=True
    ):
        resized = F.interpolate(x, scale_factor=float(scale), mode="bilinear", align_corners=False)
        mixed = torch.einsum("oi,bihw->bohw", first.conv.weight[..., 0, 0], resized)
        mixed += first.conv.bias[:, None, None]
        patches = F.unfold(mixed, 3, padding=1)
        expected = second.conv.weight.flatten(1) @ patches + second.conv.bias[:, None]
        torch.testing.assert_close(level.flatten(2), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_training_logits_are_the_prediction_and_the_auxiliary_heads() -> None:
    decoder = randomized(UPerNet(WIDTH, CLASSES, CHANNELS)).eval()
    given, size = maps((4, 6)), (56, 84)
    main, auxiliary = decoder.training_logits(given, size)
    assert main.shape == auxiliary.shape == (2, CLASSES, *size)
    assert main.dtype == torch.float32
    torch.testing.assert_close(main, decoder(given, size))
    small = decoder.auxiliary_head(decoder.neck(given)[2])
    expected = F.interpolate(small, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(auxiliary, expected)
    without = UPerNet(WIDTH, CLASSES, CHANNELS, auxiliary=False)
    assert not any(name.startswith("auxiliary") for name in without.state_dict())
    assert len(without.eval().training_logits(given, size)) == 1


def test_every_parameter_learns_and_the_auxiliary_head_only_from_its_own_logits() -> None:
    decoder = UPerNet(WIDTH, CLASSES, CHANNELS)
    main, auxiliary = decoder.training_logits(maps((4, 4)), (56, 56))
    main.square().sum().backward(retain_graph=True)
    for name, parameter in decoder.named_parameters():
        assert (parameter.grad is None) == name.startswith("auxiliary_head"), name
    auxiliary.square().sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_a_single_image_trains() -> None:
    """The map that is pooled to one pixel has one value a channel: no variance."""
    torch.manual_seed(0)
    decoder = UPerNet(WIDTH, CLASSES, CHANNELS)
    decoder(maps((4, 4), images=1), (28, 28)).sum().backward()
    pooled = decoder.decode_head.psp_modules
    assert pooled[0][1].bn.num_batches_tracked == 0
    assert pooled[1][1].bn.num_batches_tracked == 1


def test_a_single_value_is_normalised_with_the_running_statistics() -> None:
    layer = randomized(ConvModule(WIDTH, CHANNELS, 1))
    x = torch.randn(1, WIDTH, 1, 1)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    trained = layer.train()(x)
    torch.testing.assert_close(trained, layer.eval()(x))
    assert all(torch.equal(before[name], tensor) for name, tensor in layer.state_dict().items())


def test_synchronised_norms_can_take_the_place_of_ours() -> None:
    decoder = UPerNet(WIDTH, CLASSES, CHANNELS)
    keys = set(decoder.state_dict())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(decoder)
    assert set(converted.state_dict()) == keys
    kinds = {type(module) for name, module in converted.named_modules() if name.endswith(".bn")}
    assert kinds == {nn.SyncBatchNorm}


@torch.no_grad()
def test_mixed_precision_still_returns_float32() -> None:
    decoder = UPerNet(WIDTH, CLASSES, CHANNELS).eval()
    given = maps((4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        found = decoder(given, (56, 56))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, decoder(given, (56, 56)), atol=2e-3, rtol=0.05)
