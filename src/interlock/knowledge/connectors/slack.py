"""Channels of Slack, by its API or from an export: one document a channel and day, threads under their beginning."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast

from anyio import to_thread
from pydantic import Field, model_validator

from interlock.core.canonical import digest_bytes
from interlock.core.errors import InvalidInput, TooLarge, Unavailable
from interlock.knowledge.connectors._http import Answer, served_at
from interlock.knowledge.connectors._markdown import document, path_part
from interlock.knowledge.connectors._shelf import Fetch, Held, Shelf, facts, listed, moment, named, since, words
from interlock.knowledge.connectors._sites import ApiSource, Url, api_of
from interlock.knowledge.connectors._slack_blocks import message_text
from interlock.knowledge.connectors.folder import files_below, read_regular
from interlock.knowledge.loaders import find_loader
from interlock.knowledge.ports import Connector, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Interval, Source, absolute

__all__ = ["SlackSource", "plugin"]

_MEANT = {
    "ratelimited": 429,
    "invalid_auth": 401,
    "not_authed": 401,
    "token_expired": 401,
    "token_revoked": 401,
    "missing_scope": 403,
    "not_in_channel": 403,
    "channel_not_found": 404,
}
_MOST_DAY = 20_000_000
_MOST_FILES = 20_000
"""That a cursor remembers; of files beyond, only a full listing finds out that they are gone."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LEAST = datetime(2010, 1, 1, tzinfo=UTC)


class SlackSource(ApiSource):
    """Channels that the token's user or app is in. Names for `readers_map`: `channel:NAME`."""

    kind: Literal["slack"] = "slack"
    url: Url = "https://slack.com/api"
    """Address of the API"""
    files_url: Url = "https://files.slack.com"
    """Address of files, which is given the token too"""
    export: str | None = None
    """A workspace export, as a zip file or unpacked folder, instead of the API"""
    channels: tuple[str, ...] = Field(default=(), max_length=1_000)
    """Names of channels; empty for all that can be seen"""
    look_back: Interval = timedelta(days=7)
    """How far back a run looks for edited and deleted messages and late replies"""
    attachments: bool = True
    """Take files as documents of their own"""
    page_size: int = Field(default=200, ge=1, le=999)
    """Messages an answer"""

    states_readers: ClassVar[bool] = True
    needs_token: ClassVar[bool] = False

    @model_validator(mode="after")
    def _token_or_export(self) -> Self:
        if self.export is None and self.token_env is None and self.oauth is None:
            raise ValueError("name token_env or oauth for the API, or export for files")
        return self

    def place(self) -> str:
        """Export, or address and token."""
        return self.export or f"{self.url}: {self.token_env} {', '.join(self.channels)}"

    def based(self, base: Path) -> Self:
        """The same with the export made absolute."""
        return self if self.export is None else self.model_copy(update={"export": absolute(self.export, base)})


# Any in the rest: messages as Slack sends them.
class _Days:
    """Messages of one channel on their way to documents of a day."""

    def __init__(self, source: SlackSource, channel: str, users: Mapping[str, str]) -> None:
        self._channel, self._users = channel, users
        self._readers = source.readers_for([f"channel:{channel}"])
        self._attachments = source.attachments

    def held(self, day: str, messages: Sequence[dict[str, Any]], download: Any) -> list[Held]:
        """The day's document and its files."""
        said, files = [], []
        for message in sorted(messages, key=lambda one: float(words(one, "ts") or 0)):
            said.append((self._name(message), self._plain(message_text(message))))
            files += listed(message.get("files"))
        if not any(text for _, text in said) and not files:
            return []
        metadata = facts(channel=self._channel, date=day)
        data = document(f"#{self._channel} on {day}", "", said, called="Message")
        folder = path_part(self._channel)
        held = [Held(SourceItem(f"{folder}/{day}.md", digest_bytes(data), self._readers, metadata), data)]
        for file in files if self._attachments and download is not None else []:
            name, url = words(file, "name"), words(file, "url_private_download")
            if url and find_loader(name) is not None:
                path = f"{folder}/{day}/{path_part(words(file, 'id'))}-{path_part(name)}"
                version = f"{words(file, 'id')}-{words(file, 'size')}"
                item = SourceItem(path, version, self._readers, metadata, name)
                held.append(Held(item, download(url, path)))
        return held

    def _name(self, message: dict[str, Any]) -> str:
        user = words(message, "user")
        return self._users.get(user) or words(message, "username") or user

    def _plain(self, text: str) -> str:
        """Slack's own marks as plain text: ``<@U1>``, ``<#C1|general>``, ``<https://x|label>``."""

        def shown(found: re.Match[str]) -> str:
            target, _, label = found[1].partition("|")
            if target.startswith("@"):
                return "@" + (self._users.get(target[1:]) or label or target[1:])
            return f"{label} ({target})" if label and not target.startswith(("#", "!")) else label or target

        # Signs that Slack writes as entities stay so: a Markdown document means the same by them.
        return re.sub(r"<([^<>]{1,2000})>", shown, text)


