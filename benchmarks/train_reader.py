"""Train the reader: low-rank changes to MiniLM that let it read a question and a sentence together.

    pip install -e '.[tuning]'
    INTERLOCK_DATA=… INTERLOCK_MODELS_DIR=… OMP_NUM_THREADS=1 python -m benchmarks.reader_data DATA.jsonl
    INTERLOCK_MODELS_DIR=… OMP_NUM_THREADS=1 python -m benchmarks.train_reader DATA.jsonl OUT.npz --alike

These are the commands and, in their defaults, the sets of the shipped file: four public sets and ten organisations;
five more are held out (`benchmarks.decision.HELD_OUT`). One free core needs half an hour. The base is the int8 ONNX
file that the platform serves, so what was trained is what is served. Another processor or another torch gives other
bytes: put the printed SHA-256 into `interlock/knowledge/readers/minilm.py` beside the new file.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import random
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from benchmarks.decision import HELD_OUT
from benchmarks.manner import balanced_auroc, weights
from benchmarks.organisations import organisations
from interlock.knowledge.readers._weights import PLACES, read_weights

LAYERS, WIDTH, HEADS = 6, 384, 12
LENGTH, QUESTION = 144, 48


class Linear(nn.Module):
    """A frozen matrix with a low-rank change."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray, rank: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(weight.T.copy()).bfloat16(), persistent=False)
        self.register_buffer("bias", torch.from_numpy(bias.copy()).bfloat16(), persistent=False)
        self.down = nn.Parameter(torch.randn(rank, weight.shape[0]) / math.sqrt(weight.shape[0]))
        self.up = nn.Parameter(torch.zeros(weight.shape[1], rank))

    def forward(self, x: Tensor) -> Tensor:
        # Apart from the frozen product, so that no gradient of the whole matrix is computed.
        return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.down), self.up)


class Reader(nn.Module):
    """MiniLM over question and sentence, one logit."""

    def __init__(self, base: dict[str, np.ndarray], rank: int) -> None:
        super().__init__()
        self.register_buffer("words", torch.from_numpy(base["words"]))
        self.register_buffer("places", torch.from_numpy(base["places"]))
        self.kinds = nn.Parameter(torch.from_numpy(np.repeat(base["kinds"][:1], 2, axis=0)))
        for name in ("embed", *(f"{i}.{part}" for i in range(LAYERS) for part in ("attended", "fed"))):
            self.register_buffer(f"{name}.g".replace(".", "_"), torch.from_numpy(base[f"{name}.g"]))
            self.register_buffer(f"{name}.b".replace(".", "_"), torch.from_numpy(base[f"{name}.b"]))
        self.linears = nn.ModuleDict(
            {
                f"{i}_{place}": Linear(base[f"{i}.{place}.w"], base[f"{i}.{place}.b"], rank)
                for i in range(LAYERS)
                for place in PLACES
            }
        )
        self.hidden = nn.Linear(2 * WIDTH, 64)
        self.logit = nn.Linear(64, 1)
        self.drop = 0.1

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), getattr(self, f"{name}_g"), getattr(self, f"{name}_b"), 1e-12)

    def forward(self, ids: Tensor, kinds: Tensor, mask: Tensor) -> Tensor:
        x = self.words[ids] + self.places[: ids.shape[1]] + self.kinds[kinds]
        x = self._norm(x, "embed")
        x = F.dropout(x, self.drop, self.training)
        batch, length, _ = x.shape
        bias = torch.where(mask, 0.0, -1e4)[:, None, None, :].bfloat16()

        def heads(t: Tensor) -> Tensor:
            return t.view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)

        for i in range(LAYERS):
            q, k, v = (heads(self.linears[f"{i}_{p}"](x)) for p in ("query", "key", "value"))
            # Written out: the fused kernel is slower on short sequences with a mask.
            a = (q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5 + bias).softmax(-1) @ v
            a = self.linears[f"{i}_output"](a.transpose(1, 2).reshape(batch, length, WIDTH))
            x = self._norm(x + a, f"{i}_attended")
            h = self.linears[f"{i}_down"](F.gelu(self.linears[f"{i}_up"](x)))
            x = self._norm(x + h, f"{i}_fed")
        asked = ((kinds == 0) & mask).unsqueeze(-1).to(x.dtype)
        pooled = torch.cat([x[:, 0], (x * asked).sum(1) / asked.sum(1)], dim=-1)
        return self.logit(F.gelu(self.hidden(F.dropout(pooled.float(), self.drop, self.training)))).squeeze(-1)


