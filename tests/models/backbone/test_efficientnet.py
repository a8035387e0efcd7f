from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from cgeartheye.config import Backbone
from cgeartheye.models.backbone import WeightsMetadata, build, convert, inspect
from cgeartheye.models.backbone.checkpoint_io import read_weights
from cgeartheye.utils.errors import UserError

LITE0 = [(1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1)]
HALF = (127.5, 127.5, 127.5)
FIRST, LATER = {}, {}
for theirs, first, later in (
    ("_depthwise_conv", "conv_dw", "conv_dw"),
    ("_bn1", "bn1", "bn2"),
    ("_project_conv", "conv_pw", "conv_pwl"),
    ("_bn2", "bn2", "bn3"),
    ("_expand_conv", "", "conv_pw"),
    ("_bn0", "", "bn1"),
    ("_se_reduce", "se.conv_reduce", "se.conv_reduce"),
    ("_se_expand", "se.conv_expand", "se.conv_expand"),
):
    FIRST[first], LATER[later] = theirs, theirs
REST = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}


def in_first_naming(network: torch.nn.Module) -> dict[str, Tensor]:
    """Name a timm network's tensors as the first port does, module by module."""
    names = {id(getattr(network, ours)): theirs for ours, theirs in REST.items()}
    names[id(network.classifier)] = "_fc"
    for number, block in enumerate(block for stage in network.blocks for block in stage):
        table = LATER if hasattr(block, "conv_pwl") else FIRST
        for ours, module in block.named_modules():
            if ours and ours in table:
                names[id(module)] = f"_blocks.{number}.{table[ours]}"
    return {
        f"{names[id(module)]}.{name}": tensor
        for module in network.modules()
        if id(module) in names
        for name, tensor in module.state_dict().items()
    }


def forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """EfficientNet-Lite0 as its first port computes it: TensorFlow's padding, ReLU6."""

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        side, kernel = x.shape[-1], weight.shape[-1]
        more = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        x = F.pad(x, (more // 2, more - more // 2) * 2)
        return F.conv2d(x, weight, None, stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var")]
        return F.batch_norm(x, *parts, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3)

    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    strides = [s if n == 0 else 1 for count, _, s in LITE0 for n in range(count)]
    for number, stride in enumerate(strides):
        before, block = x, f"_blocks.{number}."
        if number:
            x = F.relu6(norm(conv(x, block + "_expand_conv"), block + "_bn0"))
        x = conv(x, block + "_depthwise_conv", stride, groups=x.shape[1])
        x = norm(conv(F.relu6(norm(x, block + "_bn1")), block + "_project_conv"), block + "_bn2")
        if x.shape == before.shape:
            x = x + before
    return F.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))


def randomized(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.8, 1.2)
            for tensor in (module.bias.data, module.running_mean):
                tensor.uniform_(-0.2, 0.2)
    return network


@torch.no_grad()
def test_the_first_port_computes_the_same(tmp_path: Path) -> None:
    state = in_first_naming(randomized("tf_efficientnet_lite0"))
    torch.save(state, tmp_path / "lite0.pth")
    out = tmp_path / "lite0.safetensors"
    converted = convert(tmp_path / "lite0.pth", out, WeightsMetadata(mean=HALF, std=HALF, gsd=0.6))
    assert converted.facts == WeightsMetadata(HALF, HALF, 0.6)
    built = build(Backbone(name="timm/tf_efficientnet_lite0", weights=out), 96)
    assert (built.gsd, built.normalization.mean) == (0.6, HALF)
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(built.module(images)[0], forward(state, images))
    # As it is, the file serves too, where the config states what it does not.
    given = {"gsd": 0.6, "normalization": {"mean": HALF, "std": HALF}}
    config = Backbone(name="timm/tf_efficientnet_lite0", weights=tmp_path / "lite0.pth", **given)
    assert build(config, 96).fingerprint == built.fingerprint


@pytest.mark.parametrize("name", ["tf_efficientnet_lite2", "tf_efficientnet_b1"])
def test_every_tensor_finds_its_name(tmp_path: Path, name: str) -> None:
    network = randomized(name)
    torch.save(in_first_naming(network), tmp_path / "in.pth")
    found = convert(tmp_path / "in.pth", tmp_path / "out.safetensors").state
    expected = {n: t for n, t in network.state_dict().items() if "classifier" not in n}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], tensor) for n, tensor in expected.items())


def test_inspect(tmp_path: Path) -> None:
    network = randomized("tf_efficientnet_lite0")
    torch.save(in_first_naming(network), tmp_path / "theirs.pth")
    save_file(network.state_dict(), tmp_path / "timm.safetensors")
    theirs, ours = (inspect(tmp_path / name) for name in ("theirs.pth", "timm.safetensors"))
    assert (theirs["naming"], ours["naming"]) == ("efficientnet-pytorch", "timm")
    assert theirs["blocks of each stage"] == ours["blocks of each stage"] == "1, 2, 2, 3, 3, 4, 1"
    assert theirs["beside the backbone"] == "_fc.bias, _fc.weight"
    assert theirs["fingerprint"] == ours["fingerprint"]


def test_what_is_missing_and_what_is_no_transformer(tmp_path: Path) -> None:
    state = in_first_naming(timm.create_model("tf_efficientnet_lite0"))
    path = tmp_path / "part.pth"
    torch.save(state, path)
    with pytest.raises(UserError, match=r"part\.pth holds an EfficientNet: set backbone\.name to"):
        read_weights(path)
    del state["_blocks.3._bn1.bias"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"missing: blocks\.\*\.0\.bn2\.bias"):
        build(Backbone(name="timm/tf_efficientnet_lite0", weights=path), 96)
    with pytest.raises(UserError, match="does not fit the backbone"):
        build(Backbone(name="timm/tf_efficientnet_lite1", weights=path), 96)
