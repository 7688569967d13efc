"""Documents of an index elsewhere as passages: ids, facts, and the part of a long text that answers best."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interlock.core.canonical import digest_bytes
from interlock.core.clock import now
from interlock.core.ids import DocumentId
from interlock.core.passages import Span
from interlock.knowledge.analysers import analyse
from interlock.knowledge.external.settings import ExternalIndex, Vectors
from interlock.knowledge.filters import Filter
from interlock.knowledge.globs import matches
from interlock.knowledge.payload import PassagePayload, passage_id
from interlock.knowledge.sentences import sentences
from interlock.knowledge.types import DocumentInfo
from interlock.stores.index.base import Hit

__all__ = [
    "LONGEST_ID",
    "Malformed",
    "Row",
    "best_part",
    "cosine_of",
    "document_id",
    "hit_of",
    "parse_id",
    "parts_of",
    "passes",
    "rows_of",
]

# Any in this module: JSON of the index.
LONGEST_ID = 800
"""Characters of a document id: an index's own has up to 512 bytes."""
_PREFIX = "ext_"
_MOST_TEXT = 2_000_000
_PART = 1000
"""Characters of a part, about the 150 words that passages have elsewhere."""


class Malformed(ValueError):
    """An answer without what it must have; says what, and no text of it."""


class Row(NamedTuple):
    """One document as the index gave it."""

    info: DocumentInfo
    text: str
    score: float
    values: Mapping[str, tuple[str, ...]]
    """Metadata with all its values."""


def document_id(collection: str, own: str) -> DocumentId:
    """Id of a document by the index's own: whoever has it can be given the document without a registry."""
    return DocumentId(f"{_PREFIX}{collection}.{base64.urlsafe_b64encode(own.encode()).decode().rstrip('=')}")


def parse_id(document: str) -> tuple[str, str] | None:
    """Collection and own id; None: it is a document that was ingested, or no id."""
    if not document.startswith(_PREFIX) or len(document) > LONGEST_ID:
        return None
    collection, _, coded = document.removeprefix(_PREFIX).partition(".")
    try:
        padded = coded + "=" * (-len(coded) % 4)
        own = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    # One document has one id: another spelling of the same bits is none.
    return (collection, own) if own and document_id(collection, own) == document else None


def rows_of(
    answer: Mapping[str, Any], collection: str, spec: ExternalIndex, *, languages: tuple[str, ...], most: int
) -> list[Row]:
    """Documents of an answer, in its order. One without a text has nothing to quote, and is left out.

    Raises: Malformed.
    """
    outer = answer.get("hits")
    hits = outer.get("hits") if isinstance(outer, dict) else None
    if not isinstance(hits, list):
        raise Malformed("it has no hits")
    rows = []
    for hit in hits[:most]:
        source = hit.get("_source") if isinstance(hit, dict) else None
        if not isinstance(source, dict) or not isinstance(hit.get("_id"), str):
            raise Malformed("a hit has no _id and _source")
        score = hit.get("_score")
        if score is not None and (not isinstance(score, int | float) or not math.isfinite(score)):
            raise Malformed("a hit has no score that is a number")
        row = _row(hit, source, collection, spec, languages)
        if row is not None:
            rows.append(row)
    return rows


