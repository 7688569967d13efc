"""What DuckDB is asked. Values travel as parameters; only file names that we made ourselves are written into a text."""

from __future__ import annotations

from pathlib import Path

__all__ = ["COUNTS", "ROOTS", "SERIES", "TRACE", "merge_to", "write_to"]

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
_SHAPE = "{" + ",".join(f'"{name}":"{kind}"' for name, kind in _COLUMNS.items()) + "}"

# union_by_name: older segments may lack columns that came later; those read as NULL.
_SEGMENTS = "read_parquet($files, union_by_name := true)"

ROOTS = f"""
SELECT trace_id, name, start_ns, (end_ns - start_ns) / 1e6, status, error, app, release, model, cost_nano,
       input_tokens, output_tokens
FROM {_SEGMENTS}
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
"""  # noqa: S608 - only constants of this module

COUNTS = f"""
SELECT trace_id, count(*) FROM {_SEGMENTS}
WHERE list_contains($ids::VARCHAR[], trace_id) GROUP BY trace_id
"""  # noqa: S608 - only constants of this module

TRACE = f"""
SELECT trace_id, span_id, parent_id, name, start_ns, end_ns, status, error, attributes FROM {_SEGMENTS}
WHERE starts_with(trace_id, $prefix::VARCHAR) ORDER BY start_ns, parent_id NULLS FIRST, span_id
"""  # noqa: S608 - only constants of this module

_OUTCOME = """json_extract_string(attributes, '$."interlock.answer.outcome"')"""

SERIES = f"""
SELECT (((start_ns - $since::BIGINT)::HUGEINT * $buckets::BIGINT) // ($until::BIGINT - $since::BIGINT))::BIGINT
         AS slice,
       count(*), count(*) FILTER (status = 'error'),
       quantile_cont((end_ns - start_ns) / 1e6, 0.5), quantile_cont((end_ns - start_ns) / 1e6, 0.95),
       coalesce(sum(cost_nano), 0)::BIGINT, coalesce(sum(input_tokens), 0)::BIGINT,
       coalesce(sum(output_tokens), 0)::BIGINT,
       count(*) FILTER ({_OUTCOME} IS NOT NULL), count(*) FILTER ({_OUTCOME} = 'declined')
FROM {_SEGMENTS}
WHERE parent_id IS NULL AND start_ns >= $since::BIGINT AND start_ns < $until::BIGINT
  AND ($app::VARCHAR IS NULL OR app = $app::VARCHAR)
  AND ($name::VARCHAR IS NULL OR name = $name::VARCHAR)
GROUP BY slice
"""  # noqa: S608 - only constants of this module


def write_to(path: Path) -> str:
    """Write the spans of a list of JSON objects (the only parameter) to `path`."""
    # One text a span: a single JSON array of all of them takes five times as long.
    rows = f"SELECT unnest(from_json(span, '{_SHAPE}')) FROM (SELECT unnest(?::VARCHAR[]) AS span)"  # noqa: S608 - constants
    return f"COPY ({rows}) TO {_literal(path)} (FORMAT parquet, COMPRESSION zstd)"


def merge_to(path: Path) -> str:
    """Write every span of the files in the only parameter to `path`, by start time."""
    rows = "SELECT * FROM read_parquet(?, union_by_name := true) ORDER BY start_ns"
    return f"COPY ({rows}) TO {_literal(path)} (FORMAT parquet, COMPRESSION zstd)"


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
