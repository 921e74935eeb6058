"""What is hidden in a row and asked for: facts, chains of variables, and their questions."""

from dataclasses import dataclass, field

import numpy as np

import templates
from pieces import Ids, Pieces
from tokenizer import ASSISTANT, END, USER

TASKS = ("text", "single", "multikey", "uuid", "multivalue", "multiquery", "vt", "cwe", "fwe")
# Short chains teach to look a name up by its value, before names by names.
CHAIN_LENGTHS = (1, 1, 2, 2, 3, 4, 5, 5, 5, 5)
MARK = {task: mark for mark, task in enumerate(TASKS)}


@dataclass
class Asked:
    """A question with its answer. `answer` is what the model is held to."""

    task: str
    question: Ids
    prefix: Ids
    answer: Ids


@dataclass
class Group:
    """Facts that one question needs; `sentences` in the order in which they must stand."""

    sentences: list[Ids]
    asked: Asked | None
    parts: list["Fact"] = field(default_factory=list)

    def tokens(self) -> int:
        asked = self.asked
        cost = 0 if asked is None else len(asked.question) + len(asked.prefix) + len(asked.answer) + 6
        return sum(map(len, self.sentences)) + cost


@dataclass(frozen=True)
class Fact:
    key: Ids
    values: list[Ids]


def joined(parts: list[Ids], separator: Ids, last: Ids | None = None) -> Ids:
    out: list[Ids] = [parts[0]]
    for index, part in enumerate(parts[1:], start=1):
        out += [last if last is not None and index == len(parts) - 1 else separator, part]
    return np.concatenate(out)


def ask(
    pieces: Pieces, wording: templates.Wording, task: str, kind: str, facts: list[Fact]
) -> Asked:
    """A question for the values of all the facts, in their order."""
    keys = joined([fact.key for fact in facts], pieces.encode(","), pieces.encode(", and"))

    def fill(text: str) -> Ids:
        before, after = text.format(types=kind, type=kind[:-1], keys="\0").split(" \0")
        return np.concatenate([pieces.encode(before), keys, pieces.encode(after)])

    values = [value for fact in facts for value in fact.values]
    answer = joined(values, pieces.encode(","))
    return Asked(task, fill(wording.question), fill(wording.prefix), answer)


def fact_group(
    pieces: Pieces, types: tuple[str, str], task: str, lines: bool, several: float
) -> Group:
    """One key of the first type with a value of the second; with 2 to 4 in a share of `several`."""
    random = pieces.random
    key, kind = types
    count = random.choice((2, 3, 4, 4)) if random.random() < several else 1
    fact = Fact(pieces.value(key), [pieces.value(kind) for _ in range(count)])
    one = templates.ASK_ONE if random.random() < 0.7 else templates.ASK_ONE_ABOVE
    wording = one if count == 1 else templates.ASK_ALL
    asked = ask(pieces, wording, task if count == 1 else "multivalue", kind, [fact])
    sentences = [fact_sentence(pieces, fact.key, kind, value, lines) for value in fact.values]
    return Group(sentences, asked, [fact])


def fact_sentence(pieces: Pieces, key: Ids, kind: str, value: Ids, lines: bool) -> Ids:
    start = "One" if lines else " One"
    end = ".\n" if lines else ". " if pieces.random.random() < 0.1 else "."
    before = pieces.encode(f"{start} of the special magic {kind} for")
    return np.concatenate([before, key, pieces.encode(" is:"), value, pieces.encode(end)])


def ask_several(pieces: Pieces, kind: str, groups: list[Group]) -> Group:
    """One question for the single facts of 2 to 4 groups."""
    parts = [part for group in groups for part in group.parts]
    sentences = [sentence for group in groups for sentence in group.sentences]
    pieces.random.shuffle(sentences)
    return Group(sentences, ask(pieces, templates.ASK_ALL, "multiquery", kind, parts), parts)


def variable_group(pieces: Pieces, lines: bool, letters: int = 5) -> Group:
    """A chain `VAR A = 12345`, `VAR B = VAR A`, ...; the answer is every name."""
    random, encode = pieces.random, pieces.encode
    names = [pieces.name(letters) for _ in range(random.choice(CHAIN_LENGTHS))]
    number = pieces.number(5)
    start, end = (encode("VAR "), encode("\n")) if lines else (encode(" VAR "), encode("."))
    tail = encode(" \n") if lines else end
    sentences = [np.concatenate([start, names[0], encode(" = "), number, end])]
    for left, right in zip(names[1:], names[:-1], strict=True):
        sentences.append(np.concatenate([start, left, encode(" = VAR "), right, tail]))
    return Group(sentences, ask_variables(pieces, names, number))


def ask_variables(pieces: Pieces, names: list[Ids], number: Ids) -> Asked:
    def fill(text: str) -> Ids:
        parts = text.format(value="\0", count=len(names)).split("\0")
        return joined([pieces.encode(part) for part in parts], number)

    wording = templates.ASK_VARIABLES
    answer = joined(names, np.array([pieces.space], np.uint16))
    return Asked("vt", fill(wording.question), fill(wording.prefix), answer)


def spoken(pieces: Pieces, asked: Asked, form: str, learn_prefix: bool) -> tuple[Ids, Ids]:
    """Ids and marks of a question with its answer.

    form: `turn` (a new user message), `message` (the end of the user message that the text is in),
    `plain` (sentences amid prose, no special tokens) or `line` (the same between lines).
    """
    encode = pieces.encode
    if form in ("plain", "line"):
        opening, between = encode("\n" if form == "plain" else ""), encode("")
        end = encode("." if form == "plain" else ".\n")
    else:
        opening = np.append(encode("\n"), [] if form == "message" else [USER]).astype(np.uint16)
        between, end = np.array([ASSISTANT], np.uint16), np.array([END], np.uint16)
    ids = np.concatenate([opening, asked.question, between, asked.prefix, asked.answer, end])
    marks = np.zeros(len(ids), np.uint8)
    answer = len(asked.answer) + len(end) + (len(asked.prefix) if learn_prefix else 0)
    marks[-answer:] = MARK[asked.task]
    return ids, marks
