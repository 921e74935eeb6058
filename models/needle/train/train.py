"""Trains the embedded model for a given time, on one GPU or on all of a host.

    node models/needle/train/fetch-prose.mjs
    python3 models/needle/train/train.py --seconds 900 --out models/needle
    torchrun --standalone --nproc-per-node gpu models/needle/train/train.py --seconds 900 ...

Each GPU takes a step's rows of its own, all of one length; gradients are averaged. Writes
`state.safetensors` (fp32), from which `--resume` goes on, and the model in HF layout.
"""

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.utils.checkpoint import checkpoint

from export import export
from facts import TASKS
from llama import RECOMPUTED, Llama, Shape, token_losses
from loader import STAGES, STEP_TOKENS, Batch, Loader
from muon import Muon
from pieces import Prose
from ranks import Ranks
from tokenizer import load_or_train

# Loss weight of an answer's token: a UUID has 30, a frequent word 3.
TASK_WEIGHTS = dict.fromkeys(TASKS, 1.0) | {
    "text": 0.0,
    "uuid": 0.5,
    "multivalue": 2.0,
    "vt": 3.0,
    "cwe": 4.0,
    "fwe": 6.0,
}
LONG = 32_768
ADAM_RATE = 2e-3
MUON_RATE = 0.02
REPORT_SECONDS = 60


class Schedule:
    """Warm-up, constant to 60 %, then linear to 5 % of the rate; by time, not by steps."""

    def __init__(self, seconds: float, warmup_steps: int) -> None:
        self.seconds, self.warmup_steps = seconds, warmup_steps
        self.began = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def rate(self, step: int, progress: float) -> float:
        """Factor of the learning rate at a share of the time in [0, 1)."""
        falling = 1 - 0.95 * max(progress - 0.6, 0) / 0.4
        return max(min((step + 1) / self.warmup_steps, falling), 0.05 * (step > self.warmup_steps))


