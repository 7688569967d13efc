"""A provider's refusal -> our error tree. Machine codes are read, sentences are not repeated: they may quote a prompt.

===============================  ==========================================  ===========
the provider says                the caller gets                             tried again
===============================  ==========================================  ===========
400, 405, 422 …                  InvalidInput 400 with the provider's code   no
prompt over the context window   InvalidInput 400 context_length_exceeded    no
stopped by its content filter    InvalidInput 400 content_filter             no
401, 403                         ProviderError 502 (our key, not theirs)     no
402, out of credit               ProviderError 502 provider_quota_exhausted  no
404, an unknown model            NotFound 404 model_not_found                no
413                              TooLarge 413                                no
429                              LimitExceeded 429 provider_rate_limited     yes
408, 409, 425, 5xx               ProviderError 502                           yes
===============================  ==========================================  ===========
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from interlock.core.clock import now
from interlock.core.errors import InterlockError, InvalidInput, LimitExceeded, NotFound, ProviderError, TooLarge

__all__ = ["machine_code", "status_error", "stream_error"]

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_PARAM = re.compile(r"[A-Za-z0-9_.\[\]]{1,120}")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_LONGEST_WAIT_S = 3600.0

_QUOTA = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_error",
    "billing_not_active",
    "access_terminated",
    "exceeded_current_quota_error",
    "ServiceQuotaExceededException",
    "insufficient_balance",
    "credit_balance_too_low",
}
_FILTERED = {
    "content_filter",
    "content_policy_violation",
    "ResponsibleAIPolicyViolation",
    "moderation_blocked",
    "data_inspection_failed",
    "guardrail_violation",
}
_TOO_LONG = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length", "model_max_length"}
_UNKNOWN_MODEL = {"model_not_found", "invalid_model", "unknown_model", "model_not_available", "model_not_supported"}
_UNKNOWN_MODEL_WORDS = re.compile(
    r"model identifier is invalid|model not exist|invalid model\b|unknown model\b", re.IGNORECASE
)
_BAD_KEY = {"API_KEY_INVALID", "UnrecognizedClientException"}
_THROTTLED = {"ThrottlingException", "throttlingException", "TooManyRequestsException", "RESOURCE_EXHAUSTED"}
# Some servers say it only in words; the words are matched here and go no further.
_TOO_LONG_WORDS = re.compile(
    r"prompt is too long|maximum context length|context length of only|input is too long|context window"
    r"|input token count.{0,40}exceeds|too many (?:input )?tokens|exceeds? the (?:model's )?(?:available )?context"
    r"|inputs tokens \+ max_new_tokens|too large for model|maximum prompt length|reduce the length of",
    re.IGNORECASE,
)
_QUOTA_WORDS = re.compile(
    r"credit balance is too low|insufficient (?:balance|credits|funds)|exceeded your current quota", re.I
)

_STATUS_OF: Mapping[str, int] = {
    "invalid_request_error": 400,
    "validationException": 400,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "invalid_prompt": 400,
    "content_policy_violation": 400,
    "authentication_error": 401,
    "UNAUTHENTICATED": 401,
    "billing_error": 402,
    "permission_error": 403,
    "PERMISSION_DENIED": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "throttlingException": 429,
    "RESOURCE_EXHAUSTED": 429,
    "timeout_error": 504,
    "DEADLINE_EXCEEDED": 504,
}
"""Status of an error that comes inside a stream, by its code; what is not here passes for a failure of the server."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What is taken from a refusal."""

    code: str = ""
    param: str | None = None
    words: str = ""
    """Matched against, never repeated."""
    retry_after_s: float | None = None


