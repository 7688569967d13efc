"""``https://host/v1``: any server with OpenAI's chat completions. Options: ``model``, ``key_env``, ``max_tokens``.

Of an Interlock server the citations, the outcome and the cost are read too; cases with variables send them as its apps
take them, and other servers may refuse that field.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec

from interlock.core.errors import InvalidInput, Misconfigured, NotFound, Unauthenticated
from interlock.evals.offered import offered_tools
from interlock.evals.targets._replies import MOST_TEXT, asked, output_of
from interlock.evals.types import Call, Case, CitedSpan, Output

__all__ = ["HttpTarget", "plugin"]

_OPTIONS = ("model", "key_env", "max_tokens", "temperature")
_MOST_BODY = 4 * MOST_TEXT
_RETRY_S = 1.0
_BLOCKS = {"blocked_by_policy", "content_filter", "content_policy_violation", "guardrail_intervened"}


class HttpTarget:
    """A server elsewhere. Its answers are not kept: nobody can say when it changes."""

    identity: Mapping[str, object] = {}
    release_id = ""

    def __init__(self, base: str, options: Mapping[str, str]) -> None:
        parts = urlsplit(base)
        if not parts.hostname or parts.scheme not in {"http", "https"}:
            raise InvalidInput(f"{base!r} is no address", param="target", hint="https://host/v1")
        if parts.username or parts.password:
            raise InvalidInput(
                "an address with a password in it would end up in reports",
                param="target",
                hint="put the key into an environment variable and give its name as key_env",
            )
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown:
            raise InvalidInput(
                f"the target has no option {unknown[0]!r}", param="target", hint=f"one of {', '.join(_OPTIONS)}"
            )
        if "model" not in options:
            raise InvalidInput("say which model to ask for", param="target", hint="--option model=NAME")
        base = base.rstrip("/").removesuffix("/chat/completions")
        self._address = f"{base}/chat/completions"
        self._model = options["model"]
        self.name = f"{base}#{self._model}"
        self._settings: dict[str, Any] = {}  # Any: JSON values
        for field, convert in (("max_tokens", int), ("temperature", float)):
            if field in options:
                try:
                    self._settings[field] = convert(options[field])
                except ValueError as error:
                    raise InvalidInput(f"{field} is a number, not {options[field]!r}", param="target") from error
        headers = {}
        if variable := options.get("key_env"):
            key = os.environ.get(variable)
            if not key:
                raise Misconfigured(f"the environment variable {variable!r} is not set", param="key_env")
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(600.0, connect=10.0),
            limits=httpx2.Limits(max_connections=512),
            follow_redirects=False,
        )

    async def run(self, case: Case, repeat: int) -> Output:
        """See `Target`. Raises: Unauthenticated, NotFound: the server refuses every case alike."""
        body = {"model": self._model, "messages": asked(case, repeat)["messages"], **self._settings}
        if case.variables:
            body["interlock"] = {"variables": case.variables}
        if tools := offered_tools(case):
            body["tools"] = list(tools)
        began = time.perf_counter()
        try:
            async with self._client.stream("POST", self._address, json=body) as response:
                read = bytearray()
                async for chunk in response.aiter_bytes():
                    read += chunk
                    if len(read) > _MOST_BODY:
                        return Output(error="too_long")
        except (httpx2.HTTPError, OSError) as error:
            # The connection broke or was never made: what a server does that is being restarted.
            return Output(error=f"unreachable_{type(error).__name__}", retry_after_s=_RETRY_S)
        seconds = time.perf_counter() - began
        if response.status_code >= 400:
            return Output(outcome="refused", latency_s=seconds) if _is_block(read) else self._refused(response)
        try:
            return output_of(_output(msgspec.json.decode(bytes(read)), seconds))
        except (
            msgspec.DecodeError,
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            ValueError,
            OverflowError,
            InvalidInput,
        ):
            return Output(error="unreadable_reply")

    def _refused(self, response: httpx2.Response) -> Output:
        status = response.status_code
        if status in {401, 403}:
            raise Unauthenticated(
                f"{self.name!r} refuses the key", param="target", hint="--option key_env=VARIABLE names the one to use"
            )
        if status == 404:
            raise NotFound(
                f"{self.name!r} is not there", param="target", hint="the address ends before /chat/completions"
            )
        wait = None
        if status in {408, 409, 425, 429, 500, 502, 503, 504}:
            try:
                wait = float(response.headers.get("retry-after", _RETRY_S))
            except ValueError:
                wait = _RETRY_S
        return Output(error=f"http_{status}", retry_after_s=wait)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _is_block(body: bytes | bytearray) -> bool:
    """Whether an error is a policy's refusal: of Interlock, OpenAI, Azure and servers that speak as they do."""
    try:
        error = msgspec.json.decode(bytes(body))["error"]
        return str(error.get("code")) in _BLOCKS
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return False


def _output(body: Any, seconds: float) -> Output:  # Any: decoded JSON, narrowed field by field
    message = body["choices"][0]["message"]
    usage = body.get("usage") or {}
    facts = body.get("interlock") or {}
    cost = facts.get("cost_usd")
    return Output(
        text=message.get("content") or message.get("refusal") or "",
        outcome=str(facts.get("outcome") or ("refused" if message.get("refusal") else "")),
        citations=tuple(
            CitedSpan(
                source=str(each.get("source") or ""),
                quote=str(each.get("quote") or ""),
                start=each.get("start"),
                end=each.get("end"),
                page=each.get("page"),
                support=str(each.get("support") or ""),
            )
            for each in facts.get("citations") or ()
        ),
        calls=tuple(_call(each["function"]) for each in message.get("tool_calls") or () if "function" in each),
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        cost_nano=None if cost is None else round(float(cost) * 1e9),
        latency_s=seconds,
        model=str(facts.get("model") or body.get("model") or ""),
        trace_id=str(facts.get("trace_id") or ""),
    )


def _call(function: Mapping[str, Any]) -> Call:
    try:
        arguments = msgspec.json.decode(function.get("arguments") or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return Call(str(function["name"]), {}, failed=True)
    return Call(str(function["name"]), arguments)


class _Plugin:
    def open(self, address: str, options: Mapping[str, str]) -> HttpTarget:
        return HttpTarget(address, options)


plugin = _Plugin()