def read_base(path: Path) -> dict[str, np.ndarray]:
    """The served weights by our own names, as float32."""
    found = read_weights(bytearray(path.read_bytes()))
    t = found.tensors
    base = {"kinds": t["inner.embeddings.token_type_embeddings.weight"]}
    for ours, theirs in (("words", "word_embeddings"), ("places", "position_embeddings")):
        name = f"inner.embeddings.{theirs}.weight"
        base[ours] = t[f"{name}_q"].astype(np.float32) * t[f"{name}_scale"]
    base["embed.g"], base["embed.b"] = (t[f"inner.embeddings.LayerNorm.{x}"] for x in ("weight", "bias"))
    biases = {
        "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
        "output": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense",
    }  # fmt: skip
    for i in range(LAYERS):
        lead = f"inner.encoder.layer.{i}"
        for ours, theirs in (("attended", "attention.output"), ("fed", "output")):
            base[f"{i}.{ours}.g"] = t[f"{lead}.{theirs}.LayerNorm.weight"]
            base[f"{i}.{ours}.b"] = t[f"{lead}.{theirs}.LayerNorm.bias"]
        for place in PLACES:
            m = found.matrices[i, place]
            base[f"{i}.{place}.w"] = m.values.astype(np.float32) * m.steps
            base[f"{i}.{place}.b"] = t[f"{lead}.{biases[place]}.bias"]
    return {name: np.array(value, dtype=np.float32) for name, value in base.items()}


def encode(tokenizer: Tokenizer, question: str, text: str, around: str) -> tuple[list[int], list[int]]:
    asked = tokenizer.encode(question, add_special_tokens=False).ids[:QUESTION]
    said = tokenizer.encode(text, add_special_tokens=False).ids
    before = tokenizer.encode(around, add_special_tokens=False).ids
    room = LENGTH - len(asked) - 4
    said = said[:room]
    before = before[max(0, len(before) - max(0, min(48, room - len(said)))) :]
    ids = [101, *asked, 102, *said, 102, *before, 102] if before else [101, *asked, 102, *said, 102]
    kinds = [0] * (len(asked) + 2) + [1] * (len(ids) - len(asked) - 2)
    return ids, kinds


Pair = tuple[list[int], list[int], float, float]
"""Ids, kinds, whether it answers, and how much it counts."""


