"""Drafts of questions without a model: from headings, from sentences that define something, from quantities.

They are no questions a person would think of: their words are those of the passage, as in a search of somebody who
knows how the document speaks. They show what chunking, duplicates and rights break, and say little of how well meaning
is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.core.passages import Passage
from interlock.knowledge.analysers import STOP
from interlock.knowledge.loaders._building import CELL_SEPARATOR
from interlock.knowledge.questions.types import Draft
from interlock.knowledge.sentences import sentences
from interlock.knowledge.types import HEADING_SEPARATOR

__all__ = ["drafts_of"]

_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_DEFINES = re.compile(
    r"^(?:(?:a|an|the)\s+)?(?P<term>[^\W\d_][\w’'() /-]{2,60}?)\s+"
    r"(?:(?:is|are)\s+(?:a|an|the|any|every|what|where|how|all)\s|means\s|refers to\s|stands for\s)",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"(?<![\w.,])(?P<number>\d[\d.,]*)(?:\s+(?P<word>[^\W\d_]{3,})(?![\w-])|\s*(?P<sign>%))",
)
_PRONOUNS = frozenset(
    {"it", "this", "that", "these", "those", "they", "he", "she", "there", "here", "which", "who", "what", "such"}
)
_FEWEST_WORDS, _MOST_WORDS = 8, 45
"""Of a sentence that answers."""
_KEY_WORDS = 6
_MOST_TERM_WORDS = 5


def drafts_of(passage: Passage) -> Iterator[Draft]:
    """Drafts of one passage, the better kinds first."""
    told = [passage.text[span.start : span.end] for span in sentences(passage.text)]
    # A row of a table is no sentence.
    told = [
        sentence
        for sentence in told
        if CELL_SEPARATOR not in sentence and _FEWEST_WORDS <= len(sentence.split()) <= _MOST_WORDS
    ]
    for sentence in told:
        yield from _definition(sentence)
    for sentence in told:
        yield from _quantity(sentence, passage.title)
    if told:
        yield from _heading(passage, told[0])


def _definition(sentence: str) -> Iterator[Draft]:
    found = _DEFINES.match(sentence)
    if found is None:
        return
    term = found["term"].strip()
    words = term.split()
    owned = any(word.endswith(("'s", "’s", "s'", "s’")) for word in words)
    if not owned and len(words) <= _MOST_TERM_WORDS and not {word.casefold() for word in words} & _PRONOUNS:
        yield Draft(f"what is meant by {term}?", sentence, "definition")


def _quantity(sentence: str, title: str) -> Iterator[Draft]:
    found = next((each for each in _QUANTITY.finditer(sentence) if not _is_name(sentence, each.start())), None)
    if found is None:
        return
    unit = found["word"] or "percent"
    # Capitals name something: "30 Mbps" is a quantity of it, "2 AXNG" is none.
    if not unit.islower() or unit in STOP:
        return
    words = _key_words(sentence, without=unit)
    if len(words) >= 2:
        about = [word for word in _key_words(title)[:2] if word.casefold() not in {w.casefold() for w in words}]
        yield Draft(f"how many {unit} {' '.join([*words[:_KEY_WORDS], *about])}?", sentence, "quantity")


def _is_name(sentence: str, at: int) -> bool:
    """Whether what stands before a number is a name that it belongs to: "Claude 3 family", "Section 12"."""
    before = sentence[:at].split()
    return len(before) > 1 and before[-1][:1].isupper()


def _heading(passage: Passage, sentence: str) -> Iterator[Draft]:
    innermost = passage.heading.split(HEADING_SEPARATOR)[-1].strip()
    title = passage.title.strip()
    if not innermost or innermost.casefold() == title.casefold():
        return
    yield Draft(f"{title}: {innermost}" if title else innermost, sentence, "heading")


def _key_words(text: str, *, without: str = "") -> list[str]:
    found = [match[0] for match in _WORD.finditer(text)]
    return [word for word in dict.fromkeys(found) if len(word) > 2 and word.casefold() not in STOP | {without}]
