import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from cgeartheye.models.backbone.onednn_linear import Linear
from cgeartheye.models.backbone.variants import SIZES, Size, size_name
from cgeartheye.models.backbone.vit import VisionTransformer, resample_positions
from cgeartheye.utils.errors import UserError

SMALL = Size(width=48, depth=3, heads=3, hidden=96)


@pytest.fixture
def vit(randomize) -> VisionTransformer:
    vit = VisionTransformer(SMALL, grid=4, registers=2)
    randomize(vit)
    return vit.eval()


@pytest.mark.parametrize(
    ("name", "millions"),
    [("small", 22), ("base", 86), ("large", 304), ("huge", 632), ("giant", 1136)],
)
def test_sizes_have_the_published_numbers_of_parameters(name, millions):
    with torch.device("meta"):
        vit = VisionTransformer(SIZES[name])
    count = sum(p.numel() for p in vit.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.015)
    assert size_name(vit.embed_dim, vit.depth) == name


def test_shapes_and_attributes(vit):
    cls, maps = vit(torch.randn(2, 3, 28, 70), layers=[0, -1])
    assert (vit.embed_dim, vit.depth, vit.patch_size) == (48, 3, 14)
    assert cls.shape == (2, 48)
    assert [m.shape for m in maps] == [(2, 48, 2, 5)] * 2


@pytest.mark.parametrize("size", [(28, 30), (27, 28)])
def test_a_side_that_does_not_divide_into_patches_is_refused(vit, size):
    with pytest.raises(UserError, match=f"{size[0]} x {size[1]} pixels.*multiples of 14"):
        vit(torch.zeros(1, 3, *size))


def test_layers_come_in_the_order_asked(vit):
    images = torch.randn(2, 3, 56, 56)
    _, (last, first, again) = vit(images, layers=[-1, 0, 0])
    _, (zero, one, two) = vit(images, layers=[0, 1, 2])
    assert torch.equal(last, two)
    assert torch.equal(first, zero)
    assert torch.equal(again, zero)
    assert not torch.allclose(one, zero)
    with pytest.raises(UserError, match="layer 3 does not exist: the backbone has 3 layers"):
        vit(images, layers=[3])


@pytest.mark.parametrize("layers", [None, [0, 1]])
def test_the_class_token_alone_is_that_of_the_full_pass(vit, layers):
    images = torch.randn(2, 3, 56, 42)
    alone, _ = vit(images, layers)
    full, _ = vit(images, [-1])
    torch.testing.assert_close(alone, full, rtol=1e-4, atol=1e-5)


def test_what_a_mask_hides_has_no_influence(vit):
    images = torch.randn(2, 3, 56, 56)
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 1, 2] = mask[1, 3, 0] = True
    changed = images.clone()
    changed[0, :, 14:28, 28:42] += 1
    changed[1, :, 42:56, 0:14] += 1
    torch.testing.assert_close(vit(images, mask=mask)[0], vit(changed, mask=mask)[0])
    assert not torch.allclose(vit(images)[0], vit(changed)[0], atol=1e-3)
    assert not torch.allclose(vit(images)[0], vit(images, mask=mask)[0], atol=1e-3)


def test_positions_stay_at_their_own_grid_and_match_a_plain_resampling_elsewhere():
    positions = torch.randn(1, 1 + 25, 6)
    assert resample_positions(positions, (5, 5), 0) is positions
    other = resample_positions(positions, (3, 8), 0)
    assert other.shape == (1, 1 + 24, 6)
    assert torch.equal(other[:, 0], positions[:, 0])
    channel = positions[0, 1:, 4].view(1, 1, 5, 5)
    expected = F.interpolate(channel, (3, 8), mode="bicubic", align_corners=False)
    torch.testing.assert_close(other[0, 1:, 4], expected.flatten())


def test_a_constant_position_embedding_stays_constant():
    positions = torch.full((1, 1 + 16, 3), 0.7)
    other = resample_positions(positions, (9, 2), 0)
    torch.testing.assert_close(other, torch.full((1, 19, 3), 0.7))


def test_drop_path_drops_branches_of_samples_at_its_rate(randomize):
    vit = VisionTransformer(replace(SMALL, depth=1), grid=2, drop_path=0.5).train()
    randomize(vit)
    torch.manual_seed(0)
    count = 1000
    images = torch.randn(1, 3, 28, 28).expand(count, -1, -1, -1)
    with torch.no_grad():
        _, (last,) = vit(images, [0])
        entering = vit._embed(images[:1], None)[0][0]
        block, outcomes = vit.blocks[0], []
        for first, second in [(0, 0), (0, 2), (2, 0), (2, 2)]:
            x = entering + first * block.ls1.gamma * block.attn(block.norm1(entering), ((1, 5),))
            x = x + second * block.ls2.gamma * block.mlp(block.norm2(x))
            outcomes.append(vit.norm(x)[1:].T.reshape(1, -1))
    distance = torch.cdist(last.flatten(1), torch.cat(outcomes))
    assert distance.min(1).values.max() < 1e-2
    shares = distance.argmin(1).bincount(minlength=4) / count
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.05, rtol=0)