def collate(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    width = max(len(p[0]) for p in pairs)
    ids = torch.zeros(len(pairs), width, dtype=torch.long)
    kinds = torch.ones(len(pairs), width, dtype=torch.long)
    mask = torch.zeros(len(pairs), width, dtype=torch.bool)
    for r, (i, k, _, _) in enumerate(pairs):
        ids[r, : len(i)] = torch.tensor(i)
        kinds[r, : len(k)] = torch.tensor(k)
        mask[r, : len(i)] = True
    return ids, kinds, mask, torch.tensor([p[2] for p in pairs]), torch.tensor([p[3] for p in pairs])


def batches(pairs: Sequence[Pair], size: int, draw: random.Random) -> Iterator[list[Pair]]:
    order = list(range(len(pairs)))
    draw.shuffle(order)
    for start in range(0, len(order), size * 16):
        part = sorted(order[start : start + size * 16], key=lambda i: len(pairs[i][0]))
        cut = [part[i : i + size] for i in range(0, len(part), size)]
        draw.shuffle(cut)
        for rows in cut:
            yield [pairs[i] for i in rows]


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


_NAME = re.compile(r"(?<=[a-z,] )(?:[A-Z][\w-]{2,}|\d[\d.,]*\d|\d)\b")
_WORD = re.compile(r"[a-z]{4,}")
_PLAIN_TEXT = (
    "what which when where whom whose does have with from that this there their they many much long often must should "
    "would could into than then been being were will your about over under after before other"
)
_PLAIN = frozenset(_PLAIN_TEXT.split())
"""Words that another one in their place does not change the subject of a question."""


def exchanged(row: dict, gold: str, rows: Sequence[dict], draw: random.Random) -> str | None:
    """The question about something else: one of its names, numbers or words, met by `gold`, for another's."""
    question = row["question"]
    names = [n for n in _NAME.findall(question) if n in gold]
    if names and draw.random() < 0.6:
        out = draw.choice(names)
        for _ in range(20):
            other = draw.choice(rows)
            like = [n for n in _NAME.findall(other["question"]) if n[0].isdigit() == out[0].isdigit()]
            like = [n for n in like if n not in question and n not in gold]
            if like:
                return re.sub(rf"\b{re.escape(out)}\b", draw.choice(like), question)
        return None
    held = gold.lower()
    words = [w for w in _WORD.findall(question) if w not in _PLAIN and w[:5] in held]
    if not words:
        return None
    out = draw.choice(words)
    for _ in range(20):
        other = draw.choice(rows)
        like = [
            w for w in _WORD.findall(other["question"]) if w not in _PLAIN and w[:4] not in held and w[-2:] == out[-2:]
        ]
        if like:
            return question.replace(out, draw.choice(like), 1)
    return None


def draw_pairs(
    rows: Sequence[dict],
    encode_: Callable[..., tuple[list[int], list[int]]],
    draw: random.Random,
    *,
    negatives: int,
    changed: float,
) -> list[Pair]:
    """One epoch: every gold sentence, some of the nearest others, and questions changed to miss theirs."""
    by_set: dict[str, list[dict]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    pairs: list[Pair] = []
    for row in rows:
        gold = [c for c in row["cells"] if c["gold"]]
        rest = [c for c in row["cells"] if not c["gold"]]
        if row["answerable"] and not gold:
            continue
        for c in gold[:2]:
            pairs.append((*encode_(row["question"], c["text"], c["around"]), 1.0, 1.0))
            other = exchanged(row, c["text"], by_set[row["set"]], draw) if draw.random() < changed else None
            if other:
                pairs.append((*encode_(other, c["text"], c["around"]), 0.0, 1.0))
        chosen = rest[:2] if not row["answerable"] else rest[:1]
        more = [c for c in rest if c not in chosen]
        chosen = chosen + draw.sample(more, min(len(more), negatives - len(chosen)))
        for c in chosen:
            pairs.append((*encode_(row["question"], c["text"], c["around"]), 0.0, row["weight"]))
    return pairs


def weighed(rows: Sequence[dict]) -> list[dict]:
    """The rows with a `weight`: our own questions must not give themselves away by how they are put."""
    own = set(organisations())
    mine = [row for row in rows if row["set"] in own]
    found = weights([row["question"] for row in mine], [row["answerable"] for row in mine]) if mine else []
    given = {id(row): float(w) for row, w in zip(mine, found, strict=True)}
    return [{**row, "weight": given.get(id(row), 1.0)} for row in rows]


def train(
    model: Reader,
    rows: Sequence[dict],
    tokenizer: Tokenizer,
    *,
    epochs: int,
    rate: float,
    seed: int,
    negatives: int,
    changed: float,
    stop: int,
    held: Sequence[dict] = (),
) -> None:
    """AdamW, cosine, bf16. Prints the held-out AUROC after each epoch."""
    draw = random.Random(seed)
    memo: dict[tuple[str, str, str], tuple[list[int], list[int]]] = {}

    def encode_(*key: str) -> tuple[list[int], list[int]]:
        if key not in memo:
            memo[key] = encode(tokenizer, *key)
        return memo[key]

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    began = time.time()
    first = draw_pairs(rows, encode_, draw, negatives=negatives, changed=changed)
    total = epochs * (len(first) // 32 + 1)
    print(f"{len(rows)} questions, {len(first)} pairs an epoch, {sum(p[2] for p in first):.0f} positive", flush=True)
    step = 0
    for epoch in range(epochs):
        pairs = first if epoch == 0 else draw_pairs(rows, encode_, draw, negatives=negatives, changed=changed)
        weight = torch.tensor(math.sqrt(sum(p[2] == 0 for p in pairs) / sum(p[2] for p in pairs)))
        model.train()
        losses = []
        for batch in batches(pairs, 32, draw):
            ids, kinds, mask, y, counts = collate(batch)
            share = min(1.0, step / total)
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / (0.06 * total + 1)) * 0.5 * (1 + math.cos(math.pi * share))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(ids, kinds, mask)
            loss = F.binary_cross_entropy_with_logits(logits.float(), y * 0.96 + 0.02, counts, pos_weight=weight)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            losses.append(float(loss.detach()))
            step += 1
        print(f"epoch {epoch}: loss {np.mean(losses):.4f}, {time.time() - began:.0f} s", flush=True)
        if held:
            report(held, scores(model, held, tokenizer))
        if epoch + 1 == stop:
            break


def scores(model: Reader, rows: Sequence[dict], tokenizer: Tokenizer) -> list[list[float]]:
    """The logit of every candidate of every question."""
    model.eval()
    flat = [(r, c) for r, row in enumerate(rows) for c in range(len(row["cells"]))]
    pairs = [
        (*encode(tokenizer, rows[r]["question"], rows[r]["cells"][c]["text"], rows[r]["cells"][c]["around"]), 0.0, 1.0)
        for r, c in flat
    ]
    found = [[0.0] * len(row["cells"]) for row in rows]
    order = sorted(range(len(flat)), key=lambda i: len(pairs[i][0]))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            ids, kinds, mask, _, _ = collate([pairs[i] for i in part])
            for i, value in zip(part, model(ids, kinds, mask).float().tolist(), strict=True):
                r, c = flat[i]
                found[r][c] = value
    return found


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    a, b = np.array(positive), np.array(negative)
    return float((a[:, None] > b[None]).mean() + 0.5 * (a[:, None] == b[None]).mean()) if len(a) and len(b) else 0.0


def report(rows: Sequence[dict], found: Sequence[Sequence[float]]) -> None:
    """By set: the gold sentence on top, question-level AUROC, and the same for the embedder's cosine."""
    for name in dict.fromkeys(row["set"] for row in rows):
        mine = [(row, s) for row, s in zip(rows, found, strict=True) if row["set"] == name]
        for label, values in (
            ("reader", [s for _, s in mine]),
            ("cosine", [[c["similar"] for c in r["cells"]] for r, _ in mine]),
        ):
            gold = [(r, v) for (r, _), v in zip(mine, values, strict=True) if any(c["gold"] for c in r["cells"])]
            top = np.mean([r["cells"][int(np.argmax(v))]["gold"] for r, v in gold])
            yes = [max(v) for _, v in gold]
            declared = [max(v) for (r, _), v in zip(mine, values, strict=True) if not r["answerable"]]
            asked = [r["question"] for r, _ in mine]
            known = [r["answerable"] for r, _ in mine]
            fair = balanced_auroc([max(v) for v in values], asked, known) if len(set(known)) == 2 else math.nan
            removed = [max([x for x, c in zip(v, r["cells"], strict=True) if not c["gold"]] or [-9]) for r, v in gold]
            print(
                f"  {name:16} {label}: gold on top {top:.3f}, against declared {auroc(yes, declared):.3f} "
                f"({len(yes)}/{len(declared)}), balanced {fair:.3f}, against removed {auroc(yes, removed):.3f}",
                flush=True,
            )


def named(model: Reader) -> dict[str, Tensor]:
    """The trained part by the names of its file."""
    parts = {"kinds": model.kinds}
    for name, linear in model.linears.items():
        assert isinstance(linear, Linear)
        parts[name.replace("_", ".") + ".down"], parts[name.replace("_", ".") + ".up"] = linear.down, linear.up
    for name in ("hidden", "logit"):
        parts[f"head.{name}.w"], parts[f"head.{name}.b"] = getattr(model, name).weight, getattr(model, name).bias
    return parts


def resume(model: Reader, path: Path) -> None:
    """Lay an earlier run's changes over the model."""
    with np.load(path) as file, torch.no_grad():
        for name, value in named(model).items():
            value.copy_(torch.from_numpy(file[name].astype(np.float32)))


def export(model: Reader, path: Path) -> str:
    """Write the trained part in half precision; gives its SHA-256."""
    arrays = {name: value.detach().float().numpy().astype(np.float16) for name, value in named(model).items()}
    # Written by hand: `numpy.savez` stamps the time into the archive, and the digest would change.
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            np.save(buffer, arrays[name])
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4, help="length of the learning-rate schedule")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--changed", type=float, default=0.7)
    parser.add_argument("--stop", type=int, default=4, help="epochs of the schedule that are trained")
    parser.add_argument("--hold", nargs="*", default=HELD_OUT, help="sets that are only reported")
    parser.add_argument("--start", type=Path, help="changes to go on from, as written by an earlier run (.npz)")
    parser.add_argument("--alike", action="store_true", help="count all questions alike, however they are put")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    models = Path(os.environ["INTERLOCK_MODELS_DIR"]) / "minilm-l6-int8"
    tokenizer = Tokenizer.from_file(str(models / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rows = read_rows(options.data)
    model = Reader(read_base(models / "model.onnx"), options.rank)
    if options.start:
        resume(model, options.start)
    held = [r for r in rows if r["set"] in options.hold]
    given = [r for r in rows if r["set"] not in options.hold]
    train(
        model,
        [{**r, "weight": 1.0} for r in given] if options.alike else weighed(given),
        tokenizer,
        epochs=options.epochs,
        rate=options.rate,
        seed=options.seed,
        negatives=options.negatives,
        changed=options.changed,
        stop=options.stop,
        held=held,
    )
    torch.save(model.state_dict(), options.out.with_suffix(".pt"))
    print(f'SHA256 = "{export(model, options.out)}"')


if __name__ == "__main__":
    main()
