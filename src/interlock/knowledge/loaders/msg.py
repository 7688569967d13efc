"""Outlook messages (``.msg``): MAPI properties in an OLE container [MS-OXMSG]."""

from __future__ import annotations

import codecs
import io
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders._archives import OLE
from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._mail import Body, Mail, add_mail, mail_facts
from interlock.knowledge.loaders._rtf import read_rtf
from interlock.knowledge.types import LoadedDocument

__all__ = ["MsgLoader", "plugin"]

_SUBJECT, _SENDER, _SENDER_MAIL, _TO, _CC = "0037", "0C1A", "0C1F", "0E04", "0E03"
_BODY, _HTML, _RTF = "1000", "1013", "1009"
_FILE_NAME, _SHORT_NAME = "3707", "3704"
_DELIVERED, _SUBMITTED = 0x0E06, 0x0039
_UNICODE, _BYTES, _BINARY = "001F", "001E", "0102"
_MAX_STREAM = 64 * 1024 * 1024
_MAX_ATTACHMENTS = 1_000
_TIME, _LONG = 0x0040, 0x0003
_INTERNET_PAGE, _MESSAGE_PAGE = 0x3FDE, 0x3FFD
_PAGES = {
    20127: "ascii",
    20866: "koi8-r",
    21866: "koi8-u",
    28591: "latin-1",
    51949: "euc-kr",
    51932: "euc-jp",
    65001: "utf-8",
}
_PAGES |= {28590 + part: f"iso8859-{part}" for part in range(2, 16)} | {50220: "iso2022-jp", 54936: "gb18030"}
"""Code pages that Python knows by other names than their numbers."""
_PREBUF = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor "
    b"MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20"
    b"\\b\\i\\u\\tab\\tx"
)


