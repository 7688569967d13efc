"""What the exports of other systems hold, as documents."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.connectors._export_files import MOST_DATA, Counted, ExportFiles
from interlock.knowledge.connectors._markdown import document, path_part, plain
from interlock.knowledge.connectors._shelf import facts, listed, named, words
from interlock.knowledge.connectors._xml import local, parsed

__all__ = ["FORMATS", "Exported"]

_NOTION_ID = re.compile(r"[ -]?\b([0-9a-f]{32})(?=_all\.|\.|$)")
_MOST_BODIES = 500_000_000
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\](?: ?)>", re.DOTALL)
_CONFLUENCE_PAGE = re.compile(r"(?:^|[_/])(\d+)\.html$")
_MIGRATION = re.compile(r"(?:^|/)(issues|pull_requests|issue_comments)_\d+\.json$")


class Exported(NamedTuple):
    """One document of an export."""

    path: str
    raw: str
    """What the export calls it: tells two apart whose paths are alike."""
    content: bytes | Callable[[int], bytes]
    """Or how to read it, given how many bytes it may have."""
    metadata: Mapping[str, str] = {}


def _written(title: str, body: str, comments: Iterable[tuple[str, str]]) -> bytes:
    said = [(author, text) for author, text in comments if text.strip()]
    # Its title alone can be what somebody looks for.
    return document(title, body if body.strip() or said else "No description.", said)


def _page(title: str, body: str) -> bytes:
    head = f"<head><meta charset='utf-8'><title>{html.escape(title)}</title></head>"
    return f"<html>{head}<body><main><h1>{html.escape(title)}</h1>{body}</main></body></html>".encode(
        "utf-8", "replace"
    )


# ── Notion ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _notion(files: ExportFiles) -> Iterator[Exported]:
    """Markdown, HTML and CSV as they are; the ids that Notion puts into names go into the metadata."""
    names = set(files.names())
    for name in files.names():
        stem, _, suffix = name.rpartition(".")
        # A database comes twice: as it is shown, and with all its rows.
        if suffix.lower() == "csv" and f"{stem}_all.csv" in names:
            continue
        if PurePosixPath(name).name == "index.html" and "/" not in name:
            continue
        steps = [_NOTION_ID.sub("", step).strip() or step for step in name.split("/")]
        path = "/".join(steps).replace("_all.csv", ".csv") if suffix.lower() == "csv" else "/".join(steps)
        found = _NOTION_ID.search(name.rpartition("/")[2])
        yield Exported(path, name, _reader(files, name), facts(notion_id=found[1] if found else ""))


def _reader(files: ExportFiles, name: str) -> Callable[[int], bytes]:
    return lambda most: files.read(name, most)


# ── Confluence ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _confluence(files: ExportFiles) -> Iterator[Exported]:
    """A space's export as XML (`entities.xml`) or as HTML."""
    entities = [name for name in files.names() if PurePosixPath(name).name == "entities.xml"]
    if entities:
        yield from _confluence_xml(files, entities[0])
        return
    for name in files.names():
        if "/attachments/" in f"/{name}":
            yield Exported(name, name, _reader(files, name))
        elif (found := _CONFLUENCE_PAGE.search(name)) is not None:
            text = files.read(name, MOST_DATA).decode("utf-8", "replace")
            page = _Main()
            page.feed(text)
            title = page.title.partition(" : ")[2] or page.title or PurePosixPath(name).stem
            body = page.body(text)
            yield Exported(name, name, _page(title.strip(), body), facts(confluence_id=found[1], space=page.space))


