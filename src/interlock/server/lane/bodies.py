"""What the lane reads of requests and answers, and the few bytes of them that it changes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from interlock.core.messages import Usage, count_of
from interlock.gateway.ports import Forwarding
from interlock.gateway.types import RouteSpec
from interlock.server.lane.shapes import anthropic_parts_fit, chat_parts_fit, codec_takes

__all__ = ["WIRES", "Scan", "Sent", "StreamFailed", "Wire", "spliced"]

# Any in this module: JSON objects of foreign services.
_MAX_EVENT_BYTES = 8_000_000
_TokenLimit = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_Raw = msgspec.Raw
_Field = _Raw | UnsetType


@dataclass(slots=True)
class Sent:
    """What was read of a request that the lane can forward."""

    model: str
    stream: bool
    wants_usage: bool
    limit: int | None
    """Output tokens asked for."""
    # Any: the wire's own struct, read back by the wire alone.
    given: Any


class StreamFailed(Exception):
    """The upstream told of an error inside its stream."""

    def __init__(self, error: object) -> None:
        super().__init__("an error inside a stream")
        self.error = error


_BROKEN = (StreamFailed, msgspec.DecodeError, UnicodeDecodeError)


class Scan(Protocol):
    """Follows a streamed answer."""

    usage: Usage | None
    events: int
    """Events so far: about as many tokens, where nothing better is known."""
    ended: bool
    """True once its last event came."""
    failure: Exception | None
    """Why nothing of the stream is of use any more: the upstream told of an error, or an event is no JSON."""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole, without those that the caller did not ask for; the rest waits for its end.

        What stands before a `failure` is still given. Raises: OverflowError: an event without end.
        """


class Wire(Protocol):
    """One API that both sides speak."""

    name: str
    operation: str
    """OpenTelemetry's name of the operation; the root span has it too."""
    action: str
    """In the audit log."""
    extends: bool
    """Answers carry our field ``interlock``."""

    def read(self, body: bytes) -> Sent | None:
        """None: not for the lane, because it is wrong, unusual, or would have to be translated."""

    def outgoing(self, body: bytes, sent: Sent, model: str, to: Forwarding, route: RouteSpec) -> bytes | None:
        """The body for a target that calls the model `model`; None when it must be translated."""

    def usage(self, body: bytes) -> Usage | None:
        """Usage of a whole answer, None when it tells none. Raises: msgspec.DecodeError: it is no answer."""

    def scan(self, sent: Sent, extension: Callable[[Usage], bytes]) -> Scan:
        """Follow a stream.

        Args:
            extension: the JSON text of the field ``interlock`` for an event that tells the usage.
        """


def spliced(body: bytes, extension: bytes) -> bytes:
    """A JSON object with one more field at its end, ``interlock``."""
    end = body.rstrip()
    return b'%b,"interlock":%b}' % (end[:-1], extension) if end.endswith(b"}") else body


def _holds(content: msgspec.Raw, *marks: bytes) -> bool:
    """True when a content of several parts has one of `marks` in it."""
    if bytes(memoryview(content)[:1]) != b"[":
        return False
    data = bytes(content)
    return any(mark in data for mark in marks)


def _wants_marks(body: bytes, to: Forwarding, route: RouteSpec) -> bool:
    """True when the ordinary path might mark the prompt for the provider's cache."""
    return bool(to.marks_from) and route.prompt_cache and len(body) >= to.marks_from and b'"cache_control"' not in body


