"""Processes that make batches of rows while the GPU works."""

import multiprocessing
import os
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from pieces import Pieces, Prose
from rows import LEARN, SHARPEN, Mix, make_positions, make_row

STEP_TOKENS = 65_536

@dataclass(frozen=True)
class Stage:
    """What rows a training sees.

    phases: from this share of the time on, the weights of row lengths. Short rows teach to copy,
    long ones to find; no row is longer than 262,144.
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
}


@dataclass(frozen=True)
class Batch:
    """numbers: ids, marks and positions, int32 [3, rows * length]."""

    rows: int
    numbers: np.ndarray


class Loader:
    def __init__(
        self, stage: Stage, tokenizer: Tokenizer, prose: Prose, processes: int, seed: int
    ) -> None:
        context = multiprocessing.get_context("fork")
        self.progress = context.Value("d", 0.0)
        self.queue = context.Queue(maxsize=2 * processes)
        self.processes = [
            context.Process(
                target=fill, args=(self.queue, self.progress, stage, tokenizer, prose, seed + n), daemon=True
            )
            for n in range(processes)
        ]
        for process in self.processes:
            process.start()

    def next(self, progress: float) -> Batch:
        self.progress.value = progress
        return self.queue.get(timeout=120)

    def close(self) -> None:
        for process in self.processes:
            process.kill()


def fill(queue, progress, stage: Stage, tokenizer: Tokenizer, prose: Prose, seed: int) -> None:
    # The threads that the tokenizer had before the fork are not there.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pieces = Pieces(tokenizer, prose, seed)
    while True:
        weights = next(w for start, w in reversed(stage.phases) if progress.value >= start)
        length = pieces.random.choices(list(weights), weights=list(weights.values()))[0]
        queue.put(make_batch(pieces, length, max(STEP_TOKENS // length, 1), stage.mix))


def make_batch(pieces: Pieces, length: int, rows: int, mix: Mix) -> Batch:
    made = [make_row(pieces, length, mix) for _ in range(rows)]
    columns = (
        [row.ids for row in made],
        [row.marks for row in made],
        [make_positions(pieces, length) for _ in made],
    )
    return Batch(rows, np.stack([np.concatenate(column).astype(np.int32) for column in columns]))
