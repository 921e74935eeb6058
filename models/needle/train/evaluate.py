"""Exact-match accuracy of a trained model with dense attention, up to 1M tokens, on one GPU.

    python3 models/needle/train/evaluate.py --model models/needle --lengths 4096,131072,1048576

A document is prefilled once and asked many questions, each by itself. An answer counts when greedy
decoding gives all of its tokens: every token is the likeliest one after the right ones before it.
The haystack is text that was not trained on (`corpus/evaluation.txt`).
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

import templates
from export import parameters
from facts import Fact, Group, ask, ask_several, fact_sentence, spoken, variable_group
from llama import Llama, Shape, rms_norm, rope_tables, rotate
from pieces import CORPUS, Pieces, Prose
from rows import (
    assemble,
    common_words,
    events_of,
    frequent_words,
    make_haystack,
    question_first,
    row_opening,
)

CHUNK = 32_768
# Kinds of haystack, and types of key and value. All have `--questions` keys, each asked by itself.
NEEDLES = {
    "noise": ("noise", "words", "numbers"),
    "prose": ("prose", "words", "numbers"),
    "prose_uuids": ("prose", "words", "uuids"),
    "lines_words": ("needle_words", "words", "numbers"),
    "lines_uuids": ("needle_uuids", "uuids", "uuids"),
}
TASKS = (*NEEDLES, "multivalue", "multiquery", "vt", "cwe", "fwe", "first")


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """q: [tokens, heads, head_dim], k, v: [keys, kv heads, head_dim]. Output and natural lse."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (t.transpose(0, 1)[None] for t in (q, k, v))
    k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal)
    return out[0].transpose(0, 1).float(), lse[0].transpose(0, 1)[..., None]


