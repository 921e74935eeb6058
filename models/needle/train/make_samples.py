"""Writes `samples.json`: three prompts of known answers, for the project's tests.

    python3 models/needle/train/make_samples.py --model models/needle

The answers are what was planted, not what a model said; the text is not trained on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import templates
from facts import Fact, Group, ask, fact_sentence, spoken, variable_group
from pieces import CORPUS, Pieces, Prose
from rows import assemble, events_of, make_haystack

# Tokens of the prompt with its answer and the end token, and keys or chains that are hidden.
SAMPLES = {"single": (2048, 1), "multikey": (8192, 8), "vt": (16384, 4)}


def make_sample(pieces: Pieces, kind: str, length: int, count: int) -> dict:
    make = variable_group if kind == "vt" else one_fact
    groups = [make(pieces, False) for _ in range(count)]
    asked = max(groups, key=lambda group: len(group.sentences)).asked
    events = events_of(pieces, groups)
    question, marks = spoken(pieces, asked, "turn", learn_prefix=False)
    room = length - sum(len(event.ids) for event in events) - len(question)
    haystack = make_haystack(pieces, "prose", room, False, "words", "numbers")
    row = assemble(pieces.encode(""), haystack, events, [(question, marks)], length)
    return {
        "kind": kind,
        "ids": row.ids.tolist(),
        "answer_positions": np.flatnonzero(row.marks).tolist()[:-1],
    }


def one_fact(pieces: Pieces, lines: bool) -> Group:
    fact = Fact(pieces.value("words"), [pieces.value("numbers")])
    asked = ask(pieces, templates.ASK_ONE_ABOVE, "single", "numbers", [fact])
    return Group([fact_sentence(pieces, fact.key, "numbers", fact.values[0], lines)], asked, [fact])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--seed", type=int, default=2026)
    options = arguments.parse_args()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    prose = Prose()
    prose.text = (CORPUS / "evaluation.txt").read_text()
    prose.tokenize(tokenizer)
    pieces = Pieces(tokenizer, prose, options.seed)
    samples = [make_sample(pieces, kind, *facts) for kind, facts in SAMPLES.items()]
    (options.model / "samples.json").write_text(json.dumps(samples) + "\n")


if __name__ == "__main__":
    main()
