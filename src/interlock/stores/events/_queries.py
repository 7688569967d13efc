"""What DuckDB is asked. Values travel as parameters; only file names that we made ourselves are written into a text."""

from __future__ import annotations

from pathlib import Path

__all__ = ["COUNTS", "OPINIONS", "PREFERENCES", "PROMPTS", "ROOTS", "SERIES", "TRACE", "UNITS", "merge_to", "over"]

_COLUMNS = {
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "parent_id": "VARCHAR",
    "name": "VARCHAR",
    "start_ns": "BIGINT",
    "end_ns": "BIGINT",
    "status": "VARCHAR",
    "error": "VARCHAR",
    "app": "VARCHAR",
    "release": "VARCHAR",
    "model": "VARCHAR",
    "cost_nano": "BIGINT",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "attributes": "VARCHAR",
}
# Of a written line the attributes are an object, of a merged segment the text of one.
_KINDS = {**_COLUMNS, "attributes": "JSON"}
_SHAPE = "{" + ", ".join(f"{name}: '{kind}'" for name, kind in _KINDS.items()) + "}"
_NAMES = ", ".join(_COLUMNS)

# union_by_name: older segments may lack columns that came later; those read as NULL.
_MERGED = "SELECT * FROM read_parquet($merged, union_by_name := true)"
_WRITTEN = f"""
SELECT {_NAMES.replace("attributes", "attributes::VARCHAR AS attributes")}
FROM read_json($written, format := 'newline_delimited', columns := {_SHAPE})
"""  # noqa: S608 - only constants of this module

ROOTS = """
SELECT trace_id, name, start_ns, (end_ns - start_ns) / 1e6, status, error, app, release, model, cost_nano,
       input_tokens, output_tokens
FROM segments
WHERE parent_id IS NULL
  AND ($since::BIGINT IS NULL OR start_ns >= $since::BIGINT)
  AND ($until::BIGINT IS NULL OR start_ns < $until::BIGINT)
  AND ($app::VARCHAR IS NULL OR app = $app::VARCHAR)
  AND ($release::VARCHAR IS NULL OR release = $release::VARCHAR)
  AND ($status::VARCHAR IS NULL OR status = $status::VARCHAR)
  AND ($min_ms::DOUBLE IS NULL OR (end_ns - start_ns) / 1e6 >= $min_ms::DOUBLE)
  AND ($before_ns::BIGINT IS NULL OR start_ns < $before_ns::BIGINT
       OR (start_ns = $before_ns::BIGINT AND trace_id < $before_id::VARCHAR))
ORDER BY start_ns DESC, trace_id DESC
LIMIT $limit::BIGINT
"""

COUNTS = """
SELECT trace_id, count(*) FROM segments
WHERE list_contains($ids::VARCHAR[], trace_id) GROUP BY trace_id
"""

TRACE = """
SELECT trace_id, span_id, parent_id, name, start_ns, end_ns, status, error, attributes FROM segments
WHERE starts_with(trace_id, $prefix::VARCHAR) ORDER BY start_ns, parent_id NULLS FIRST, span_id
"""

_OUTCOME = """json_extract_string(attributes, '$."interlock.answer.outcome"')"""

SERIES = f"""
SELECT (((start_ns - $since::BIGINT)::HUGEINT * $buckets::BIGINT) // ($until::BIGINT - $since::BIGINT))::BIGINT
         AS slice,
       count(*), count(*) FILTER (status = 'error'),
       quantile_cont((end_ns - start_ns) / 1e6, 0.5), quantile_cont((end_ns - start_ns) / 1e6, 0.95),
       coalesce(sum(cost_nano), 0)::BIGINT, coalesce(sum(input_tokens), 0)::BIGINT,
       coalesce(sum(output_tokens), 0)::BIGINT,
       count(*) FILTER ({_OUTCOME} IS NOT NULL), count(*) FILTER ({_OUTCOME} = 'declined')
FROM segments
WHERE parent_id IS NULL AND start_ns >= $since::BIGINT AND start_ns < $until::BIGINT
  AND ($app::VARCHAR IS NULL OR app = $app::VARCHAR)
  AND ($name::VARCHAR IS NULL OR name = $name::VARCHAR)
GROUP BY slice
"""  # noqa: S608 - only constants of this module


def _attribute(name: str) -> str:
    return f"""json_extract_string(attributes, '$."interlock.{name}"')"""


_NEUTRAL = (
    "('invalid_request', 'request_too_large', 'unsupported_media_type', 'invalid_api_key', 'permission_denied', "
    "'rate_limit_exceeded', 'insufficient_quota', 'client_left', 'targets_resting', 'provider_rate_limited', "
    "'provider_quota_exhausted')"
)
"""Codes of ends that say nothing of a release: the caller's doing, or a target that both arms share. Were they counted,
a candidate that wears its target out would hide behind the control, which is refused then too.
"""

