"""Markdown as readable text: markup gone, tables as rows, front matter as metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._markdown_reading import read_markdown
from interlock.knowledge.types import LoadedDocument

__all__ = ["MarkdownLoader", "plugin"]

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,16384}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


class MarkdownLoader:
    """CommonMark with tables and strikethrough."""

    version = "markdown/1"
    suffixes = frozenset({".md", ".markdown", ".mdx"})
    isolated = False

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        source, metadata = _front_matter(decode(data, name))
        builder = TextBuilder(name, "text/markdown")
        read_markdown(source, builder)
        return builder.build(title=metadata.get("title", ""), metadata=metadata)


def _front_matter(text: str) -> tuple[str, dict[str, str]]:
    """Body and the flat facts of the YAML before it; text that only looks like front matter stays text."""
    import yaml

    found = _FRONT_MATTER.match(text)
    if found is None:
        return text, {}
    try:
        # Other people's documents: a name that stands twice is no reason to show the facts as text.
        values = yaml.safe_load(found.group(1))
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, {}
    if not isinstance(values, Mapping):
        return text, {}
    facts = {str(key): fact for key, value in values.items() if (fact := _fact(value))}
    return text[found.end() :], facts


def _fact(value: object) -> str:
    """Scalars and lists of scalars; anything nested is left out (and cannot be expanded without end)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return squeeze(str(value))[:1000]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return ", ".join(filter(None, (_fact(item) for item in value[:50] if not isinstance(item, (list, dict)))))[
            :1000
        ]
    return ""


plugin = MarkdownLoader()