_encode = msgspec.json.Encoder().encode


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a body that is none raises; the ordinary path says what is wrong with it."""


# OpenAI: chat completions and embeddings.


class _StreamOptions(msgspec.Struct, omit_defaults=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Turn(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: _Field = UNSET
    name: _Field = UNSET
    tool_calls: _Field = UNSET
    tool_call_id: _Field = UNSET
    refusal: _Field = UNSET


class _Chat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Fields whose meaning is the same on both sides. Another one sends the request the long way round.

    It is decoded once and encoded again: a text of megabytes is passed over once, and no field can hide behind
    another of the same name.
    """

    model: str
    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1, max_length=2_000)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _TokenLimit | None = None
    max_completion_tokens: _TokenLimit | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    n: int | None = None
    stop: _Field = UNSET
    seed: int | None = None
    tools: _Field = UNSET
    tool_choice: _Field = UNSET
    parallel_tool_calls: bool | None = None
    response_format: _Field = UNSET
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: _Field = UNSET
    user: Annotated[str, msgspec.Meta(max_length=512)] | None = None
    safety_identifier: Annotated[str, msgspec.Meta(max_length=512)] | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    verbosity: str | None = None


_RARE_CHAT = (
    "tools", "tool_choice", "response_format", "stop", "logit_bias", "reasoning_effort", "logprobs", "top_logprobs",
    "parallel_tool_calls", "service_tier", "verbosity", "prompt_cache_key",
)  # fmt: skip
"""Fields that are not read here, and that most requests do without."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _OutputDetails | None = None
    reasoning_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None


class _Choice(msgspec.Struct):
    message: dict[str, _Raw]


class _Reply(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


class _Vectors(msgspec.Struct):
    data: Annotated[list[_Raw], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


class _Chunk(msgspec.Struct):
    usage: _Usage | None = None
    choices: list[_Raw] | None = None
    error: Any = None


_read_chat = msgspec.json.Decoder(_Chat).decode
_read_reply = msgspec.json.Decoder(_Reply).decode
_read_vectors = msgspec.json.Decoder(_Vectors).decode
_read_chunk = msgspec.json.Decoder(_Chunk).decode


def _usage(usage: _Usage | None) -> Usage | None:
    """What `wires.openai.decode_usage` makes of it."""
    if usage is None:
        return None
    inputs, outputs = usage.prompt_tokens_details, usage.completion_tokens_details
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    reasoning = (outputs.reasoning_tokens if outputs is not None else None) or usage.reasoning_tokens or 0
    if reasoning and (usage.total_tokens or 0) == prompt + completion + reasoning:
        completion += reasoning
    cached = (inputs.cached_tokens if inputs is not None else None) or usage.prompt_cache_hit_tokens
    written = 0
    if inputs is not None:
        written = inputs.cache_write_tokens or inputs.cache_creation_tokens or 0
    told = Usage(prompt, completion, cached or usage.cached_tokens or 0, reasoning, cache_write_tokens=written)
    return told if told.is_plausible else None


class _OpenAIChat:
    name = "openai.chat"
    operation = "chat"
    action = "chat.model"
    extends = True

    def read(self, body: bytes) -> Sent | None:
        """See `Wire`."""
        try:
            given = _read_chat(body)
        except _UNREADABLE:
            return None
        if given.n not in {None, 1} or (given.max_tokens is not None and given.max_completion_tokens is not None):
            return None
        if given.tools is not UNSET and _holds(given.tools, b'"custom"'):
            # Tools of free text travel as functions.
            return None
        try:
            for turn in given.messages:
                # Bytes of an image are not tokens, which the estimate takes all bytes for.
                if turn.content is not UNSET and _holds(turn.content, b"base64,"):
                    return None
                if not chat_parts_fit(turn.role, turn.content, turn.tool_calls):
                    return None
        except _UNREADABLE:
            return None
        rare = {
            name: value for name in _RARE_CHAT if (value := getattr(given, name)) is not UNSET and value is not None
        }
        if rare and not codec_takes(self.name, rare):
            return None
        options = given.stream_options
        return Sent(
            given.model,
            bool(given.stream),
            options is not None and bool(options.include_usage),
            given.max_completion_tokens or given.max_tokens,
            given,
        )

    def outgoing(self, body: bytes, sent: Sent, model: str, to: Forwarding, route: RouteSpec) -> bytes | None:
        """See `Wire`."""
        given: _Chat = sent.given
        if _wants_marks(body, to, route):
            return None
        if given.reasoning_effort is not None and not to.effort:
            return None
        if (given.tools is not UNSET and not to.tools) or (given.response_format is not UNSET and not to.json_schema):
            return None
        if (given.user is not None or given.seed is not None or given.parallel_tool_calls is not None) and not to.all:
            return None
        sampling = (given.temperature, given.top_p, given.frequency_penalty, given.presence_penalty)
        if to.fixed_sampling and any(value is not None for value in sampling):
            return None
        field = to.limit_field
        if sent.limit is not None and getattr(given, field, None) is None:
            return None
        if route.seed is not None and given.seed is None:
            if not to.all:
                return None
            given.seed = route.seed
        given.model = model
        limit = route.limit(sent.limit)
        if limit is not None:
            setattr(given, field, limit)
        if sent.stream and not sent.wants_usage and to.usage_on_request:
            given.stream_options = _StreamOptions(include_usage=True)
        if not to.fixed_sampling:
            if given.temperature is None:
                given.temperature = route.temperature
            if given.top_p is None:
                given.top_p = route.top_p
        return _encode(given)

    def usage(self, body: bytes) -> Usage | None:
        """See `Wire`."""
        try:
            return _usage(_read_reply(body).usage)
        except msgspec.DecodeError:
            return _usage(_usage_of_whole(body, "choices"))

    def scan(self, sent: Sent, extension: Callable[[Usage], bytes]) -> Scan:
        """See `Wire`."""
        return _ChatScan(sent.wants_usage, extension)


class _Embeddings(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    model: str
    input: str | list[str]
    encoding_format: str | None = None
    user: Annotated[str, msgspec.Meta(max_length=512)] | None = None


_read_embeddings = msgspec.json.Decoder(_Embeddings).decode


class _OpenAIEmbeddings:
    name = "openai.embeddings"
    operation = "embeddings"
    action = "embeddings.create"
    extends = False

    def read(self, body: bytes) -> Sent | None:
        """See `Wire`."""
        try:
            given = _read_embeddings(body)
        except _UNREADABLE:
            return None
        texts = [given.input] if isinstance(given.input, str) else given.input
        if not 0 < len(texts) <= 2048 or "" in texts or given.encoding_format not in {None, "float", "base64"}:
            return None
        return Sent(given.model, False, False, 0, given)

    def outgoing(self, body: bytes, sent: Sent, model: str, to: Forwarding, route: RouteSpec) -> bytes | None:
        """See `Wire`."""
        if not to.embeddings or (sent.given.encoding_format == "base64" and not to.all):
            return None
        given: _Embeddings = sent.given
        given.model = model
        return _encode(given)

    def usage(self, body: bytes) -> Usage | None:
        """See `Wire`."""
        try:
            return _usage(_read_vectors(body).usage)
        except msgspec.DecodeError:
            return _usage(_usage_of_whole(body, "data"))

    def scan(self, sent: Sent, extension: Callable[[Usage], bytes]) -> Scan:
        """See `Wire`."""
        raise AssertionError("embeddings are not streamed")


class _Events:
    """Cuts a stream where its events end."""

    __slots__ = ("_held", "ended", "events", "failure", "usage")

    def __init__(self) -> None:
        self._held = b""
        self.failure: Exception | None = None
        self.usage: Usage | None = None
        self.events = 0
        self.ended = False

    def whole(self, data: bytes) -> bytes:
        """The events of `data` that are whole; the rest waits."""
        if self._held:
            data = self._held + data
            self._held = b""
        if data.endswith((b"\n\n", b"\r\n\r\n")):
            return data
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4)
        if end < 4:
            end = 2 if data[:2] == b"\n\n" else 0
        self._held = data[end:]
        if len(self._held) > _MAX_EVENT_BYTES:
            raise OverflowError("an event without end")
        return data[:end]


_EVENT_END = re.compile(rb"\r\n\r\n|\n\n")


def _data_of(event: bytes) -> bytes | None:
    """The data of an event that ends with an empty line; None when it has none: a comment."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines = [found[1] for found in _DATA.finditer(event)]
    return b"\n".join(lines) if lines else None


