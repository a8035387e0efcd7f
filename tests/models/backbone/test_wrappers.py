"""Weights as frameworks leave them: read alike, or refused alike by inspect, convert and build."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests import processes
from torch import Tensor, nn

from cgeartheye.config import Backbone
from cgeartheye.models.backbone.build import build
from cgeartheye.models.backbone.checkpoint_io import fingerprint, read_weights
from cgeartheye.models.backbone.conversion import convert, inspect
from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.models.backbone.vit import VisionTransformer
from cgeartheye.utils.errors import UserError

TINY = Size(width=48, depth=3, heads=3, hidden=96)
State = dict[str, Tensor]


@pytest.fixture
def vit(monkeypatch: pytest.MonkeyPatch, randomize: Callable[[nn.Module], None]):
    monkeypatch.setitem(SIZES, "tiny", TINY)
    network = VisionTransformer(TINY, grid=4)
    randomize(network)
    return network


@pytest.fixture
def state(vit: VisionTransformer) -> State:
    return dict(vit.state_dict())


def refused(path: Path) -> str:
    """The output of all three."""
    config = Backbone(
        name="tiny", weights=path, gsd=1, normalization={"mean": [0] * 3, "std": [1] * 3}
    )
    sentences = set()
    for look in (
        lambda: inspect(path),
        lambda: convert(path, path.parent / "out.safetensors"),
        lambda: build(config, 56),
    ):
        with pytest.raises(UserError) as caught:
            look()
        sentences.add(str(caught.value))
    (sentence,) = sentences
    assert "\n" not in sentence
    return sentence


def saved(path: Path, content: object) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def test_wrappers_around_modules_are_stripped(tmp_path, vit, state):
    wrapped = torch.compile(vit).state_dict()
    assert "_orig_mod.blocks.0.norm1.weight" in wrapped
    inside = ".0._checkpoint_wrapped_module._orig_mod.norm1"
    wrapped = {name.replace(".0.norm1", inside): tensor for name, tensor in wrapped.items()}
    path = saved(tmp_path / "w.pth", wrapped)
    assert fingerprint(read_weights(path).state) == fingerprint(state)
    fsdp = {f"_fsdp_wrapped_module.{n.replace('norm1', '_fsdp_wrapped_module._orig_mod.norm1')}": t
            for n, t in state.items()}  # fmt: skip
    path = saved(tmp_path / "w.safetensors", fsdp)
    assert fingerprint(read_weights(path).state) == fingerprint(state)
    twice = state | {"_orig_mod.norm.weight": torch.ones(48)}
    assert "norm.weight twice" in refused(saved(tmp_path / "twice.pth", twice))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch_embed.proj.weight": torch.ones(48, 4, 14, 14)}, "takes 4 bands"),
        ({"patch_embed.proj.weight": torch.ones(48, 3, 16, 16)}, "patches of 16 pixels"),
        ({"fc_norm.weight": torch.ones(48)}, "fc_norm"),
        ({"blocks.0.attn.q_norm.weight": torch.ones(16)}, "left over: blocks.*.attn.q_norm"),
        ({"blocks.0.attn.qkv.lora_A.default.weight": torch.ones(4, 48)}, "merge_and_unload"),
        ({"storage_tokens": torch.ones(1, 4, 48)}, "DINOv3"),
        ({"blocks.0._flat_param": torch.ones(9)}, "FULL_STATE_DICT"),
        ({"norm.weight": torch.full((48,), torch.nan)}, "not finite: norm.weight"),
        ({"norm.weight": torch.ones(48, dtype=torch.int32)}, "of whole numbers: norm.weight"),
    ],
)
def test_what_is_no_backbone_of_ours_is_refused_alike(tmp_path, state, change, words):
    for suffix in ("pth", "safetensors"):
        assert words in refused(saved(tmp_path / f"w.{suffix}", state | change))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_read_by_their_list_and_not_one_alone(tmp_path, state, kind):
    names = sorted(state)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    stem = "model" if kind == "safetensors" else "pytorch_model"
    places = {}
    for number, half in enumerate(halves, start=1):
        shard = tmp_path / f"{stem}-{number:05}-of-00002.{kind}"
        saved(shard, {name: state[name] for name in half})
        places |= dict.fromkeys(half, shard.name)
    index = tmp_path / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for path in (index, tmp_path):
        assert fingerprint(read_weights(path).state) == fingerprint(state)
    assert "is shard 1 of 2" in refused(tmp_path / f"{stem}-00001-of-00002.{kind}")
    (tmp_path / f"{stem}-00002-of-00002.{kind}").unlink()
    assert "00002-of-00002" in refused(index)
    index.write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    assert "in another folder" in refused(index)
    index.write_text("[" * 100_000)
    assert "no list of shards" in refused(index)


def test_a_shard_without_its_number_lacks_layers(tmp_path, state):
    part = {name: tensor for name, tensor in state.items() if not name.startswith("blocks.2.")}
    del part["norm.weight"]
    assert "missing: norm.weight" in refused(saved(tmp_path / "w.safetensors", part))


@pytest.mark.parametrize(
    ("wrap", "choice"),
    [
        (lambda s, o: {"backbone": s}, None),
        (lambda s, o: {"encoder": s, "epoch": 3, 7: "seven"}, None),
        (lambda s, o: {"model_ema": s, "model": o}, "model_ema, not model"),
        (lambda s, o: {"ema": s, "student": o}, "ema, not student"),
        (lambda s, o: {"student": o, "teacher": s}, "teacher, not student"),
        (lambda s, o: {"model": {"ema": s, "model": o}}, "ema, not model"),
        (lambda s, o: {"state_dict": s, "ema_state_dict": o}, None),
    ],
)
def test_state_dicts_are_found_and_the_choice_is_stated(tmp_path, state, wrap, choice):
    other = {name: tensor + 1 for name, tensor in state.items()}
    weights = read_weights(saved(tmp_path / "w.pth", wrap(state, other)))
    assert fingerprint(weights.state) == fingerprint(state)
    assert weights.card.get("state dict") == choice
    assert inspect(weights.path).get("state dict") == choice


_SHARDED = """
import sys, torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
folder = sys.argv[1]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
tokens = {"cls_token": distribute_tensor(torch.ones(1, 1, 48), mesh, [Shard(2)])}
torch.save(tokens, f"{folder}/w.pth")
dcp.save(tokens, checkpoint_id=f"{folder}/folder")
"""


def test_shards_of_a_process_and_folders_of_them_are_named(tmp_path, state):
    processes.run(["-c", _SHARDED, tmp_path])
    assert "(DTensor)" in refused(tmp_path / "w.pth")
    assert "dcp_to_torch" in refused(tmp_path / "folder")