def optimizers(model: Llama, adam_only: bool) -> list[torch.optim.Optimizer]:
    matrices = [p for layer in model.layers for p in layer.parameters() if p.ndim == 2]
    chosen = set() if adam_only else set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    decayed = [p for p in others if p.ndim == 2]
    groups = [
        {"params": decayed, "weight_decay": 0.05},
        {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=ADAM_RATE, betas=(0.9, 0.95), fused=True)
    return [adam] if adam_only else [adam, Muon(matrices, MUON_RATE)]


class Tally:
    """Loss and right tokens by task, short and long rows apart; summed on the GPU."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2, len(TASKS), 3, device="cuda")

    def add(self, long: bool, marks: torch.Tensor, losses: torch.Tensor, right: torch.Tensor) -> None:
        facts = torch.stack([losses, right.float(), torch.ones_like(losses)], dim=1)
        self.sums[int(long)].index_add_(0, marks, facts)

    def take(self) -> str:
        sums = self.sums.tolist()
        self.sums.zero_()
        lines = []
        for name, tasks in zip(("short", "long"), sums, strict=True):
            parts = [
                f"{task} {loss / n:.3f}/{100 * right / n:.1f}%"
                for task, (loss, right, n) in zip(TASKS, tasks, strict=True)
                if n > 0
            ]
            lines.append(f"    {name}: {'  '.join(parts)}")
        return "\n".join(lines)


def losses_by_part(
    model: Llama, x: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`token_losses` of a few tokens at a time, so that logits of a long row are never all there."""
    parts = [
        checkpoint(token_losses, some, model.final_norm, model.embedding, wanted, **RECOMPUTED)
        for some, wanted in zip(x.split(STEP_TOKENS), targets.split(STEP_TOKENS), strict=True)
    ]
    losses, right = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(right)


def step_loss(model: Llama, batch: Batch, weights: torch.Tensor, tally: Tally) -> torch.Tensor:
    ids, marks, positions = torch.from_numpy(batch.numbers).pin_memory().cuda(non_blocking=True).long()
    targets, target_marks = ids.roll(-1), marks.roll(-1)
    counted = torch.ones_like(ids, dtype=torch.bool)
    counted.view(batch.rows, -1)[:, -1] = False
    x = model.hidden_states(ids, positions, batch.rows)
    losses, right = losses_by_part(model, x, targets)
    losses = losses * counted
    answer = weights[target_marks]
    tally.add(len(ids) // batch.rows >= LONG, target_marks, losses.detach(), right)
    return losses.mean() + (losses * answer).sum() / answer.sum().clamp(min=1.0)


def train(options: argparse.Namespace, ranks: Ranks, model: Llama, loader: Loader) -> None:
    weights = torch.tensor([TASK_WEIGHTS[task] for task in TASKS], device="cuda")
    chosen = optimizers(model, options.adam)
    bases = [[group["lr"] for group in o.param_groups] for o in chosen]
    parameters = list(model.parameters())
    tally = Tally()
    schedule = Schedule(options.seconds, 100)
    step = tokens = 0
    progress = reported = waited = 0.0
    while progress < 1:
        asked = time.monotonic()
        batch = loader.next(progress)
        waited += time.monotonic() - asked
        step_loss(model, batch, weights, tally).backward()
        # A step may take half a minute: the clock is read when it is through.
        torch.cuda.synchronize()
        progress = ranks.average_gradients(parameters, schedule.elapsed() / options.seconds)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, rates in zip(chosen, bases, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * options.rate * schedule.rate(step, progress)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens += batch.numbers.shape[1] * ranks.count
        seconds = schedule.elapsed()
        if ranks.first and seconds > reported + REPORT_SECONDS:
            reported = seconds
            rate = f"{tokens / seconds / 1e6:.2f} M/s, {waited:.0f} s waited for rows"
            print(f"step {step}  {seconds:.0f} s  {tokens / 1e6:.0f} M tokens  {rate}")
            print(tally.take(), flush=True)
            save_file(model.state_dict(), options.out / "state.safetensors")
    if ranks.first:
        print(f"{step} steps  {schedule.elapsed():.0f} s  {tokens / 1e6:.0f} M tokens", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--resume", type=Path, help="a state.safetensors to go on from")
    arguments.add_argument("--stage", choices=list(STAGES), default="learn")
    arguments.add_argument("--rate", type=float, default=1.0, help="factor of the learning rates")
    arguments.add_argument("--adam", action="store_true", help="AdamW for the matrices too")
    arguments.add_argument("--layers", type=int, default=Shape.layers)
    arguments.add_argument("--hidden", type=int, default=Shape.hidden)
    arguments.add_argument("--ffn", type=int, default=Shape.ffn)
    arguments.add_argument("--query-heads", type=int, default=Shape.query_heads)
    arguments.add_argument("--processes", type=int, default=14)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    prose = Prose()
    tokenizer = load_or_train(options.out / "tokenizer.json", prose.text.splitlines())
    prose.tokenize(tokenizer)
    ranks = Ranks()
    loader = Loader(STAGES[options.stage], tokenizer, prose, options.processes, options.seed, ranks.rank)
    ranks.join()
    shape = Shape(
        layers=options.layers,
        hidden=options.hidden,
        ffn=options.ffn,
        query_heads=options.query_heads,
    )
    model = Llama(shape).cuda()
    if options.resume is not None:
        model.load_state_dict(load_file(options.resume, device="cuda"))
    if ranks.first:
        count = sum(p.numel() for p in model.parameters())
        print(f"{count:,} parameters, {shape}, {ranks.count} GPUs", flush=True)
    train(options, ranks, model, loader)
    loader.close()
    if ranks.first:
        save_file(model.state_dict(), options.out / "state.safetensors")
        export(model, options.out)
    ranks.leave()


if __name__ == "__main__":
    main()
