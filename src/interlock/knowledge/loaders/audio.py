"""Recordings, by their transcript: a section a minute, so that a citation says when it was said."""

from __future__ import annotations

from pathlib import PurePosixPath

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.transcripts import Segment, decode_transcript
from interlock.knowledge.types import LoadedDocument

__all__ = ["AudioLoader", "plugin"]

_SECTION_S = 60.0
_PAUSE_S = 2.0
"""A pause that ends a paragraph."""


class AudioLoader:
    """Reads what :func:`~interlock.knowledge.transcripts.encode_transcript` writes.

    It claims no suffix: recordings are read where a collection's `transcription` names a model.
    """

    version = "audio/1"
    isolated = False
    suffixes: frozenset[str] = frozenset()

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        transcript = decode_transcript(data, name)
        stem = PurePosixPath(name).stem
        builder = TextBuilder(name, f"{transcript.kind}/*")
        said = [segment for segment in transcript.segments if segment.text.strip()]
        if said:
            _add(builder, said)
        else:
            builder.add("paragraph", transcript.text)
        if builder.is_empty:
            raise InvalidInput(f"nothing is said in the recording {name!r}", param=name, code="nothing_said")
        metadata = {"duration": _clock(transcript.seconds)} if transcript.seconds else {}
        return builder.build(title=stem, metadata=metadata)


def _add(builder: TextBuilder, said: list[Segment]) -> None:
    section, words, ended = -_SECTION_S, list[str](), 0.0
    for segment in said:
        begins_section = segment.start_s - section >= _SECTION_S
        if words and (begins_section or segment.start_s - ended > _PAUSE_S):
            builder.add("paragraph", " ".join(words))
            words = []
        if begins_section:
            section = segment.start_s
            builder.heading(_clock(section), 1)
        words.append(" ".join(segment.text.split()))
        ended = segment.end_s
    builder.add("paragraph", " ".join(words))


def _clock(seconds: float) -> str:
    """``4:05``, ``1:04:05``."""
    whole = int(seconds)
    minutes = f"{whole // 60 % 60:02}" if whole >= 3600 else str(whole // 60)
    return f"{f'{whole // 3600}:' if whole >= 3600 else ''}{minutes}:{whole % 60:02}"


plugin = AudioLoader()
