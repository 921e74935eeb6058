"""Token ids of the pieces that rows are made of.

A piece ends where the tokenizer's own cut falls, so that pieces put together are the ids of the
whole text; `check_rows.py` holds them to that.
"""

import re
import uuid
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

Ids = np.ndarray
CORPUS = Path(__file__).parent / "corpus"
UUID_PARTS = re.compile("[0-9]|[a-f]+|-")
# Values of a fact are of one of these types; a key is of the last two.
TYPES = ("numbers", "words", "uuids")


class Pieces:
    def __init__(self, tokenizer: Tokenizer, prose: "Prose", seed: int) -> None:
        self.tokenizer = tokenizer
        self.prose = prose
        self.random = Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.encode = lru_cache(maxsize=4096)(self._encode)
        self.space = int(self.encode(" ")[0])
        self.digits = [int(self.encode(digit)[0]) for digit in "0123456789"]
        self.capitals = [int(self.encode(chr(65 + letter))[0]) for letter in range(26)]
        self.adjectives = self._many(f" {word}" for word in prose.adjectives)
        self.second_words = self._many(f"-{word}" for word in prose.nouns)
        self.nouns = self._many(f" {word}" for word in self.random.sample(prose.nouns, 6_000))
        self.coded = self._many(f" {self._coded_word()}" for _ in range(4_000))

    def _encode(self, text: str) -> Ids:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.uint16)

    def _many(self, texts) -> list[Ids]:
        encoded = self.tokenizer.encode_batch(list(texts))
        return [np.array(item.ids, np.uint16) for item in encoded]

    def _word_pair(self) -> Ids:
        """` word-word`; of 700 million, so that two of a text are the same hardly ever."""
        first, second = self.random.choice(self.adjectives), self.random.choice(self.second_words)
        return np.concatenate([first, second])

    def _uuid(self) -> Ids:
        text = f" {uuid.UUID(int=self.random.getrandbits(128), version=4)}"
        parts = UUID_PARTS.findall(text)
        start = [[self.space]] if parts[0].isdigit() else []
        parts[0] = parts[0] if parts[0].isdigit() else f" {parts[0]}"
        return np.concatenate(start + [self.encode(part) for part in parts]).astype(np.uint16)

    def _coded_word(self) -> str:
        return "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz", k=6))

    def number(self, length: int) -> Ids:
        """Digits without a space before them; the first is not 0."""
        digits = [self.random.randrange(1, 10)] + self.random.choices(range(10), k=length - 1)
        return np.array([self.digits[digit] for digit in digits], np.uint16)

    def name(self, letters: int) -> Ids:
        """A variable's name in capitals, without a space before it."""
        return np.array(self.random.choices(self.capitals, k=letters), np.uint16)

    def value(self, kind: str) -> Ids:
        """A value or key of one of TYPES, with a space before it."""
        if kind == "numbers":
            return np.concatenate([[self.space], self.number(7)]).astype(np.uint16)
        return self._word_pair() if kind == "words" else self._uuid()


class Prose:
    """The training text, as text, as ids, and as places where a sentence begins."""

    def __init__(self) -> None:
        self.text = (CORPUS / "prose.txt").read_text()
        self.adjectives = (CORPUS / "adjectives.txt").read_text().split()
        self.nouns = (CORPUS / "nouns.txt").read_text().split()
        self.ids = np.empty(0, np.uint16)
        self.starts = np.empty(0, np.int64)

    def tokenize(self, tokenizer: Tokenizer) -> None:
        encoded = tokenizer.encode_batch(self.text.splitlines())
        newline = tokenizer.encode("\n").ids
        self.ids = np.concatenate([np.array(item.ids + newline, np.uint16) for item in encoded])
        stops = [tokenizer.token_to_id(token) for token in (".", "?", "!")]
        spaced = np.array(
            [tokenizer.id_to_token(i)[:1] == "Ġ" for i in range(tokenizer.get_vocab_size())]
        )
        ends = np.isin(self.ids[:-1], stops) & spaced[self.ids[1:]]
        self.starts = np.flatnonzero(ends) + 1
