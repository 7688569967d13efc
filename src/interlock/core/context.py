"""Who is asking, for whom, until when, under which trace. Every call of a part takes one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple

from interlock.core.clock import Deadline, now_ns
from interlock.core.errors import Forbidden, InterlockError
from interlock.core.ids import KeyId, PrincipalId, SpanId, TenantId, TraceId, new_id, new_span_id, new_trace_id
from interlock.core.trace import AttributeValue, NullSink, Span, SpanSink

__all__ = ["PUBLIC", "ROLE_ORDER", "Context", "EndUser", "Notices", "OpenSpan", "Principal", "Role"]

PUBLIC = "public"
"""The one reader everybody has. A document readable by nobody lists no readers at all."""


class Role(StrEnum):
    """What a principal may do; a principal may hold several."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    DEVELOPER = "developer"
    OPERATOR = "operator"
    RISK = "risk"
    AUDITOR = "auditor"
    ADMIN = "admin"


ROLE_ORDER: tuple[Role, ...] = tuple(Role)


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller: a service by its API key, a person by a console session, or the local owner."""

    id: PrincipalId
    kind: str
    """``service``, ``user`` or ``local``."""
    roles: frozenset[Role] = frozenset()
    key_id: KeyId | None = None

    def has(self, *roles: Role) -> bool:
        """True when the principal holds one of `roles`, or is an admin."""
        return Role.ADMIN in self.roles or bool(self.roles & set(roles))


@dataclass(frozen=True, slots=True)
class EndUser:
    """The person behind the calling service, proven by a signed on-behalf-of token."""

    id: str
    groups: frozenset[str] = frozenset()
    purpose: str | None = None


@dataclass(slots=True)
class Notices:
    """What parts tell the face about one request: for the head of its answer and its line in the access log."""

    model: str = ""
    """As the caller asked for it."""
    near: dict[str, None] = field(default_factory=dict)
    """Names of limits that are past their warning line, in the order they were met."""
    quota: Callable[[], Mapping[str, str]] | None = None
    """Gives ``x-ratelimit-…`` headers about the tightest limits of the request's latest try."""
    target: str = ""
    """``provider/model`` that served last; empty when none did."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int | None = 0
    """Nano-dollars of all calls that served; None when one of them is unpriced."""

    def charge(self, target: str, input_tokens: int, output_tokens: int, cost_nano: int | None) -> None:
        """Add one served call."""
        self.target = target
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cost_nano = None if cost_nano is None or self.cost_nano is None else self.cost_nano + cost_nano


class OpenSpan(NamedTuple):
    """A span that is being timed, and the context whose spans become its children."""

    span: Span
    ctx: Context


@dataclass(frozen=True, slots=True)
class Context:
    """Travels with one request through every floor. Immutable; derive with the ``with_`` methods."""

    tenant: TenantId
    principal: Principal
    end_user: EndUser | None = None
    conversation: str | None = None
    deadline: Deadline = field(default_factory=lambda: Deadline.after(120.0))
    request_id: str = field(default_factory=lambda: new_id("req"))
    trace_id: TraceId = field(default_factory=new_trace_id)
    parent_span: SpanId | None = None
    sink: SpanSink = field(default_factory=NullSink, repr=False)
    notices: Notices = field(default_factory=Notices, repr=False, compare=False)
    """Shared by all contexts derived from this one."""
    cache: Literal["use", "refresh", "no-store"] = "use"
    """What the caller wants of kept answers: to be given one, a new one that is kept, or a new one that is not."""

    @property
    def readers(self) -> frozenset[str]:
        """What this caller can read as: ``public``, and with a proven end user ``user:ID`` and ``group:NAME``."""
        if self.end_user is None:
            return frozenset({PUBLIC})
        return frozenset({PUBLIC, f"user:{self.end_user.id}", *(f"group:{g}" for g in self.end_user.groups)})

    @property
    def assignment_unit(self) -> str:
        """What sticky assignment hashes: the end user, else the conversation, else the calling key."""
        if self.end_user is not None:
            return f"user:{self.end_user.id}"
        if self.conversation is not None:
            return f"conversation:{self.conversation}"
        return f"key:{self.principal.key_id or self.principal.id}"

    def on_behalf_of(self, user: EndUser, conversation: str | None = None) -> Context:
        """The same caller, acting for `user`. Only :mod:`interlock.access` and the CLI's local owner may call it."""
        return replace(self, end_user=user, conversation=conversation or self.conversation)

    def with_deadline(self, deadline: Deadline) -> Context:
        """The same request with the earlier of both deadlines."""
        return replace(self, deadline=min(self.deadline, deadline, key=lambda d: d.at))

    def require(self, *roles: Role) -> None:
        """Raise :class:`Forbidden` unless the principal holds one of `roles` (or is an admin)."""
        if not self.principal.has(*roles):
            wanted = " or ".join(sorted(roles))
            raise Forbidden(
                f"this needs the role {wanted}",
                hint="ask an admin of your tenant to grant it, or use a key that has it",
            )

    @contextmanager
    def span(self, name: str, /, **attributes: AttributeValue) -> Iterator[OpenSpan]:
        """Time a step. Emitted on every exit, with the error's code or `cancelled` as its status."""
        span = Span(self.trace_id, new_span_id(), self.parent_span, self.tenant, name, now_ns())
        span.attributes.update(attributes)
        try:
            yield OpenSpan(span, replace(self, parent_span=span.span_id))
        except InterlockError as error:
            span.status, span.error = "error", error.code
            raise
        except (asyncio.CancelledError, GeneratorExit):
            span.status, span.error = "cancelled", "client_left"
            raise
        except BaseException:
            span.status, span.error = "error", "internal_error"
            raise
        finally:
            span.end_ns = now_ns()
            self.sink.emit(span)
