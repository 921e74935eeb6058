"""One training row: a haystack with facts in it, and questions amid it and at its end."""

from dataclasses import dataclass

import numpy as np

import haystacks
import templates
from facts import (
    MARK,
    Asked,
    Group,
    ask_several,
    fact_group,
    spoken,
    variable_group,
)
from haystacks import Haystack
from pieces import Ids, Pieces
from tokenizer import USER

# Share of a row that facts and questions take, by length: short rows are nearly nothing else.
FACT_SHARE = {1024: 0.85, 2048: 0.7, 4096: 0.6, 8192: 0.45, 32768: 0.2, 131072: 0.08, 262144: 0.05}
FACT_SHARE |= {524288: 0.08, 1048576: 0.06}


@dataclass(frozen=True)
class Mix:
    """Weights of the kinds of rows, and the share of keys that have several values."""

    kinds: dict[str, int]
    several_values: float


LEARN = Mix(
    {"prose": 60, "noise": 6, "needle_words": 10, "needle_uuids": 7, "variables": 20, "cwe": 4, "fwe": 3},
    several_values=0.2,
)
# What the first training leaves weak: several values, many keys, lines at 1M tokens.
SHARPEN = Mix(
    {"prose": 60, "noise": 10, "needle_words": 14, "needle_uuids": 14, "variables": 16, "cwe": 4, "fwe": 2},
    several_values=0.5,
)
# What the first two leave weak: lines and chains, and everything beyond 262,144 tokens.
STRETCH = Mix(
    {"prose": 34, "noise": 14, "needle_words": 22, "needle_uuids": 12, "variables": 26, "cwe": 4, "fwe": 2},
    several_values=0.5,
)
ONE_MILLION = 1_048_576
LEAST_JUMP = 64


@dataclass
class Row:
    """ids and marks: [length]. A mark is the task whose answer the token belongs to; 0: text."""

    ids: Ids
    marks: Ids


@dataclass
class Event:
    """Something that stands at `time`, a share of the haystack in [0, 1]."""

    time: float
    ids: Ids
    marks: Ids


def make_row(pieces: Pieces, length: int, mix: Mix) -> Row:
    kind = pieces.random.choices(list(mix.kinds), weights=list(mix.kinds.values()))[0]
    if kind in ("cwe", "fwe") and length <= 32768:
        return counting_row(pieces, length, kind)
    return fact_row(pieces, length, "prose" if kind in ("cwe", "fwe") else kind, mix)


def fact_row(pieces: Pieces, length: int, kind: str, mix: Mix) -> Row:
    random = pieces.random
    lines = kind in ("noise", "needle_words", "needle_uuids") or (
        kind == "variables" and random.random() < 0.7
    )
    key, value = fact_types(pieces, kind)
    budget = int(length * FACT_SHARE[length])
    groups = (
        variable_groups(pieces, budget, lines)
        if kind == "variables"
        else fact_groups(pieces, budget, (key, value), kind, lines, mix.several_values)
    )
    in_message = random.random() < 0.5
    opening = row_opening(pieces, kind, value, groups) if in_message else pieces.encode("")
    first = None
    if random.random() < 0.1:
        # The question stands in front of the text too.
        first = groups[-1]
        opening = question_first(pieces, first.asked, opening)
        in_message = True
    plain = "line" if lines else "plain"
    events, ends = place(pieces, groups, first, plain)
    closing = [
        spoken(pieces, asked, "message" if in_message and index == 0 else "turn", random.random() < 0.25)
        for index, asked in enumerate(ends)
    ]
    fixed = len(opening) + sum(len(e.ids) for e in events) + sum(len(ids) for ids, _ in closing)
    haystack = make_haystack(pieces, kind, max(length - fixed, 0), lines, key, value)
    return assemble(opening, haystack, events, closing, length)


def fact_types(pieces: Pieces, kind: str) -> tuple[str, str]:
    if kind == "needle_words":
        return "words", "numbers"
    if kind == "needle_uuids":
        return "uuids", "uuids"
    choices = [("words", "numbers")] * 13 + [("words", "uuids")] * 4 + [("words", "words")] * 2
    return pieces.random.choice(choices + [("uuids", "uuids")])


