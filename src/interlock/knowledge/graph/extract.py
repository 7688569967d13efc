"""Entities and relations of one text, by rules.

Names are what is written with capitals inside a sentence, headings, defined terms, short forms and identifiers. A
single word at the start of a sentence counts only where the same text writes it so elsewhere, or where a relation
starts from it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

from interlock.core.passages import Span
from interlock.knowledge.graph.aliases import key_of
from interlock.knowledge.graph.phrases import Phrase, between, introduced
from interlock.knowledge.graph.types import Extracted, Mention, Sentence, Stated
from interlock.knowledge.retrieval.acronyms import explained_in
from interlock.knowledge.sentences import sentences

__all__ = ["extract"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN = re.compile(r"[^\W_]+(?:[.&/_:’'-]+[^\W_]+)*")
# Loaders leave no marks in a text: a heading is a short line of its own with text below.
_LINE = re.compile(r"(?:\A|(?<=\n\n))[^\n]{2,100}(?=\n\n[^\n])")
_HEADING = re.compile(r"\s*(?:#{1,6}\s+)?(?:\d{1,3}(?:\.\d{1,3}){0,5}[.)]?\s+)?(?=[^\W_])")
_CODE = re.compile(r"`([^`\s]{3,60})`")
_DEFINED = re.compile(r"[\"“*_]{1,2}([^\"“”*_\n]{3,60})[\"”*_]{1,2}\s+(?:means|refers to|is defined as|denotes)\b")
_IDENTIFIER = re.compile(
    r"(?=.*[^\W\d_])(?:[^\W_]+(?:_+[^\W_]+)+|[^\W_]+(?:-[^\W_]+)*-\d+[\w.-]*|[a-z]+(?:[A-Z][a-z0-9]+)+|[a-z]\w+(?:\.[a-z]\w+){1,})$"
)
_JOINERS = _words("of de van von der du da di la for")
_NOT_NAMES = _words(
    """
    the a an and or but nor so yet if when while where what which who whom whose why how that this these those there
    here it its he she they we you i his her their our your my me us them him to of in on at by for from with without
    as is are was were be been being do does did has have had can could may might must shall should will would not no
    yes all any both each every few more most many much some such only own same than too very just also then once
    after before during until since because although though however therefore thus hence moreover please note see
    january february march april june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday jan feb mar apr jun jul aug sep sept oct nov dec today yesterday tomorrow
    der die das ein eine und oder aber wenn als wie wir sie er es ich ist sind war mit von zu im am auf für
    le la les un une et ou mais si dans pour avec el los las y o pero con para
    first second third last next new one two three four five another other step example figure table section chapter
    appendix ok true false none null todo
    """
)
_BARE_HEADINGS = _words(
    """
    overview introduction summary example examples usage notes note contents references conclusion background faq
    abstract results methods discussion prerequisites setup installation
    """
)
_MOST_MENTIONS = 12
"""Of one sentence; the rest of a table row of a hundred names is left out."""
_MOST_SENTENCES = 20_000
_MOST_CHARACTERS = 2_000_000
"""Of one text; the rest is not read."""
_MOST_TERMS = 40
_LONGEST_NAME = 6
_LONGEST_SENTENCE = 2_000


def extract(text: str) -> Extracted:
    """What a text says of whom. CPU: about a second for 1.3 million characters.

    Returns: sentences in order; every span is of `text`, and the text at a mention is its name.
    """
    spans = sentences(text, 0, min(len(text), _MOST_CHARACTERS))[:_MOST_SENTENCES]
    short_forms = [(pair.short, pair.long) for pair in explained_in(text)]
    headings = {span.end: span for span in _headings(text[:_MOST_CHARACTERS])}
    terms = _terms(text, [long for _, long in short_forms], list(headings.values()))
    drafts = [_Draft(text, span, terms, _within(headings.get(span.end), span)) for span in spans]
    certain = {mention.key for draft in drafts for mention in draft.certain}
    surnames = _surnames(certain)
    found: list[Sentence] = []
    heading = ""
    for draft in drafts:
        mentions = draft.mentions(certain, surnames)
        if draft.heading is not None:
            heading = draft.heading.key
        if mentions:
            above = heading if draft.heading is None else ""
            found.append(Sentence(draft.start, draft.end, above, mentions, tuple(_stated(text, draft.start, mentions))))
    aliases = {(key_of(short), key_of(long)) for short, long in short_forms}
    return Extracted(tuple(found), tuple(sorted(pair for pair in aliases if pair[0] != pair[1])), len(text))


def _headings(text: str) -> Iterator[Span]:
    """Words of headings, without numbers."""
    for line in _LINE.finditer(text):
        begin = _HEADING.match(line.group())
        words = line.group()[begin.end() :].rstrip(" \t\r#") if begin is not None else ""
        plain = words.casefold() not in _BARE_HEADINGS and any(c.isalpha() for c in words)
        if (
            begin is not None
            and plain
            and words[:1].isupper()
            and len(words.split()) <= 8
            and words[-1] not in ".?!:;,"
        ):
            yield Span(line.start() + begin.end(), line.start() + begin.end() + len(words))


def _within(heading: Span | None, sentence: Span) -> Span | None:
    return heading if heading is not None and heading.start >= sentence.start else None


def _terms(text: str, long_forms: Sequence[str], headings: Sequence[Span]) -> re.Pattern[str] | None:
    """Names that a text sets up and may then write small: its headings, definitions and explained short forms."""
    named = [match.group(1) for match in _DEFINED.finditer(text)] + list(long_forms)
    titles = [text[span.start : span.end] for span in headings]
    named += [title for title in titles if 2 <= len(title.split()) <= 4]
    words = [re.escape(term.strip()).replace(r"\ ", r"\s+") for term in dict.fromkeys(named) if term.strip()]
    if not words:
        return None
    return re.compile(
        rf"(?<!\w)(?:{'|'.join(sorted(words[:_MOST_TERMS], key=len, reverse=True))})(?!\w)", re.IGNORECASE
    )


def _surnames(keys: set[str]) -> dict[str, str]:
    """Last words of names of persons, where only one of a text's names ends so."""
    ends: dict[str, set[str]] = {}
    for key in keys:
        words = key.split()
        if 2 <= len(words) <= 3 and all(word.isalpha() for word in words):
            ends.setdefault(words[-1], set()).add(key)
    return {last: next(iter(names)) for last, names in ends.items() if len(names) == 1 and len(last) > 3}


