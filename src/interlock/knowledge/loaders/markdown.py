"""Markdown as readable text: markup gone, tables as rows, front matter as metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from interlock.knowledge.loaders._building import TextBuilder, squeeze
from interlock.knowledge.loaders._decoding import decode
from interlock.knowledge.loaders._markdown_reading import read_markdown
from interlock.knowledge.types import LoadedDocument

__all__ = ["MarkdownLoader", "plugin"]

# Any in this module: PyYAML ships no types.
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,16384}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


class MarkdownLoader:
    """CommonMark with tables and strikethrough."""

    version = "markdown/2"
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
        values = yaml.load(found.group(1), _loader())  # noqa: S506 - a safe loader, but for dates
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, {}
    if not isinstance(values, Mapping):
        return text, {}
    facts = {str(key): fact for key, value in values.items() if (fact := _fact(value))}
    return text[found.end() :], facts


def _loader() -> Any:
    """YAML's safe loader, to which what only looks like a date is text: a wrong one must not hide the other facts."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
        try:
            return yaml.SafeLoader.construct_yaml_timestamp(loader, node)
        except ValueError:
            return loader.construct_scalar(node)

    Loader.add_constructor("tag:yaml.org,2002:timestamp", construct)
    return Loader


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
