"""What the support check lets through and what it refuses, on public claims and on perturbed ones.

    INTERLOCK_DATA=… python -m benchmarks.support [--limit 2000] [--json]

BEGIN (Dziri et al., TACL 2022): replies of dialogue models with a human label, attributable to their document or not.
A reply is checked against each sentence of its document; its best verdict counts. Precision is the share of accepted
replies that are labelled "Fully attributable"; recall is the share of attributable replies that are accepted.

Perturbed: sentences of BEGIN's documents with one thing changed. Every accepted one is a mistake.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from interlock.knowledge.grounding.support import check
from interlock.knowledge.sentences import sentences
from interlock.stats.intervals import wilson

NUMBER = re.compile(r"\b\d[\d,]*\b")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
VERB = re.compile(r"\b(is|are|was|were|may|can|must|will|has)\b(?! not| no)")
NOT = re.compile(r"\b(is|are|was|were|may|can|must|will|has) not\b")
MODAL = re.compile(r"\b(may|can|must|should|will)\b")
BOUND = re.compile(r"\b(at least|up to|more than|less than|only|before|after|until|within|about)\b")
_OTHER = {"may": "must", "can": "must", "must": "may", "should": "must", "will": "may"}
_TURNED = {
    "at least": "at most", "up to": "at least", "more than": "less than", "less than": "more than", "only": "not only",
    "before": "after", "after": "before", "until": "from", "within": "after", "about": "exactly",
}  # fmt: skip

WORD = re.compile(r"\b[a-z]+\b")
_SETS = (
    "city country village", "film album book song", "river mountain lake island", "north south east west",
    "first second third last", "largest smallest oldest", "born married killed", "produced directed written sung",
    "company university hospital", "football basketball tennis", "king president minister", "music food clothing",
    "summer winter spring", "black white red blue green", "mother father brother sister", "won lost", "began ended",
)  # fmt: skip
_LIKE = {
    word: words[(at + 1) % len(words)] for words in (one.split() for one in _SETS) for at, word in enumerate(words)
}

Perturbation = Callable[[str, random.Random], "str | None"]


def swap_number(text: str, draw: random.Random) -> str | None:
    """Another number."""
    found = NUMBER.search(text)
    if not found:
        return None
    return text[: found.start()] + str(int(found.group().replace(",", "")) + draw.randint(1, 9)) + text[found.end() :]


def exchange_numbers(text: str, draw: random.Random) -> str | None:
    """Two numbers of the sentence trade places."""
    found = list(NUMBER.finditer(text))
    if len(found) < 2 or found[0].group() == found[1].group():
        return None
    a, b = found[:2]
    return text[: a.start()] + b.group() + text[a.end() : b.start()] + a.group() + text[b.end() :]


def add_negation(text: str, draw: random.Random) -> str | None:
    """`is` becomes `is not`."""
    return VERB.sub(r"\1 not", text, count=1) if VERB.search(text) else None


def drop_negation(text: str, draw: random.Random) -> str | None:
    """`is not` becomes `is`."""
    return NOT.sub(r"\1", text, count=1) if NOT.search(text) else None


def swap_name(text: str, draw: random.Random) -> str | None:
    """Another name."""
    return NAME.sub("Kowalski", text, count=1) if NAME.search(text) else None


def exchange_names(text: str, draw: random.Random) -> str | None:
    """Two names of the sentence trade places: who did what to whom."""
    found = list(NAME.finditer(text))
    if len(found) < 2 or found[0].group() == found[-1].group() or found[-1].start() - found[0].end() < 6:
        return None
    a, b = found[0], found[-1]
    return text[: a.start()] + b.group() + text[a.end() : b.start()] + a.group() + text[b.end() :]


def change_modal(text: str, draw: random.Random) -> str | None:
    """`may` becomes `must`."""
    found = MODAL.search(text)
    return text[: found.start()] + _OTHER[found.group()] + text[found.end() :] if found else None


def change_bound(text: str, draw: random.Random) -> str | None:
    """`at least` becomes `at most`."""
    found = BOUND.search(text)
    return text[: found.start()] + _TURNED[found.group()] + text[found.end() :] if found else None


def exchange_word(text: str, draw: random.Random) -> str | None:
    """Another word of the same form where the sentence has one of its own."""
    found = [match for match in WORD.finditer(text) if match.group() in _LIKE]
    if not found:
        return None
    chosen = draw.choice(found)
    return text[: chosen.start()] + _LIKE[chosen.group()] + text[chosen.end() :]


def shuffle(text: str, draw: random.Random) -> str | None:
    """The same words, their halves told the other way round."""
    words = text.rstrip(".").split()
    if len(words) < 8:
        return None
    kept = words[:]
    draw.shuffle(kept)
    return " ".join(kept) + "." if kept != words else None


PERTURBATIONS: tuple[Perturbation, ...] = (
    swap_number, exchange_numbers, add_negation, drop_negation, swap_name, exchange_names, change_modal,
    change_bound, exchange_word, shuffle,
)  # fmt: skip


def rows(folder: Path) -> Iterator[dict[str, str]]:
    """All BEGIN rows."""
    for path in sorted(folder.glob("begin__*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)


def begin(found: list[dict[str, str]]) -> dict[str, object]:
    """Accepted by label, and why the attributable ones were refused."""
    accepted: Counter[str] = Counter()
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in found:
        label = "attributable" if row["label"] == "Fully attributable" else "not"
        verdicts = [check(row["claim"], row["doc"][s.start : s.end]) for s in sentences(row["doc"])]
        best = max(verdicts, key=lambda v: (v.supported, v.score), default=None)
        total[label] += 1
        if best is not None and best.supported:
            accepted[label] += 1
        elif label == "attributable" and best is not None:
            reasons[best.reason] += 1
    chosen = sum(accepted.values())
    return {
        "replies": dict(total),
        "precision": [accepted["attributable"], chosen, *wilson(accepted["attributable"], chosen)],
        "recall": [
            accepted["attributable"],
            total["attributable"],
            *wilson(accepted["attributable"], total["attributable"]),
        ],
        "refused_attributable_by_reason": dict(reasons.most_common()),
    }


def perturbed(found: list[dict[str, str]], seed: int = 7) -> dict[str, object]:
    """How many of each perturbation are accepted, and that unchanged sentences all are."""
    draw = random.Random(seed)
    texts = {r["doc"][s.start : s.end] for r in found for s in sentences(r["doc"])}
    texts = {t for t in texts if 6 <= len(t.split()) <= 40 and t.isascii() and " ," not in t}
    result: dict[str, object] = {
        "identity": [sum(check(t, t).supported for t in texts), len(texts)],
    }
    for change in PERTURBATIONS:
        pairs = [(changed, text) for text in sorted(texts) if (changed := change(text, draw)) and changed != text]
        wrong = [(c, t) for c, t in pairs if check(c, t).supported]
        result[change.__name__] = [len(wrong), len(pairs), *wilson(len(wrong), len(pairs))]
        result[f"{change.__name__}_examples"] = wrong[:2]
    return result


def main() -> None:
    """Print both measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = list(rows(Path(os.environ["INTERLOCK_DATA"]) / "grounding"))[: args.limit]
    began = time.perf_counter()
    report = {"begin": begin(found), "perturbed": perturbed(found)}
    report["seconds"] = round(time.perf_counter() - began, 1)
    if args.json:
        print(json.dumps(report, indent=1))
        return
    for part in ("begin", "perturbed"):
        print(part)
        for name, value in report[part].items():
            print(f"  {name:<32} {value}")


if __name__ == "__main__":
    main()
