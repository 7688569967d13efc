"""An index as OpenSearch and Elasticsearch document it, over real HTTP: the part of the query language that we speak.

Strict: what the documentation does not know is refused with 400, as the real ones do, and so are clauses that take the
syntax of a person (`query_string`).
"""

from __future__ import annotations

import json
import math
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

__all__ = ["Forced", "SearchIndex", "serve_index"]

# Any in this module: JSON of the query language.
_TOP = {"query", "size", "timeout", "track_total_hits", "_source", "knn"}
_PARAMS = {"allow_partial_search_results"}


class _Refused(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class Forced:
    """An answer given instead of the right one."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class SearchIndex:
    """Documents and what is known of their fields.

    Args:
        kind: whose query language.
        mapping: type of each field: ``text``, ``keyword``, ``long``, ``date``, ``boolean`` or ``vector``.
    """

    def __init__(self, kind: Literal["opensearch", "elasticsearch"], mapping: Mapping[str, str]) -> None:
        self.kind = kind
        self.mapping = mapping
        self.documents: dict[str, dict[str, Any]] = {}
        self.name = "handbook"
        self.authorization: str | None = None
        """What the head must say."""
        self.forced: list[Forced] = []
        """Answers of the next calls."""
        self.asked: list[dict[str, Any]] = []
        """Bodies, in order."""
        self.url = ""

    # ── one search ────────────────────────────────────────────────────────────────────────────────────────────────

    def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What `_search` gives. Raises: what becomes a 400."""
        _only(body, _TOP if self.kind == "elasticsearch" else _TOP - {"knn"})
        size = body.get("size", 10)
        if not isinstance(size, int) or not 0 <= size <= 10_000:
            raise _Refused("illegal_argument_exception")
        if not re.fullmatch(r"\d+ms", body.get("timeout", "1ms")):
            raise _Refused("parse_exception")
        scores: dict[str, float] = {}
        if "query" in body:
            scores = self._query(body["query"])
        if "knn" in body:
            near = body["knn"]
            _only(near, {"field", "query_vector", "k", "num_candidates", "filter"})
            if not near["k"] <= near["num_candidates"] <= 10_000:
                raise _Refused("illegal_argument_exception")
            scores |= self._near(near["field"], near["query_vector"], near["k"], near.get("filter", []))
        ranked = sorted(scores.items(), key=lambda pair: -pair[1])
        hits = [
            {"_index": self.name, "_id": one, "_score": score, "_source": self._source(one, body.get("_source"))}
            for one, score in ranked[:size]
        ]
        outer: dict[str, Any] = {"max_score": ranked[0][1] if hits else None, "hits": hits}
        if body.get("track_total_hits") is not False:
            outer["total"] = {"value": len(scores), "relation": "eq"}
        return {"took": 1, "timed_out": False, "_shards": {"total": 1, "successful": 1, "failed": 0}, "hits": outer}

    def _source(self, one: str, wanted: object) -> dict[str, Any]:
        whole = self.documents[one]
        if wanted is None:
            return whole
        assert isinstance(wanted, dict)
        _only(wanted, {"includes"})
        names = wanted["includes"]
        return {
            name: value for name, value in whole.items() if any(n == name or n.startswith(f"{name}.") for n in names)
        }

    def _query(self, clause: Mapping[str, Any]) -> dict[str, float]:
        if not isinstance(clause, dict) or len(clause) != 1:
            raise _Refused("parsing_exception")
        [(kind, given)] = clause.items()
        known: dict[str, Callable[[Any], dict[str, float]]] = {
            "bool": self._bool,
            "match": lambda g: self._match([*g], _one(g)),
            "multi_match": lambda g: self._match(g["fields"], g),
            "match_all": lambda _: dict.fromkeys(self.documents, 1.0),
            "match_none": lambda _: {},
            "ids": lambda g: {one: 1.0 for one in g["values"] if one in self.documents},
            "terms": self._terms,
            "term": self._term,
            "range": self._range,
            "exists": lambda g: self._where(g["field"], bool),
            "wildcard": self._wildcard,
        }
        if self.kind == "opensearch":
            known["knn"] = self._knn
        if kind not in known:
            raise _Refused("parsing_exception")
        return known[kind](given)

    def _bool(self, given: Mapping[str, Any]) -> dict[str, float]:
        _only(given, {"must", "filter", "must_not", "should", "minimum_should_match"})
        found = dict.fromkeys(self.documents, 0.0)
        for clause in given.get("must", []):
            scores = self._query(clause)
            found = {one: score + scores[one] for one, score in found.items() if one in scores}
        for clause in given.get("filter", []):
            scores = self._query(clause)
            found = {one: score for one, score in found.items() if one in scores}
        for clause in given.get("must_not", []):
            scores = self._query(clause)
            found = {one: score for one, score in found.items() if one not in scores}
        if "should" in given:
            some = set().union(*(self._query(clause) for clause in given["should"]))
            if given.get("minimum_should_match") == 1:
                found = {one: score for one, score in found.items() if one in some}
        return found

    def _match(self, fields: Sequence[str], given: Mapping[str, Any]) -> dict[str, float]:
        _only(given, {"query", "fields", "type", "operator"})
        if not isinstance(given["query"], str):
            raise _Refused("parsing_exception")
        words = _words(given["query"])
        if len(words) > 1024:
            raise _Refused("too_many_clauses")
        scores: dict[str, float] = {}
        for weighed in fields:
            name, _, weight = weighed.partition("^")
            if self.mapping.get(name) != "text":
                raise _Refused("query_shard_exception")
            held = {one: _words(" ".join(map(str, self._values(one, name)))) for one in self.documents}
            for word in words:
                having = [one for one, text in held.items() if word in text]
                rarity = math.log(1 + len(held) / (1 + len(having)))
                for one in having:
                    count = held[one].count(word)
                    scores[one] = scores.get(one, 0.0) + float(weight or 1) * rarity * count / (count + 1)
        return scores

    def _terms(self, given: Mapping[str, Any]) -> dict[str, float]:
        [(name, values)] = given.items()
        if not isinstance(values, list) or not values or len(values) > 65_536:
            raise _Refused("illegal_argument_exception")
        wanted = set(values)
        return self._where(name, lambda held: bool(wanted.intersection(self._indexed(name, held))))

    def _term(self, given: Mapping[str, Any]) -> dict[str, float]:
        [(name, asked)] = given.items()
        _only(asked, {"value", "case_insensitive"})
        value, folds = asked["value"], asked.get("case_insensitive", False)
        if folds and self.mapping.get(name) != "keyword":
            raise _Refused("query_shard_exception")
        if self.mapping.get(name) == "long" and isinstance(value, str):
            raise _Refused("number_format_exception")
        if folds:
            return self._where(name, lambda held: str(value).casefold() in [str(one).casefold() for one in held])
        return self._where(name, lambda held: value in held)

    def _range(self, given: Mapping[str, Any]) -> dict[str, float]:
        [(name, bounds)] = given.items()
        _only(bounds, {"gt", "gte", "lt", "lte"})
        kind = self.mapping.get(name)
        if kind not in {"long", "date"}:
            raise _Refused("query_shard_exception")
        compare: dict[str, Callable[[Any, Any], bool]] = {
            "gt": lambda a, b: a > b,
            "gte": lambda a, b: a >= b,
            "lt": lambda a, b: a < b,
            "lte": lambda a, b: a <= b,
        }
        if kind == "date" and not all(re.fullmatch(_DATE, str(bound)) for bound in bounds.values()):
            raise _Refused("parse_exception")
        read = float if kind == "long" else str
        return self._where(
            name, lambda held: any(all(compare[o](read(v), read(b)) for o, b in bounds.items()) for v in held)
        )

    def _wildcard(self, given: Mapping[str, Any]) -> dict[str, float]:
        [(name, asked)] = given.items()
        _only(asked, {"value", "case_insensitive"})
        if self.mapping.get(name) != "keyword":
            raise _Refused("query_shard_exception")
        if re.search(r"\*{2}", asked["value"].replace("\\*", "_")):
            raise _Refused("illegal_argument_exception")  # a long run of stars is too complex to determinize
        signs = re.findall(r"\\.|.", asked["value"], re.DOTALL)
        known = {"*": ".*", "?": "."}
        pattern = re.compile(
            "".join(known.get(sign) or re.escape(sign.removeprefix("\\") if len(sign) > 1 else sign) for sign in signs),
            re.DOTALL | re.IGNORECASE,
        )
        return self._where(name, lambda held: any(pattern.fullmatch(str(one)) for one in held))

    def _knn(self, given: Mapping[str, Any]) -> dict[str, float]:
        [(name, asked)] = given.items()
        _only(asked, {"vector", "k", "filter"})
        return self._near(name, asked["vector"], asked["k"], [asked["filter"]] if "filter" in asked else [])

    def _near(self, name: str, vector: Sequence[float], k: int, filters: Sequence[Any]) -> dict[str, float]:
        if self.mapping.get(name) != "vector":
            raise _Refused("query_shard_exception")
        allowed = self._bool({"filter": list(filters)})
        near: dict[str, float] = {}
        for one in allowed:
            own = self.documents[one].get(name)
            if own is None:
                continue
            if len(own) != len(vector):
                raise _Refused("illegal_argument_exception")
            near[one] = (1 + sum(a * b for a, b in zip(own, vector, strict=True))) / 2
        return dict(sorted(near.items(), key=lambda pair: -pair[1])[:k])

    def _where(self, name: str, holds: Callable[[list[Any]], bool]) -> dict[str, float]:
        return {one: 1.0 for one in self.documents if (held := self._values(one, name)) and holds(held)}

    def _values(self, one: str, name: str) -> list[Any]:
        found: Any = self.documents[one]
        for step in name.removesuffix(".keyword").split("."):
            found = found.get(step) if isinstance(found, dict) else None
        return [] if found is None else found if isinstance(found, list) else [found]

    def _indexed(self, name: str, held: list[Any]) -> list[Any]:
        if self.mapping.get(name) == "text":
            return [word for value in held for word in _words(str(value))]
        return held

    # ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, path: str, head: Mapping[str, str], body: bytes) -> Forced:
        """What a call is answered with."""
        parts = urlsplit(path)
        if self.authorization is not None and head.get("authorization") != self.authorization:
            return _error(401, "security_exception", "missing authentication")
        if self.forced:
            return self.forced.pop(0)
        if set(parse_qs(parts.query)) - _PARAMS or head.get("content-type") != "application/json":
            return _error(400, "illegal_argument_exception", parts.query)
        if parts.path != f"/{self.name}/_search":
            return _error(404, "index_not_found_exception", parts.path)
        asked = json.loads(body)
        self.asked.append(asked)
        try:
            return Forced(body=json.dumps(self.search(asked)).encode())
        except _Refused as refused:
            # As the real ones: the reason repeats what was asked.
            return _error(400, refused.kind, body.decode())
        except (KeyError, TypeError, ValueError, AttributeError):
            return _error(400, "parsing_exception", body.decode())


_DATE = r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d([.,]\d{1,9})?)?)?(Z|[+-]\d\d:?\d\d)?)?)?)?"
"""``strict_date_optional_time``, which dates are read by unless their field says otherwise."""


def _error(status: int, kind: str, reason: str) -> Forced:
    cause = {"type": kind, "reason": reason}
    return Forced(status, json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}).encode())


def _only(given: Mapping[str, Any], known: set[str]) -> None:
    if set(given) - known:
        raise _Refused("parsing_exception")


def _one(given: Mapping[str, Any]) -> Any:
    [value] = given.values()
    return value


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


@contextmanager
def serve_index(index: SearchIndex, tls: ssl.SSLContext | None = None) -> Iterator[SearchIndex]:
    """`index` on a free loopback port, as long as the block runs; over TLS when `tls` says how."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            answer = index.answer(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            if answer.delay_s:
                time.sleep(answer.delay_s)
            try:
                self.send_response(answer.status)
                for name, value in {"content-type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                self.close_connection = True  # whoever asked is gone

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's own name
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    index.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