class _Slack:
    def __init__(self, source: SlackSource, surroundings: Surroundings) -> None:
        self._source = source
        self._api = api_of(source, surroundings, "Slack", trusted=[source.files_url], meant=_meant)
        self._shelf = Shelf()

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """All days, or those since the cursor's moment and `look_back` before it. The last day of it comes whole."""
        _, first = await self._api.json("auth.test", method="POST")
        begun = served_at(first)
        known = _Cursor.read(cursor)
        oldest = _LEAST if known is None else self._window(since(known.at))
        kept: list[str] = []
        users = {words(one, "id"): _user(one) async for one in self._all("users.list", "members", {})}
        wanted = {"types": "public_channel,private_channel", "exclude_archived": "false"}
        async for channel in self._all("conversations.list", "channels", wanted):
            name = words(channel, "name")
            if channel.get("is_member") is not True or (self._source.channels and name not in self._source.channels):
                continue
            days = _Days(self._source, name, users)
            found: dict[str, list[dict[str, Any]]] = {}
            async for message in self._messages(words(channel, "id"), oldest):
                found.setdefault(_day(message), []).append(message)
            held = [one for day, messages in found.items() for one in days.held(day, messages, self._download)]
            listed_now = {one.item.source for one in held}
            kept += [path for path in listed_now if path.count("/") > 1]
            removed = [] if known is None else _gone(name, oldest, begun, listed_now, known.files)
            yield SourcePage(self._shelf.put(held), removed)
        following = _Cursor(moment(begun), _within(kept, self._window(begun)))
        yield SourcePage(cursor=following.written(), complete=known is None)

    def _window(self, at: datetime) -> datetime:
        """Whole days, as one is one document."""
        earliest = at - self._source.look_back
        return datetime(earliest.year, earliest.month, earliest.day, tzinfo=UTC)

    async def _messages(self, channel: str, oldest: datetime) -> AsyncIterator[dict[str, Any]]:
        params = {"channel": channel, "oldest": f"{oldest.timestamp():.6f}", "inclusive": "true"}
        async for message in self._all("conversations.history", "messages", params):
            if words(message, "subtype") in {"channel_join", "channel_leave"}:
                continue
            replies = []
            if words(message, "reply_count") not in {"", "0"}:
                asked = {"channel": channel, "ts": words(message, "ts")}
                replies = [one async for one in self._all("conversations.replies", "messages", asked)]
            yield message
            for reply in replies:
                if words(reply, "ts") != words(message, "ts"):
                    # Below the message it answers, on that one's day.
                    yield {**reply, "day": _day(message)}

    async def _all(self, method: str, name: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        cursor = ""
        while True:
            asked: dict[str, str | int] = {**params, "limit": self._source.page_size}
            if cursor:
                asked["cursor"] = cursor
            found, _ = await self._api.json(method, asked)
            if not isinstance(found, dict) or not isinstance(found.get(name), list):
                raise Unavailable(f"Slack sent no {name}", code="source_unreachable")
            for one in listed(found[name]):
                yield one
            cursor = words(found, "response_metadata", "next_cursor")
            if not cursor:
                return

    def _download(self, url: str, path: str) -> Fetch:
        async def content() -> bytes:
            return await self._api.download(url, source=path)

        return content

    async def fetch(self, item: SourceItem) -> bytes:
        """The day as Markdown, or the file."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.aclose()


class _Export:
    def __init__(self, source: SlackSource) -> None:
        self._source = source
        self._shelf = Shelf()

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """All days of the export."""
        pages = self._pages()
        while (page := await to_thread.run_sync(next, pages, None)) is not None:
            yield SourcePage(self._shelf.put(page))
        yield SourcePage(complete=True)

    def _pages(self) -> Iterator[list[Held]]:
        with _Files(Path(self._source.export or "")) as files:
            users = {words(one, "id"): _user(one) for one in listed(files.json("users.json"))}
            names = files.names()
            channels = [words(one, "name") for one in listed(files.json("channels.json"))]
            if "groups.json" in names:
                channels += [words(one, "name") for one in listed(files.json("groups.json"))]
            for channel in channels:
                if self._source.channels and channel not in self._source.channels:
                    continue
                days = _Days(self._source, channel, users)
                mine = [name for name in names if name.startswith(f"{channel}/") and name.endswith(".json")]
                for name in sorted(mine):
                    day = name.removeprefix(f"{channel}/").removesuffix(".json")
                    if _DAY.fullmatch(day):
                        yield days.held(day, listed(files.json(name)), None)

    async def fetch(self, item: SourceItem) -> bytes:
        """The day as Markdown."""
        return await self._shelf.take(item)

    async def aclose(self) -> None:
        """Nothing is open."""


class _Files:
    """An export, packed or not. Each file has at most 20 MB unpacked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip: zipfile.ZipFile | None = None
        self._plain: dict[str, Path] = {}

    def __enter__(self) -> Self:
        if self._path.is_dir():
            return self
        try:
            self._zip = zipfile.ZipFile(self._path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InvalidInput(
                f"the export {str(self._path)!r} is no folder and no zip file", param="sources.export"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._zip is not None:
            self._zip.close()

    def names(self) -> list[str]:
        if self._zip is not None:
            return self._zip.namelist()
        self._plain = {name: path for name, path in files_below(self._path) if path.suffix == ".json"}
        return list(self._plain)

    def json(self, name: str) -> Any:
        try:
            if self._zip is None:
                path = self._plain.get(name, self._path / name)
                data = read_regular(path, name, root=self._path, max_bytes=_MOST_DAY)
            else:
                with self._zip.open(name) as packed:
                    data = packed.read(_MOST_DAY + 1)
            if len(data) > _MOST_DAY:
                raise TooLarge(f"{name!r} of the export has more than {_MOST_DAY} bytes", param="sources.export")
            return json.loads(data)
        except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile) as error:
            raise InvalidInput(f"{name!r} of the export cannot be read", param="sources.export") from error


def _meant(answer: Answer) -> int:
    """Slack says everything but 429 with 200, and what happened in the body."""
    if answer.status != 200 or not answer.headers.get("content-type", "").startswith("application/json"):
        return answer.status
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return answer.status
    if isinstance(found, dict) and found.get("ok") is False:
        return _MEANT.get(words(found, "error"), 400)
    return answer.status


def _user(one: dict[str, Any]) -> str:
    return words(named(one, "profile"), "display_name") or words(one, "real_name") or words(one, "name")


def _day(message: dict[str, Any]) -> str:
    if "day" in message:
        return words(message, "day")
    try:
        return datetime.fromtimestamp(float(words(message, "ts")), UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "undated"


def _gone(channel: str, oldest: datetime, until: datetime, present: set[str], files: Sequence[str]) -> list[str]:
    """Days of the window that say nothing any more, and files that hung on messages of it the last time."""
    folder = path_part(channel)
    count = (until - oldest).days + 1
    days = (f"{folder}/{oldest + timedelta(days=number):%Y-%m-%d}.md" for number in range(count))
    mine = (path for path in _within(files, oldest) if path.startswith(f"{folder}/"))
    return [path for path in (*days, *mine) if path not in present]


def _within(files: Sequence[str], oldest: datetime) -> list[str]:
    """Files of days since `oldest`, the newest first as far as a cursor holds them."""
    dated = sorted(((path.split("/")[1], path) for path in files), reverse=True)
    return [path for day, path in dated if day >= f"{oldest:%Y-%m-%d}"][:_MOST_FILES]


class _Cursor(NamedTuple):
    """A moment and the files that hung on messages of the days which the next run looks at again."""

    at: str
    files: Sequence[str]

    @classmethod
    def read(cls, cursor: str | None) -> _Cursor | None:
        """Also of a version that kept the moment alone."""
        if cursor is None or not cursor.startswith("{"):
            return None if cursor is None else cls(cursor, ())
        found = json.loads(cursor)
        return cls(str(found["at"]), [str(path) for path in found["files"]])

    def written(self) -> str:
        return json.dumps(self._asdict())


class _Plugin:
    model = SlackSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        slack = cast(SlackSource, source)
        return _Export(slack) if slack.export is not None else _Slack(slack, surroundings)


plugin = _Plugin()
