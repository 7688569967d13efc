# ruff: noqa: E501 - a table
"""A provider's refusal becomes the right error, and its sentences stay with us."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from interlock.core.clock import now
from interlock.core.errors import InvalidInput, LimitExceeded, NotFound, ProviderError
from interlock.gateway.failures import status_error, stream_error


def refused(status, body, **headers):
    return status_error("mine", status, {k.replace("_", "-"): v for k, v in headers.items()}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"error": {"code": "context_length_exceeded"}}, InvalidInput, "context_length_exceeded"),
        (400, {"error": {"type": "invalid_request_error", "message": "This model's maximum context length is 8"}}, InvalidInput, "context_length_exceeded"),
        (400, {"message": "Input is too long for requested model."}, InvalidInput, "context_length_exceeded"),
        (400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The input token count (9) exceeds the maximum number of tokens allowed (8)."}}, InvalidInput, "context_length_exceeded"),
        (400, {"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, InvalidInput, "content_filter"),
        (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access"}}, ProviderError, "provider_quota_exhausted"),
        (402, {"error": {"message": "pay"}}, ProviderError, "provider_quota_exhausted"),
        (429, {"error": {"code": "insufficient_quota"}}, ProviderError, "provider_quota_exhausted"),
        (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, LimitExceeded, "provider_rate_limited"),
        (400, {"__type": "com.amazon#ThrottlingException"}, LimitExceeded, "provider_rate_limited"),
        (400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}, ProviderError, "provider_error"),
        (400, {"message": "The provided model identifier is invalid."}, NotFound, "model_not_found"),
        (400, {"object": "error", "type": "invalid_model", "code": "1500"}, NotFound, "model_not_found"),
        (403, {"error": {"code": "model_not_found"}}, NotFound, "model_not_found"),
        (404, {"error": {"code": "DeploymentNotFound"}}, NotFound, "model_not_found"),
        (422, {"error": "words", "error_type": "validation"}, InvalidInput, "words"),
        (422, {"detail": [{"loc": ["body"]}]}, InvalidInput, "provider_refused_request"),
        (400, [{"error": {"status": "FAILED_PRECONDITION", "code": 400}}], InvalidInput, "FAILED_PRECONDITION"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_error(status, body, kind, code):
    error = refused(status, body)
    assert type(error) is kind
    assert error.code == code
    assert "mine" in error.message


def test_the_field_at_fault_is_named_when_it_looks_like_one():
    assert refused(400, {"error": {"code": "bad", "param": "messages[0].content"}}).param == "messages[0].content"
    assert refused(400, {"error": {"code": "bad", "param": "what Ottoline said"}}).param is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after_ms": "20", "retry_after": "9"}, 0.02),
        ({"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1m2.5s"}, 62.5),
        ({"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "20ms"}, 0.02),
        ({"x_ratelimit_remaining_tokens": "7", "x_ratelimit_reset_tokens": "20s"}, None),
        ({"retry_after": "nan"}, None),
    ],
)
def test_every_way_to_say_when_to_come_back_is_read(headers, seconds):
    assert refused(429, {}, **headers).retry_after_s == seconds


def test_the_reset_time_of_what_is_used_up_is_waited_for():
    reset = (now() + timedelta(seconds=30)).isoformat()
    error = refused(429, {}, anthropic_ratelimit_tokens_remaining="0", anthropic_ratelimit_tokens_reset=reset)
    assert 25 < error.retry_after_s <= 30


def test_googles_retry_info_is_read():
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}
    assert (
        refused(429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [detail]}}).retry_after_s == 37
    )


@pytest.mark.parametrize(
    ("error", "status", "kind", "retryable"),
    [
        ({"type": "overloaded_error"}, None, ProviderError, True),
        ({"type": "rate_limit_error"}, None, LimitExceeded, True),
        ({"type": "invalid_request_error"}, None, InvalidInput, False),
        ({"code": "503"}, None, ProviderError, True),
        ({"code": "validationException"}, 400, InvalidInput, False),
        ({"code": "modelStreamErrorException"}, 424, ProviderError, True),
        ("Ottoline was here", None, ProviderError, True),
        (None, None, ProviderError, True),
    ],
)
def test_an_error_inside_a_stream_has_its_kind(error, status, kind, retryable):
    found = stream_error("mine", error, status=status)
    assert type(found) is kind
    assert found.retryable is retryable
    assert "Ottoline" not in str(found)
