"""An OpenFeature provider: flags, releases, channels and arms of a running Interlock. Needs `interlock[openfeature]`.

>>> from openfeature import api                                                          # doctest: +SKIP
>>> from interlock.client.openfeature import InterlockProvider                           # doctest: +SKIP
>>> api.set_provider(InterlockProvider("http://127.0.0.1:8321", api_key="il_…"))         # doctest: +SKIP
>>> api.get_client().get_boolean_value("support.long_answers", False)                    # doctest: +SKIP

Every evaluation asks the server (`POST /ofrep/v1/evaluate/flags/KEY`), so a rollback is seen by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.hook import Hook
from openfeature.provider import AbstractProvider, Metadata

__all__ = ["InterlockProvider"]

T = TypeVar("T")
_CODES = {code.value: code for code in ErrorCode}
_REASONS = {reason.value: reason for reason in Reason}


class InterlockProvider(AbstractProvider):
    """Asks a running Interlock. What cannot be had is an error of the flag, and the code's own value stays.

    Args:
        hooks: run around every evaluation through this provider.
        on_behalf_of: a signed token of the end user, where the targeting key is to be nobody else.
        timeout_s: of one evaluation.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8321",
        *,
        api_key: str | None = None,
        on_behalf_of: str | None = None,
        hooks: Sequence[Hook] = (),
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__()
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        if on_behalf_of is not None:
            headers["x-interlock-on-behalf-of"] = on_behalf_of
        at = base_url.rstrip("/").removesuffix("/v1")
        self._http = httpx2.Client(base_url=at, headers=headers, timeout=timeout_s)
        self._http_async: httpx2.AsyncClient | None = None
        self._open_async: Callable[[], httpx2.AsyncClient] = lambda: httpx2.AsyncClient(
            base_url=at, headers=headers, timeout=timeout_s
        )
        self._hooks = list(hooks)

    def get_metadata(self) -> Metadata:
        """Its name."""
        return Metadata("Interlock")

    def get_provider_hooks(self) -> list[Hook]:
        """Those that it was given."""
        return list(self._hooks)

    def shutdown(self) -> None:
        """Close the connections of synchronous calls; those of asynchronous ones close with `aclose`."""
        self._http.close()

    async def aclose(self) -> None:
        """Close all connections."""
        self._http.close()
        if self._http_async is not None:
            await self._http_async.aclose()

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """A flag that is true or false."""
        return self._ask(flag_key, default_value, evaluation_context, _boolean)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """A text: also a release, a channel, an arm."""
        return self._ask(flag_key, default_value, evaluation_context, _text)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """A whole number."""
        return self._ask(flag_key, default_value, evaluation_context, _whole)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """A number."""
        return self._ask(flag_key, default_value, evaluation_context, _number)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """An object."""
        return self._ask(flag_key, default_value, evaluation_context, _object)

    async def resolve_boolean_details_async(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """A flag that is true or false."""
        return await self._ask_async(flag_key, default_value, evaluation_context, _boolean)

    async def resolve_string_details_async(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """A text: also a release, a channel, an arm."""
        return await self._ask_async(flag_key, default_value, evaluation_context, _text)

    async def resolve_integer_details_async(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """A whole number."""
        return await self._ask_async(flag_key, default_value, evaluation_context, _whole)

    async def resolve_float_details_async(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """A number."""
        return await self._ask_async(flag_key, default_value, evaluation_context, _number)

    async def resolve_object_details_async(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """An object."""
        return await self._ask_async(flag_key, default_value, evaluation_context, _object)

    # Any: a decoded value, before its type is looked at.
    def _ask(
        self, key: str, default: T, context: EvaluationContext | None, read: Callable[[Any], T | None]
    ) -> FlagResolutionDetails[T]:
        try:
            response = self._http.post(_path(key), json=_body(context))
        except httpx2.HTTPError as error:
            return _unreachable(default, error)
        return _read(response, default, read)

    async def _ask_async(
        self, key: str, default: T, context: EvaluationContext | None, read: Callable[[Any], T | None]
    ) -> FlagResolutionDetails[T]:
        if self._http_async is None:
            self._http_async = self._open_async()
        try:
            response = await self._http_async.post(_path(key), json=_body(context))
        except httpx2.HTTPError as error:
            return _unreachable(default, error)
        return _read(response, default, read)


def _path(key: str) -> str:
    return f"/ofrep/v1/evaluate/flags/{quote(key, safe='')}"


def _body(context: EvaluationContext | None) -> dict[str, Any]:  # Any: JSON values
    if context is None:
        return {"context": {}}
    told = {name: _plain(value) for name, value in context.attributes.items()}
    return {"context": told | ({"targetingKey": context.targeting_key} if context.targeting_key else {})}


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _read(response: httpx2.Response, default: T, read: Callable[[Any], T | None]) -> FlagResolutionDetails[T]:
    try:
        body = response.json()
        assert isinstance(body, dict)
    except (ValueError, AssertionError):
        return _failed(default, ErrorCode.PARSE_ERROR, f"the server answered {response.status_code}, and no JSON")
    if response.status_code >= 400:
        code = _CODES.get(str(body.get("errorCode")), ErrorCode.GENERAL)
        told = body.get("errorDetails") or (body.get("error") or {}).get("message")
        return _failed(default, code, str(told or f"the server answered {response.status_code}"))
    reason = str(body.get("reason", "UNKNOWN"))
    metadata = body.get("metadata") or {}
    if "value" not in body:
        # The server leaves it to the code.
        return FlagResolutionDetails(default, reason=_REASONS.get(reason, reason), flag_metadata=metadata)
    value = read(body["value"])
    if value is None:
        return _failed(default, ErrorCode.TYPE_MISMATCH, f"the flag is a {type(body['value']).__name__}")
    return FlagResolutionDetails(
        value, reason=_REASONS.get(reason, reason), variant=body.get("variant"), flag_metadata=metadata
    )


def _unreachable(default: T, error: Exception) -> FlagResolutionDetails[T]:
    return _failed(default, ErrorCode.GENERAL, f"Interlock cannot be reached: {type(error).__name__}")


def _failed(default: T, code: ErrorCode, told: str) -> FlagResolutionDetails[T]:
    return FlagResolutionDetails(default, error_code=code, error_message=told, reason=Reason.ERROR)


# Any below: a decoded value, before its type is looked at.
def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _object(value: Any) -> Mapping[str, FlagValueType] | None:
    return value if isinstance(value, dict) else None
