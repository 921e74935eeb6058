"""Token ids of the pieces that rows are made of.

A piece ends where the tokenizer's own cut falls, so that pieces put together are the ids of the
whole text; `check_rows.py` holds them to that.
"""

import uuid
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
from tokenizers import Tokenizer

Ids = np.ndarray
CORPUS = Path(__file__).parent / "corpus"
KEYS, UUIDS = 20_000, 8_000
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
        self.words = self._many(self._word_pair() for _ in range(KEYS))
        self.uuids = self._many(str(self._uuid()) for _ in range(UUIDS))
        self.nouns = self._many(self.random.sample(prose.nouns, 6_000))
        self.coded = self._many(self._coded_word() for _ in range(4_000))

    def _encode(self, text: str) -> Ids:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.uint16)

    def _many(self, texts) -> list[Ids]:
        """Ids of each text with a space before it."""
        encoded = self.tokenizer.encode_batch([f" {text}" for text in texts])
        return [np.array(item.ids, np.uint16) for item in encoded]

    def _word_pair(self) -> str:
        return f"{self.random.choice(self.prose.adjectives)}-{self.random.choice(self.prose.nouns)}"

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

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
        return self.random.choice(self.words if kind == "words" else self.uuids)


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
