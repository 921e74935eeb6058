"""The text that facts are hidden in: ids, and the places where a fact may stand."""

from dataclasses import dataclass

import numpy as np

import templates
from pieces import Ids, Pieces


@dataclass(frozen=True)
class Haystack:
    ids: Ids
    """Rising places, [0, len(ids)]: between sentences or lines."""
    places: np.ndarray
    """True: each line ends with a line break; facts are lines too."""
    lines: bool


def prose(pieces: Pieces, tokens: int) -> Haystack:
    source = pieces.prose
    last = np.searchsorted(source.starts, len(source.ids) - tokens - 1)
    first = source.starts[pieces.random.randrange(last)]
    inside = source.starts[
        np.searchsorted(source.starts, first) : np.searchsorted(source.starts, first + tokens)
    ]
    return Haystack(source.ids[first : first + tokens], inside - first, lines=False)


def noise(pieces: Pieces, tokens: int) -> Haystack:
    unit = pieces.encode(templates.NOISE + "\n")
    ids = np.resize(unit, tokens)
    return Haystack(ids, np.arange(0, tokens + 1, len(unit)), lines=True)


def needles(pieces: Pieces, tokens: int, key: str, value: str) -> Haystack:
    """Lines of facts that nobody asks for."""
    before = pieces.encode(f"One of the special magic {value} for")
    middle, end = pieces.encode(" is:"), pieces.encode(".\n")
    parts: list[Ids] = []
    places = [0]
    while places[-1] <= tokens:
        fact = [before, pieces.value(key), middle, pieces.value(value), end]
        parts += fact
        places.append(places[-1] + sum(map(len, fact)))
    return Haystack(np.concatenate(parts)[:tokens], np.array(places[:-1]), lines=True)
