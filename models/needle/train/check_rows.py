"""Holds generated rows to their promises, without a GPU: pieces put together are the ids of the whole
text, and every answer of a needle row can be found in the text before it.

    python3 models/needle/train/check_rows.py [--rows 200]
"""

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np

from facts import TASKS
from pieces import Pieces, Prose
from rows import FACT_SHARE, LEARN, SHARPEN, make_positions, make_row
from tokenizer import load_or_train

TOKENIZER = Path(__file__).parent / "checkpoints" / "tokenizer.json"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=200)
    arguments.add_argument("--show", type=int, default=0)
    options = arguments.parse_args()
    TOKENIZER.parent.mkdir(exist_ok=True)
    prose = Prose()
    tokenizer = load_or_train(TOKENIZER, prose.text.splitlines())
    prose.tokenize(tokenizer)
    pieces = Pieces(tokenizer, prose, seed=7)
    tokens, differing, marked = 0, 0, Counter()
    began = time.monotonic()
    for index in range(options.rows):
        length = pieces.random.choice(list(FACT_SHARE)[:5])
        row = make_row(pieces, length, pieces.random.choice((LEARN, SHARPEN)))
        positions = make_positions(pieces, length)
        assert len(row.ids) == len(row.marks) == len(positions) == length, (length, len(row.ids))
        assert positions[-1] < 1_048_576 and np.all(np.diff(positions) > 0)
        text = tokenizer.decode(row.ids, skip_special_tokens=False)
        again = tokenizer.encode(text, add_special_tokens=False).ids
        differing += abs(len(again) - length) + sum(a != b for a, b in zip(again, row.ids) if len(again) == length)
        tokens += length
        marked.update(TASKS[mark] for mark in row.marks[row.marks > 0])
        if index < options.show:
            print(repr(text[:1500]), "\n   ...\n", repr(text[-900:]), "\n")
    seconds = time.monotonic() - began
    share = {task: f"{count / tokens:.4f}" for task, count in marked.most_common()}
    print(f"{tokens} tokens, {tokens / seconds / 1e6:.2f} M/s with the check; answer tokens {share}")
    print(f"{differing} tokens differ from the tokenizer's own ids ({differing / tokens:.5f})")
    assert differing < 0.001 * tokens


if __name__ == "__main__":
    main()
