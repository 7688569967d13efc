"""Mailboxes in one file (mbox): every message is a section."""

from __future__ import annotations

import re

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._mail import add_mail, read_mail
from interlock.knowledge.types import LoadedDocument

__all__ = ["MboxLoader", "plugin"]

_MAX_MESSAGES = 10_000
_START = re.compile(rb"^From [^\r\n]{1,500}\r?\n(?=[!-9;-~]{1,100}:)", re.MULTILINE)
"""A line that starts a message, followed by a header: `From ` at the start of a sentence is neither quoted nor rare."""
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


class MboxLoader:
    """Messages in the file's order; one that cannot be read is left out as long as another can."""

    version = "mbox/2"
    suffixes = frozenset({".mbox", ".mbx"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        starts = list(_START.finditer(data))
        if not starts or data[: starts[0].start()].strip():
            raise InvalidInput(f"the file {name!r} is no mailbox", param=name, code="damaged_document")
        if len(starts) > _MAX_MESSAGES:
            raise TooLarge(f"the mailbox {name!r} has more than {_MAX_MESSAGES} messages", param=name, hint="split it")
        builder = TextBuilder(name, "application/mbox")
        unreadable = 0
        for number, start in enumerate(starts):
            end = starts[number + 1].start() if number + 1 < len(starts) else len(data)
            try:
                mail = read_mail(_QUOTED_FROM.sub(rb"\1", data[start.end() : end]), name)
            except InvalidInput:
                unreadable += 1
                continue
            add_mail(builder, mail)
        facts = {"messages": str(len(starts) - unreadable)}
        if unreadable:
            facts["unreadable_messages"] = str(unreadable)
        stem = name.rpartition("/")[2].rpartition(".")[0]
        return builder.build(title=stem, metadata=facts)


plugin = MboxLoader()
