"""Differences between two questions that vectors hardly see and that change the answer.

Two questions are taken for the same only when nothing of the kind differs: numbers, signs, negations, opposites, names,
what is asked for (when, where, who), whose matter it is (my, your, their), whether it is past, allowed or required, the
direction of a relation, and any word that is neither glue, nor an inflection, nor a listed synonym of one in the other.
That refuses many true paraphrases, on purpose: a missed hit costs one call, a wrong one tells a user something false.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

__all__ = ["difference"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?|\S", re.UNICODE)
_TOKEN = re.compile(r"\S+")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,:/]\d+)*%?")
_LISTS: dict[str, list[str]] = {
    name: words.split()
    for name, words in json.loads(
        resources.files("interlock.gateway.cache").joinpath("words.json").read_text("utf-8")
    ).items()
}
_NUMBER_WORDS = {word: value for word, _, value in (pair.partition("=") for pair in _LISTS["number_words"])}
_NEGATIONS = frozenset(_LISTS["negations"])
_OPPOSITES = [tuple(pair.split("/")) for pair in _LISTS["opposites"]]
_GLUE = frozenset(_LISTS["glue"])
_SYNONYMS = [frozenset(group.split("/")) for group in _LISTS["synonyms"]]
_PERSONS = {word: group for group in _LISTS["persons"] for word in group.split("/")}
_ASKED = {word: group for group in _LISTS["asked"] for word in group.split("/")}
_MODES = {word: group for group in _LISTS["modes"] for word in group.split("/")}
_POLITE = re.compile(
    r"\b(?:(?:can|could|would|will|do) you (?:please |kindly )?(?:tell|help|explain|show|let|give|know)"
    r"(?: me| us)?(?: know)?|(?:tell|help|show|give|let) (?:me|us)(?: know)?"
    r"|(?:i|we) (?:want|need|wonder|would like|'d like)(?: to know)?|i am wondering|thank you|thanks)\b",
    re.IGNORECASE,
)
"""Asking to be told: the persons in it are nobody the question is about."""
_SIGNS = frozenset("*/%&#@\\")


def difference(one: str, other: str) -> str:
    """Why two questions may not share an answer: `numbers`, `signs`, `negation`, `names`, `asked`, `persons`, `mode`,
    `opposite`, `words`, `direction`.

    Empty when nothing speaks against it; symmetric.

    >>> difference("Is parking free on day 2?", "Is parking free on day 3?")
    'numbers'
    >>> difference("How do I reset my password?", "Please tell me how to reset the password")
    ''
    """
    a, b = _words(one), _words(other)
    if _numbers(one, a) != _numbers(other, b):
        return "numbers"
    if _signs(one) != _signs(other):
        return "signs"
    if _negations(a) != _negations(b):
        return "negation"
    if _names(one) != _names(other):
        return "names"
    if reason := _grammar(one, other):
        return reason
    only_a, only_b = Counter(a) - Counter(b), Counter(b) - Counter(a)
    for left, right in _OPPOSITES:
        if (left in only_a and right in only_b) or (right in only_a and left in only_b):
            return "opposite"
    if _unmatched(only_a, only_b, b) or _unmatched(only_b, only_a, a):
        return "words"
    if _order(a, b) != _order(b, a):
        # "Can my employer read my mail" is not "can I read my employer's mail": the same words, another question.
        return "direction"
    return ""


def _words(text: str) -> list[str]:
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text) if word[0].isalnum()]


def _numbers(text: str, words: list[str]) -> Counter[str]:
    found = Counter(match.strip("+").rstrip(".,:") for match in _NUMBER.findall(text))
    found.update(_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS)
    # A currency or a unit is as much of the number as its digits.
    found.update(char for char in text if char in "$€£¥₹%°")
    return found


def _signs(text: str) -> Counter[str]:
    """Signs that say something: arithmetic, comparison, emoji. Punctuation does not, nor a hyphen within a word."""
    found = Counter(char for char in text if char in _SIGNS or unicodedata.category(char) in {"Sm", "So", "Sk"})
    found.update("-" for _ in re.findall(r"(?<!\S)[-\u2212\u2013](?!\S)", text))
    return found


def _grammar(one: str, other: str) -> str:
    """What little words say: `asked` (when or where), `persons` (my or your, who to whom), `mode` (past, must, may)."""
    a, b = _words(_POLITE.sub(" ", one)), _words(_POLITE.sub(" ", other))
    for name, groups in (("asked", _ASKED), ("persons", _PERSONS)):
        left, right = _kinds(a, groups), _kinds(b, groups)
        # "How do I reset my password" and "how to reset the password" ask the same.
        if left != right and ((left and right) or len(left) + len(right) > 1):
            return name
    return "mode" if set(_kinds(a, _MODES)) != set(_kinds(b, _MODES)) else ""


def _kinds(words: list[str], groups: dict[str, str]) -> list[str]:
    """The groups of the words in order, each once."""
    return list(dict.fromkeys(groups[word] for word in words if word in groups))


def _negations(words: list[str]) -> int:
    return sum(1 for word in words if word in _NEGATIONS or word.endswith("n't"))


def _names(text: str) -> frozenset[str]:
    """Capitalised words that do not begin a sentence, quoted strings, and tokens that look like identifiers."""
    names: set[str] = {quoted.casefold() for quoted in re.findall(r"[\"“'`]([^\"”'`]{2,80})[\"”'`]", text)}
    begins = True
    for raw in _TOKEN.findall(text):
        token = raw.strip("\"“”'`()[]{}<>,;:!?.…")
        if token:
            inner = token[1:]
            shaped = any(char in token for char in "_@/\\#+=") or ("." in inner) or any(c.isupper() for c in inner)
            mixed = any(c.isdigit() for c in token) and any(c.isalpha() for c in token)
            proper = token[0].isupper() and not begins and token.casefold() not in _GLUE
            if shaped or mixed or proper:
                names.add(re.sub(r"['’]s$", "", token.casefold()))
        begins = raw[-1] in ".!?:"
    return frozenset(names)


@lru_cache(maxsize=20_000)
def _forms(word: str) -> frozenset[str]:
    """What a word may be an inflection of, itself among them: a tub is no tube, a part no party, a plan no plane."""
    word = word.removesuffix("'s")
    found = {word}
    if word.endswith(("ies", "ied")) and len(word) > 4:
        found.add(word[:-3] + "y")
    elif word.endswith(("ses", "xes", "zes", "ches", "shes")):
        found |= {word[:-2], word[:-1]}
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        found.add(word[:-1])
    for ending in ("ings", "ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) > 2:
            found |= {base, base + "e"}
            if base[-1] == base[-2]:
                found.add(base[:-1])  # planned, running
    return frozenset(found)


def _shared(word: str, others: Iterable[str]) -> str:
    """The form that `word` and one of `others` have in common; empty when none has."""
    forms = _forms(word)
    return next((min(common) for other in others if (common := forms & _forms(other))), "")


def _unmatched(extra: Counter[str], other_extra: Counter[str], other: list[str]) -> bool:
    for word in extra:
        if word in _GLUE or word in _NUMBER_WORDS or _shared(word, other):
            continue
        if not any(word in group and group & set(other_extra) for group in _SYNONYMS):
            return True
    return False


def _order(words: list[str], other: list[str]) -> list[str]:
    """Content words that both have, in the order of `words`."""
    content = [word for word in other if word not in _GLUE]
    shared = (_shared(word, content) for word in words if word not in _GLUE)
    return [form for form in shared if form]
