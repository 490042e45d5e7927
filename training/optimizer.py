"""What moves the base's weights: AdamW, or Muon for the matrices and AdamW for the rest.

Muon (Jordan et al. 2024, `torch.optim.Muon`) makes the update of a matrix orthogonal, so that no direction of it starves.
Scaled to the size of AdamW's updates (Liu et al. 2025), both share one learning rate. On the embedded base eight minutes
with it were worth 1.7 points of English word errors more than eight of AdamW, though it made a fifth fewer steps.
"""

from concurrent.futures import Executor
from typing import Any

import torch
from torch import nn

from training.precision import bf16_pays


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, which orthogonalises in bf16, in fp32 where bf16 does not pay: on a CPU without it a step of the
    embedded base took 11 s, and takes 0.7."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        if any(bf16_pays(p.device.type) for group in self.param_groups for p in group["params"][:1]):
            return super().step(closure)
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            a, b, c = group["ns_coefficients"]
            weights: list[torch.Tensor] = []
            gradients: list[torch.Tensor] = []
            moments: list[torch.Tensor] = []
            self._init_group(group, weights, gradients, moments)
            for weight, gradient, moment in zip(weights, gradients, moments, strict=True):
                moment.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(moment, group["momentum"]) if group["nesterov"] else moment
                wide = weight.shape[0] <= weight.shape[1]
                x = update if wide else update.T
                x = x / x.norm().clamp(min=group["eps"])
                for _ in range(group["ns_steps"]):  # Newton-Schulz, towards U V^T
                    gram = x @ x.T
                    x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(weight.shape) ** 0.5  # `match_rms_adamw`
                weight.add_(x if wide else x.T, alpha=-group["lr"] * size)
        return loss


class BaseOptimizer:
    """kind: `adamw` or `muon`. Embeddings, the head, convolutions, norms and biases are AdamW's in both.

    model: the base; others: what else is trained (the CTC head). fused: AdamW as one kernel, for CUDA. parallel: into how
    many parts of equal work the matrices are dealt, so that as many threads can move them side by side.
    """

    def __init__(self, kind: str, model: nn.Module, others: nn.Module, decay: float, fused: bool, parallel: int = 1):
        tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        own = [p for p in model.parameters() if p.requires_grad]
        matrices = [p for p in own if p.ndim == 2 and id(p) not in tables] if kind == "muon" else []
        taken = {id(p) for p in matrices}
        rest = [p for p in [*own, *others.parameters()] if id(p) not in taken]
        decayed = [p for p in rest if p.ndim > 1]
        plain = [p for p in rest if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
        self.parts: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8, fused=fused)
        }
        by_work = sorted(matrices, key=lambda p: -min(p.shape) * p.numel())
        for k in range(parallel if matrices else 0):
            self.parts[f"muon{k}" if k else "muon"] = Muon(
                by_work[k::parallel], weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )

    def step(self, rate: float, workers: Executor | None = None) -> None:
        """Move the weights, at this learning rate. workers: threads that take a part each."""
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = rate
        if workers is None:
            for part in self.parts.values():
                part.step()
        else:
            list(workers.map(lambda part: part.step(), self.parts.values()))

    def zero_grad(self) -> None:
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """False, and nothing loaded, where the state is another kind's: its moments then begin anew."""
        if set(state) != set(self.parts):
            return False
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return True
