"""Transcripts of recordings by a model of the gateway: each call is admitted, charged, traced and audited."""

from __future__ import annotations

import json
import logging
import secrets
from contextlib import aclosing
from pathlib import PurePosixPath
from typing import Any

from interlock.core.context import Context
from interlock.core.errors import InterlockError, InvalidInput, TooLarge
from interlock.flows.parts import Parts
from interlock.flows.relay import RelayHead, relay
from interlock.gateway.ports import RelayCall
from interlock.knowledge.transcripts import NOT_NOW, SUFFIXES, Segment, Transcript, TranscriptionSettings

__all__ = ["GatewayTranscriber"]

_log = logging.getLogger("interlock.knowledge")
_MAX_ANSWER = 32 * 1024 * 1024


class GatewayTranscriber:
    """One run's. Implements :class:`interlock.knowledge.transcripts.Transcriber`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ended = ""
        """Code of the error after which nothing more is asked for in this run."""

    async def transcribe(self, ctx: Context, settings: TranscriptionSettings, data: bytes, name: str) -> Transcript:
        """See `Transcriber.transcribe`."""
        if len(data) > settings.max_bytes:
            raise TooLarge(
                f"the recording {name!r} has more than {settings.max_bytes:,} bytes",
                param=name,
                hint="cut it into parts, or raise transcription.max_bytes when the model takes more",
            )
        if self._ended:
            raise _not_now(name, self._ended)
        kind = SUFFIXES.get(PurePosixPath(name).suffix.lower(), "audio")
        boundary, body = _form(settings, data, PurePosixPath(name))
        call = RelayCall("transcription", f"multipart/form-data; boundary={boundary}", body, "application/json")
        answer = bytearray()
        try:
            async with aclosing(relay(self._parts, ctx, call, settings.model)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, RelayHead):
                        continue
                    answer += piece
                    if len(answer) > _MAX_ANSWER:
                        raise InvalidInput(f"the transcript of {name!r} is too long", param=name)
        except InvalidInput as error:
            # Of this recording: damaged, or of a kind that the model does not take. The provider's words may quote it.
            raise InvalidInput(
                f"the model refused the recording {name!r}: {error.code}",
                param=name,
                code="transcription_refused",
                hint="see which formats it takes; transcription.timestamps: false is for models without times",
            ) from error
        except InterlockError as error:
            # The run goes on with its other files; asking again for each of the recordings would not help.
            _log.warning("nothing is transcribed any more in this run: %s", error.code)
            self._ended = error.code
            raise _not_now(name, error.code) from error
        return _transcript(bytes(answer), kind, name)


def _not_now(name: str, code: str) -> InvalidInput:
    return InvalidInput(
        f"the recording {name!r} could not be transcribed now: {code}",
        param=name,
        code=NOT_NOW,
        hint="the next ingest tries again; see interlock doctor for the provider",
    )


def _form(settings: TranscriptionSettings, data: bytes, path: PurePosixPath) -> tuple[str, bytes]:
    """Boundary and body of the form."""
    fields = {"model": settings.model, "response_format": "verbose_json" if settings.timestamps else "json"}
    if settings.timestamps:
        fields["timestamp_granularities[]"] = "segment"
    if settings.language:
        fields["language"] = settings.language
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    # The suffix tells the model the format; the rest of the name is nobody's business.
    file = f'name="file"; filename="recording{path.suffix.lower()}"'
    head = f"--{boundary}\r\nContent-Disposition: form-data; {file}\r\nContent-Type: application/octet-stream\r\n\r\n"
    return boundary, b"".join((*parts, head.encode(), data, f"\r\n--{boundary}--\r\n".encode()))


def _transcript(answer: bytes, kind: str, name: str) -> Transcript:
    try:
        said = json.loads(answer)
        segments = tuple(_segment(row) for row in said.get("segments") or ())
        text, language = str(said.get("text") or ""), str(said.get("language") or "")
        seconds = float(said.get("duration") or 0.0)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            f"the model's answer for the recording {name!r} is no transcript",
            param=name,
            code=NOT_NOW,
            hint="transcription.model must have OpenAI's transcription endpoint",
        ) from error
    return Transcript(kind, segments, text, language[:32], seconds)


def _segment(row: Any) -> Segment:  # Any: JSON of a provider
    start, end = float(row["start"]), float(row["end"])
    if not 0 <= start <= end < 1e7:
        raise ValueError("no times of a recording")
    return Segment(start, end, str(row["text"]))
