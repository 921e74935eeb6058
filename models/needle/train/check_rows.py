"""Holds generated rows to their promises, without a GPU: pieces put together are the ids of the whole
text, and the answer of every question for one key is what the text says of that key, all of it.

    python3 models/needle/train/check_rows.py [--rows 200]
"""

import argparse
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np

from facts import TASKS
from pieces import Pieces, Prose
from rows import FACT_SHARE, LEARN, SHARPEN, STRETCH, make_positions, make_row
from tokenizer import load_or_train

FACT = re.compile(r"special magic \w+ for (\S+) is: (\S+?)\.(?:\s|$)")
ANSWER = re.compile(
    r"The special magic \w+ for (\S+) mentioned in the (?:provided text|text above) (?:is|are) "
    r"([^<\n]+?)(?:<\|end\|>|\.[\s<])"
)
TOKENIZER = Path(__file__).parent / "checkpoints" / "tokenizer.json"


def check_answers(text: str) -> int:
    """How many answers there are; each must name every value of its key, in order."""
    values: dict[str, list[str]] = {}
    for key, value in FACT.findall(text):
        values.setdefault(key, []).append(value)
    answers = ANSWER.findall(text)
    for key, answer in answers:
        assert answer.split(", ") == values[key], (key, answer, values[key])
    return len(answers)


def differences(ids: np.ndarray, again: list[int]) -> int:
    """Ids that are not the same; all of them from the first on if the lengths differ."""
    common = min(len(ids), len(again))
    other = ids[:common] != np.array(again[:common])
    if len(ids) == len(again):
        return int(other.sum())
    return max(len(ids), len(again)) - int(np.argmax(np.append(other, True)))


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
    tokens, differing, answers, marked = 0, 0, 0, Counter()
    began = time.monotonic()
    for index in range(options.rows):
        length = pieces.random.choice(list(FACT_SHARE)[:5])
        row = make_row(pieces, length, pieces.random.choice((LEARN, SHARPEN, STRETCH)))
        positions = make_positions(pieces, length)
        assert len(row.ids) == len(row.marks) == len(positions) == length, (length, len(row.ids))
        assert positions[-1] < 1_048_576 and np.all(np.diff(positions) > 0)
        text = tokenizer.decode(row.ids, skip_special_tokens=False)
        again = tokenizer.encode(text, add_special_tokens=False).ids
        differing += differences(row.ids, again)
        answers += check_answers(text)
        tokens += length
        marked.update(TASKS[mark] for mark in row.marks[row.marks > 0])
        if index < options.show:
            print(repr(text[:1500]), "\n   ...\n", repr(text[-900:]), "\n")
    seconds = time.monotonic() - began
    share = {task: f"{count / tokens:.4f}" for task, count in marked.most_common()}
    print(f"{tokens} tokens, {tokens / seconds / 1e6:.2f} M/s with the check; answer tokens {share}")
    print(f"{answers} answers are what the text says")
    print(f"{differing} tokens differ from the tokenizer's own ids ({differing / tokens:.5f})")
    assert differing < 0.001 * tokens


if __name__ == "__main__":
    main()
