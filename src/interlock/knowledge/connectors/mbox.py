"""Mail that was exported: mbox files and EML files, each message and each attachment a document."""

from __future__ import annotations

import email
import email.policy
import hashlib
from collections.abc import AsyncIterator, Iterator
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self, cast

from anyio import to_thread
from pydantic import Field

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.connectors._markdown import document, path_part, plain
from interlock.knowledge.connectors.folder import files_below, opened, read_regular
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source, absolute

__all__ = ["MailSource", "plugin"]

_PAGE = 100
_MOST_ATTACHMENTS = 100


class MailSource(Source):
    """Messages in a folder of ``.mbox`` and ``.eml`` files, or in one such file."""

    kind: Literal["mbox"] = "mbox"
    path: str = Field(min_length=1)
    """The folder or file, relative to the file that names it"""
    attachments: bool = True
    """Take attached files as documents of their own"""

    states_readers: ClassVar[bool] = True

    def place(self) -> str:
        """The folder as it is written."""
        return self.path

    def based(self, base: Path) -> Self:
        """The same with the folder made absolute."""
        return self.model_copy(update={"path": absolute(self.path, base)})


class _Part(NamedTuple):
    item: SourceItem
    data: bytes


class _Mail:
    def __init__(self, source: MailSource, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._content: dict[str, bytes] = {}

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Always everything: an mbox file is one file, and any of its messages may be gone."""
        parts = self._parts()
        while True:
            page = await to_thread.run_sync(_take, parts)
            self._content = {part.item.source: part.data for part in page}
            yield SourcePage([part.item for part in page], complete=len(page) < _PAGE)
            if len(page) < _PAGE:
                return

    def _parts(self) -> Iterator[_Part]:
        seen: dict[str, str] = {}
        """Digest of the message by its document's path."""
        for file in self._files():
            if isinstance(file, SourceItem):
                yield _Part(file, b"")
                continue
            name, path, root = file
            if path.suffix.lower() == ".eml":
                try:
                    messages = iter([read_regular(path, name, root=root, max_bytes=self._max_bytes)])
                except TooLarge as error:
                    yield _Part(SourceItem(name, name_hint="message.md", error=error), b"")
                    continue
                folder = name.rpartition("/")[0]
            else:
                messages = _messages(path, name, root, self._max_bytes)
                folder = name
            for raw in messages:
                yield from self._unseen(raw, folder, seen)

    def _unseen(self, raw: bytes, folder: str, seen: dict[str, str]) -> Iterator[_Part]:
        """The message, unless it was there already. Another one under the same Message-ID has a path of its own."""
        digest = hashlib.sha256(raw).hexdigest()
        for mark in ("", f"~{digest[:8]}"):
            parts = self._read(raw, folder, mark)
            path = parts[0].item.source
            if path not in seen:
                seen[path] = digest
                yield from parts
                return
            if seen[path] == digest:
                return

    def _files(self) -> Iterator[tuple[str, Path, Path] | SourceItem]:
        root = Path(self._source.path)
        if root.is_file():
            named = root.resolve()
            yield root.name, named, named.parent
            return
        if not root.is_dir():
            raise InvalidInput(f"the mail folder {self._source.path!r} does not exist", param="sources.path")
        for name, path in files_below(root):
            if path.suffix.lower() not in {".mbox", ".eml", ".mbx"}:
                continue
            try:
                inside = path.resolve(strict=True).is_relative_to(root.resolve())
            except (OSError, RuntimeError):
                error = InvalidInput(f"the file {name!r} is a link to nowhere", param=name, code="unreadable_file")
                yield SourceItem(name, name_hint="message.md", error=error)
                continue
            if inside:
                yield name, path, root

    def _read(self, raw: bytes, folder: str, mark: str) -> list[_Part]:
        try:
            return list(self._of(raw, folder, mark))
        except Exception:  # noqa: BLE001 - the standard library gives up on broken mail in many ways
            name = f"{folder}/{hashlib.sha256(raw).hexdigest()[:16]}.md".lstrip("/")
            error = InvalidInput(f"the message {name!r} is broken", param=name, code="damaged_document")
            return [_Part(SourceItem(name, error=error), b"")]

    def _of(self, raw: bytes, folder: str, mark: str) -> Iterator[_Part]:
        digest = hashlib.sha256(raw).hexdigest()
        if len(raw) > self._max_bytes:
            error = TooLarge(f"a message of {folder!r} has more than {self._max_bytes} bytes", param=folder)
            yield _Part(SourceItem(f"{folder}/{digest[:16]}.md".lstrip("/"), error=error), b"")
            return
        message = email.message_from_bytes(raw, policy=email.policy.default)
        identity = _header(message, "message-id")
        name = hashlib.sha256(identity.encode()).hexdigest() if identity else digest
        path = f"{folder}/{name[:16]}{mark}.md".lstrip("/")
        subject, sender = _header(message, "subject") or "No subject", _header(message, "from")
        metadata = {"from": sender, "to": _header(message, "to"), "date": _date(message)}
        people = [
            address.lower()
            for _, address in getaddresses([_header(message, one) for one in ("from", "to", "cc")])
            if "@" in address
        ]
        readers = self._source.readers_for(people)
        facts = {key: value for key, value in metadata.items() if value}
        body, is_html = _body(message)
        if is_html:
            yield _Part(SourceItem(path, digest, readers, facts, "message.html"), body.encode("utf-8", "replace"))
        else:
            yield _Part(SourceItem(path, digest, readers, facts, "message.md"), document(subject, plain(body)))
        if self._source.attachments:
            yield from self._attached(message, path.removesuffix(".md"), readers, facts)

    def _attached(
        self, message: EmailMessage, folder: str, readers: frozenset[str] | None, facts: dict[str, str]
    ) -> Iterator[_Part]:
        for number, part in enumerate(message.iter_attachments()):
            name = (part.get_filename() or "").replace("\\", "/").rpartition("/")[2]
            payload = part.get_payload(decode=True)
            if number >= _MOST_ATTACHMENTS or not name or not isinstance(payload, bytes) or find_loader(name) is None:
                continue
            version = hashlib.sha256(payload).hexdigest()
            yield _Part(SourceItem(f"{folder}/{number}-{path_part(name)}", version, readers, facts, name), payload)

    async def fetch(self, item: SourceItem) -> bytes:
        """The message, or the attached file."""
        return self._content[item.source]

    async def aclose(self) -> None:
        """Nothing is open."""


def _take(parts: Iterator[_Part]) -> list[_Part]:
    page: list[_Part] = []
    for part in parts:
        page.append(part)
        if len(page) == _PAGE:
            break
    return page


def _messages(path: Path, name: str, root: Path, most: int) -> Iterator[bytes]:
    """Messages of an mbox file, line by line: the file may be larger than memory. Each has at most `most` + 1 bytes."""
    lines: list[bytes] = []
    size, blank, inside = 0, True, False
    try:
        with opened(path, name, root=root) as stream:
            while line := stream.readline(1_000_000):
                if blank and line.startswith(b"From "):
                    if inside:
                        yield b"".join(lines)
                    lines, size, inside = [], 0, True
                elif inside and size <= most:
                    # mboxrd: a line of the text that began with "From " was given a ">".
                    lines.append(line[1:] if line.startswith(b">") and line.lstrip(b">").startswith(b"From ") else line)
                    size += len(line)
                blank = line in {b"\n", b"\r\n"}
    except OSError as error:
        raise InvalidInput(
            f"the mail file {path.name!r} cannot be read: {error.strerror}", param="sources.path"
        ) from error
    if inside:
        yield b"".join(lines)


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except Exception:  # noqa: BLE001 - the standard library's parser of headers gives up in many ways on broken ones
        return ""


def _date(message: EmailMessage) -> str:
    try:
        return parsedate_to_datetime(_header(message, "date")).isoformat()
    except (ValueError, TypeError, IndexError):
        return ""


def _body(message: EmailMessage) -> tuple[str, bool]:
    """The text, and whether it is HTML."""
    part = message.get_body(("plain", "html"))
    if part is None:
        return "", False
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    try:
        text = data.decode(part.get_content_charset() or "utf-8", "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    return text, part.get_content_subtype() == "html"


class _Plugin:
    model = MailSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Mail(cast(MailSource, source), surroundings.max_bytes)


plugin = _Plugin()
