import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backbone_peers import timm_model, transformers_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2ForImageClassification

from cgeartheye.models.backbone.checkpoint_io import (
    WeightsMetadata,
    fingerprint,
    read_tensors,
    read_weights,
    save_tensors,
)
from cgeartheye.models.backbone.conversion import convert, inspect
from cgeartheye.models.backbone.load_weights import load_into
from cgeartheye.models.backbone.variants import SIZES, Size
from cgeartheye.models.backbone.vit import VisionTransformer
from cgeartheye.utils.errors import UserError

REFERENCE = Path(__file__).parents[3] / ".." / "shared" / "reference"
SMALL = Size(width=48, depth=3, heads=3, hidden=96)
SHORT = {name: replace(size, depth=2) for name, size in SIZES.items()}
# All layers treat registers alike: one size of each kind of MLP has them.
CASES = [*((name, 0) for name in SIZES), ("small", 4), ("giant", 4)]
Randomize = Callable[[nn.Module], None]


def assert_agree(ours: Tensor, theirs: Tensor) -> None:
    """Relative to the largest value: 1e-4 in float32."""
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1, "a comparison of zeros"
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


def loaded(path: Path, size: Size, grid: int, registers: int = 0) -> VisionTransformer:
    with torch.device("meta"):
        vit = VisionTransformer(size, grid=grid, registers=registers)
    assert load_into(vit, read_weights(path)) == []
    return vit.eval()


@pytest.fixture
def native(randomize: Randomize) -> dict[str, Tensor]:
    vit = VisionTransformer(SMALL, grid=4)
    randomize(vit)
    return dict(vit.state_dict())


@pytest.mark.parametrize(("name", "registers"), CASES)
@torch.no_grad()
def test_agrees_with_timm(name, registers, tmp_path, randomize):
    theirs = timm_model(SHORT[name], 4, registers)
    randomize(theirs)
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    images = torch.randn(2, 3, 56, 56)
    vit = loaded(tmp_path / "timm.safetensors", SHORT[name], 4, registers)
    cls, (first, last) = vit(images, [0, 1])
    features, (first_raw, _) = theirs.forward_intermediates(images, indices=[0, 1])
    assert_agree(cls, theirs(images))
    assert_agree(vit(images)[0], cls)
    assert_agree(first, first_raw)
    assert_agree(last.flatten(2).transpose(1, 2), features[:, 1 + registers :])
    assert read_weights(tmp_path / "timm.safetensors").naming == "timm"


@pytest.mark.parametrize(("name", "registers"), CASES)
@torch.no_grad()
def test_agrees_with_transformers(name, registers, tmp_path, randomize):
    theirs = transformers_model(SHORT[name], 4, registers)
    randomize(theirs)
    theirs.save_pretrained(tmp_path)  # writes the published names
    vit = loaded(tmp_path / "model.safetensors", SHORT[name], 4, registers)
    images = torch.randn(2, 3, 56, 56)
    mask = torch.rand(2, 4, 4) < 0.4
    cls, (first, last) = vit(images, [0, 1], mask)
    found = theirs(images, bool_masked_pos=mask.flatten(1), output_hidden_states=True)
    assert_agree(cls, found.last_hidden_state[:, 0])
    patches = (found.hidden_states[1], found.last_hidden_state)
    for ours, tokens in zip((first, last), patches, strict=True):
        assert_agree(ours.flatten(2).transpose(1, 2), tokens[:, 1 + registers :])
    assert read_weights(tmp_path / "model.safetensors").naming == "huggingface"


@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_agrees_with_transformers_on_other_grids(registers, tmp_path, randomize):
    """A smaller grid is smoothed where there are registers, and only there."""
    theirs = transformers_model(SMALL, 4, registers)
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    vit = loaded(path, SMALL, 4, registers)
    for height, width in ((28, 42), (84, 28), (70, 70)):
        images = torch.randn(1, 3, height, width)
        expected = theirs(images).last_hidden_state[:, 0]
        assert_agree(vit(images)[0], expected)
    fitted = VisionTransformer(SMALL, grid=5, registers=registers)  # at loading
    load_into(fitted.eval(), read_weights(path))
    assert_agree(fitted(images)[0], expected)