def fact_groups(
    pieces: Pieces, budget: int, types: tuple[str, str], kind: str, lines: bool, several: float
) -> list[Group]:
    key, value = types
    task = "multikey" if kind.startswith("needle") else "uuid" if value == "uuids" else "single"
    groups: list[Group] = []
    cost = 0
    while cost < budget or not groups:
        group = fact_group(pieces, types, task, lines, several)
        if pieces.random.random() < 0.12 and len(group.parts[0].values) == 1:
            count = pieces.random.choice((1, 2, 3, 3))
            others = [fact_group(pieces, types, task, lines, 0.0) for _ in range(count)]
            group = ask_several(pieces, value, [group, *others])
        cost += group.tokens()
        if cost <= budget or not groups:
            groups.append(group)
    return groups


def variable_groups(pieces: Pieces, budget: int, lines: bool) -> list[Group]:
    groups: list[Group] = []
    cost = 0
    letters = 3 if pieces.random.random() < 0.1 else 5
    while cost < budget or not groups:
        groups.append(variable_group(pieces, lines, letters))
        cost += groups[-1].tokens()
    return groups[:-1] or groups


def row_opening(pieces: Pieces, kind: str, value: str, groups: list[Group]) -> Ids:
    if kind == "variables":
        intro = templates.VT_INTRO
    elif len(groups) == 1 and len(groups[0].sentences) == 1:
        intro = templates.NIAH_INTRO_ONE.format(type=value[:-1])
    else:
        intro = templates.NIAH_INTRO.format(types=value)
    return np.concatenate([pieces.encode("\n"), [USER], pieces.encode(intro)]).astype(np.uint16)


def events_of(pieces: Pieces, groups: list[Group]) -> list[Event]:
    """The facts at random times, in order inside a group."""
    events = []
    for group in groups:
        times = sorted(pieces.random.random() for _ in group.sentences)
        for time, ids in zip(times, group.sentences, strict=True):
            events.append(Event(time, ids, np.zeros(len(ids), np.uint8)))
    return sorted(events, key=lambda event: event.time)


def question_first(pieces: Pieces, asked: Asked, opening: Ids) -> Ids:
    """The user's message begins with the question; then the opening, if there is one."""
    start = np.append(pieces.encode("\n"), USER)
    parts = [start, asked.question, pieces.encode("\n"), opening[len(start) :]]
    return np.concatenate(parts).astype(np.uint16)


def place(
    pieces: Pieces, groups: list[Group], first: Group | None, plain: str
) -> tuple[list[Event], list[Asked]]:
    """Times of all facts, in order inside a group, and of the questions that stand amid the text."""
    random = pieces.random
    amid = random.choice((0.0, 0.0, 0.5, 0.5, 0.9))
    events: list[Event] = []
    ends: list[Asked] = []
    for group in groups:
        times = sorted(random.random() for _ in group.sentences)
        for time, ids in zip(times, group.sentences, strict=True):
            events.append(Event(time, ids, np.zeros(len(ids), np.uint8)))
        if group is not first and random.random() < amid:
            time = times[-1] + (1 - times[-1]) * random.random()
            form = random.choice(("turn", plain))
            events.append(Event(time, *spoken(pieces, group.asked, form, random.random() < 0.25)))
        else:
            ends.append(group.asked)
    events.sort(key=lambda event: event.time)
    if first is not None:
        ends.sort(key=lambda asked: asked is not first.asked)
    else:
        random.shuffle(ends)
    return events, ends


def make_haystack(
    pieces: Pieces, kind: str, tokens: int, lines: bool, key: str, value: str
) -> Haystack:
    if kind.startswith("needle"):
        return haystacks.needles(pieces, tokens, key, value)
    return haystacks.noise(pieces, tokens) if lines else haystacks.prose(pieces, tokens)


def assemble(
    opening: Ids,
    haystack: Haystack,
    events: list[Event],
    closing: list[tuple[Ids, Ids]],
    length: int,
) -> Row:
    total = len(haystack.ids)
    wanted = np.array([event.time for event in events]) * total
    places = np.append(haystack.places, total) if not haystack.lines else haystack.places
    at = places[np.minimum(np.searchsorted(places, wanted), len(places) - 1)]
    ids, marks = [opening], [np.zeros(len(opening), np.uint8)]
    begin = 0
    for event, end in zip(events, at, strict=True):
        ids += [haystack.ids[begin:end], event.ids]
        marks += [np.zeros(end - begin, np.uint8), event.marks]
        begin = end
    ids.append(haystack.ids[begin:])
    marks.append(np.zeros(total - begin, np.uint8))
    for closing_ids, closing_marks in closing:
        ids.append(closing_ids)
        marks.append(closing_marks)
    return Row(np.concatenate(ids)[:length], np.concatenate(marks)[:length])


