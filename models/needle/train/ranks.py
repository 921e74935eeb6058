"""The GPUs of one host: a process for each when torchrun starts the program, else one process."""

import os

import torch
import torch.distributed as dist


class Ranks:
    """`count` processes of which this is number `rank`."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.first = self.rank == 0

    def join(self) -> None:
        """Takes this process's GPU; every process must call it, after it has forked its helpers."""
        torch.cuda.set_device(self.rank)
        if self.count > 1:
            dist.init_process_group("nccl")

    def average_gradients(self, parameters: list[torch.nn.Parameter], progress: float) -> float:
        """Gradients become their mean over all processes. Returns the first process's `progress`."""
        if self.count == 1:
            return progress
        gradients = [parameter.grad for parameter in parameters]
        clock = gradients[0].new_full((1,), progress if self.first else 0.0)
        flat = torch.cat([gradient.flatten() for gradient in gradients] + [clock])
        dist.all_reduce(flat)
        *means, clock = flat.split([gradient.numel() for gradient in gradients] + [1])
        for gradient, mean in zip(gradients, means, strict=True):
            torch.div(mean.view_as(gradient), self.count, out=gradient)
        return float(clock)

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()
