"""Questions taken apart: the things asked, the words that carry the asking, the names that must be met exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from interlock.knowledge.analysers import analyse
from interlock.knowledge.grounding.asks import Kind

__all__ = [
    "asking_clauses",
    "asking_words",
    "clashes",
    "kind_words",
    "names_of",
    "plain_terms",
    "question_parts",
    "terms_of",
]

_ASKS = (
    r"(?:(?:by|for|on|at|in|to|from|under|with|of|within|after|until|till|since|before|during|over|above|below|about|"
    r"through|per) )?(?:how|what|which|when|where|who|whom|whose|why)"
)
_INVERTED = r"(?:can|could|may|must|do|does|did|is|are|was|were|will|should|has|have) " + (
    r"(?:i|we|you|they|he|she|it|the|a|an|there|our|my)"
)
_ASKING = re.compile(rf"(?:{_ASKS}|{_INVERTED})\b", re.IGNORECASE)
# At the start of a sentence the verb alone is enough: "Do hardware keys work …".
_OPENING = re.compile(
    r"(?:can|could|may|must|do|does|did|is|are|was|were|will|would|should|has|have|am) (?!not\b)(?=\D)", re.IGNORECASE
)
_IF = re.compile(r"(?:if|because|as|since|although|while)\b", re.IGNORECASE)
_PART = re.compile(
    rf"[?.!]\s+(?:(?:and|or|but)\s+)?|[,;:]\s+(?:and|or|but)?\s*(?={_ASKING.pattern})|"
    rf"[,;]\s+(?:and|but)\s+(?={_OPENING.pattern})|\s-\s|\s(?:and|but)\s+(?={_ASKING.pattern})",
    re.IGNORECASE,
)
_WRITTEN = re.compile(r"[^\W_]+(?:[-./][^\W_]+)*")
_SHAPE = re.compile(r"\b([A-Za-z]{0,12})-?(\d+(?:\.\d+)*)\b")
_YEAR = re.compile(r"\b(?:1[89]|20)\d\d\b")


def _pieces(question: str) -> Iterator[tuple[str, str]]:
    """Each clause, with the sign that ends it: a stop, a comma or nothing."""
    start = 0
    for cut in _PART.finditer(question):
        if question[start : cut.start()].strip():
            yield question[start : cut.start()].strip(), cut.group().strip()[:1]
        start = cut.end()
    if question[start:].strip():
        yield question[start:].strip(), question.strip()[-1:]


def _split(question: str) -> tuple[list[str], list[str]]:
    """What leads up to the asking, and each thing asked."""
    lead: list[str] = []
    asked: list[str] = []
    for piece, stop in _pieces(question):
        # A statement may hold such a word as well: "I dislike how it looks. Who decides?"
        told = (stop in {".", "!"} and "?" in question) or _IF.match(piece)
        embedded = not told and re.search(rf"\b{_ASKS}\b", piece, re.IGNORECASE)
        if _ASKING.match(piece) or _OPENING.match(piece) or embedded:
            asked.append(piece)
        elif asked:
            asked[-1] = f"{asked[-1]}, {piece}"
        else:
            lead.append(piece)
    return lead, asked


def question_parts(question: str) -> tuple[str, ...]:
    """The separate things a question asks, in order; the question alone when it asks one.

    What stands before the first asking is kept with every part.

    >>> question_parts("How long can it be returned, and who pays the postage?")
    ('How long can it be returned', 'who pays the postage?')
    >>> question_parts("On Premier: how soon is a ticket answered, and by whom is it closed?")
    ('On Premier: how soon is a ticket answered', 'On Premier: by whom is it closed?')
    >>> question_parts("Do paper tickets work at the gate, and until when can they be changed?")
    ('Do paper tickets work at the gate', 'until when can they be changed?')
    """
    lead, asked = _split(question)
    if len(asked) < 2 or any(len(piece.split()) < 2 for piece in asked):
        return (question,)
    opening = " ".join(lead)
    return tuple(f"{opening}: {piece}" if opening else piece for piece in asked)


def asking_clauses(question: str) -> tuple[str, ...]:
    """Only the asking, without the story before it: what a reader would look up.

    >>> asking_clauses("I left my laptop on the train! How fast do I have to report that?")
    ('How fast do I have to report that?',)
    """
    _, asked = _split(question)
    return tuple(asked) or (question,)


_ASKING_TEXT = (
    "how many much long often soon quickly fast far big high low tall large get gets got getting take takes took "
    "taken need needs want wants like think know say says said tell tells told let lets give gives go goes going "
    "gone come comes came put puts keep keeps kept use uses used make makes made show shows find found see "
    "ask asks happen happens mean means thing things way ways kind sort type somebody someone anybody people "
    "still now today yet already ever never always currently really actually exactly please remind hello may might "
    "must shall could would should able allowed possible maximum minimum highest lowest number amount list name "
    "names called call set time times something anything everything exist exists describe explain according main"
)
_KIND_WORDS: dict[Kind, str] = {
    "money": "cost costs price prices pay paid charge fee buy spend worth money offer budget back",
    "duration": "days hours minutes months years weeks time period day month year week",
    "date": "date day time weekday month year hours",
    "percent": "percentage percent rate share proportion",
    "number": "count total",
    "frequency": "often frequently times",
}


@lru_cache(maxsize=1)
def asking_words() -> frozenset[str]:
    """Terms that carry the asking, not the subject: no document has to hold them."""
    return frozenset(analyse(_ASKING_TEXT))


@lru_cache(maxsize=16)
def kind_words(kind: Kind) -> frozenset[str]:
    """Terms that a value of `kind` itself answers: `cost` is met by an amount of money."""
    return frozenset(analyse(_KIND_WORDS.get(kind, "")))


_SIGNS = (
    (re.compile(r"€|\beur\b", re.IGNORECASE), "euro"),
    (re.compile(r"£|\bgbp\b", re.IGNORECASE), "pound"),
    (re.compile(r"US\$|\$|\busd\b", re.IGNORECASE), "dollar"),
    (re.compile(r"%|\bper cent\b", re.IGNORECASE), "percent"),
    (re.compile(r"\bunited kingdom\b|\bbritain\b|\bbritish\b|£|\bgbp\b", re.IGNORECASE), "UK"),
    (re.compile(r"\bunited states\b|\bamerican?\b|\bU\.S\.|US\$|\$|\busd\b", re.IGNORECASE), "US"),
    (re.compile(r"\beuropean union\b", re.IGNORECASE), "EU"),
)


_RANGE = re.compile(r"\b([A-Z]{1,3})(\d{1,2})\s*(?:to|-|–)\s*\1(\d{1,2})\b")


@lru_cache(maxsize=20_000)
def plain_terms(text: str) -> frozenset[str]:
    """Terms behind signs, codes, short forms and ranges of `text`.

    ``£`` and ``gbp`` are both ``pound``, ``United Kingdom`` is also ``uk``, ``L1 to L3`` holds ``l2``.
    """
    plain = text.replace("_", " ")
    found = {term for pattern, word in _SIGNS if pattern.search(plain) for term in analyse(word)}
    for match in _RANGE.finditer(text):
        low, high = int(match.group(2)), int(match.group(3))
        if low < high <= low + 50:
            found.update(f"{match.group(1).lower()}{number}" for number in range(low, high + 1))
    return frozenset(found)


def terms_of(text: str) -> list[str]:
    """Terms of a question or of evidence, currency signs included."""
    return [*analyse(text), *plain_terms(text)]


def names_of(question: str) -> frozenset[str]:
    """Terms written with a digit, or with a capital inside the sentence."""
    found: list[str] = []
    for match in _WRITTEN.finditer(question):
        word = match.group()
        inside = question[: match.start()].rstrip()[-1:] not in {"", ".", "!", "?", ":"}
        if any(c.isdigit() for c in word) or (word[0].isupper() and inside and word != "I"):
            found.extend(analyse(word))
    return frozenset(found)


def clashes(question: str, text: str) -> bool:
    """True when `question` names a model, version or year and `text` only another of the same form.

    >>> clashes("How heavy is the H5?", "Heron H4: 640 g"), clashes("How heavy is the H4?", "Heron H4: 640 g")
    (True, False)
    """
    years = set(_YEAR.findall(text))
    if any(year not in years for year in _YEAR.findall(question)) and years:
        return True
    there = {(a.lower(), b) for a, b in _SHAPE.findall(text)}
    for letters, digits in {(a.lower(), b) for a, b in _SHAPE.findall(question)}:
        if f"{letters}{digits}" in plain_terms(text):
            continue  # inside a range
        code = (letters and len(letters) <= 3) or "." in digits
        if (
            code
            and (letters, digits) not in there
            and any(a == letters and ("." in b) == ("." in digits) for a, b in there)
        ):
            return True
    return False
