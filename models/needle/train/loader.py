"""Processes that make batches of rows while the GPU works."""

import multiprocessing
import os
from dataclasses import dataclass
from random import Random

import numpy as np
from tokenizers import Tokenizer

from pieces import Pieces, Prose
from rows import LEARN, SHARPEN, STRETCH, Mix, make_positions, make_row

STEP_TOKENS = 65_536


@dataclass(frozen=True)
class Stage:
    """What rows a training sees.

    phases: from this share of the time on, the weights of row lengths. Short rows teach to copy,
    long ones to find.
    """

    mix: Mix
    phases: list[tuple[float, dict[int, int]]]


STAGES = {
    "learn": Stage(
        LEARN,
        [
            (0.0, {1024: 100}),
            (0.12, {1024: 60, 2048: 20, 8192: 20}),
            (0.25, {1024: 44, 2048: 12, 8192: 16, 32768: 16, 131072: 12}),
            (0.80, {1024: 34, 2048: 12, 8192: 16, 32768: 18, 131072: 17, 262144: 3}),
        ],
    ),
    "sharpen": Stage(SHARPEN, [(0.0, {1024: 20, 8192: 20, 32768: 24, 131072: 26, 262144: 10})]),
    "stretch": Stage(
        STRETCH,
        [
            (0.0, {8192: 30, 32768: 30, 131072: 40}),
            (0.06, {8192: 12, 32768: 16, 131072: 24, 262144: 20, 524288: 12, 1048576: 2}),
            (
                0.62,
                {1024: 8, 4096: 8, 8192: 10, 32768: 16, 131072: 22, 262144: 14, 524288: 8, 1048576: 2},
            ),
        ],
    ),
}


@dataclass(frozen=True)
class Batch:
    """numbers: ids, marks and positions, int32 [3, rows * length]."""

    rows: int
    numbers: np.ndarray


class Loader:
    """Batches in an order that depends on the seed and on the progress that was told, nothing else.

    Processes of several GPUs that tell the same progress get rows of the same lengths at the same
    step, with texts of their own.
    """

    def __init__(
        self, stage: Stage, tokenizer: Tokenizer, prose: Prose, processes: int, seed: int, rank: int
    ) -> None:
        context = multiprocessing.get_context("fork")
        self.stage, self.lengths, self.step = stage, Random(seed), 0
        self.orders = [context.Queue() for _ in range(processes)]
        self.batches = [context.Queue() for _ in range(processes)]
        self.processes = [
            context.Process(
                target=fill,
                args=(*queues, stage.mix, tokenizer, prose, 1000 * seed + 100 * rank + n),
                daemon=True,
            )
            for n, queues in enumerate(zip(self.orders, self.batches, strict=True))
        ]
        for process in self.processes:
            process.start()
        for queue in self.orders:
            queue.put(self._length(0.0))

    def _length(self, progress: float) -> int:
        weights = next(w for start, w in reversed(self.stage.phases) if progress >= start)
        return self.lengths.choices(list(weights), weights=list(weights.values()))[0]

    def next(self, progress: float) -> Batch:
        """The batch of this step; a process begins on the one that it will have as many steps later."""
        turn = self.step % len(self.processes)
        self.step += 1
        self.orders[turn].put(self._length(progress))
        return self.batches[turn].get(timeout=300)

    def close(self) -> None:
        for process in self.processes:
            process.kill()


def fill(orders, batches, mix: Mix, tokenizer: Tokenizer, prose: Prose, seed: int) -> None:
    # The threads that the tokenizer had before the fork are not there.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pieces = Pieces(tokenizer, prose, seed)
    while True:
        length = orders.get()
        batches.put(make_batch(pieces, length, max(STEP_TOKENS // length, 1), mix))


def make_batch(pieces: Pieces, length: int, rows: int, mix: Mix) -> Batch:
    made = [make_row(pieces, length, mix) for _ in range(rows)]
    columns = (
        [row.ids for row in made],
        [row.marks for row in made],
        [make_positions(pieces, length) for _ in made],
    )
    return Batch(rows, np.stack([np.concatenate(column).astype(np.int32) for column in columns]))
