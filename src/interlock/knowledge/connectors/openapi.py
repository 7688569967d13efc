"""An OpenAPI description: one document an operation, so that a question finds the call that does it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from anyio import to_thread
from pydantic import model_validator

from interlock.core.canonical import digest_bytes
from interlock.core.errors import InvalidInput
from interlock.knowledge.connectors._http import checked_url
from interlock.knowledge.connectors._markdown import document, path_part
from interlock.knowledge.connectors._sites import ApiSource, api_of
from interlock.knowledge.connectors.folder import read_regular
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source, absolute

__all__ = ["OpenApiSource", "plugin"]

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
_DEPTH = 4
_MOST_FIELDS = 200
_MOST_MEDIA = 20
_MOST_SCHEMAS = 2000
"""Looked at for one body, however they refer to each other."""


class OpenApiSource(ApiSource):
    """Operations of an OpenAPI 3 or Swagger 2 description, in JSON or YAML."""

    kind: Literal["openapi"] = "openapi"
    url: str = ""
    """Address of the description; or name `path`"""
    path: str | None = None
    """File of the description, relative to the file that names it"""

    needs_token: ClassVar[bool] = False

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if bool(self.url) == (self.path is not None):
            raise ValueError("name either path or url")
        if self.url:
            checked_url(self.url)
        return self

    def place(self) -> str:
        """File or address."""
        return self.path or self.url

    def based(self, base: Path) -> Self:
        """The same with the file made absolute."""
        return self if self.path is None else self.model_copy(update={"path": absolute(self.path, base)})


class _OpenApi:
    def __init__(self, source: OpenApiSource, surroundings: Surroundings) -> None:
        self._source = source
        self._max_bytes = surroundings.max_bytes
        self._api = api_of(source, surroundings, "the OpenAPI description") if source.url else None
        self._content: dict[str, bytes] = {}

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """One page with every operation."""
        if self._api is not None:
            answer = await self._api.ask(self._source.url, most=self._max_bytes)
            self._api.must_be_good(answer)
            data = answer.body
        else:
            path = Path(self._source.path or "")
            data = await to_thread.run_sync(self._file, path)
        self._content = await to_thread.run_sync(lambda: dict(_operations(_read(data))))
        items = [SourceItem(path, digest_bytes(data), name_hint="operation.md") for path, data in self._content.items()]
        yield SourcePage(items, complete=True)

    def _file(self, path: Path) -> bytes:
        try:
            named = path.resolve(strict=True)  # the operator may name a link
        except (OSError, RuntimeError) as error:
            raise InvalidInput(f"the file {path.name!r} cannot be read", param="sources.path") from error
        return read_regular(named, path.name, root=named.parent, max_bytes=self._max_bytes)

    async def fetch(self, item: SourceItem) -> bytes:
        """The operation as Markdown."""
        return self._content[item.source]

    async def aclose(self) -> None:
        """Close all connections."""
        if self._api is not None:
            await self._api.aclose()


# Any in the rest: a foreign document, looked at step by step.
def _read(data: bytes) -> Mapping[str, Any]:
    import yaml

    class NoAliases(yaml.SafeLoader):
        """An alias may stand for aliases: a small file would grow without end."""

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases are not read")
            return super().compose_node(parent, index)

    try:
        text = data.decode("utf-8-sig")
        # Derived from SafeLoader: no Python objects.
        root = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, NoAliases)  # noqa: S506
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInput("the OpenAPI description is neither JSON nor YAML", param="sources.path") from error
    found = _mapping(root)
    if not {"openapi", "swagger"} & set(found) or not isinstance(found.get("paths"), dict):
        raise InvalidInput("the file is no OpenAPI description: it has no openapi and paths", param="sources.path")
    return found


def _operations(root: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for path, found in root["paths"].items():
        shared = _mapping(_resolved(root, found))
        for method in _METHODS:
            operation = _mapping(shared.get(method))
            if operation:
                name = "/".join(path_part(step) for step in str(path).strip("/").split("/"))
                yield f"{name or 'root'}/{method}.md", _document(root, f"`{method.upper()} {path}`", shared, operation)


def _document(root: Mapping[str, Any], call: str, shared: Mapping[str, Any], operation: Mapping[str, Any]) -> bytes:
    info = _mapping(root.get("info"))
    title = str(operation.get("summary") or operation.get("operationId") or call)
    parts = [f"{call} of {info.get('title', 'the API')} {info.get('version', '')}".strip()]
    if operation.get("operationId"):
        parts.append(f"Operation: `{operation['operationId']}`")
    if operation.get("deprecated") is True:
        parts.append("This operation is deprecated.")
    if operation.get("description"):
        parts.append(str(operation["description"]))
    given = [
        _mapping(_resolved(root, one))
        for one in (*_list(shared.get("parameters")), *_list(operation.get("parameters")))
    ]
    # Swagger 2 gives the body as one of the parameters.
    parameters = [one for one in given if one.get("in") != "body"]
    if parameters:
        parts.append("## Parameters\n\n" + "\n".join(_parameter(root, one) for one in parameters))
    bodies = [
        _mapping(_resolved(root, operation.get("requestBody"))),
        *(one for one in given if one.get("in") == "body"),
    ]
    for body in bodies:
        if body:
            parts.append("## Request body\n\n" + "\n\n".join(_content(root, body)))
    answers = _mapping(operation.get("responses"))
    if answers:
        parts.append("## Responses")
        for status, answer in answers.items():
            found = _mapping(_resolved(root, answer))
            parts.append(f"### {status}\n\n" + "\n\n".join(_content(root, found)))
    return document(title, "\n\n".join(parts))


def _parameter(root: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    kind = _type(_mapping(_resolved(root, one.get("schema", one))))
    required = ", required" if one.get("required") else ""
    said = " ".join(str(one.get("description", "")).split())
    return f"- `{one.get('name', '')}` ({one.get('in', '')}, {kind}{required}): {said}".rstrip(": ")


def _content(root: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    lines = [str(part["description"])] if part.get("description") else []
    content = _mapping(part.get("content")) or ({"": {"schema": part["schema"]}} if "schema" in part else {})
    for media, one in list(content.items())[:_MOST_MEDIA]:
        fields = _fields(root, _mapping(one).get("schema"), iter(range(_MOST_SCHEMAS)))
        lines.append((f"As `{media}`:\n\n" if media else "") + "\n".join(islice(fields, _MOST_FIELDS)))
    return lines


def _fields(
    root: Mapping[str, Any], schema: object, steps: Iterator[int], *, indent: str = "", depth: int = 0
) -> Iterator[str]:
    """Lines of a schema, as they are asked for; no more than `steps` schemas are looked at, as one may hold itself."""
    found = _mapping(_resolved(root, schema))
    if depth >= _DEPTH or not found or next(steps, None) is None:
        return
    for name in ("allOf", "oneOf", "anyOf"):
        if name in found:
            for one in _list(found[name])[:_MOST_FIELDS]:
                yield from _fields(root, one, steps, indent=indent, depth=depth + 1)
            return
    if "items" in found:
        yield f"{indent}- list of:"
        yield from _fields(root, found["items"], steps, indent=indent + "  ", depth=depth + 1)
        return
    properties = _mapping(found.get("properties"))
    if not properties:
        yield f"{indent}- {_type(found)}"
    required = set(map(str, _list(found.get("required"))))
    for name, one in list(properties.items())[:_MOST_FIELDS]:
        inner = _mapping(_resolved(root, one))
        must = ", required" if name in required else ""
        said = " ".join(str(inner.get("description", "")).split())
        yield f"{indent}- `{name}` ({_type(inner)}{must}): {said}".rstrip(": ")
        if "properties" in inner or "items" in inner:
            yield from _fields(root, inner, steps, indent=indent + "  ", depth=depth + 1)


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "any")
    kind = " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    values = _list(schema.get("enum"))[:20]
    return f"{kind}: {', '.join(map(str, values))}" if values else kind


def _resolved(root: Mapping[str, Any], value: object) -> object:
    """What a local ``$ref`` points to, a few steps far; references to other documents stay unread."""
    for _ in range(8):
        reference = _mapping(value).get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return value
        at: object = root
        for step in reference[2:].split("/"):
            at = _mapping(at).get(step.replace("~1", "/").replace("~0", "~"))
        value = at
    return {}


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


class _Plugin:
    model = OpenApiSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _OpenApi(cast(OpenApiSource, source), surroundings)


plugin = _Plugin()
