"""Mail files (RFC 5322)."""

from __future__ import annotations

from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._mail import add_mail, mail_facts, read_mail
from interlock.knowledge.types import LoadedDocument

__all__ = ["EmlLoader", "plugin"]


class EmlLoader:
    """Of alternatives the plain text; attachments are listed by name, quoted lines of earlier mails left out."""

    version = "eml/2"
    suffixes = frozenset({".eml"})
    isolated = True

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        mail = read_mail(data, name)
        builder = TextBuilder(name, "message/rfc822")
        add_mail(builder, mail)
        return builder.build(metadata=mail_facts(mail))


plugin = EmlLoader()
