"""The model's tokenizer: a byte-level BPE of 4,096 tokens.

Digits and the letters of words in capitals are tokens of their own, so that a number or a variable
name is written with the same tokens wherever it stands.
"""

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"]
END_OF_TEXT, USER, ASSISTANT, END = range(4)
VOCABULARY = 4096

# A capital beside another capital.
CAPITALS = Regex("[A-Z](?=[A-Z])|(?<=[A-Z])[A-Z]")


def train_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(CAPITALS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_or_train(path: Path, texts: list[str]) -> Tokenizer:
    if not path.exists():
        train_tokenizer(texts).save(str(path))
    return Tokenizer.from_file(str(path))
