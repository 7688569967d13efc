"""The files in which a batch's results are handed out once it has ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from interlock.core.context import Context
from interlock.core.ids import new_id
from interlock.flows.batch_lines import AskedLine
from interlock.gateway.kept import Batch, Kept, Line

__all__ = ["write_files"]

# Any in this module: JSON objects.


async def write_files(kept: Kept, ctx: Context, batch: Batch, lines: Sequence[AskedLine], state: str) -> Batch:
    """Write them, and end the batch in `state`.

    Args:
        lines: of the input; those without a result are told of. Empty when the input is not known.
    """
    batch = await kept.mark_batch(batch, "finalizing", only_in=("in_progress",))
    results = await kept.lines(batch)
    missing = _missing(batch, lines, {result.number for result in results}, state)
    if batch.style == "anthropic":
        written = {"output": results + missing, "error": []}
    else:
        written = {
            "output": [result for result in results if result.ok],
            "error": [result for result in results if not result.ok] + missing,
        }
    files: dict[str, str | None] = {}
    for name, rows in written.items():
        if not rows:
            files[name] = None
            continue
        data = "".join(json.dumps(row.body, ensure_ascii=False) + "\n" for row in rows).encode()
        file = await kept.keep_file(
            ctx,
            name=f"{batch.id}_{name}.jsonl",
            purpose="batch_output",
            data=data,
            documents=[row.documents for row in rows],
        )
        files[name] = file.id
    batch = await kept.update_batch(batch, output_file=files["output"], error_file=files["error"])
    batch = await kept.mark_batch(batch, state)
    await kept.drop_lines(batch)
    return batch


def _missing(batch: Batch, lines: Sequence[AskedLine], done: set[int], state: str) -> list[Line]:
    """Results of the lines that never ran."""
    rows: list[Line] = []
    code, kind = ("batch_expired", "expired") if state == "expired" else ("batch_cancelled", "canceled")
    for line in lines:
        if line.number in done:
            continue
        if batch.style == "anthropic":
            body: dict[str, Any] = {"custom_id": line.custom_id, "result": {"type": kind}}
        else:
            error = {"code": code, "message": "this line was not run"}
            body = {"id": new_id("batch_req"), "custom_id": line.custom_id, "response": None, "error": error}
        rows.append(Line(line.number, False, body))
    return rows
