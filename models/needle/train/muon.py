"""Muon (Jordan et al., 2024): momentum whose matrix is made orthogonal before it is applied."""

from collections import defaultdict

import torch
from torch import Tensor

# Quintic Newton-Schulz iteration; pushes singular values towards 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


@torch.compile
def orthogonal(momenta: Tensor) -> Tensor:
    """momenta: [matrices, rows, columns]; each is made orthogonal."""
    a, b, c = COEFFICIENTS
    x = momenta.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are updated together: one by one, launches cost more than arithmetic."""

    def __init__(self, matrices, lr: float, momentum: float = 0.95, decay: float = 0.05) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        groups = [{"params": same} for same in by_shape.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            matrices = group["params"]
            grads = torch.stack([matrix.grad for matrix in matrices])
            state = self.state[matrices[0]]
            momenta = state.setdefault("momenta", torch.zeros_like(grads))
            momenta.lerp_(grads, 1 - group["momentum"])
            updates = orthogonal(grads.lerp(momenta, group["momentum"]))
            rows, columns = matrices[0].shape
            rate = group["lr"] * max(1.0, rows / columns) ** 0.5
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["decay"])
            torch._foreach_add_(matrices, list(updates.float().unbind()), alpha=-rate)