def counting_row(pieces: Pieces, length: int, kind: str) -> Row:
    """A list of words whose common ones are asked for, repeated in short rows until it is full."""
    ids: list[Ids] = []
    marks: list[Ids] = []
    used = 0
    while used < length:
        size = min(length - used, pieces.random.choice((length, length, 1024, 4096)))
        block = common_words(pieces, size) if kind == "cwe" else frequent_words(pieces, size)
        for block_ids, block_marks in block:
            ids.append(block_ids)
            marks.append(block_marks)
            used += len(block_ids)
    return Row(np.concatenate(ids)[:length], np.concatenate(marks)[:length])


def counted_block(
    pieces: Pieces, intro: str, words: list[Ids], wording: templates.Wording, answer: Ids, task: str
) -> list[tuple[Ids, Ids]]:
    start = np.concatenate([pieces.encode("\n"), [USER], pieces.encode(intro), *words])
    asked = Asked(task, pieces.encode(wording.question), pieces.encode(wording.prefix), answer)
    text = start.astype(np.uint16)
    return [(text, np.zeros(len(text), np.uint8)), spoken(pieces, asked, "message", False)]


def common_words(pieces: Pieces, size: int) -> list[tuple[Ids, Ids]]:
    random = pieces.random
    often, seldom = random.choice(((30, 3), (30, 3), (10, 3), (6, 1)))
    often = min(often, max(3, (size - 200) // 90))
    seldom = min(seldom, max(1, often // 3))
    room = max((size - 160) // 7 - 10 * often, 5 * seldom)
    chosen = random.sample(pieces.nouns, 10 + min(room // seldom, 4_000))
    common, rest = chosen[:10], chosen[10:]
    listed = common * often + rest * seldom
    random.shuffle(listed)
    numbered = numbered_words(pieces, listed)
    order = {}
    for word in listed:
        order.setdefault(word.tobytes(), len(order))
    common.sort(key=lambda word: order[word.tobytes()])
    answer = np.concatenate([np.array([pieces.space], np.uint16), *numbered_words(pieces, common)])
    return counted_block(
        pieces, templates.CWE_INTRO, numbered, templates.ASK_COMMON, answer, "cwe"
    )


def numbered_words(pieces: Pieces, words: list[Ids]) -> list[Ids]:
    """`1. word 2. word`: no space before the first number."""
    parts: list[Ids] = []
    for index, word in enumerate(words, start=1):
        digits = [pieces.digits[int(digit)] for digit in str(index)]
        parts.append(np.array(([pieces.space] if index > 1 else []) + digits, np.uint16))
        parts += [pieces.encode("."), word]
    return parts


def frequent_words(pieces: Pieces, size: int) -> list[tuple[Ids, Ids]]:
    """Words whose rank-k share is k^-2 / zeta(2); rank 1 is written as dots."""
    count = max((size - 130) // 4, 40)
    coded = pieces.random.sample(pieces.coded, max(min(size // 50, 2000), 5))
    coded[0] = pieces.encode(" ...")
    shares = np.arange(1, len(coded) + 1, dtype=np.float64) ** -2 / (np.pi**2 / 6)
    times = (count * shares).astype(int)
    listed = [word for word, n in zip(coded, times, strict=True) for _ in range(n)]
    pieces.random.shuffle(listed)
    answer = joined_words(pieces, coded[1:4])
    return counted_block(
        pieces, templates.FWE_INTRO.rstrip(), listed, templates.ASK_FREQUENT, answer, "fwe"
    )


def joined_words(pieces: Pieces, words: list[Ids]) -> Ids:
    comma = pieces.encode(",")
    return np.concatenate([part for word in words for part in (word, comma)][:-1])


def make_positions(pieces: Pieces, length: int) -> np.ndarray:
    """0, 1, 2, ...; in four of five rows with 1 to 5 jumps, up to 1M in all (arXiv:2309.10400).

    A row of 1M tokens has no room for any.
    """
    positions = np.arange(length, dtype=np.int32)
    random = pieces.random
    most = ONE_MILLION - length
    if random.random() < 0.2 or most <= LEAST_JUMP:
        return positions
    jumps = random.randint(1, 5)
    total = int(np.exp(random.uniform(np.log(LEAST_JUMP), np.log(most))))
    cuts = np.sort(pieces.numpy.integers(0, total + 1, jumps - 1))
    sizes = np.diff(np.concatenate([[0], cuts, [total]]))
    at = np.sort(pieces.numpy.integers(0, length, jumps))
    steps = np.zeros(length, np.int64)
    np.add.at(steps, at, sizes)
    return (positions + np.cumsum(steps)).astype(np.int32)
