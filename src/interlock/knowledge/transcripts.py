"""What was said in recordings: how a collection wants it written down, by whom, and how a transcript travels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from interlock.core.context import Context
from interlock.core.errors import InvalidInput

__all__ = [
    "LOADER",
    "NOT_NOW",
    "SUFFIXES",
    "Segment",
    "Transcriber",
    "Transcript",
    "TranscriptionSettings",
    "decode_transcript",
    "encode_transcript",
]

LOADER = "audio"
"""Reads transcripts; the recording itself is sent to a model before."""
NOT_NOW = "transcription_failed"
"""Code of a recording that could not be transcribed now: the next run tries again."""
SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".mp3", ".mpga", ".m4a", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aac"), "audio"),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mpeg", ".webm"), "video"),
}
"""Suffix of a recording to its kind. Which of them a model takes is its provider's matter."""

MiB = 1024 * 1024


class TranscriptionSettings(BaseModel):
    """``transcription:`` in a source file: recordings are documents too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, max_length=200)
    """A route or a provider's model of the gateway with OpenAI's transcription endpoint"""
    language: str = Field(default="", pattern=r"^([a-z]{2})?$")
    """ISO 639-1 code of what is spoken; empty lets the model find out"""
    timestamps: bool = True
    """Ask when each sentence is said. Models that give only text refuse that: set it to false for them"""
    max_bytes: int = Field(default=25 * MiB, ge=1)
    """Larger recordings fail without being sent; hosted models take 25 MiB"""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """Some words and when they were said."""

    start_s: float
    end_s: float
    text: str


class Transcript(msgspec.Struct, frozen=True):
    """What was said, in order."""

    kind: str
    """`audio` or `video`."""
    segments: tuple[Segment, ...]
    text: str = ""
    """Without times, when the model gave none."""
    language: str = ""
    seconds: float = 0.0


class Transcriber(Protocol):
    """Has a model write down what is said in a recording. One a run."""

    async def transcribe(self, ctx: Context, settings: TranscriptionSettings, data: bytes, name: str) -> Transcript:
        """Network; as long as the model takes.

        Raises: TooLarge, InvalidInput: this recording cannot be taken; with the code `NOT_NOW` another run may.
        """


def encode_transcript(transcript: Transcript) -> bytes:
    """As the loader `audio` reads it."""
    return msgspec.json.encode(transcript)


def decode_transcript(data: bytes, name: str) -> Transcript:
    """Raises: InvalidInput."""
    try:
        return msgspec.json.decode(data, type=Transcript)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"the recording {name!r} was not transcribed",
            param=name,
            hint="set transcription in the collection's file; its loader reads transcripts alone",
        ) from error
