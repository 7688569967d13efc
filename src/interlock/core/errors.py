"""The error tree. Every error a user can meet derives from :class:`InterlockError`.

::

    InterlockError                 500  internal_error
    ├── InvalidInput               400  invalid_request        names the field
    │   ├── TooLarge               413  request_too_large
    │   └── UnsupportedMediaType   415  unsupported_media_type
    ├── Unauthenticated            401  invalid_api_key
    ├── Forbidden                  403  permission_denied
    ├── NotFound                   404  not_found
    ├── Conflict                   409  conflict
    ├── Blocked                    403  blocked_by_policy      a guardrail stopped it
    ├── LimitExceeded              429  rate_limit_exceeded
    │   └── BudgetExceeded         429  insufficient_quota
    ├── DeadlineExceeded           504  deadline_exceeded
    ├── Unavailable                503  unavailable            something this needs is missing or down
    │   ├── MissingExtra           503  missing_extra          a library that an extra installs
    │   ├── ModelMissing           503  model_missing          weights that `interlock models fetch` gets
    │   └── StorageFull            507  storage_full
    ├── ProviderError              502  provider_error         an upstream model answered with an error
    └── Misconfigured              500  misconfigured          names the setting
"""

from __future__ import annotations

__all__ = [
    "Blocked",
    "BudgetExceeded",
    "Conflict",
    "DeadlineExceeded",
    "Forbidden",
    "InterlockError",
    "InvalidInput",
    "LimitExceeded",
    "Misconfigured",
    "MissingExtra",
    "ModelMissing",
    "NotFound",
    "ProviderError",
    "StorageFull",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
]


class InterlockError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what happened, naming the thing with ``!r``; never a secret, never user text.
        hint: what to do next, as a command or a setting where one exists.
        param: the input field at fault, as the caller wrote it.
        code: overrides the class's stable machine code.
        retryable: overrides the class's answer to "may the same call succeed later?".
        retry_after_s: seconds to wait before trying again, when known.
    """

    code: str = "internal_error"
    status: int = 500
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidInput(InterlockError):
    """The caller sent something that cannot be understood; `param` names the field."""

    code = "invalid_request"
    status = 400


class TooLarge(InvalidInput):
    """Input over a documented bound."""

    code = "request_too_large"
    status = 413


class UnsupportedMediaType(InvalidInput):
    """The body is of a type that is not read here."""

    code = "unsupported_media_type"
    status = 415


class Unauthenticated(InterlockError):
    """No key, a wrong, expired or revoked key, or a token that does not verify."""

    code = "invalid_api_key"
    status = 401


class Forbidden(InterlockError):
    """Known caller, not allowed to do this."""

    code = "permission_denied"
    status = 403


class NotFound(InterlockError):
    """The named thing does not exist for this tenant and caller."""

    code = "not_found"
    status = 404


class Conflict(InterlockError):
    """The thing changed or exists already."""

    code = "conflict"
    status = 409


class Blocked(InterlockError):
    """A guardrail policy stopped the request or the answer."""

    code = "blocked_by_policy"
    status = 403


class LimitExceeded(InterlockError):
    """A rate or concurrency limit; see `retry_after_s`."""

    code = "rate_limit_exceeded"
    status = 429
    retryable = True


class BudgetExceeded(LimitExceeded):
    """A money budget has too little left for this call's estimate."""

    code = "insufficient_quota"
    retryable = False


class DeadlineExceeded(InterlockError):
    """The caller's deadline or a configured timeout passed."""

    code = "deadline_exceeded"
    status = 504
    retryable = True


class Unavailable(InterlockError):
    """Something this call needs is missing or down."""

    code = "unavailable"
    status = 503
    retryable = True


class MissingExtra(Unavailable):
    """A library that an extra of this package installs is not here."""

    code = "missing_extra"
    retryable = False


class ModelMissing(Unavailable):
    """Model weights that are not on this machine."""

    code = "model_missing"
    retryable = False


class StorageFull(Unavailable):
    """The disk under a store is full; nothing was half-written."""

    code = "storage_full"
    status = 507
    retryable = False


class ProviderError(InterlockError):
    """An upstream model provider answered with an error or broke off.

    Args:
        provider: plug-in or configured provider name.
        upstream_status: the HTTP status it gave, None when the connection failed.
    """

    code = "provider_error"
    status = 502

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        upstream_status: int | None = None,
        retryable: bool = False,
        hint: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code, retryable=retryable, retry_after_s=retry_after_s)
        self.provider = provider
        self.upstream_status = upstream_status


class Misconfigured(InterlockError):
    """A setting is wrong; `param` is its dotted name."""

    code = "misconfigured"