def _row(
    hit: Mapping[str, Any], source: Mapping[str, Any], collection: str, spec: ExternalIndex, languages: tuple[str, ...]
) -> Row | None:
    names = spec.fields
    own, score = hit["_id"], float(hit.get("_score") or 0.0)
    text = "\n\n".join(_values(source, names.text))[:_MOST_TEXT]
    if names.id is not None:
        own = next(iter(_values(source, names.id)), "")
    if not text.strip() or not own or len(document_id(collection, own)) > LONGEST_ID:
        return None
    url = "" if names.url is None else next(iter(_values(source, names.url)), "")
    title = "" if names.title is None else " ".join(_values(source, names.title))
    values = {name: _values(source, field.stored()) for name, field in names.metadata.items()}
    values = {name: found for name, found in values.items() if found}
    digest = digest_bytes(text.encode())
    at = now()
    info = DocumentInfo(
        id=document_id(collection, own),
        collection=collection,
        source=(url or own)[:2000],
        title=(title or url or own)[:500],
        media_type="text/plain",
        raw_digest="",
        text_digest=digest,
        size_bytes=len(text.encode()),
        pages=None,
        passages=len(parts_of(text)) if len(text) > _PART else 1,
        readers=spec.readers(frozenset(_values(source, names.readers.removesuffix(".keyword")))),
        metadata={name: ", ".join(found) for name, found in values.items()},
        languages=languages,
        state="ok",
        error_code="",
        error_message="",
        ingested_at=None,
        checked_at=at,
        fingerprint="",
        seen_digest="",
        quality=1.0,
        review=(),
    )
    return Row(info, text, score, values)


def _values(source: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """Plain values at a path, whose dots are objects, or part of a name."""
    return tuple(_plain(value) for value in _at(source, path) if isinstance(value, str | int | float))


def _at(value: Any, path: str) -> list[Any]:
    if isinstance(value, list):
        return [one for each in value for one in _at(each, path)]
    if not path:
        return [] if isinstance(value, dict) else [value]
    if not isinstance(value, dict):
        return []
    steps = path.split(".")
    found: list[Any] = []
    for length in range(1, len(steps) + 1):
        name = ".".join(steps[:length])
        if name in value:
            found += _at(value[name], ".".join(steps[length:]))
    return found


def _plain(value: str | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # Half a character can be told in JSON, and nowhere else.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else f"{value:.15g}"


def passes(row: Row, wanted: Filter) -> bool:
    """What the index cannot say exactly: patterns that tell folders apart."""
    globs = [condition for condition in wanted.conditions if condition.operator == "matches"]
    for condition in globs:
        found = (row.info.source,) if condition.field == "document.source" else row.values.get(condition.field, ())
        if not any(matches(str(condition.value), one) for one in found):
            return False
    return True


def parts_of(text: str) -> list[Span]:
    """A text in parts of whole sentences that belong together, of about 1,000 characters."""
    parts: list[Span] = []
    start = end = 0
    for sentence in sentences(text):
        for at in range(sentence.start, sentence.end, _PART):
            stop = min(at + _PART, sentence.end)
            if end > start and stop - start > _PART:
                parts.append(Span(start, end))
                start = at
            elif end == start:
                start = at
            end = stop
    if end > start:
        parts.append(Span(start, end))
    return parts or [Span(0, len(text))]


def best_part(text: str, terms: Sequence[str], languages: tuple[str, ...]) -> Span:
    """The part with most of the question's words, a rare word counting more; the first of several."""
    if len(text) <= _PART:
        return Span(0, len(text))
    asked = frozenset(terms)
    spans = parts_of(text)
    held = [asked.intersection(analyse(text[span.start : span.end], languages)) for span in spans]
    weights = {term: 1 / sum(term in words for words in held) for term in frozenset().union(*held)}
    worth = [sum(weights[term] for term in words) for words in held]
    return spans[max(range(len(spans)), key=lambda n: worth[n])]


def hit_of(row: Row, span: Span, score: float) -> Hit:
    """A part of a document as a row of an index of ours."""
    info = row.info
    payload = PassagePayload(1, info.text_digest, span.start, span.end, None, "", row.text[span.start : span.end])
    return Hit(passage_id(info.id, info.text_digest, span), info.id, score, payload.encode())


def cosine_of(vectors: Vectors, score: float) -> float:
    """The cosine behind a score, of vectors of length 1."""
    match vectors.similarity:
        case "cosine" | "dot_product":
            cosine = 2 * score - 1
        case "l2":
            cosine = 1 - (1 / max(score, 1e-9) - 1) / 2
        case "max_inner_product":
            cosine = score - 1 if score >= 1 else 1 - 1 / max(score, 1e-9)
    return max(-1.0, min(1.0, cosine))
