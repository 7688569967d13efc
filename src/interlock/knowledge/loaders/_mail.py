"""Mail as a document: subject as the heading, the people and the date as facts, the body, attachments by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.headerregistry import AddressHeader, DateHeader
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._html_reading import read_html

__all__ = ["Body", "Mail", "add_mail", "is_mail", "mail_facts", "read_mail"]

_MAX_PARTS = 2_000
_MAX_DEPTH = 50
_MAX_FACT = 1000
_QUOTED = ">"


class Body(NamedTuple):
    """A text of a message."""

    text: str
    is_html: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """One message."""

    subject: str
    sender: str
    to: str
    copied: str
    date: str
    """ISO 8601, empty when unknown."""
    bodies: tuple[Body, ...]
    """In order; of alternatives one."""
    attachments: tuple[str, ...]


def read_mail(data: bytes, name: str) -> Mail:
    """Parse one message as it travels (RFC 5322).

    Raises: InvalidInput: it has no headers, or more parts than any mail.
    """
    try:
        message = BytesParser(policy=policy.default).parsebytes(data)
    except Exception as error:
        # The standard library's parser raises what it stumbles over: ValueError, IndexError, RecursionError.
        raise InvalidInput(f"the file {name!r} is no mail", param=name, code="damaged_document") from error
    if not is_mail(message):
        raise InvalidInput(f"the file {name!r} is no mail: it has no headers", param=name, code="damaged_document")
    bodies, attachments = _parts(message, name)
    return Mail(
        subject=_header(message, "subject"),
        sender=_header(message, "from"),
        to=_header(message, "to"),
        copied=_header(message, "cc"),
        date=_date(message),
        bodies=bodies,
        attachments=attachments,
    )


def is_mail(message: EmailMessage) -> bool:
    """Whether it has the headers that every mail has."""
    known = {key.lower() for key in message.keys()}  # noqa: SIM118 - a message is no mapping
    return bool(known & {"from", "date", "message-id", "received"}) and bool(known & {"to", "subject", "date", "from"})


def _header(message: EmailMessage, key: str) -> str:
    try:
        value = message[key]
        if isinstance(value, AddressHeader):
            return squeeze(", ".join(str(address) for address in value.addresses))
        return squeeze(str(value)) if value is not None else ""
    except Exception:  # noqa: BLE001 - the library fails in many ways on headers no program wrote
        return ""


def _date(message: EmailMessage) -> str:
    try:
        value = message["date"]
        found: datetime | None = value.datetime if isinstance(value, DateHeader) else None
        if found is None and value is not None:
            found = parsedate_to_datetime(str(value))
    except Exception:  # noqa: BLE001 - as above
        return ""
    return found.isoformat() if found is not None else ""


class _Open(NamedTuple):
    depth: int
    part: EmailMessage
    choices: tuple[int, ...]
    """The alternatives that it stands in, outermost first."""


def _parts(message: EmailMessage, name: str) -> tuple[tuple[Body, ...], tuple[str, ...]]:
    """Bodies and names of attachments, over all parts, without recursion."""
    found: list[tuple[Body, tuple[int, ...]]] = []
    attachments: list[str] = []
    stack = [_Open(0, message, ())]
    count = 0
    while stack:
        depth, part, choices = stack.pop()
        count += 1
        if count > _MAX_PARTS or depth > _MAX_DEPTH:
            raise InvalidInput(
                f"the mail {name!r} has more than {_MAX_PARTS} parts or {_MAX_DEPTH} levels",
                param=name,
                code="hostile_document",
            )
        kind = part.get_content_type()
        filename = _file_name(part)
        if part.is_multipart() and not (kind == "message/rfc822" and filename):
            children = [child for child in part.iter_parts() if isinstance(child, EmailMessage)]
            within = (*choices, count) if kind == "multipart/alternative" else choices
            stack.extend(_Open(depth + 1, child, within) for child in reversed(children))
        elif filename or part.get_content_disposition() == "attachment":
            attachments.append(filename or kind)
        elif kind in {"text/plain", "text/html"}:
            content = _content(part)
            if content.strip():
                found.append((Body(content, kind == "text/html"), choices))
    # A letter in two forms is read in its plain one; a footer beside it is no other form of it.
    has_plain = {choice for body, choices in found if not body.is_html for choice in choices}
    bodies = [body for body, choices in found if not (body.is_html and has_plain.intersection(choices))]
    return tuple(bodies), tuple(attachments)


def _file_name(part: EmailMessage) -> str:
    try:
        return squeeze(part.get_filename() or "")[:200]
    except Exception:  # noqa: BLE001 - as above
        return "attachment"


def _content(part: EmailMessage) -> str:
    try:
        data = part.get_payload(decode=True)
    except Exception:  # noqa: BLE001 - as above
        return ""
    if not isinstance(data, bytes):
        return ""
    try:
        return data.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def add_mail(builder: TextBuilder, mail: Mail, *, level: int = 1) -> None:
    """Add a message: heading, a line of who wrote to whom and when, the body, the names of attachments."""
    builder.heading(mail.subject or "(no subject)", level)
    people = [("From", mail.sender), ("To", mail.to), ("Cc", mail.copied), ("Date", mail.date)]
    builder.add("paragraph", " · ".join(f"{key}: {value}" for key, value in people if value))
    for body in mail.bodies:
        if body.is_html:
            read_html(body.text, builder, level=level)
        else:
            _add_plain(builder, body.text)
    if mail.attachments:
        builder.add("paragraph", "Attachments: " + ", ".join(mail.attachments))


def _add_plain(builder: TextBuilder, text: str) -> None:
    """Paragraphs; lines quoted from an earlier mail are left out: that mail is a document of its own."""
    kept = [line for line in text.replace("\r\n", "\n").split("\n") if not line.lstrip().startswith(_QUOTED)]
    for paragraph in "\n".join(line.rstrip() for line in kept).split("\n\n"):
        builder.add("paragraph", paragraph.strip("\n"))


def mail_facts(mail: Mail) -> dict[str, str]:
    """Metadata of a document that is one mail."""
    facts = {
        "from": mail.sender,
        "to": mail.to,
        "cc": mail.copied,
        "date": mail.date,
        "attachments": ", ".join(mail.attachments),
    }
    return {key: value[:_MAX_FACT] for key, value in facts.items() if value}