@pytest.mark.parametrize("swiglu", [False, True])
def test_transformers_names_of_today_and_its_classifier(swiglu, tmp_path, randomize):
    config = Dinov2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, use_swiglu_ffn=swiglu
    )
    theirs = Dinov2ForImageClassification(config)
    randomize(theirs)
    theirs.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "today.pth")
    today, published = (read_weights(tmp_path / n) for n in ("today.pth", "model.safetensors"))
    assert fingerprint(today.state) == fingerprint(published.state)
    assert today.ignored == published.ignored == ["classifier.bias", "classifier.weight"]


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference is not beside the repository")
@pytest.mark.parametrize("side", [224, 98])
@torch.no_grad()
def test_agrees_with_mmpretrain(side):
    path = REFERENCE / "mmpretrain-swiglu-d96.pth"
    expected = load_file(REFERENCE / "mmpretrain-swiglu-d96.expected.safetensors")
    hidden = read_weights(path).state["blocks.0.mlp.w3.weight"].shape[1]
    vit = loaded(path, Size(width=96, depth=4, heads=3, hidden=hidden, swiglu=True), 37)
    cls, (middle, last) = vit(expected[f"images_{side}"], [1, 3])
    assert_agree(cls, expected[f"cls_{side}"])
    assert_agree(middle, expected[f"mid_map_{side}"])
    assert_agree(last, expected[f"last_map_{side}"])
    # Resampled once when loading instead of in every forward pass: the same.
    with torch.device("meta"):
        fixed = VisionTransformer(
            Size(width=96, depth=4, heads=3, hidden=hidden, swiglu=True), grid=side // 14
        )
    (note,) = load_into(fixed, read_weights(path))
    assert "from 37 x 37 patches" in note
    assert_agree(fixed(expected[f"images_{side}"])[0], cls)