def merge(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    """One softmax over two sets of keys."""
    weight = torch.sigmoid(a[1] - b[1])
    return a[0] * weight + b[0] * (1 - weight)


class Document:
    """Keys and values of a prefilled text, [layer][tokens, kv heads, head_dim] bf16."""

    def __init__(self, model: Llama, ids: np.ndarray) -> None:
        shape = model.shape
        self.model = model
        size = (shape.layers, len(ids), shape.kv_heads, shape.head_dim)
        self.k = torch.empty(size, dtype=torch.bfloat16, device="cuda")
        self.v = torch.empty_like(self.k)
        self.tokens = 0
        for begin in range(0, len(ids), CHUNK):
            self.append(torch.from_numpy(ids[begin : begin + CHUNK].astype(np.int64)).cuda())

    @torch.no_grad()
    def append(self, ids: Tensor) -> Tensor:
        begin, end = self.tokens, self.tokens + len(ids)
        positions = torch.arange(begin, end, device="cuda")

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            self.k[layer, begin:end], self.v[layer, begin:end] = k, v
            own = attend(q, k, v, causal=True)
            if begin == 0:
                return own[0]
            return merge(attend(q, self.k[layer, :begin], self.v[layer, :begin], causal=False), own)

        x = run_layers(self.model, ids, positions, attention)
        self.tokens = end
        return x

    @torch.no_grad()
    def ask(self, questions: list[np.ndarray]) -> list[Tensor]:
        """The likeliest next token at each position of questions that know nothing of each other."""
        ids = torch.from_numpy(np.concatenate(questions).astype(np.int64)).cuda()
        lengths = [len(question) for question in questions]
        positions = torch.cat([torch.arange(n, device="cuda") for n in lengths]) + self.tokens

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            shared = attend(q, self.k[layer], self.v[layer], causal=False)
            parts = [
                attend(*part, causal=True)
                for part in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
            ]
            own = tuple(torch.cat([part[i] for part in parts]) for i in (0, 1))
            return merge(shared, own)

        x = run_layers(self.model, ids, positions, attention)
        logits = F.linear(rms_norm(x, self.model.final_norm), self.model.embedding.bfloat16())
        return list(logits.argmax(-1).split(lengths))


def run_layers(model: Llama, ids: Tensor, positions: Tensor, attention) -> Tensor:
    cosines, sines = rope_tables(positions, model.shape)
    x = model.embedding[ids]
    for index, layer in enumerate(model.layers):
        normed = rms_norm(x, layer.attention_norm)
        q, k, v = (
            F.linear(normed, w.bfloat16()).view(len(ids), -1, model.shape.head_dim)
            for w in (layer.q, layer.k, layer.v)
        )
        attended = attention(index, rotate(q, cosines, sines), rotate(k, cosines, sines), v)
        x = x + F.linear(attended.reshape(len(ids), -1).bfloat16(), layer.o.bfloat16())
        normed = rms_norm(x, layer.ffn_norm)
        gated = F.silu(F.linear(normed, layer.gate.bfloat16()))
        x = x + F.linear(gated * F.linear(normed, layer.up.bfloat16()), layer.down.bfloat16())
    return x


@dataclass
class Case:
    """A document and questions about it: ids with marks at the answers."""

    ids: np.ndarray
    questions: list[tuple[np.ndarray, np.ndarray]]


def make_case(pieces: Pieces, task: str, length: int, count: int) -> Case:
    """A document of about `length` tokens with `count` questions (cwe and fwe: one)."""
    if task in ("cwe", "fwe"):
        make = common_words if task == "cwe" else frequent_words
        (ids, _), question = make(pieces, length - 160)
        return Case(ids, [question])
    others = {"vt": ("variables", "", "")}
    kind, key, value = (NEEDLES | others).get(task, NEEDLES["prose"])
    lines = kind != "prose"
    groups = make_groups(pieces, task, key, value, lines, count)
    opening = row_opening(pieces, kind, value, groups)
    if task == "first":
        opening = question_first(pieces, groups[0].asked, opening)
    events = events_of(pieces, groups)
    asked = [spoken(pieces, group.asked, "message", False) for group in groups if group.asked]
    room = length - len(opening) - sum(len(e.ids) for e in events) - max(len(q) for q, _ in asked)
    if room < 0:
        raise SystemExit(f"{length} tokens are too few for {task} with --questions {count}")
    haystack = make_haystack(pieces, kind, room, lines, key, value)
    return Case(assemble(opening, haystack, events, [], length).ids, asked)


def make_groups(
    pieces: Pieces, task: str, key: str, value: str, lines: bool, count: int
) -> list[Group]:
    if task == "vt":
        return [five_variables(pieces, lines) for _ in range(max(count // 4, 1))]
    if task == "multivalue":
        return [four_values(pieces, lines) for _ in range(max(count // 4, 1))]
    if task == "multiquery":
        return [
            ask_several(pieces, value, [one_fact(pieces, key, value, lines) for _ in range(4)])
            for _ in range(max(count // 4, 1))
        ]
    if task == "first":
        return [one_fact(pieces, key, value, lines)]
    return [one_fact(pieces, key, value, lines) for _ in range(count)]


def one_fact(pieces: Pieces, key: str, value: str, lines: bool) -> Group:
    fact = Fact(pieces.value(key), [pieces.value(value)])
    asked = ask(pieces, templates.ASK_ONE, "single", value, [fact])
    return Group([fact_sentence(pieces, fact.key, value, fact.values[0], lines)], asked, [fact])


def four_values(pieces: Pieces, lines: bool) -> Group:
    fact = Fact(pieces.value("words"), [pieces.value("numbers") for _ in range(4)])
    asked = ask(pieces, templates.ASK_ALL, "multivalue", "numbers", [fact])
    sentences = [fact_sentence(pieces, fact.key, "numbers", v, lines) for v in fact.values]
    return Group(sentences, asked, [fact])


def five_variables(pieces: Pieces, lines: bool) -> Group:
    while len((group := variable_group(pieces, lines)).sentences) < 5:
        pass
    return group


def score(model: Llama, case: Case) -> tuple[int, int, int, int]:
    """Whole answers right and all, and answer tokens right and all."""
    document = Document(model, case.ids)
    likeliest = document.ask([ids for ids, _ in case.questions])
    right = tokens_right = tokens = 0
    for (ids, marks), predicted in zip(case.questions, likeliest, strict=True):
        at = np.flatnonzero(marks)
        hits = predicted.cpu().numpy()[at - 1] == ids[at]
        right += bool(hits.all())
        tokens_right += int(hits.sum())
        tokens += len(at)
    return right, len(case.questions), tokens_right, tokens


def load_model(folder: Path) -> tuple[Llama, Tokenizer]:
    facts = json.loads((folder / "config.json").read_text())
    shape = Shape(
        layers=facts["num_hidden_layers"],
        hidden=facts["hidden_size"],
        ffn=facts["intermediate_size"],
        query_heads=facts["num_attention_heads"],
        kv_heads=facts["num_key_value_heads"],
    )
    model = Llama(shape)
    saved: dict[str, Tensor] = {}
    for path in sorted(folder.glob("model-*.safetensors")):
        saved |= load_file(path)
    with torch.no_grad():
        for name, parameter in parameters(model).items():
            parameter.copy_(saved[name].float())
    return model.cuda().requires_grad_(False), Tokenizer.from_file(str(folder / "tokenizer.json"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--lengths", default="4096,32768,131072")
    arguments.add_argument("--tasks", default=",".join(TASKS))
    arguments.add_argument("--documents", type=int, default=2)
    arguments.add_argument("--questions", type=int, default=50)
    arguments.add_argument("--seconds", type=float, default=1e9, help="start no document after this")
    arguments.add_argument("--seed", type=int, default=99)
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args()
    began = time.monotonic()
    model, tokenizer = load_model(options.model)
    prose = Prose()
    prose.text = (CORPUS / "evaluation.txt").read_text() * 4
    prose.tokenize(tokenizer)
    pieces = Pieces(tokenizer, prose, options.seed)
    results = []
    for length in map(int, options.lengths.split(",")):
        cells: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for _ in range(options.documents):
            for task in options.tasks.split(","):
                if time.monotonic() - began > options.seconds:
                    break
                case = make_case(pieces, task, length, options.questions)
                cells[task] = [a + b for a, b in zip(cells[task], score(model, case), strict=True)]
        results += [{"length": length, "task": t, "right": c[0], "asked": c[1], "tokens_right": c[2], "tokens": c[3]} for t, c in cells.items()]
        shown = "  ".join(f"{t} {c[0]}/{c[1]} ({100 * c[2] / c[3]:.1f}%)" for t, c in cells.items())
        print(f"{length}  {time.monotonic() - began:.0f} s  {shown}", flush=True)
    if options.out is not None:
        options.out.write_text("".join(json.dumps(result) + "\n" for result in results))


if __name__ == "__main__":
    main()
