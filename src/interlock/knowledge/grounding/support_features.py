"""How a claim lies on a passage, as numbers; and what no likeness makes good. No model, about 1 ms a claim.

The strict check of `support.py` asks for a near-copy. These features let a paraphrase through: a logistic model over
them (`checkers/features.py`) says how probable it is that people would call the claim attributable. Likeness alone
would also pass "not within 30 days" for "within 30 days", so :func:`objection` keeps the strict check's word on what
a few letters can turn round: numbers, names, negation, modal verbs, bounds, conditions, and who did what to whom.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence

from interlock.knowledge.grounding.facts import tokens
from interlock.knowledge.grounding.support import disorder, exchanged, foreign, lost
from interlock.knowledge.grounding.types import Reason
from interlock.knowledge.sentences import sentences
from interlock.knowledge.types import SupportCase

__all__ = ["FEATURES", "nearest", "objection", "support_features"]

FEATURES = (
    "cover", "words", "pairs", "sentence", "new", "number",
    "negation_new", "modality_new", "bound_new", "condition_new", "voice", "opinion", "ask", "length",
)  # fmt: skip
"""
- ``cover``: share of the claim's content words (stemmed) that the passage has; ``words``: of all, as they are;
- ``pairs``: share of its word pairs;
- ``sentence``: share of content words that one single sentence of the passage has;
- ``new``: content words that the passage lacks, eight or more are 1;
- ``number``: 1 when one of its numbers is not there;
- ``negation_new``, ``modality_new``, ``bound_new``, ``condition_new``: 1 for such a cue that the passage lacks;
- ``voice``: words of a speaker (I, you, our) that the passage lacks, three or more are 1; ``opinion``: the same for
  words that judge or chat; ``ask``: it is a question; ``length``: ln(1 + words).
"""
_WORD = re.compile(r"\w+")
_VOICE = frozenset(("i", "me", "my", "mine", "myself", "we", "us", "our", "im", "ive", "you", "your", "yours", "u"))
_OPINION = frozenset(
    (
        "think", "thought", "believe", "guess", "feel", "agree", "love", "loved", "like", "liked", "hate", "enjoy",
        "enjoyed", "wonder", "sure", "sounds", "sound", "wow", "cool", "great", "awesome", "nice", "good", "bad",
        "interesting", "amazing", "fun", "funny", "favorite", "best", "worst", "really", "pretty", "beautiful", "hope",
        "wish", "glad", "yeah", "yes", "yep", "no", "oh", "haha", "lol", "hi", "hello", "thanks", "maybe", "probably",
        "definitely",
    )
)  # fmt: skip
_CUES = ("negation", "modality", "bound", "condition")
_CHANGED: frozenset[Reason] = frozenset({"number", "negation", "modality", "bound", "condition", "name"})
_LONGEST = 400
"""Words of a claim or a passage that are compared; more of them say nothing new."""


def nearest(claim: str, given: Sequence[str]) -> int:
    """Which sentence shares most content with the claim; the first of several."""
    said = {token.key for token in tokens(claim) if token.kind in {"word", "name", "number"}}
    return max(range(len(given)), key=lambda i: (len(said & {t.key for t in tokens(given[i])}), -i), default=0)


def objection(case: SupportCase) -> Reason | None:
    """What the claim turns round in its nearest sentence, or None. Headings may lend names."""
    evidence = case.sentences[case.nearest]
    changed = foreign(case.claim, evidence, context=case.heading)
    if changed in _CHANGED:
        return changed
    if disorder(case.claim, evidence):
        return "order"
    if exchanged(case.claim, evidence, context=case.heading):
        return "foreign"
    left_out = lost(case.claim, evidence)
    return left_out if left_out in {"negation", "condition"} else None


def support_features(case: SupportCase) -> list[float]:
    """The features of one case, in the order of `FEATURES`."""
    text = " ".join(case.sentences)
    said, given = _words(case.claim), _words(text)
    mine, theirs = tokens(case.claim), tokens(text)
    content = [t.key for t in mine if t.kind in {"word", "name"}]
    known = {t.key for t in theirs}
    by_sentence = [frozenset(t.key for t in tokens(sentence)) for sentence in case.sentences]
    spoken = set(given)
    values = {
        "cover": _share(content, known),
        "words": _share(said, spoken),
        "pairs": _share(_pairs(said), set(_pairs(given))),
        "sentence": min((_best(part, by_sentence) for part in _parts(case.claim)), default=0.0),
        "new": min(8, sum(key not in known for key in content)) / 8,
        "number": float(any(t.kind == "number" and t.key not in known for t in mine)),
        "voice": min(3, sum(w in _VOICE and w not in spoken for w in said)) / 3,
        "opinion": min(3, sum(w in _OPINION and w not in spoken for w in said)) / 3,
        "ask": float("?" in case.claim),
        "length": math.log(1 + len(said)),
    }
    for kind in _CUES:
        there = {t.key for t in theirs if t.kind == kind}
        values[f"{kind}_new"] = float(any(t.kind == kind and t.key not in there for t in mine))
    return [values[name] for name in FEATURES]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)][:_LONGEST]


def _parts(claim: str) -> list[str]:
    return [claim[span.start : span.end] for span in sentences(claim)]


def _best(part: str, by_sentence: Sequence[Collection[str]]) -> float:
    keys = [t.key for t in tokens(part) if t.kind in {"word", "name"}]
    return max((_share(keys, there) for there in by_sentence), default=0.0)


def _share(asked: Sequence[object], there: Collection[object]) -> float:
    return sum(one in there for one in asked) / len(asked) if asked else 0.0


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(itertools.pairwise(words))