def test_crops_of_several_sizes_in_one_pass_are_those_of_one_pass_each(vit):
    large, small = torch.randn(2, 3, 56, 56), torch.randn(3, 3, 28, 42)
    mask = torch.rand(2, 4, 4) < 0.4
    (cls, patches), (small_cls, small_patches) = vit.forward_crops([large, small], [mask, None])
    for images, hidden, tokens, maps in [
        (large, mask, cls, patches),
        (small, None, small_cls, small_patches),
    ]:
        expected, (last,) = vit(images, [-1], hidden)
        torch.testing.assert_close(tokens, expected)
        torch.testing.assert_close(maps, last.flatten(2).transpose(1, 2))


def test_drop_path_over_crops_of_several_sizes_keeps_to_images(randomize):
    vit = VisionTransformer(replace(SMALL, depth=1), grid=2, drop_path=0.5).train()
    randomize(vit)
    torch.manual_seed(0)
    crops = [torch.randn(1, 3, 28, 28).expand(8, -1, -1, -1), torch.randn(6, 3, 14, 28)]
    together = vit.forward_crops(crops, [None, None])
    # An image ends in one of four ways, whatever else is in the pass.
    ways = together[0][0].detach().unique(dim=0)
    assert 1 < len(ways.mul(1e3).round().unique(dim=0)) <= 4
    assert together[1][1].shape == (6, 2, 48)


def test_drop_path_is_off_in_evaluation(randomize):
    vit = VisionTransformer(SMALL, grid=2, drop_path=0.9)
    randomize(vit)
    images = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(vit.eval()(images)[0], vit(images)[0])
    assert not torch.allclose(vit(images)[0], vit.train()(images)[0], atol=1e-3)


def test_checkpointed_activations_give_the_same_gradients(randomize):
    images = torch.randn(4, 3, 28, 28)
    gradients = []
    for checkpointed in (False, True):
        vit = VisionTransformer(
            SMALL, grid=2, registers=1, drop_path=0.4, checkpoint_activations=checkpointed
        ).train()
        randomize(vit)
        torch.manual_seed(3)
        vit(images)[0].square().mean().backward()
        gradients.append({n: p.grad for n, p in vit.named_parameters() if n != "mask_token"})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradient, gradients[1][name])


def test_blocks_compile_without_graph_breaks_and_share_their_graphs(vit):
    images = torch.randn(2, 3, 28, 28)
    counter = CompileCounter()
    vit.drop_path = 0.3
    compiled = copy.deepcopy(vit).train()
    torch._dynamo.reset()
    for block in compiled.blocks:
        block.compile(backend=counter, fullgraph=True)
    torch.manual_seed(0)
    expected = vit.train()(images, [1])[0]
    torch.manual_seed(0)
    actual = compiled(images, [1])[0]
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1
    compiled.forward_crops([images, images[:, :, :14]], [None, None])
    assert counter.frame_count == 2
    assert compiled.state_dict().keys() == vit.state_dict().keys()


def test_the_seed_decides_the_weights():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(VisionTransformer(SMALL).state_dict())
    same, other = (
        all(torch.equal(states[0][name], state[name]) for name in states[0]) for state in states[1:]
    )
    assert same
    assert not other


def test_built_on_the_meta_device_and_drawn_later():
    direct = VisionTransformer(SMALL, registers=2)
    with torch.device("meta"):
        later = VisionTransformer(SMALL, registers=2)
    assert all(p.is_meta for p in later.parameters())
    later.to_empty(device="cpu")
    for network in (direct, later):
        torch.manual_seed(5)
        network.reset_parameters()
    for name, tensor in direct.state_dict().items():
        assert torch.equal(tensor, later.state_dict()[name]), name


@pytest.mark.parametrize("layers", [None, [0, -1]])
def test_half_precision(vit, layers):
    images = torch.randn(2, 3, 56, 56)
    exact, _ = vit(images, layers)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        mixed, _ = vit(images, layers)
    pure, maps = vit.bfloat16()(images.bfloat16(), layers)
    assert pure.dtype == torch.bfloat16
    assert all(m.dtype == torch.bfloat16 for m in maps)
    for rough in (mixed, pure):
        assert F.cosine_similarity(rough.float(), exact).min() > 0.999


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_product_and_its_gradients_are_those_of_pytorch(bias, frozen):
    layer = Linear(30, 50, bias=bias).requires_grad_(not frozen)
    plain = nn.Linear(30, 50, bias=bias).requires_grad_(not frozen)
    plain.load_state_dict(layer.state_dict())
    for x in (torch.randn(2, 7, 30), torch.randn(30, 7, 2).permute(2, 1, 0), torch.randn(4, 30)):
        with torch.no_grad():
            torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-5)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        for network, leaf in zip((layer, plain), inputs, strict=True):
            network(leaf).sin().sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-5, atol=1e-5)
    for p, q in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-5, atol=1e-5)


@pytest.fixture
def single_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Loss(nn.Module):
    def __init__(self, vit: VisionTransformer):
        super().__init__()
        self.vit = vit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cls, (middle,) = self.vit(images, [1])
        return cls.square().mean() + middle.square().mean()


def test_sharded_block_by_block(vit, single_process):
    images = torch.randn(2, 3, 56, 56)
    whole, sharded = Loss(vit), Loss(copy.deepcopy(vit))
    mesh = init_device_mesh("cpu", (1,))
    for block in sharded.vit.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    losses = []
    for network in (whole, sharded):
        losses.append(network(images))
        losses[-1].backward()
    torch.testing.assert_close(*losses)
    for (name, p), q in zip(whole.named_parameters(), sharded.parameters(), strict=True):
        if name != "vit.mask_token":
            torch.testing.assert_close(q.grad.full_tensor(), p.grad)