UNITS = f"""
SELECT {_attribute("unit")} AS unit, {_attribute("arm")} AS arm, min(start_ns), count(*),
       avg(CASE WHEN error IN {_NEUTRAL} THEN NULL WHEN status = 'error' AND error <> 'blocked_by_policy' THEN 1.0
                ELSE 0.0 END),
       avg(CASE WHEN {_OUTCOME} IS NULL THEN NULL WHEN {_OUTCOME} = 'declined' THEN 1.0 ELSE 0.0 END),
       avg(CASE WHEN error = 'blocked_by_policy' THEN 1.0 ELSE 0.0 END),
       sum(try_cast({_attribute("answer.unsupported")} AS DOUBLE))
         / nullif(sum(try_cast({_attribute("answer.claims")} AS DOUBLE)), 0),
       avg(ln(greatest(end_ns - start_ns, 1000) / 1e9)) FILTER (status = 'ok'),
       avg(ln(cost_nano)) FILTER (cost_nano > 0),
       avg((end_ns - start_ns) / 1e9) FILTER (status = 'ok'),
       coalesce(sum(cost_nano), 0)::BIGINT
FROM segments
WHERE parent_id IS NULL AND start_ns >= $since::BIGINT AND {_attribute("rollout")} = $rollout::VARCHAR
GROUP BY unit, arm
"""  # noqa: S608 - only constants of this module


_JUDGED = f"coalesce(error, '') NOT IN {_NEUTRAL}"

PROMPTS = f"""
SELECT {_attribute("prompt.digest")} AS prompt, min(start_ns), max(start_ns), count(*),
       count(*) FILTER ({_JUDGED}),
       count(*) FILTER ({_JUDGED} AND status = 'error' AND error <> 'blocked_by_policy'),
       count(*) FILTER (error = 'blocked_by_policy'),
       count(*) FILTER ({_OUTCOME} IS NOT NULL), count(*) FILTER ({_OUTCOME} = 'declined'),
       count(cost_nano), avg(cost_nano), stddev_samp(cost_nano),
       count(*) FILTER (status = 'ok'), avg((end_ns - start_ns) / 1e9) FILTER (status = 'ok'),
       stddev_samp((end_ns - start_ns) / 1e9) FILTER (status = 'ok')
FROM segments
WHERE parent_id IS NULL AND start_ns >= $since::BIGINT
  AND list_contains($digests::VARCHAR[], {_attribute("prompt.digest")})
  AND (len($apps::VARCHAR[]) = 0 OR list_contains($apps::VARCHAR[], app))
GROUP BY prompt
"""  # noqa: S608 - only constants of this module

_SAID = f"""
SELECT trace_id, arg_max({_attribute("feedback")}, start_ns) AS last, any_value({_attribute("unit")}) AS unit,
       any_value({_attribute("arm")}) AS arm
FROM segments
WHERE name = 'feedback' AND start_ns >= $since::BIGINT AND {_attribute("rollout")} = $rollout::VARCHAR
GROUP BY trace_id
"""  # noqa: S608 - only constants of this module
"""The last word on each answer: people change their minds."""

OPINIONS = f"""
SELECT unit, arm, count(*), count(*) FILTER (last = 'down') FROM ({_SAID}) GROUP BY unit, arm
"""  # noqa: S608 - only constants of this module

_WON = (_attribute("interleave.control"), _attribute("interleave.variant"))
PREFERENCES = f"""
SELECT {_attribute("unit")} AS unit, count(*),
       avg(CASE WHEN try_cast({_WON[0]} AS BIGINT) > try_cast({_WON[1]} AS BIGINT) THEN 1.0 ELSE 0.0 END),
       avg(CASE WHEN try_cast({_WON[1]} AS BIGINT) > try_cast({_WON[0]} AS BIGINT) THEN 1.0 ELSE 0.0 END)
FROM segments
WHERE parent_id IS NULL AND start_ns >= $since::BIGINT AND {_attribute("rollout")} = $rollout::VARCHAR
  AND {_WON[0]} IS NOT NULL AND {_WON[1]} IS NOT NULL
  AND trace_id NOT IN (SELECT trace_id FROM ({_SAID}) WHERE last = 'down')
GROUP BY unit
"""  # noqa: S608 - only constants of this module


def over(query: str, *, merged: bool, written: bool) -> str:
    """`query` over the segments of both kinds; the parameters `merged` and `written` are their files."""
    kinds = [kind for kind, there in ((_MERGED, merged), (_WRITTEN, written)) if there]
    return f"WITH segments AS ({' UNION ALL BY NAME '.join(kinds)}) {query}"


def merge_to(path: Path, *, merged: bool, written: bool) -> str:
    """Write every span of both kinds of files to `path`, by start time."""
    rows = over("SELECT * FROM segments ORDER BY start_ns", merged=merged, written=written)
    return f"COPY ({rows}) TO {_literal(path)} (FORMAT parquet, COMPRESSION zstd)"


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
