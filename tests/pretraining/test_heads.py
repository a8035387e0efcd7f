import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from cgeartheye.pretraining.heads import ProjectionHead


@pytest.fixture
def head() -> ProjectionHead:
    torch.manual_seed(0)
    return ProjectionHead(width=12, hidden=20, bottleneck=8, prototypes=30)


def test_logits_are_cosines(head: ProjectionHead) -> None:
    """The last layer written out in full, on what a head of plain layers gives."""
    tokens = torch.randn(2, 5, 12)
    logits = head(tokens)
    assert logits.shape == (2, 5, 30)
    projected = head.mlp(tokens)
    for b, n, k in [(0, 0, 0), (1, 4, 29), (0, 3, 17)]:
        cosine = F.cosine_similarity(projected[b, n], head.prototypes.weight[k], dim=0)
        assert logits[b, n, k].item() == pytest.approx(cosine.item(), abs=1e-6)


def test_is_weight_normalisation_of_torch(head: ProjectionHead) -> None:
    """Output and gradients of torch's own, with its lengths fixed to 1."""
    last = nn.utils.parametrizations.weight_norm(nn.Linear(8, 30, bias=False))
    last.parametrizations.weight.original0.data.fill_(1)
    last.parametrizations.weight.original1.data.copy_(head.prototypes.weight.data)
    tokens, upstream = torch.randn(7, 12), torch.randn(7, 30)
    ours = head(tokens)
    theirs = last(F.normalize(head.mlp(tokens), dim=-1))
    torch.testing.assert_close(ours, theirs)
    (ours * upstream).sum().backward()
    (theirs * upstream).sum().backward()
    expected = last.parametrizations.weight.original1.grad
    torch.testing.assert_close(head.prototypes.weight.grad, expected)


def test_length_of_prototypes_has_no_effect(head: ProjectionHead) -> None:
    tokens = torch.randn(3, 12)
    before = head(tokens)
    with torch.no_grad():
        head.prototypes.weight *= torch.rand(30, 1) + 0.5
    torch.testing.assert_close(head(tokens), before)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(width=192, hidden=256, bottleneck=64, prototypes=512)
    for name, parameter in head.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
    first = copy.deepcopy(head.state_dict())
    head.reset_parameters()
    assert not any(torch.equal(first[n], p) for n, p in head.named_parameters() if "weight" in n)


def test_state_survives_a_file_and_frozen_prototypes_stay(
    head: ProjectionHead, tmp_path: Path
) -> None:
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    other = ProjectionHead(width=12, hidden=20, bottleneck=8, prototypes=30)
    other.load_state_dict(load_file(tmp_path / "head.safetensors"))
    tokens = torch.randn(3, 12)
    assert torch.equal(other(tokens), head(tokens))

    optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    other(tokens).square().sum().backward()
    other.prototypes.weight.grad = None
    optimizer.step()
    assert torch.equal(other.prototypes.weight, head.prototypes.weight)
    assert not torch.equal(other.mlp[0].weight, head.mlp[0].weight)