_DATA = re.compile(rb"^data:[ ]?([^\r\n]*)\r?$", re.MULTILINE)


def _chunk_of(data: bytes) -> _Chunk:
    try:
        return _read_chunk(data)
    except msgspec.DecodeError:
        chunk = _mended(data)
        told = msgspec.convert({name: chunk[name] for name in ("usage", "error") if name in chunk}, _Chunk)
        told.choices = [_Raw(b"{}")] if chunk.get("choices") else None
        return told


def _event_of(data: bytes) -> _AnthropicEvent:
    try:
        return _read_event(data)
    except msgspec.DecodeError:
        return msgspec.convert(_mended(data), _AnthropicEvent)


def _mended(data: bytes) -> dict[str, Any]:
    """An object that only a lenient reader takes: half of a character stands in it, as its JSON may say.

    Raises: msgspec.DecodeError: it is no JSON object at all.
    """
    try:
        found = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    if not isinstance(found, dict):
        raise msgspec.DecodeError("no object")
    return found


def _usage_of_whole(body: bytes, holder: str) -> _Usage | None:
    answer = _mended(body)
    if not isinstance(answer.get(holder), list) or not answer[holder]:
        raise msgspec.DecodeError(f"no {holder}")
    return msgspec.convert(answer.get("usage"), _Usage | None)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class _ChatScan(_Events):
    __slots__ = ("_extension", "_finished", "_wanted")

    def __init__(self, wanted: bool, extension: Callable[[Usage], bytes]) -> None:
        super().__init__()
        self._wanted = wanted
        self._extension = extension
        self._finished = False

    def feed(self, data: bytes) -> bytes:
        """See `Scan`."""
        data = self.whole(data)
        out, at = b"", 0
        for end in _EVENT_END.finditer(data):
            stop = end.end()
            # Nearly always there is one.
            event = data if at == 0 and stop == len(data) else data[at:stop]
            try:
                told = self._event(event)
            except _BROKEN as error:
                self.failure = error
                break
            out = out + told if out else told
            at = stop
        return out

    def _event(self, event: bytes) -> bytes:
        data = _data_of(event)
        if data is None:
            return event
        if data == b"[DONE]":
            self.ended = True
            return event
        self.events += 1
        chunk = _chunk_of(data)
        if chunk.error:
            raise StreamFailed(chunk.error)
        if chunk.usage is None:
            return event
        self.usage = _usage(chunk.usage) or self.usage
        if chunk.choices:
            return event
        if not self._wanted or self.usage is None:
            # Ours to know: the caller did not ask for it.
            return b""
        return b"data: %b\n\n" % spliced(data, self._extension(self.usage))