def machine_code(value: object) -> str:
    """A provider's error code when it looks like one, else an empty string: sentences may quote the prompt."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    return text if _CODE.fullmatch(text) else ""


def status_error(provider: str, status: int, headers: Mapping[str, str], body: bytes) -> InterlockError:
    """The error of an answer with a failure status.

    Args:
        headers: names in lower case, or a mapping that does not care.
        body: its beginning is enough; it need not be JSON.
    """
    try:
        said = _read(json.loads(body))
    except (ValueError, RecursionError):
        said = _Said()
    # AWS names the class of the error in a header: `ThrottlingException:http://…`.
    code = said.code or machine_code((headers.get("x-amzn-errortype") or "").split(":")[0])
    wait = _retry_after_s(headers)
    return _error(
        provider,
        status,
        _Said(code, said.param, said.words, said.retry_after_s if wait is None else wait),
        where=f"answered {status}",
    )


def stream_error(provider: str, error: object, *, status: int | None = None) -> InterlockError:
    """The error of an error object inside a stream.

    Args:
        error: what stands in the stream: ``{"code": …, "type": …}``, or a code alone.
        status: when the stream says it.
    """
    said = _read({"error": error})
    known = status or _STATUS_OF.get(said.code) or (int(said.code) if re.fullmatch(r"[45]\d\d", said.code) else 500)
    return _error(provider, known, said, where="broke off its answer")


def _read(found: Any) -> _Said:
    if isinstance(found, list) and found:
        found = found[0]  # Google streams a list of objects
    if not isinstance(found, dict):
        return _Said()
    error = found.get("error")
    if isinstance(error, str):
        # Text Generation Inference: {"error": "words", "error_type": "validation"}.
        return _Said(machine_code(error) or machine_code(found.get("error_type")), None, error[:2000])
    source = error if isinstance(error, dict) else found
    listed = source.get("details")
    details = listed if isinstance(listed, list) else []
    reason, wait = "", None
    for detail in details:
        if isinstance(detail, dict):
            reason = reason or machine_code(detail.get("reason"))
            wait = _duration_s(str(detail.get("retryDelay") or "")) if "retryDelay" in detail else wait
    inner = source.get("innererror") or source.get("inner_error") or {}
    deeper = machine_code(inner.get("code")) if isinstance(inner, dict) else ""
    aws = machine_code(str(found.get("__type") or "").rsplit("#", 1)[-1])
    # Google repeats the HTTP status as its code and gives the meaning in `status`, sharper still in `reason`.
    coded = machine_code(source.get("code"))
    if coded.isdigit():
        coded = reason or machine_code(source.get("status")) or machine_code(source.get("type")) or coded
    code = deeper if deeper in _FILTERED else coded or machine_code(source.get("type")) or aws
    param = source.get("param")
    words = source.get("message") or found.get("message") or found.get("Message") or found.get("detail") or ""
    return _Said(
        code,
        param if isinstance(param, str) and _PARAM.fullmatch(param) else None,
        words[:2000] if isinstance(words, str) else "",
        wait,
    )


def _error(provider: str, status: int, said: _Said, *, where: str) -> InterlockError:
    code = said.code
    message = f"provider {provider!r} {where}" + (f" ({code})" if code else "")
    setting = f"gateway.providers.{provider}"
    if status == 402 or code in _QUOTA or (status in {400, 403, 429} and _QUOTA_WORDS.search(said.words)):
        return ProviderError(
            message,
            provider=provider,
            upstream_status=status,
            code="provider_quota_exhausted",
            hint=f"add credit to the account of {setting}, or raise its spending limit",
        )
    if status == 429 or (code in _THROTTLED and status < 500):
        return LimitExceeded(
            f"provider {provider!r} refused by its rate limit" + (f" ({code})" if code else ""),
            code="provider_rate_limited",
            retry_after_s=said.retry_after_s,
        )
    if status in {400, 413, 422} and (code in _TOO_LONG or _TOO_LONG_WORDS.search(said.words)):
        return InvalidInput(
            message,
            param="messages",
            code="context_length_exceeded",
            hint="shorten the prompt, or use a model with a longer context",
        )
    if status in {400, 403} and code in _FILTERED:
        return InvalidInput(message, param="messages", code="content_filter", hint="the provider's filter stopped it")
    if status == 404 or (
        status in {400, 403, 422} and (code in _UNKNOWN_MODEL or _UNKNOWN_MODEL_WORDS.search(said.words))
    ):
        return NotFound(
            message,
            param="model",
            code="model_not_found",
            hint="check the model's name and the provider's base_url; what it has: interlock providers test",
        )
    if code in _BAD_KEY:
        status = 401  # Google says a wrong key with 400
    if status in {401, 403}:
        what = "what the key may do" if status == 403 else "the key"
        return ProviderError(message, provider=provider, upstream_status=status, hint=f"check {what} of {setting}")
    if status == 413:
        return TooLarge(message)
    if 400 <= status < 500 and status not in {408, 409, 424, 425, 499}:
        return InvalidInput(message, param=said.param, code=code or "provider_refused_request")
    return ProviderError(
        message,
        provider=provider,
        upstream_status=status,
        retryable=status != 501,
        retry_after_s=said.retry_after_s,
    )


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by any of the headers in use, capped at an hour; milliseconds where the name says so."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (value := headers.get(name)) and re.fullmatch(r"\d+(\.\d+)?", value):
            return min(float(value) / 1000, _LONGEST_WAIT_S)
    if value := headers.get("retry-after"):
        return _http_wait_s(value)
    waits: list[float] = []
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        # Anthropic: a time; OpenAI and those after it: a duration. Only what is used up is waited for.
        left = headers.get(f"anthropic-ratelimit-{kind}-remaining")
        reset = headers.get(f"anthropic-ratelimit-{kind}-reset")
        if left == "0" and reset and (wait := _until_s(reset)) is not None:
            waits.append(wait)
        left, reset = headers.get(f"x-ratelimit-remaining-{kind}"), headers.get(f"x-ratelimit-reset-{kind}")
        if left == "0" and reset and (wait := _duration_s(reset)) is not None:
            waits.append(wait)
    return min(max(waits), _LONGEST_WAIT_S) if waits else None


def _http_wait_s(value: str) -> float | None:
    """Retry-After in either of its two forms (RFC 9110 §10.2.3)."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - now()).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S) if seconds == seconds else None  # noqa: PLR0124 (NaN)


def _until_s(value: str) -> float | None:
    try:
        at = datetime.fromisoformat(value)
        return max((at - now()).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


def _duration_s(value: str) -> float | None:
    """``37s``, ``6m0s``, ``1.5s``, ``20ms``; None for anything else."""
    match = _DURATION.fullmatch(value)
    if not value or match is None:
        return None
    hours, minutes, seconds, millis = (float(group or 0) for group in match.groups())
    return min(hours * 3600 + minutes * 60 + seconds + millis / 1000, _LONGEST_WAIT_S)