class _Main(HTMLParser):
    """The text of a page without what Confluence puts around it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._depth = 0
        self._start: tuple[int, int] | None = None
        self._end: tuple[int, int] | None = None
        self._is_title = False

    @property
    def space(self) -> str:
        return self.title.partition(" : ")[0].strip() if " : " in self.title else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_title = tag == "title"
        if tag != "div":
            return
        if self._start is not None and self._end is None:
            self._depth += 1
        elif self._start is None and dict(attrs).get("id") == "main-content":
            self._start, self._depth = self.getpos(), 1

    def handle_endtag(self, tag: str) -> None:
        self._is_title = False
        if tag == "div" and self._start is not None and self._end is None:
            self._depth -= 1
            if self._depth == 0:
                self._end = self.getpos()

    def handle_data(self, data: str) -> None:
        if self._is_title:
            self.title += data

    def body(self, text: str) -> str:
        """The main part; everything when there is none."""
        if self._start is None:
            return text
        starts = [0]
        for line in text.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        begin = starts[self._start[0] - 1] + self._start[1]
        end = len(text) if self._end is None else starts[self._end[0] - 1] + self._end[1]
        return text[begin:end]


class _Attachment(NamedTuple):
    identity: str
    page: str
    name: str
    version: str


def _confluence_xml(files: ExportFiles, name: str) -> Iterator[Exported]:
    pages: dict[str, str] = {}
    bodies: dict[str, str] = {}
    attachments: list[_Attachment] = []
    kept = 0
    with files.open(name) as stream:
        for element in _objects(stream):
            values = {child.get("name", ""): child for child in element}
            identity = (values["id"].text or "").strip() if "id" in values else ""
            # Older versions name what they were; drafts and deleted ones have another status.
            status = _text(values.get("contentStatus")) or "current"
            is_current = status == "current" and "originalVersion" not in values
            if element.get("class") == "Page" and is_current:
                pages[identity] = _text(values.get("title")) or identity
            elif element.get("class") == "Attachment" and is_current:
                attachments.append(_attachment(identity, values))
            elif element.get("class") == "BodyContent" and "content" in values:
                body = _text(values.get("body"))
                kept += len(body)
                if kept > _MOST_BODIES:
                    raise TooLarge(
                        f"entities.xml of the export has more than {_MOST_BODIES:,} characters of text",
                        param="sources.path",
                        hint="export fewer pages, or export HTML",
                    )
                bodies[(values["content"].findtext("id") or "").strip()] = body
    for identity, title in sorted(pages.items()):
        body = _CDATA.sub(lambda found: f"<pre>{html.escape(found[1])}</pre>", bodies.get(identity, ""))
        path = f"{path_part(title)}.html"
        yield Exported(path, identity, _page(title, body), facts(confluence_id=identity))
    yield from _attached(files, name, pages, attachments)


def _attachment(identity: str, values: Mapping[str, ElementTree.Element]) -> _Attachment:
    """Servers before 5.7 wrote other names."""
    page = next((values[name] for name in ("containerContent", "content") if name in values), None)
    named = _text(values.get("title")) or _text(values.get("fileName")) or identity
    version = _text(values.get("version")) or _text(values.get("attachmentVersion"))
    return _Attachment(identity, "" if page is None else (page.findtext("id") or "").strip(), named, version)


def _attached(
    files: ExportFiles, entities: str, pages: Mapping[str, str], attachments: Iterable[_Attachment]
) -> Iterator[Exported]:
    """Files of current pages that the export holds: ``attachments/PAGE/ATTACHMENT/VERSION`` beside `entities.xml`."""
    folder = f"{entities.rpartition('entities.xml')[0]}attachments"
    stored: dict[tuple[str, str], dict[str, str]] = {}
    for name in files.names():
        steps = name.removeprefix(f"{folder}/").split("/") if name.startswith(f"{folder}/") else []
        if len(steps) == 3:
            stored.setdefault((steps[0], steps[1]), {})[steps[2]] = name
    for one in sorted(attachments):
        versions = stored.get((one.page, one.identity), {})
        if one.page not in pages or not versions:
            continue
        newest = max(versions, key=lambda version: (version.isdecimal() and len(version), version))
        member = versions.get(one.version) or versions[newest]
        path = f"{path_part(pages[one.page])}/{path_part(one.name)}"
        known = facts(confluence_id=one.page, attachment_id=one.identity)
        yield Exported(path, f"{one.page}/{one.identity}", _reader(files, member), known)


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else (element.text or "").strip()


def _objects(stream: Counted) -> Iterator[ElementTree.Element]:
    """Objects of an `entities.xml`, one at a time: such a file may be larger than memory."""
    # Any: the untyped events of a parser that was asked for starts and ends.
    parser: Any = ElementTree.XMLPullParser(["start", "end"])
    head, depth = b"", 0
    root: ElementTree.Element | None = None
    try:
        while piece := stream.read(256 * 1024):
            if root is None:
                # Entities can only come with a document type, which stands before the first element.
                # In UTF-16 and UTF-32 every other byte, or three of four, are none of the tag.
                head += piece.replace(b"\0", b"")
                before = re.split(rb"<[A-Za-z]", head, maxsplit=1)[0]
                if re.search(rb"<!\s*(DOCTYPE|ENTITY)", before, re.IGNORECASE) or len(before) > 1_000_000:
                    raise InvalidInput(
                        "entities.xml has a document type, which is not read",
                        param="sources.path",
                        code="hostile_document",
                    )
            parser.feed(piece)
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                root = element if root is None else root
                if event == "end" and depth == 1:
                    if element.tag == "object":
                        yield element
                    root.clear()
    except ElementTree.ParseError as error:
        raise InvalidInput("entities.xml of the export is no XML", param="sources.path") from error


# ── Jira ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _jira(files: ExportFiles) -> Iterator[Exported]:
    """Issues of a CSV export with all fields, or of the XML (RSS) of a search."""
    for name in files.names():
        data = files.read(name, MOST_DATA) if name.lower().endswith((".csv", ".xml", ".rss")) else b""
        if name.lower().endswith(".csv"):
            yield from _jira_rows(data)
        elif data:
            for item in parsed(data, f"{name!r} of the export").iter("item"):
                yield _jira_item(item)


def _jira_rows(data: bytes) -> Iterator[Exported]:
    csv.field_size_limit(50_000_000)
    rows = csv.reader(io.StringIO(data.decode("utf-8-sig", "replace"), newline=""))
    try:
        yield from _jira_issues(rows)
    except csv.Error as error:
        raise InvalidInput("the CSV file of the export is damaged", param="sources.path") from error


def _jira_issues(rows: Iterator[list[str]]) -> Iterator[Exported]:
    names = [column.strip().casefold() for column in next(rows, [])]
    if "issue key" not in names:
        raise InvalidInput("the CSV file of the export has no column 'Issue key'", param="sources.path")
    for row in rows:
        values: dict[str, list[str]] = {}
        for column, cell in zip(names, row, strict=False):
            if cell.strip():
                values.setdefault(column, []).append(cell.strip())
        key = next(iter(values.get("issue key", [])), "")
        if key:
            comments = [_jira_comment(cell) for cell in values.get("comment", [])]
            first = {name: found[0] for name, found in values.items()}
            yield _issue(key, first.get("summary", ""), plain(first.get("description", "")), comments, first)


def _jira_comment(cell: str) -> tuple[str, str]:
    """``date;author;text`` as Jira writes it."""
    parts = cell.split(";", 2)
    return (parts[1], plain(parts[2])) if len(parts) == 3 else ("", plain(cell))


def _issue(
    key: str, summary: str, body: str, comments: Iterable[tuple[str, str]], values: Mapping[str, str]
) -> Exported:
    metadata = facts(key=key, status=values.get("status", ""), updated=values.get("updated", ""))
    return Exported(f"{path_part(key)}.md", key, _written(f"{key} {summary}", body, comments), metadata)


def _jira_item(item: ElementTree.Element) -> Exported:
    values = {local(child): _text(child) for child in item}
    key, summary = values.get("key", ""), values.get("summary", "") or values.get("title", "")
    comments = [
        f"<h2>Comment by {html.escape(comment.get('author', ''))}</h2>{comment.text or ''}"
        for comment in item.iter("comment")
        # Written for a group or role alone.
        if not comment.get("grouplevel") and not comment.get("rolelevel")
    ]
    metadata = facts(key=key, status=values.get("status", ""), updated=values.get("updated", ""))
    body = values.get("description", "") + "".join(comments)
    return Exported(f"{path_part(key)}.html", key, _page(f"{key} {summary}", body), metadata)


# ── JSON: Zendesk and GitHub ──────────────────────────────────────────────────────────────────────────────────────────


# Any below: JSON of foreign services, narrowed by `listed`, `named` and `words`.
def _objects_of(files: ExportFiles, name: str, *lists: str) -> Iterator[dict[str, Any]]:
    """Objects of a JSON file: of a list, of the lists called so, or one a line."""
    data = files.read(name, MOST_DATA)
    try:
        if name.lower().endswith((".jsonl", ".ndjson")):
            found: Any = [json.loads(line) for line in data.splitlines() if line.strip()]
        else:
            found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name!r} of the export is no JSON", param="sources.path") from error
    if isinstance(found, dict):
        within = [found[one] for one in lists if isinstance(found.get(one), list)]
        found = [one for each in within for one in each] if within else [found]
    yield from listed(found)


def _json_names(files: ExportFiles) -> list[str]:
    return [name for name in files.names() if name.lower().endswith((".json", ".jsonl", ".ndjson"))]


def _zendesk(files: ExportFiles) -> Iterator[Exported]:
    """Tickets with their public comments, and articles of the help centre."""
    for name in _json_names(files):
        for one in _objects_of(files, name, "tickets", "articles"):
            identity = words(one, "id")
            metadata = facts(
                url=words(one, "html_url") or words(one, "url"),
                status=words(one, "status"),
                updated=words(one, "updated_at"),
            )
            if identity and "subject" in one:
                said = [
                    (
                        words(comment, "author", "name") or words(comment, "author_id"),
                        plain(words(comment, "plain_body") or words(comment, "body")),
                    )
                    for comment in listed(one.get("comments"))
                    if comment.get("public") is not False
                ]
                data = _written(words(one, "subject"), plain(words(one, "description")), said)
                yield Exported(f"tickets/{path_part(identity)}.md", identity, data, metadata)
            elif identity and "title" in one and one.get("draft") is not True:
                data = _page(words(one, "title"), words(one, "body"))
                yield Exported(f"articles/{path_part(identity)}.html", identity, data, metadata)


def _github(files: ExportFiles) -> Iterator[Exported]:
    """Issues and pull requests of ``gh … --json``, or of a migration archive."""
    comments: dict[str, list[tuple[str, str]]] = {}
    names = _json_names(files)
    kinds = {name: found[1] for name in names if (found := _MIGRATION.search(name))}
    for name in [name for name, kind in kinds.items() if kind == "issue_comments"]:
        for one in _objects_of(files, name):
            of = words(one, "issue") or words(one, "pull_request")
            comments.setdefault(of, []).append((_login(one), words(one, "body")))
    for name in names:
        if kinds.get(name) == "issue_comments" or (kinds and name not in kinds):
            continue
        for one in _objects_of(files, name, "issues", "pullRequests"):
            url = words(one, "url") or words(one, "html_url")
            number = words(one, "number") or url.rpartition("/")[2]
            if not number.isdecimal() or "title" not in one:
                continue
            is_pull = kinds.get(name) == "pull_requests" or "/pull/" in url
            said = [(_login(comment), words(comment, "body")) for comment in listed(one.get("comments"))]
            labels = ", ".join(words(label, "name") for label in listed(one.get("labels")))
            state = words(one, "state").lower() or ("closed" if one.get("closed_at") else "")
            metadata = facts(url=url, state=state, labels=labels, author=_login(one))
            data = _written(f"{words(one, 'title')} (#{number})", words(one, "body"), said or comments.get(url, ()))
            where = re.search(r"://[^/]+/([^/]+/[^/]+)/(?:issues|pull)/", url)
            folder = f"{where[1]}/{'pulls' if is_pull else 'issues'}" if where else "pulls" if is_pull else "issues"
            yield Exported(f"{folder}/{number}.md", url or number, data, metadata)


def _login(one: dict[str, Any]) -> str:
    for place in ("author", "user"):
        said = words(named(one, place), "login") or words(one, place).rpartition("/")[2]
        if said:
            return said
    return ""


FORMATS: Mapping[str, Callable[[ExportFiles], Iterator[Exported]]] = {
    "notion": _notion,
    "confluence": _confluence,
    "jira": _jira,
    "zendesk": _zendesk,
    "github": _github,
}
