"""Only the JSON value in an answer is left of it; an answer without one is refused."""

from __future__ import annotations

import json

from interlock.core.errors import Unavailable
from interlock.gateway.ports import Rewrite
from interlock.gateway.structured.recover import find_json

__all__ = ["plugin"]


def plugin(options: object) -> Rewrite:
    """Takes no options. Raises: ValueError; the rewrite raises Unavailable (`schema_unmet`)."""
    if options is not None:
        raise ValueError("json_only takes no options")

    def rewrite(text: str) -> str:
        found, value = find_json(text)
        if not found:
            raise Unavailable(
                "the answer holds no JSON",
                code="schema_unmet",
                retryable=False,
                hint="ask for JSON with response_format, or take json_only out of the route's `post`",
            )
        try:
            json.loads(text)
        except ValueError:
            return json.dumps(value, ensure_ascii=False)
        return text.strip()

    return rewrite