def in_mmpretrain_naming(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename as published; the mask token is not in its classifiers."""
    renamed = {}
    for name, tensor in state.items():
        if name == "mask_token":
            continue
        for ours, theirs in {
            r"^norm\.": "ln1.",
            "patch_embed.proj": "patch_embed.projection",
            r"^blocks\.": "layers.",
            r"\.norm(\d)\.": r".ln\1.",
            r"\.mlp\.fc1": ".ffn.layers.0.0",
            r"\.mlp\.fc2": ".ffn.layers.1",
            r"\.ls1\.gamma": ".attn.gamma1.weight",
            r"\.ls2\.gamma": ".ffn.gamma2.weight",
        }.items():
            name = re.sub(ours, theirs, name)
        renamed[name] = tensor
    return renamed


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def chunked(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {re.sub(r"^blocks\.(\d+)", r"blocks.0.\1", name): t for name, t in state.items()}


HEAD = {"head.fc.weight": torch.ones(2, 48), "head.fc.bias": torch.ones(2)}


@pytest.mark.parametrize(
    ("naming", "wrap", "ignored"),
    [
        ("dinov2", lambda s: s, []),
        ("dinov2", lambda s: chunked(s), []),
        ("dinov2", lambda s: {"model": prefixed("module.", s)}, []),
        (
            "dinov2",
            lambda s: {
                "student": prefixed("backbone.", {n: t + 1 for n, t in s.items()}),
                "teacher": prefixed("backbone.", chunked(s))
                | {"dino_head.mlp.0.bias": HEAD["head.fc.bias"]},
            },
            ["dino_head.mlp.0.bias"],
        ),
        (
            "dinov2",
            lambda s: (
                prefixed("student.backbone.", {n: t + 1 for n, t in s.items()})
                | prefixed("teacher.backbone.", s)
            ),
            None,
        ),
        ("mmpretrain", lambda s: in_mmpretrain_naming(s), []),
        (
            "mmpretrain",
            lambda s: {"state_dict": prefixed("backbone.", in_mmpretrain_naming(s)) | HEAD},
            sorted(HEAD),
        ),
        ("mmpretrain", lambda s: in_mmpretrain_naming(s) | HEAD, sorted(HEAD)),
        ("timm", lambda s: {n: t for n, t in s.items() if n != "mask_token"} | HEAD, sorted(HEAD)),
    ],
)
def test_recognises_every_naming(native, tmp_path, naming, wrap, ignored):
    path = tmp_path / "weights.pth"
    torch.save(wrap(native), path)
    weights = read_weights(path)
    assert weights.naming == naming
    if ignored is not None:
        assert weights.ignored == ignored
    vit = loaded(path, SMALL, 4)
    for name, tensor in vit.state_dict().items():
        if name != "mask_token" or "mask_token" in weights.state:
            assert torch.equal(tensor, native[name]), name
        else:
            assert not tensor.any()


def test_whatever_does_not_fit_is_listed(native, tmp_path):
    path = tmp_path / "weights.safetensors"
    state = {n: t for n, t in native.items() if not n.endswith("ls1.gamma")}
    state["blocks.1.attn.q_norm.weight"] = torch.ones(16)
    state["norm.weight"] = torch.ones(7)
    save_file(state, path)
    vit = VisionTransformer(SMALL, grid=4)
    before = fingerprint(vit.state_dict())
    with pytest.raises(UserError) as error:
        load_into(vit, read_weights(path))
    assert str(path) in str(error.value)
    for message in (
        r"missing: blocks.*.ls1.gamma (3 times)",
        r"left over: blocks.*.attn.q_norm.weight",
        r"of another shape: norm.weight",
    ):
        assert message in str(error.value)
    assert fingerprint(vit.state_dict()) == before, "nothing is half loaded"


@pytest.mark.parametrize("name", ["cls_token", "pos_embed", "norm.bias", "blocks.2.mlp.fc2.bias"])
def test_nothing_may_be_missing_but_the_mask_token(native, tmp_path, name):
    path = tmp_path / "weights.safetensors"
    save_file({n: t for n, t in native.items() if n != name}, path)
    with pytest.raises(UserError, match=r"missing|no vision transformer|no position embeddings"):
        load_into(VisionTransformer(SMALL, grid=4), read_weights(path))


def test_two_tensors_of_one_name(native, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(native | {"blocks.7.1.norm1.bias": torch.ones(48)}, path)
    with pytest.raises(UserError, match=r"holds blocks\.1\.norm1\.bias twice"):
        read_weights(path)


def test_weights_of_another_size(tmp_path):
    path = tmp_path / "weights.pth"
    with torch.device("meta"):
        base = VisionTransformer(SIZES["base"])
        small = VisionTransformer(SIZES["small"])
    torch.save({n: torch.zeros(1).expand(t.shape) for n, t in small.state_dict().items()}, path)
    with pytest.raises(UserError) as error:
        load_into(base, read_weights(path))
    assert str(error.value) == (
        f"{path} holds a small backbone (width 384, 12 layers), the config asks for base "
        "(width 768, 12 layers): set backbone.name=small"
    )


@pytest.mark.parametrize(("held", "wanted"), [(0, 3), (4, 2), (2, 4), (4, 0)])
def test_registers_are_fitted_and_noted(tmp_path, randomize, held, wanted):
    source = VisionTransformer(SMALL, grid=4, registers=held)
    randomize(source)
    path = tmp_path / "weights.safetensors"
    save_tensors(path, source.state_dict(), {})
    vit = VisionTransformer(SMALL, grid=4, registers=wanted)
    (note,) = load_into(vit, read_weights(path))
    assert f"have {held} register tokens" in note
    kept = min(held, wanted)
    if kept:
        tokens = vit.register_tokens[:, :kept]
        assert torch.equal(tokens, source.register_tokens[:, :kept])
    if wanted:
        assert vit.register_tokens.std(-1).min() > 0


def test_converts_without_loss(native, tmp_path):
    source, target, again = (tmp_path / n for n in ("a.pth", "b.safetensors", "c.safetensors"))
    torch.save({"state_dict": prefixed("backbone.", in_mmpretrain_naming(native)) | HEAD}, source)
    facts = WeightsMetadata(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), gsd=0.75)
    written = convert(source, target, facts)
    assert written.naming == "native"
    assert written.facts == replace(facts, image_size=56)
    assert fingerprint(written.state) == fingerprint(read_weights(source).state)
    changed = convert(target, again, WeightsMetadata(gsd=0.5))
    assert changed.facts == replace(facts, gsd=0.5, image_size=56)
    assert fingerprint(changed.state) == fingerprint(written.state)
    with pytest.raises(UserError, match=r"must end with \.safetensors"):
        convert(source, tmp_path / "out.pth")


def test_half_precision_and_a_model_card(native, tmp_path):
    source, half, again = (tmp_path / f"{name}.safetensors" for name in "abc")
    save_file(native, source)
    written = convert(source, half, card={"teacher": "a big one"}, half=True)
    assert written.card == {"teacher": "a big one"}
    for name, tensor in written.state.items():
        assert tensor.dtype == torch.float16
        torch.testing.assert_close(tensor.float(), native[name], rtol=1e-3, atol=1e-6)
    kept = convert(half, again, card={"licence": "MIT"})
    assert kept.card == {"teacher": "a big one", "licence": "MIT"}
    assert inspect(again)["licence"] == "MIT"
    with pytest.raises(UserError, match="cannot have the label gsd"):
        convert(source, again, card={"gsd": "1"})
    save_file(native | {"cls_token": native["cls_token"] * 0 + 1e6}, source)
    with pytest.raises(UserError, match="cls_token is not finite in half precision"):
        convert(source, again, half=True)


def test_keeps_the_precision_of_the_file(native, tmp_path):
    path = tmp_path / "half.pth"
    torch.save({name: tensor.half() for name, tensor in native.items()}, path)
    converted = convert(path, tmp_path / "half.safetensors")
    assert {t.dtype for t in converted.state.values()} == {torch.float16}
    vit = loaded(tmp_path / "half.safetensors", SMALL, 4)
    assert {t.dtype for t in vit.state_dict().values()} == {torch.float32}


def test_inspect(native, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": prefixed("backbone.", in_mmpretrain_naming(native)) | HEAD}, path)
    found = inspect(path)
    count = sum(t.numel() for n, t in native.items() if n != "mask_token")
    assert found["naming"] == "mmpretrain"
    assert found["parameters"] == f"{count:,}"
    assert (found["width"], found["layers"], found["MLP"]) == ("48", "3", "GELU")
    assert found["positions"] == "4 x 4 patches (56 px)"
    assert found["gsd"] == "not in the file"
    assert found["beside the backbone"] == "head.fc.bias, head.fc.weight"
    assert all(isinstance(value, str) for value in found.values())
    with torch.device("meta"):
        tiny = VisionTransformer(SIZES["tiny"])
    state = {n: torch.zeros(t.shape) for n, t in tiny.state_dict().items()}
    save_tensors(tmp_path / "tiny.safetensors", state, WeightsMetadata(gsd=0.75).to_metadata())
    found = inspect(tmp_path / "tiny.safetensors")
    assert (found["size"], found["gsd"], found["naming"]) == ("tiny", "0.75", "native")


def test_the_same_weights_are_the_same_bytes(native, tmp_path):
    """safetensors writes metadata in an order that differs from file to file."""
    card = {f"label {n}": f'text "{n}" \n\t\x07 \u00e9\u5317\U0001f6f0' for n in range(12)}
    files = [tmp_path / f"{n}.safetensors" for n in range(4)]
    for file in files:
        save_tensors(file, native, card)
        card = dict(reversed(card.items()))
    assert len({file.read_bytes() for file in files}) == 1
    tensors, metadata, _ = read_tensors(files[0])
    assert metadata == card
    assert fingerprint(tensors) == fingerprint(native)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, "multiply both by 255"),
        ({"mean": (120, 120, 120), "std": (0, 50, 50)}, "must be above 0"),
        ({"gsd": -1.0}, "gsd -1.0 must be above 0"),
    ],
)
def test_statistics_that_would_ruin_all_features_are_refused(tmp_path, facts, message):
    with pytest.raises(UserError, match=message):
        WeightsMetadata(**facts)
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    with pytest.raises(UserError, match=f"w.safetensors are malformed .*{message}"):
        WeightsMetadata.from_metadata(metadata, tmp_path / "w.safetensors")
    assert WeightsMetadata(mean=(0, 0, 0), std=(1, 1, 1)).std == (1, 1, 1)  # of values 0..255


def test_fingerprints_differ_with_every_part_and_not_with_the_order():
    state = {"a": torch.ones(2, 3), "b": torch.zeros(2)}
    others = [
        {"a": torch.ones(3, 2), "b": torch.zeros(2)},
        {"a": torch.ones(2, 3), "c": torch.zeros(2)},
        {"a": torch.ones(2, 3), "b": torch.zeros(2).half()},
        {"a": torch.ones(2, 3), "b": torch.tensor([0.0, 1e-30])},
        {"a": torch.ones(2, 3)},
    ]
    assert len({fingerprint(s) for s in [state, *others]}) == 6
    assert fingerprint(dict(reversed(state.items()))) == fingerprint(state)
    assert fingerprint({"a": torch.ones(3, 2).t(), "b": torch.zeros(2)}) == fingerprint(state)


def test_classifiers_are_read_as_they_are(native, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": prefixed("backbone.", native) | HEAD, "meta": {}}, path)
    tensors, metadata, foreign = read_tensors(path)
    assert tensors.keys() == prefixed("backbone.", native).keys() | HEAD.keys()
    assert torch.equal(tensors["head.fc.weight"], HEAD["head.fc.weight"])
    assert (metadata, foreign) == ({}, [])
    save_tensors(path.with_suffix(".bin"), HEAD, {"classes": "a, b"})  # recognized by content
    tensors, metadata, _ = read_tensors(path.with_suffix(".bin"))
    assert (tensors.keys(), metadata) == (HEAD.keys(), {"classes": "a, b"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>...</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"GIF89a....................", "not a weights file"),
        (b"PK\x03\x04 cut short", "is damaged or incomplete"),
        (b"\x80\x02 cut short", "is damaged or incomplete"),
        ((99).to_bytes(8, "little") + b'{"a": 1', "is damaged or incomplete"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_weights(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "metadata", [{"mean": "red"}, {"mean": "[1, 2]"}, {"std": "5"}, {"std": '["a", 1, 2]'}]
)
def test_malformed_metadata(native, tmp_path, metadata):
    path = tmp_path / "weights.safetensors"
    save_file(native, path, metadata)
    with pytest.raises(UserError, match=r"the metadata of .*weights\.safetensors are malformed"):
        read_weights(path)


def test_metadata_is_plain_json(native, tmp_path):
    facts = WeightsMetadata(mean=(1.5, 2, 3), std=(4, 5, 6), gsd=0.3, image_size=56)
    metadata = facts.to_metadata()
    assert json.loads(metadata["mean"]) == [1.5, 2, 3]
    path = tmp_path / "weights.safetensors"
    save_tensors(path, native, metadata)
    assert read_weights(path).facts == facts


@pytest.mark.parametrize("length", [0x80, 0x180])
def test_a_header_whose_length_looks_like_a_pickle(tmp_path, length):
    path = tmp_path / "weights.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + bytes(4))
    assert read_tensors(path)[0] == {"a": torch.zeros(1)}
