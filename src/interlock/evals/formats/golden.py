"""Golden sets of apps that answer from documents: question, asker, facts, gold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from interlock.core.errors import InvalidInput
from interlock.evals.formats._lines import json_lines
from interlock.evals.golden.types import Case as GoldenCase

__all__ = ["GoldenSet", "plugin"]


class GoldenSet:
    """See `interlock.evals.golden`."""

    def read(self, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:  # Any: fields before validation
        """See `CaseFormat`."""
        for place, fields in json_lines(path):
            try:
                golden = GoldenCase.model_validate(fields)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"])) or "case"
                raise InvalidInput(f"{place} of {path.name!r}: {field}: {first['msg']}", param=field) from error
            yield place, _case(golden)


def _case(golden: GoldenCase) -> dict[str, Any]:
    return {
        "id": golden.id,
        "input": golden.question,
        "as": golden.user,
        "answerable": golden.answerable,
        "facts": golden.facts,
        "evidence": [
            {
                "source": gold.document,
                "quote": gold.quote,
                "page": gold.page,
                "place": "" if gold.place is None else str(gold.place),
            }
            for gold in golden.gold
        ],
        "relevant": {gold.document: 1 for gold in golden.gold},
        "tags": golden.tags,
        "variables": golden.variables,
        "slices": {"kind": golden.kind},
    }


plugin = GoldenSet()