class MsgLoader:
    """The plain body, else the HTML, else the compressed RTF; attachments are listed by name."""

    version = "msg/2"
    suffixes = frozenset({".msg"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        import olefile

        if not data.startswith(OLE):
            raise InvalidInput(f"the file {name!r} is no Outlook message", param=name, code="damaged_document")
        try:
            # Any damage the library only warns about would be a guess at the text.
            with olefile.OleFileIO(io.BytesIO(data), raise_defects=olefile.DEFECT_INCORRECT) as container:
                mail, rtf = _read(container)
        except InvalidInput:
            raise
        except Exception as error:
            # A damaged container trips over the library in many ways.
            raise InvalidInput(f"the file {name!r} is damaged", param=name, code="damaged_document") from error
        if not (mail.subject or mail.sender or mail.bodies or rtf):
            raise InvalidInput(f"the file {name!r} is no Outlook message", param=name, code="damaged_document")
        builder = TextBuilder(name, "application/vnd.ms-outlook")
        add_mail(builder, mail)
        if rtf and not mail.bodies:
            read_rtf(rtf, name, builder)
        return builder.build(metadata=mail_facts(mail))


# Any: olefile ships no types.
def _read(container: Any) -> tuple[Mail, bytes]:
    streams = {"/".join(path) for path in container.listdir(streams=True, storages=False)}
    properties = _stream(container, streams, "__properties_version1.0")
    narrow = _encoding(properties, _MESSAGE_PAGE) or _encoding(properties, _INTERNET_PAGE) or "cp1252"

    def text(tag: str, folder: str = "") -> str:
        wide = _stream(container, streams, f"{folder}__substg1.0_{tag}{_UNICODE}")
        if wide:
            return wide.decode("utf-16-le", "replace").rstrip("\x00")
        return (
            _stream(container, streams, f"{folder}__substg1.0_{tag}{_BYTES}").decode(narrow, "replace").rstrip("\x00")
        )

    sender, address = text(_SENDER), text(_SENDER_MAIL)
    folders = sorted({path.split("/")[0] for path in streams if path.startswith("__attach_version1.0_")})
    attachments = [
        squeeze(text(_FILE_NAME, f"{folder}/") or text(_SHORT_NAME, f"{folder}/"))
        for folder in folders[:_MAX_ATTACHMENTS]
    ]
    html = _stream(container, streams, f"__substg1.0_{_HTML}{_BINARY}")
    compressed = _stream(container, streams, f"__substg1.0_{_RTF}{_BINARY}")
    plain = text(_BODY)
    page = _page(html, _encoding(properties, _INTERNET_PAGE)) if html else text(_HTML)
    bodies = [Body(plain, is_html=False), Body(page, is_html=True)]
    mail = Mail(
        subject=squeeze(text(_SUBJECT)),
        sender=squeeze(f"{sender} <{address}>" if sender and "@" in address else sender or address),
        to=squeeze(text(_TO)),
        copied=squeeze(text(_CC)),
        date=_date(properties),
        bodies=tuple([body for body in bodies if body.text.strip()][:1]),
        attachments=tuple(filter(None, attachments)),
    )
    return mail, _decompressed(compressed) if compressed else b""


def _stream(container: Any, streams: set[str], path: str) -> bytes:
    if path not in streams or container.get_size(path) > _MAX_STREAM:
        return b""
    with container.openstream(path) as stream:
        content: bytes = stream.read()
    return content


def _encoding(properties: bytes, wanted: int) -> str:
    """Of a property that holds a code page; empty when it is not there, or no such page is known."""
    for at in range(32, len(properties) - 15, 16):
        kind, tag, _, value = struct.unpack_from("<HHII", properties, at)
        if (kind, tag) == (_LONG, wanted):
            for name in (_PAGES.get(value, ""), f"cp{value}"):
                with suppress(LookupError):
                    return codecs.lookup(name).name
    return ""


def _page(html: bytes, encoding: str) -> str:
    """By the code page of the message, else as UTF-8, else as Windows writes it."""
    for tried in filter(None, (encoding, "utf-8")):
        with suppress(UnicodeDecodeError):
            return html.decode(tried)
    return html.decode(encoding or "cp1252", "replace")


def _date(properties: bytes) -> str:
    """Delivery, else submission, from the fixed-size properties: 16 bytes each after a header of 32."""
    found: dict[int, datetime] = {}
    for at in range(32, len(properties) - 15, 16):
        kind, tag, _, value = struct.unpack_from("<HHIQ", properties, at)
        if kind == _TIME and tag in {_DELIVERED, _SUBMITTED} and 0 < value < 3 * 10**17:
            # Windows counts tenths of microseconds since 1601.
            found[tag] = datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=value // 10)
    when = found.get(_DELIVERED) or found.get(_SUBMITTED)
    return when.replace(microsecond=0).isoformat() if when else ""


def _decompressed(data: bytes) -> bytes:
    """RTF out of its compression [MS-OXRTFCP]: a dictionary of 4,096 bytes, references of 12 + 4 bits."""
    if len(data) < 16:
        return b""
    _, size, kind, _ = struct.unpack_from("<IIII", data)
    if kind == 0x414C454D:  # "MELA": stored as it is
        return data[16 : 16 + size]
    if kind != 0x75465A4C or size > _MAX_STREAM:  # "LZFu"
        return b""
    window = bytearray(_PREBUF.ljust(4096, b" "))
    place = len(_PREBUF)
    out = bytearray()
    at = 16
    while at < len(data) and len(out) < size:
        flags = data[at]
        at += 1
        for bit in range(8):
            if at >= len(data):
                break
            if not flags >> bit & 1:
                piece = data[at : at + 1]
                at += 1
                out += piece
                window[place] = piece[0]
                place = (place + 1) % 4096
                continue
            reference = int.from_bytes(data[at : at + 2], "big")
            at += 2
            start, length = reference >> 4, (reference & 15) + 2
            if start == place:
                return bytes(out)
            for step in range(length):
                byte = window[(start + step) % 4096]
                out.append(byte)
                window[place] = byte
                place = (place + 1) % 4096
    return bytes(out)


plugin = MsgLoader()
