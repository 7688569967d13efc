"""An element or a code fence that is opened and not closed, or the other way round."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from interlock.prompts.linting import Fault, Rule, Subject
from interlock.prompts.pieces import Place

__all__ = ["plugin"]

_OPEN = re.compile(r"<([A-Za-z_][\w.-]*)(?:\s+[\w.:-]+=(?:\"[^\"]*\"|'[^']*'))*\s*>")
_CLOSE = re.compile(r"</([A-Za-z_][\w.-]*)\s*>")
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_ALONE = frozenset({"br", "hr", "img", "input", "meta", "link", "wbr"})


def find(subject: Subject) -> Iterator[Fault]:
    """A tag that is only spoken of (`<answer>` in backticks) is none."""
    for name, pieces in subject.pieces.items():
        counts: Counter[str] = Counter()
        first: dict[str, Place] = {}
        fences, fence = 0, Place(name, 1)
        for piece in pieces:
            for number, line in enumerate(piece.text.split("\n")):
                place = Place(piece.place.text, piece.place.line + number)
                bare = re.sub(r"`[^`\n]*`", "", line) if not _FENCE.match(line) else line
                for sign, pattern in ((1, _OPEN), (-1, _CLOSE)):
                    for tag in pattern.findall(bare):
                        counts[tag] += sign
                        first.setdefault(tag, place)
                if _FENCE.match(line):
                    fences, fence = fences + 1, place
        for tag, count in counts.items():
            # One that only ever opens may be a mark that the model is told about; several are a list of such.
            if count and tag.lower() not in _ALONE and _closes(_text_of(subject, name), tag):
                yield Fault(
                    f"<{tag}> is {'opened' if count > 0 else 'closed'} {abs(count)} times more than "
                    f"{'closed' if count > 0 else 'opened'}",
                    first[tag],
                )
        if fences % 2:
            yield Fault("a code fence is opened and not closed", fence)


def _text_of(subject: Subject, name: str) -> str:
    """All text of one of the prompt's texts."""
    return "".join(piece.text for piece in subject.pieces[name])


def _closes(text: str, tag: str) -> bool:
    return f"</{tag}>" in text or bool(re.search(rf"<{re.escape(tag)}(?:\s[^<>]*)?>\s*\n", text))


plugin = Rule(
    "warn",
    "A mark that is not closed marks nothing off: what follows is read as part of it.",
    "Close it; of a tag that is only spoken of, write it in backticks.",
    find,
)
