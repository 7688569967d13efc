"""A text in parts that fit into a prompt: whole sentences, cut at paragraphs where that is possible."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.core.errors import TooLarge
from interlock.core.passages import Span
from interlock.flows.pipelines.types import PipelineSpec
from interlock.knowledge.sentences import sentences

__all__ = ["parts_of"]

_NEARLY = 0.7
"""A paragraph's end is a good place to cut from this share of a part on."""


def parts_of(text: str, spec: PipelineSpec) -> list[Span]:
    """Places of the parts, in order; each begins with `overlap_words` of the one before.

    Raises: TooLarge: more than `most_parts`.
    """
    spans = [piece for span in sentences(text) for piece in _short(text, span, spec.part_words)]
    parts: list[Span] = []
    held: list[Span] = []
    count = 0
    for number, span in enumerate(spans):
        words = len(text[span.start : span.end].split())
        if held and count + words > spec.part_words:
            parts.append(Span(held[0].start, held[-1].end))
            held = _tail(text, held, spec.overlap_words)
            count = sum(len(text[each.start : each.end].split()) for each in held)
        held.append(span)
        count += words
        following = spans[number + 1] if number + 1 < len(spans) else None
        ends = following is not None and "\n\n" in text[span.end : following.start]
        if ends and count >= _NEARLY * spec.part_words:
            parts.append(Span(held[0].start, held[-1].end))
            held, count = [], 0
    if held and (not parts or held[-1].end > parts[-1].end):
        parts.append(Span(held[0].start, held[-1].end))
    if len(parts) > spec.most_parts:
        raise TooLarge(
            f"the text has {len(parts)} parts of {spec.part_words} words; this app takes {spec.most_parts}",
            param="messages",
            hint="send less, or raise pipeline.most_parts",
        )
    return parts


def _short(text: str, span: Span, most: int) -> list[Span]:
    """A sentence, cut where it is longer than a part (a table, a text without full stops)."""
    words = text[span.start : span.end].split(" ")
    if len(words) <= most:
        return [span]
    found: list[Span] = []
    start = span.start
    for at in range(0, len(words), most):
        piece = " ".join(words[at : at + most])
        found.append(Span(start, start + len(piece)))
        start += len(piece) + 1
    return [each for each in found if text[each.start : each.end].strip()]


def _tail(text: str, held: Sequence[Span], most: int) -> list[Span]:
    """The last sentences of a part, as far as they fit into what the next one repeats."""
    found: list[Span] = []
    count = 0
    for span in reversed(held):
        count += len(text[span.start : span.end].split())
        if count > most:
            break
        found.insert(0, span)
    return found
