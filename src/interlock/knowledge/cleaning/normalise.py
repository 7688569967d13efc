"""The same word in the same characters: NFC, nothing invisible, no word cut at a line's end.

Applied before a text becomes the one text of its document: every offset points into what is searched and quoted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from interlock.knowledge.cleaning.edits import Edit, edited
from interlock.knowledge.cleaning.signatures import words
from interlock.knowledge.types import LoadedDocument

__all__ = ["VERSION", "normal", "normalised"]

VERSION = "normal/1"

_HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f"  # controls, without tab and the line ends
    "\u00ad"  # soft hyphen
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directions: they can show another text than is read
    "\u180e\u200b\u2060-\u2064\ufeff\ufff9-\ufffb"  # no width, no sound
    "\U000e0000-\U000e007f"  # tags: whole sentences that nobody sees
)
_GONE = re.compile(f"[{_HIDDEN}]")
_JOINER = re.compile("[\u200c\u200d]")
_SUSPECT = re.compile(f"[{_HIDDEN}\u200c\u200d]")
_WORD = re.compile(r"\S+")
_NEEDS_JOINERS = 0x0600
"""From here on scripts and pictures join by them; in Latin, Greek, Cyrillic and Hebrew they only hide."""
_NOT_JOINED = words("and or und oder et ou y o e i og och en of to bis und/oder and/or")
"""What follows a hyphen that stays: ``pre- and post-war``."""
_HEAD = re.compile(r"[^\W\d_]{2,}$")
_TAIL = re.compile(r"[^\W\d_]{2,}")


def normal(text: str) -> str:
    """One string as it is kept."""
    if text.isascii() and not _SUSPECT.search(text):
        return text
    text = _GONE.sub("", text)
    if _JOINER.search(text):
        text = _without_joiners(text)
    return unicodedata.normalize("NFC", text)


def normalised(document: LoadedDocument) -> tuple[LoadedDocument, int]:
    """The document with normal text, and how many words changed. The same object when none did."""
    edits = sorted((*_word_edits(document.text), *_line_end_edits(document)))
    edits = [edit for before, edit in pairwise([Edit(0, 0, ""), *edits]) if edit.start >= before.end]
    if not edits and all(normal(said) == said for said in (document.title, *document.metadata.values())):
        return document, 0
    return edited(document, edits, normal), len(edits)


def _word_edits(text: str) -> Iterator[Edit]:
    if not _SUSPECT.search(text) and (text.isascii() or unicodedata.is_normalized("NFC", text)):
        return
    for match in _WORD.finditer(text):
        word = match.group()
        kept = normal(word)
        if kept != word:
            yield Edit(match.start(), match.end(), kept)


def _without_joiners(text: str) -> str:
    def joins(at: int) -> bool:
        around = text[at - 1 : at] + text[at + 1 : at + 2]
        return any(ord(character) >= _NEEDS_JOINERS and character not in "\u200c\u200d" for character in around)

    return "".join(c for at, c in enumerate(text) if c not in "\u200c\u200d" or joins(at))


def _line_end_edits(document: LoadedDocument) -> Iterator[Edit]:
    """Words that a page cut at the end of a line; a word that is written with its hyphen elsewhere keeps it."""
    text = document.text
    for line, following in pairwise(document.boxes):
        cut = _cut_at(text, line.end, following.start)
        if cut is None:
            continue
        head, tail = _HEAD.search(text, max(0, line.start), line.end - 1), _TAIL.match(text, following.start)
        if head is None or tail is None or not _is_one_word(head.group(), tail.group()):
            continue
        whole = f"{head.group()}-{tail.group()}"
        yield Edit(line.end - 1, following.start, "-" if whole in text else "")


def _cut_at(text: str, end: int, start: int) -> int | None:
    """Where a line ends in a hyphen and the next one follows at once."""
    near = 0 < start - end <= 2 and not text[end:start].strip() and "\n\n" not in text[end:start]
    return end - 1 if near and end and text[end - 1] in "-\u2010" else None


def _is_one_word(head: str, tail: str) -> bool:
    return head[-1].islower() and tail[0].islower() and tail not in _NOT_JOINED