# Anthropic: messages.


class _AnthropicTurn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["user", "assistant"]
    content: _Raw


class _Messages(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    model: str
    messages: Annotated[list[_AnthropicTurn], msgspec.Meta(min_length=1, max_length=2_000)]
    max_tokens: _TokenLimit
    system: _Field = UNSET
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: int | None = None
    stop_sequences: _Field = UNSET
    tools: _Field = UNSET
    tool_choice: _Field = UNSET
    thinking: _Field = UNSET
    service_tier: str | None = None


_RARE_MESSAGES = ("tools", "tool_choice", "thinking", "stop_sequences")


class _AnthropicReply(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _AnthropicWhole(msgspec.Struct):
    type: Literal["message"]
    content: list[_Raw]
    usage: dict[str, Any] | None = None


class _AnthropicEvent(msgspec.Struct):
    type: str = ""
    message: _AnthropicReply | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_read_messages = msgspec.json.Decoder(_Messages).decode
_read_anthropic = msgspec.json.Decoder(_AnthropicWhole).decode
_read_event = msgspec.json.Decoder(_AnthropicEvent).decode


def _anthropic_usage(usage: Mapping[str, Any] | None) -> Usage | None:
    if not usage:
        return None
    read, written = count_of(usage.get("cache_read_input_tokens")), count_of(usage.get("cache_creation_input_tokens"))
    told = Usage(
        count_of(usage.get("input_tokens")) + read + written,
        count_of(usage.get("output_tokens")),
        read,
        count_of((usage.get("output_tokens_details") or {}).get("thinking_tokens")),
        cache_write_tokens=written,
    )
    return told if told.is_plausible else None


class _AnthropicMessages:
    name = "anthropic.messages"
    operation = "chat"
    action = "chat.model"
    extends = True

    def read(self, body: bytes) -> Sent | None:
        """See `Wire`."""
        try:
            given = _read_messages(body)
        except _UNREADABLE:
            return None
        try:
            for turn in given.messages:
                if _holds(turn.content, b'"base64"', b'"file_id"') or not anthropic_parts_fit(turn.content):
                    return None
        except _UNREADABLE:
            return None
        rare = {name: value for name in _RARE_MESSAGES if (value := getattr(given, name)) is not UNSET}
        if given.service_tier is not None:
            rare["service_tier"] = given.service_tier
        if rare:
            # A thinking budget must be below the limit.
            rare["max_tokens"] = given.max_tokens
            if not codec_takes(self.name, rare):
                return None
        return Sent(given.model, bool(given.stream), True, given.max_tokens, given)

    def outgoing(self, body: bytes, sent: Sent, model: str, to: Forwarding, route: RouteSpec) -> bytes | None:
        """See `Wire`."""
        given: _Messages = sent.given
        if _wants_marks(body, to, route):
            return None
        if given.tools is not UNSET and not to.tools:
            return None
        if to.fixed_sampling and (given.temperature is not None or given.top_p is not None):
            return None
        given.model = model
        given.max_tokens = route.limit(given.max_tokens) or given.max_tokens
        if not to.fixed_sampling and route.temperature is not None and given.temperature is None:
            given.temperature = min(route.temperature, 1.0)
        if not to.fixed_sampling and given.top_p is None:
            given.top_p = route.top_p
        return _encode(given)

    def usage(self, body: bytes) -> Usage | None:
        """See `Wire`."""
        try:
            return _anthropic_usage(_read_anthropic(body).usage)
        except msgspec.DecodeError:
            answer = _mended(body)
            if not isinstance(answer.get("content"), list):
                raise
            answer["content"] = []
            return _anthropic_usage(msgspec.convert(answer, _AnthropicWhole).usage)

    def scan(self, sent: Sent, extension: Callable[[Usage], bytes]) -> Scan:
        """See `Wire`."""
        return _AnthropicScan()


class _AnthropicScan(_Events):
    __slots__ = ("_said",)

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, Any] = {}

    def feed(self, data: bytes) -> bytes:
        """See `Scan`."""
        data = self.whole(data)
        at = 0
        for end in _EVENT_END.finditer(data):
            told = _data_of(data[at : end.end()])
            try:
                if told is not None:
                    self._event(told)
            except _BROKEN as error:
                self.failure = error
                return data[:at]
            at = end.end()
        return data

    def _event(self, data: bytes) -> None:
        self.events += 1
        event = _event_of(data)
        if event.type == "message_stop":
            self.ended = True
        if event.type == "error":
            raise StreamFailed(event.error)
        said = event.message.usage if event.message is not None else event.usage
        if said:
            self._said |= {name: value for name, value in said.items() if value is not None}
            self.usage = _anthropic_usage(self._said)


WIRES: Mapping[bytes, Wire] = {
    b"/v1/chat/completions": _OpenAIChat(),
    b"/v1/embeddings": _OpenAIEmbeddings(),
    b"/v1/messages": _AnthropicMessages(),
}
"""By the address they are posted to."""
