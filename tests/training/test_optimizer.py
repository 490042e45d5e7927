"""The base's optimizer: which weights each part moves, and how."""

import pytest
import torch
from torch import nn

from training.optimizer import BaseOptimizer


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.conv = nn.Conv1d(3, 4, 3)
        self.hidden = nn.Linear(4, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.table.weight  # tied, as in Whisper
        self.fixed = nn.Linear(4, 4).requires_grad_(False)


@pytest.fixture
def parts():
    torch.manual_seed(0)
    return Small(), nn.Linear(6, 5)


def names(model, ctc, optimizer, part):
    known = {id(p): name for name, p in [*model.named_parameters(), *ctc.named_parameters("ctc")]}
    return {known[id(p)] for group in optimizer.parts[part].param_groups for p in group["params"]}


def test_muon_moves_the_matrices_and_adamw_the_rest(parts):
    optimizer = BaseOptimizer("muon", *parts, decay=0.1, fused=False)
    assert names(*parts, optimizer, "muon") == {"hidden.weight"}
    rest = {
        "table.weight",
        "conv.weight",
        "conv.bias",
        "hidden.bias",
        "norm.weight",
        "norm.bias",
        "ctc.weight",
        "ctc.bias",
    }
    assert names(*parts, optimizer, "adamw") == rest
    plain = BaseOptimizer("adamw", *parts, decay=0.1, fused=False)
    assert names(*parts, plain, "adamw") == rest | {"hidden.weight"}
    assert set(plain.parts) == {"adamw"}


def test_a_step_of_muon_is_orthogonal_and_of_adamws_size(parts):
    """With W = U S V^T the gradient, U V^T times 0.2 sqrt(larger side) times the rate; no decay here."""
    model, ctc = parts
    optimizer = BaseOptimizer("muon", model, ctc, decay=0.0, fused=False)
    before = model.hidden.weight.detach().clone()
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    model.hidden.weight.grad = gradient.clone()
    optimizer.step(0.01)
    step = (before - model.hidden.weight.detach()) / (0.01 * 0.2 * 6**0.5)
    sizes = torch.linalg.svdvals(step)
    assert ((sizes > 0.6) & (sizes < 1.3)).all(), sizes  # Newton-Schulz leaves them near one
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(step.flatten(), (u @ v).flatten(), dim=0) > 0.97
    optimizer.zero_grad()
    assert model.hidden.weight.grad is None


@pytest.mark.parametrize("shape", [(24, 8), (8, 24)])
def test_muon_in_fp32_moves_as_torchs_own_in_bf16(monkeypatch, shape):
    """Where bf16 does not pay; the two may differ by what bf16 rounds away, a hundredth of a step."""
    steps = {}
    for pays in (True, False):
        monkeypatch.setattr("training.optimizer.bf16_pays", lambda device, pays=pays: pays)
        layer = nn.Linear(shape[1], shape[0], bias=False)
        nn.init.constant_(layer.weight, 1.0)
        optimizer = BaseOptimizer("muon", layer, nn.Linear(2, 2), decay=0.5, fused=False)
        for seed in (0, 1):
            layer.weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            optimizer.step(0.01)
        steps[pays] = 1.0 - layer.weight.detach()
    assert torch.linalg.norm(steps[True] - steps[False]) < 0.02 * torch.linalg.norm(steps[True])
    assert not torch.equal(steps[True], steps[False])


def test_another_optimizers_moments_are_not_taken_over(parts):
    def stepped(kind):
        optimizer = BaseOptimizer(kind, *parts, decay=0.1, fused=False)
        for p in [*parts[0].parameters(), *parts[1].parameters()]:
            p.grad = torch.ones_like(p) if p.requires_grad else None
        optimizer.step(1e-3)
        return optimizer

    muon = stepped("muon")
    fresh = BaseOptimizer("muon", *parts, decay=0.1, fused=False)
    assert fresh.load_state_dict(muon.state_dict())
    assert not BaseOptimizer("adamw", *parts, decay=0.1, fused=False).load_state_dict(muon.state_dict())
    assert not fresh.load_state_dict(stepped("adamw").state_dict())
    assert not fresh.load_state_dict({"state": {}, "param_groups": []})  # as checkpoints were before


def test_parts_side_by_side_move_the_weights_as_one(parts):
    """Dealt to two threads: the same bits, and every matrix is moved once."""
    from concurrent.futures import ThreadPoolExecutor
    from copy import deepcopy

    one = nn.Sequential(*(nn.Linear(8 * k, 8, bias=False) for k in (1, 2, 3)))
    two, ctc = deepcopy(one), parts[1]
    whole = BaseOptimizer("muon", one, ctc, decay=0.1, fused=False)
    dealt = BaseOptimizer("muon", two, ctc, decay=0.1, fused=False, parallel=2)
    assert set(dealt.parts) == {"adamw", "muon", "muon1"}
    for step in range(3):
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step))
            b.grad = a.grad.clone()
        whole.step(0.01)
        with ThreadPoolExecutor(2) as workers:
            dealt.step(0.01, workers)
        whole.zero_grad()
        dealt.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not dealt.load_state_dict(whole.state_dict())
    assert dealt.load_state_dict(dealt.state_dict())