class _Draft:
    """A sentence before it is known which of its first words are names."""

    def __init__(self, text: str, span: Span, terms: re.Pattern[str] | None, heading: Span | None) -> None:
        self.start, self.end = span.start, min(span.end, span.start + _LONGEST_SENTENCE)
        self.certain: list[Mention] = []
        self._perhaps: Mention | None = None
        self.heading: Mention | None = None
        self._text = text
        sentence = text[self.start : self.end]
        if heading is not None:
            self.heading = self._mention(heading.start, heading.end)
            if self.heading.key:
                self.certain = [self.heading]
                return
            self.heading = None
        taken = [self._mention(self.start + m.start(1), self.start + m.end(1)) for m in _CODE.finditer(sentence)]
        if terms is not None:
            taken += [self._mention(self.start + m.start(), self.start + m.end()) for m in terms.finditer(sentence)]
        taken += self._names(sentence)
        taken.sort(key=lambda one: (one.start, -one.end))
        at = self.start
        for one in taken:
            if one.start >= at and one.key and any(c.isalpha() for c in one.key):
                self.certain.append(one)
                at = one.end

    def _mention(self, start: int, end: int) -> Mention:
        name = self._text[start:end]
        return Mention(sys.intern(key_of(name)), sys.intern(name), start, end)

    def _names(self, sentence: str) -> Iterator[Mention]:
        tokens = list(_TOKEN.finditer(sentence))
        shouting = sum(t.group().isupper() for t in tokens) * 2 > len(tokens) > 3
        n = 0
        while n < len(tokens):
            word = tokens[n].group()
            if len(word) <= 80 and _IDENTIFIER.match(word):
                yield self._mention(self.start + tokens[n].start(), self.start + tokens[n].end())
                n += 1
                continue
            if not _is_capital(word):
                n += 1
                continue
            last = n
            while last + 1 < len(tokens):
                reach = last + 1
                if tokens[reach].group() in _JOINERS and reach + 1 < len(tokens) and _is_joined(sentence, tokens, last):
                    reach += 1
                if not _is_name(tokens[reach].group()) or not all(
                    _is_joined(sentence, tokens, k) for k in range(last, reach)
                ):
                    break
                last = reach
            if last - n < _LONGEST_NAME and not shouting:
                alone = n == 0 and last == n and _end_of(tokens[n]) == tokens[n].end()
                yield from self._one(tokens[n].start(), _end_of(tokens[last]), is_first=alone, word=word)
            n = last + 1

    def _one(self, start: int, end: int, *, is_first: bool, word: str) -> Iterator[Mention]:
        found = self._mention(self.start + start, self.start + end)
        if len(found.key) < 2 or found.key in _NOT_NAMES:
            return
        if is_first and not (word.isupper() and len(word) > 1):
            self._perhaps = found
        else:
            yield found

    def mentions(self, certain: set[str], surnames: dict[str, str]) -> tuple[Mention, ...]:
        given = list(self.certain)
        first = self._perhaps
        if first is not None and all(one.start >= first.end for one in given):
            starts = given and between(self._text[first.end : given[0].start]) is not None
            if first.key in certain or first.key in surnames or starts:
                given.insert(0, first)
        return tuple(one._replace(key=surnames.get(one.key, one.key)) for one in given[:_MOST_MENTIONS])


def _is_capital(word: str) -> bool:
    return _is_name(word) and word.casefold() not in _NOT_NAMES


def _is_name(word: str) -> bool:
    return word[0].isupper()


def _end_of(token: re.Match[str]) -> int:
    """Where a name ends: before its possessive."""
    return token.end() - len(token.group()) + len(re.sub(r"['’]s?$", "", token.group()))


def _is_joined(sentence: str, tokens: Sequence[re.Match[str]], n: int) -> bool:
    gap = sentence[tokens[n].end() : tokens[n + 1].start()]
    if tokens[n].group().endswith(("'s", "’s")):
        return False
    return gap in {" ", "\u00a0", "\n", " & "} or (
        gap == ". " and tokens[n].group() in {"Dr", "Mr", "Mrs", "Ms", "Prof"}
    )


def _stated(text: str, start: int, mentions: Sequence[Mention]) -> Iterator[Stated]:
    """Relations between neighbours, carried on over ``and`` and commas."""
    last: tuple[Mention, Phrase, int] | None = None
    for left, right in pairwise(mentions):
        middle = text[left.end : right.start]
        phrase, begin = between(middle), left.start
        if phrase is None and last is not None and re.fullmatch(r"\s*,?\s*(?:and|or|,)\s+(?:the\s+)?", middle):
            source, phrase, begin = last
        elif phrase is None:
            phrase = introduced(text[max(start, left.start - 80) : left.start], middle)
            source, begin = left, start
        else:
            source = left
        if phrase is None:
            last = None
            continue
        last = (source, phrase, begin)
        if source.key != right.key:
            one, other = (right, source) if phrase.is_reversed else (source, right)
            yield Stated(one.key, sys.intern(phrase.kind), other.key, begin, right.end)
