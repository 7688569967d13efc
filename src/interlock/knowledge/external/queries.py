"""What an index is asked, in the query language of its kind.

A question of a person is only ever the value of a `match`, which has no syntax; who may read and metadata are filters,
which the index applies before it ranks.

Sources: the search API references of Elasticsearch (`knn` beside `query`) and OpenSearch (`knn` within `query`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.knowledge.external.settings import ExternalIndex, MetadataField
from interlock.knowledge.filters import Condition, Filter, Value

__all__ = ["by_meaning", "by_words", "counted", "described", "identified", "narrowed", "readable_by"]

# Any in this module: JSON of the query language.
Clause = dict[str, Any]

_MOST_WORDS = 256
_MOST_CHARACTERS = 1000
"""Of a question: every word, and in some scripts every character, becomes a clause, of which an index takes 1,024."""
_NUM_CANDIDATES = 10_000
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d([.,]\d{1,9})?)?)?(Z|[+-]\d\d:?\d\d)?)?)?)?")
_GLOB = re.compile(r"(\*\*/|\*+|\?|\[[^\]]+\])")
_STARS = re.compile(r"\*{2,}")
_NOTHING: Clause = {"match_none": {}}


def readable_by(spec: ExternalIndex, labels: frozenset[str]) -> Clause:
    """Documents with one of the labels; one without the field is not among them."""
    return {"terms": {spec.fields.readers: sorted(labels)}}


def identified(spec: ExternalIndex, ids: Sequence[str]) -> Clause:
    """Documents by their ids."""
    return {"ids": {"values": list(ids)}} if spec.fields.id is None else {"terms": {spec.fields.id: list(ids)}}


def by_words(spec: ExternalIndex, question: str, *, filters: Sequence[Clause], k: int) -> Clause:
    """The lexical leg."""
    text, title = spec.fields.text, spec.fields.title
    asked = _cut(question)
    words: Clause = {"match": {text: {"query": asked, "operator": "or"}}}
    if title is not None:
        fields = [f"{title}^{spec.title_weight:g}", text]
        words = {"multi_match": {"query": asked, "fields": fields, "type": "most_fields", "operator": "or"}}
    return _body(spec, k) | {"query": {"bool": {"must": [words], "filter": list(filters)}}}


def by_meaning(spec: ExternalIndex, vector: Sequence[float], *, filters: Sequence[Clause], k: int) -> Clause:
    """The dense leg; the filter is applied while the nearest are looked for, so that `k` are found."""
    assert spec.vector is not None, "asked of an index with vectors"
    field = spec.vector.field
    if spec.kind == "elasticsearch":
        candidates = min(max(2 * k, 100), _NUM_CANDIDATES)
        near = {"field": field, "query_vector": list(vector), "k": k, "num_candidates": candidates}
        return _body(spec, k) | {"knn": {**near, "filter": list(filters)}}
    nearest = {"vector": list(vector), "k": k, "filter": {"bool": {"filter": list(filters)}}}
    # Outside once more: an engine that knows no filters within would give what nobody asked about.
    return _body(spec, k) | {"query": {"bool": {"must": [{"knn": {field: nearest}}], "filter": list(filters)}}}


def described(spec: ExternalIndex, filters: Sequence[Clause], *, most: int) -> Clause:
    """Documents that pass the filters, in no order."""
    return _body(spec, most) | {"query": {"bool": {"filter": list(filters)}}}


def counted(filters: Sequence[Clause]) -> Clause:
    """How many documents pass the filters, and none of them."""
    return {"size": 0, "track_total_hits": True, "query": {"bool": {"filter": list(filters)}}}


def narrowed(spec: ExternalIndex, wanted: Filter) -> list[Clause]:
    """A metadata filter as filters of the index. Raises: InvalidInput: the field has no such comparison."""
    return [_clause(spec, condition) for condition in wanted.conditions]


def _body(spec: ExternalIndex, size: int) -> Clause:
    names = spec.fields
    wanted = [names.text, names.readers, names.title, names.url, names.id]
    stored = [one for one in wanted if one is not None] + [one.stored() for one in names.metadata.values()]
    return {
        "size": size,
        "timeout": f"{int(spec.timeout_s * 1000)}ms",
        "track_total_hits": False,
        "_source": {"includes": list(dict.fromkeys(name.removesuffix(".keyword") for name in stored))},
    }


def _cut(question: str) -> str:
    words = question.split()
    text = " ".join(words[:_MOST_WORDS])
    if len(text) <= _MOST_CHARACTERS:
        return text
    kept = text[:_MOST_CHARACTERS]
    return kept.rsplit(" ", 1)[0] if " " in kept else kept


def _clause(spec: ExternalIndex, condition: Condition) -> Clause:
    known = _fields(spec)
    field = known.get(condition.field)
    negative = condition.operator == "ne" or (condition.operator == "exists" and condition.value is False)
    if condition.field.startswith("document.") and field is None:
        raise InvalidInput(
            f"{condition.field!r} cannot be filtered by in this collection, whose index stands elsewhere",
            param=f"filter.{condition.field}",
            hint=f"known: {', '.join(sorted(known)) or 'none; name fields under index.fields.metadata'}",
        )
    if field is None:
        # As everywhere: what no document has meets "is not" and "is not there" alone.
        return {"match_all": {}} if negative else dict(_NOTHING)
    if condition.operator == "exists":
        there = {"exists": {"field": field.field}}
        return there if condition.value else {"bool": {"must_not": [there]}}
    clause = _positive(field, condition)
    return {"bool": {"must_not": [clause]}} if negative else clause


def _fields(spec: ExternalIndex) -> Mapping[str, MetadataField]:
    own = {} if spec.fields.url is None else {"document.source": MetadataField(field=spec.fields.url)}
    return {**own, **spec.fields.metadata}


def _positive(field: MetadataField, condition: Condition) -> Clause:
    name, value = field.field, condition.value
    match condition.operator:
        case "eq" | "ne":
            assert not isinstance(value, tuple)
            return _equal(field, value)
        case "in":
            assert isinstance(value, tuple)
            return {"bool": {"should": [_equal(field, each) for each in value], "minimum_should_match": 1}}
        case "contains" | "matches":
            if field.type != "keyword":
                raise _unordered(condition, f"a {field.type} field has no {condition.operator!r}")
            # The index knows one star and no classes: what it finds too much is left out when it is here.
            pattern = f"*{_escaped(str(value))}*" if condition.operator == "contains" else _wider(str(value))
            return {"wildcard": {name: {"value": pattern, "case_insensitive": True}}}
        case _:
            if field.type not in {"number", "date"}:
                raise _unordered(condition, f"a {field.type} field has no order: give it type: number or date")
            bound = _number(value) if field.type == "number" else _date(value)
            return dict(_NOTHING) if bound is None else {"range": {name: {condition.operator: bound}}}


def _equal(field: MetadataField, value: Value) -> Clause:
    name = field.field
    match field.type:
        case "number":
            number = _number(value)
            return dict(_NOTHING) if number is None else {"term": {name: {"value": number}}}
        case "boolean":
            said = str(value).strip().casefold()
            return {"term": {name: {"value": said == "true"}}} if said in {"true", "false"} else dict(_NOTHING)
        case "date":
            day = _date(value)
            return dict(_NOTHING) if day is None else {"range": {name: {"gte": day, "lte": day}}}
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return {"term": {name: {"value": text, "case_insensitive": True}}}


def _number(value: object) -> float | None:
    if isinstance(value, (bool, tuple)):
        return None
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None


def _date(value: object) -> str | None:
    """What every index reads as a date. Anything else would be refused as if its settings were wrong."""
    text = str(value).strip().replace(" ", "T", 1)
    return text if _DATE.fullmatch(text) else None


def _wider(glob: str) -> str:
    """A pattern of the index that finds at least what a glob does."""
    pieces = []
    for token in _GLOB.split(glob):
        if token.startswith("*"):
            pieces.append("*")
        elif token == "?":
            pieces.append("?")
        elif _GLOB.fullmatch(token):
            # A class; one that is none, as a range the wrong way round, is read as it is written.
            pieces.append("*")
        else:
            pieces.append(_escaped(token))
    return _STARS.sub("*", "".join(pieces))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _unordered(condition: Condition, why: str) -> InvalidInput:
    return InvalidInput(f"the filter on {condition.field!r} cannot be asked: {why}", param=f"filter.{condition.field}")
