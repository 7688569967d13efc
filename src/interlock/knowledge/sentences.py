"""Sentences as character spans, for chunking, quoting and checking answers.

Rules instead of a model: a terminator ends a sentence unless it belongs to an abbreviation, a decimal, a version or an
initial. Table rows, list items and lines after a blank line are sentences of their own. Citation markers after the
terminator (``… in 30 days. [2]``) stay with the sentence they follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from interlock.core.passages import Span
from interlock.core.ports import Embedder

__all__ = ["first_sentences", "sentences"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS = _words(
    """
    approx art ca capt cf cmd col corp dept dr ed eds eg e.g est et al fig figs gen hon ie i.e inc jr lt ltd
    mr mrs ms mt no nos nr op p.a para u.s u.k e.u pp prof ref refs rep rev sec sen sgt sr st vol vols vs viz
    z.b bzw d.h ggf usw jan feb mar apr jun jul aug sep sept oct nov dec
    """
)
# These end a sentence as often as not: the next word's capital decides.
_EITHER = frozenset({"etc", "a.m", "p.m", "co", "al"})
# Months and "no." are words too ("He said no."): abbreviations only before a digit.
_BEFORE_DIGIT = _words(
    """
    no nos nr p pp fig figs sec art vol vols para jan feb mar apr jun jul aug sep sept oct nov dec
    """
)

_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*|[。！？｡]+[」』”’）]*)(?:\s?\[\d+\])*")
_LINE_STARTS_NEW = re.compile(r"[ \t]*(?:[-*+•‣◦]\s|\(?\d{1,3}[.)]\s|\(?[a-z][.)]\s|#{1,6}\s|\|)")
_LAST_WORD = re.compile(r"[\w.]*\w$")


def sentences(text: str, start: int = 0, end: int | None = None) -> list[Span]:
    """Sentences of ``text[start:end]``.

    Returns: spans into `text`, in order, without surrounding white space, never empty; together they cover every
        character that is not white space.
    """
    stop = len(text) if end is None else end
    spans: list[Span] = []
    for line_start, line_end in _units(text, start, stop):
        spans.extend(_split(text, line_start, line_end))
    return spans


def _units(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Ranges that no sentence crosses: paragraphs, list items, table rows."""
    unit = position = start
    while position < end:
        newline = text.find("\n", position, end)
        if newline < 0:
            break
        following = newline + 1
        line, after = text[position:newline], text[following : _line_end(text, following, end)]
        if not after.strip() or _LINE_STARTS_NEW.match(after) or " | " in line or " | " in after:
            yield unit, newline
            unit = following
        position = following
    if unit < end:
        yield unit, end


def _line_end(text: str, start: int, end: int) -> int:
    found = text.find("\n", start, end)
    return end if found < 0 else found


def _split(text: str, start: int, end: int) -> Iterator[Span]:
    begin = start
    if " | " not in text[start:end]:
        for match in _END.finditer(text, start, end):
            if match.start() >= begin and _ends_sentence(text, begin, match, end):
                yield from _trimmed(text, begin, match.end())
                begin = match.end()
    yield from _trimmed(text, begin, end)


def _ends_sentence(text: str, begin: int, match: re.Match[str], end: int) -> bool:
    after = match.end()
    mark = text[match.start()]
    if mark in "。！？｡":
        return True
    if after >= end:
        return True
    if not text[after].isspace():
        return False
    following = text[after:end].lstrip()
    if not following:
        return True
    head = following.lstrip("\"'“‘«([*_")[:1] or following[:1]
    if mark == "." and not match.group().startswith(".."):
        before = text[begin : match.start()]
        if _is_item_number(before) or _is_abbreviation(before, head):
            return False
    # "gpt-4o. mini" is more often a slip than a sentence; a new one starts with a capital, a digit or a sign.
    return not head.islower()


def _is_item_number(before: str) -> bool:
    """``3`` of ``3. Restart the service`` at the start of a sentence."""
    return bool(re.fullmatch(r"\s*\(?(?:\d{1,3}|[A-Za-z])", before))


def _is_abbreviation(before: str, head: str) -> bool:
    found = _LAST_WORD.search(before)
    if found is None:
        return False
    word = found.group().lower()
    if word in _BEFORE_DIGIT:
        return head.isdigit()
    if word in _EITHER:
        return not (head.isupper() or head.isdigit())
    if word in _ABBREVIATIONS:
        return True
    # An initial ("J. Smith"), but not the pronoun or a grade at the end of a sentence ("plan B.").
    return len(word) == 1 and word.isalpha() and found.group().isupper() and word != "i" and _follows_name(before)


def _follows_name(before: str) -> bool:
    words = before.split()
    return len(words) < 2 or words[-2][:1].isupper() or words[-2].endswith(".")


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield Span(start, end)


def first_sentences(text: str, embedder: Embedder) -> str:
    """As much of a long text as the embedder reads whole, cut between sentences where it can be."""
    # No tokenizer makes more tokens of ASCII than it has letters, but for one that it may put before them.
    if (text.isascii() and len(text) < embedder.max_tokens) or embedder.count_tokens(text) <= embedder.max_tokens:
        return text
    kept = ""
    for span in sentences(text):
        longer = text[: span.end]
        if embedder.count_tokens(longer) > embedder.max_tokens:
            break
        kept = longer
    if kept:
        return kept
    words = text.split()
    while embedder.count_tokens(" ".join(words)) > embedder.max_tokens and len(words) > 1:
        words = words[: len(words) * 3 // 4]
    kept = " ".join(words)
    while embedder.count_tokens(kept) > embedder.max_tokens:
        kept = kept[: len(kept) // 2]
    return kept
