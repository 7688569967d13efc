"""The registry of prompts: what the files say, versions with author and reason, drafts, labels, patches.

The files are the source. A draft is a version that nobody is served: it reaches users as a patch to the files, and
these as a release.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from anyio import to_thread
from sqlalchemy import Connection

from interlock.core.audit import AuditEvent, AuditLog
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import Conflict, InterlockError, InvalidInput, NotFound
from interlock.core.ids import TenantId
from interlock.core.ports import Embedder
from interlock.prompts import prompt_store as store
from interlock.prompts.choosing import Nearness
from interlock.prompts.files import Loaded, Shelf, load_prompt, text_digest
from interlock.prompts.patching import unified
from interlock.prompts.prompt_store import Label, Version
from interlock.prompts.settings import PromptSettings
from interlock.stores.sql.base import Sql

__all__ = ["Known", "Place", "Prompts"]

MAY_READ = (Role.REVIEWER, Role.DEVELOPER, Role.OPERATOR, Role.RISK, Role.AUDITOR)
_MAY_WRITE = (Role.DEVELOPER, Role.OPERATOR)
_LABEL = re.compile(r"[a-z][a-z0-9._-]{0,63}\Z")
_MOST_VERSIONS = 1000
_MOST_DRAFT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where a prompt's file is, and who uses it."""

    name: str
    """An app's name for the prompt of its own folder, ``shared.NAME`` for one of the folder of prompts."""
    path: Path
    apps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """One prompt of the list."""

    place: Place
    loaded: Loaded | None
    error: InterlockError | None
    """Why its files cannot be read."""
    labels: Sequence[Label]


class Prompts:
    """All prompts of the workspace.

    Args:
        root: the workspace.
        places: prompts that a tenant has, by name. Reads files.
        embedder: ranks few-shot examples.
    """

    def __init__(
        self,
        sql: Sql,
        audit: AuditLog,
        *,
        root: Path,
        settings: PromptSettings,
        places: Callable[[TenantId], Mapping[str, Place]],
        embedder: Embedder,
    ) -> None:
        self.settings = settings
        self.nearness = Nearness(embedder)
        self._sql = sql
        self._audit = audit
        self._root = root
        self._places = places

    def shelf(self, drafted: Mapping[str, str] | None = None) -> Shelf:
        """The workspace's files, some of them as drafted."""
        return Shelf(self._root, self._root / self.settings.folder, drafted or {})

    async def list(self, ctx: Context) -> Sequence[Known]:
        """Every prompt by name, broken ones with their error. Raises: Forbidden."""
        ctx.require(*MAY_READ)
        places = await to_thread.run_sync(self._places, ctx.tenant)
        found = []
        for name in sorted(places):
            loaded, error = await to_thread.run_sync(self._try, places[name])
            found.append(Known(places[name], loaded, error, await self.labels(ctx, name)))
        return found

    def _try(self, place: Place) -> tuple[Loaded | None, InterlockError | None]:
        try:
            return load_prompt(place.path, self.shelf()), None
        except InterlockError as error:
            # The others are listed all the same.
            return None, error

    async def place(self, ctx: Context, name: str) -> Place:
        """Where a prompt is. Raises: Forbidden; NotFound, also where another tenant has it."""
        ctx.require(*MAY_READ)
        places = await to_thread.run_sync(self._places, ctx.tenant)
        if name not in places:
            known = ", ".join(sorted(places)) or "none in this workspace"
            raise NotFound(f"there is no prompt {name[:96]!r}", param="prompt", hint=f"prompts: {known}")
        return places[name]

    async def current(self, ctx: Context, name: str, drafted: Mapping[str, str] | None = None) -> Loaded:
        """What the files say now.

        Args:
            drafted: texts that stand for those of files, by path below the workspace.

        Raises: Forbidden: also a draft of who may write none; NotFound; InvalidInput: the files, or a path that no
            draft may write.
        """
        place = await self.place(ctx, name)
        texts = dict(drafted or {})
        if texts:
            # A template is a program: who may not write one sends none to be run.
            ctx.require(*_MAY_WRITE)
        self._check_paths(place, texts)
        return await to_thread.run_sync(load_prompt, place.path, self.shelf(texts))

    async def versions(self, ctx: Context, name: str, *, limit: int = 100) -> Sequence[Version]:
        """Recorded versions and drafts, newest first."""
        await self.place(ctx, name)
        return await self._sql.read(lambda conn: store.versions_of(conn, ctx.tenant, name, limit))

    async def version(self, ctx: Context, name: str, digest: str) -> Version:
        """One recorded version, by its digest or a prefix of 8 or more digits. Raises: Forbidden, NotFound."""
        wanted = digest.removeprefix("sha256:")
        known = await self.versions(ctx, name, limit=_MOST_VERSIONS)
        found = [each for each in known if each.digest.removeprefix("sha256:").startswith(wanted)]
        if len(wanted) < 8 or len(found) != 1:
            raise NotFound(
                f"no single version of {name!r} starts with {digest[:80]!r}",
                param="version",
                hint=f"interlock prompt log {name}",
            )
        return found[0]

    async def record(self, ctx: Context, name: str, rationale: str) -> Version:
        """Keep what the files say now as a version. One that is known already keeps its author and its reason.

        Raises: Forbidden, NotFound; InvalidInput: no reason, or the files.
        """
        ctx.require(*_MAY_WRITE)
        loaded = await self.current(ctx, name)
        return await self._keep(ctx, _made(name, loaded, "files", ctx, _reason(rationale)))

    async def draft(
        self, ctx: Context, name: str, texts: Mapping[str, str], base: Mapping[str, str], rationale: str
    ) -> Version:
        """Keep a draft: nobody is served it.

        Args:
            texts: by path below the workspace, what the files are to say.
            base: digests of these files as the writer saw them; empty for a file that is new.

        Raises: Forbidden, NotFound; InvalidInput: no reason, nothing changed, a path that no draft may write, or what
            the texts say. Conflict: a file was changed since.
        """
        ctx.require(*_MAY_WRITE)
        reason = _reason(rationale)
        place = await self.place(ctx, name)
        self._check_paths(place, texts)
        await to_thread.run_sync(self._check_base, {path: base.get(path, "") for path in texts})
        before = await self.current_or_none(ctx, name)
        loaded = await self.current(ctx, name, texts)
        if before is not None and before.digest == loaded.digest:
            raise InvalidInput("the draft changes nothing that a model is told", param="files")
        made = _made(name, loaded, "draft", ctx, reason, files=texts, base={path: base.get(path, "") for path in texts})
        return await self._keep(ctx, made)

    async def current_or_none(self, ctx: Context, name: str) -> Loaded | None:
        """What the files say now; None where they cannot be read: a draft may be what mends them."""
        try:
            return await self.current(ctx, name)
        except InvalidInput:
            return None

    async def patch(self, ctx: Context, name: str, digest: str) -> str:
        """A draft as a unified diff against the files as they are now; empty when they say it already.

        Raises: Forbidden, NotFound; InvalidInput: it is no draft; Conflict: a file was changed since it was written.
        """
        version = await self.version(ctx, name, digest)
        if version.origin != "draft":
            raise InvalidInput("only a draft becomes a patch", param="version", hint=f"interlock prompt log {name}")
        now_there = await to_thread.run_sync(self._texts, list(version.files))
        if all(now_there.get(path) == text for path, text in version.files.items()):
            return ""
        await to_thread.run_sync(self._check_base, version.base)
        return unified(now_there, version.files)

    async def label(self, ctx: Context, name: str, label: str, digest: str, *, rationale: str = "") -> Label:
        """Point a label at a version. It says what people mean by it; what is served is what releases say.

        Args:
            digest: a whole one of a recorded version.

        Raises: Forbidden, NotFound; InvalidInput: the label's form.
        """
        ctx.require(*_MAY_WRITE)
        if not _LABEL.match(label):
            raise InvalidInput(
                "a label is written with small letters, digits, . _ and -, 64 at most, and begins with a letter",
                param="label",
            )
        version = await self.version(ctx, name, digest)
        pointer = Label(label, version.digest, ctx.principal.id, now())
        before = await self._sql.write(lambda conn: store.set_label(conn, ctx.tenant, name, pointer))
        details = {"prompt": name, "label": label, "before": before or "", "reason": rationale[:500]}
        await self._told(ctx, "prompt.label", version.digest, details)
        return pointer

    async def unlabel(self, ctx: Context, name: str, label: str) -> None:
        """Take a label away. Raises: Forbidden, NotFound."""
        ctx.require(*_MAY_WRITE)
        await self.place(ctx, name)
        if not await self._sql.write(lambda conn: store.remove_label(conn, ctx.tenant, name, label)):
            raise NotFound(f"{name!r} has no label {label[:64]!r}", param="label")
        await self._told(ctx, "prompt.unlabel", name, {"prompt": name, "label": label})

    async def labels(self, ctx: Context, name: str) -> Sequence[Label]:
        """Labels of a prompt, by name."""
        ctx.require(*MAY_READ)
        return await self._sql.read(lambda conn: store.labels_of(conn, ctx.tenant, name))

    async def keep(self, ctx: Context, version: Version) -> Version:
        """Record a version that only a release knew. Raises: Forbidden."""
        ctx.require(*_MAY_WRITE)
        await self.place(ctx, version.prompt)
        return await self._keep(ctx, version)

    async def _keep(self, ctx: Context, version: Version) -> Version:
        new = await self._sql.write(lambda conn: store.insert_version(conn, ctx.tenant, version))
        if new:
            action = "prompt.draft" if version.origin == "draft" else "prompt.record"
            details = {"prompt": version.prompt, "reason": version.rationale[:500]}
            await self._told(ctx, action, version.digest, details)
        kept = await self._sql.read(partial(_version_of, ctx.tenant, version))
        assert kept is not None, "versions are never removed"
        return kept

    async def _told(self, ctx: Context, action: str, subject: str, details: Mapping[str, str]) -> None:
        await self._audit.append(AuditEvent(ctx.tenant, ctx.principal.id, action, subject, "ok", dict(details)))

    def _texts(self, paths: Sequence[str]) -> dict[str, str]:
        shelf, found = self.shelf(), {}
        for path in paths:
            if (self._root / path).is_file():
                found[path] = shelf.text(self._root / path)
        return found

    def _check_base(self, base: Mapping[str, str]) -> None:
        texts = self._texts(list(base))
        for path, digest in base.items():
            if text_digest(texts.get(path, "")) != digest:
                raise Conflict(
                    f"{path} was changed since the draft was begun",
                    param="base",
                    code="file_changed",
                    hint="look at what changed, and save the draft over the file as it is now",
                )

    def _check_paths(self, place: Place, texts: Mapping[str, str]) -> None:
        """Raises: InvalidInput: a file that belongs to no prompt, or too much text."""
        home = self._root.resolve()
        own = PurePosixPath(self.shelf().name(place.path)).parent
        folder = PurePosixPath(self.settings.folder)
        for path in texts:
            at = PurePosixPath(path)
            plain = not at.is_absolute() and ".." not in at.parts and path == at.as_posix()
            beside = at.parent == own and _may_write(at.name)
            shared = at.is_relative_to(folder) and at.suffix in {".md", ".jsonl"}
            if not (plain and (beside or shared) and (home / path).resolve().is_relative_to(home)):
                raise InvalidInput(
                    f"a draft of {place.name!r} does not write {path[:200]!r}",
                    param="files",
                    hint=f"Markdown and JSONL beside the prompt, and files of {folder}/",
                )
        if sum(map(len, texts.values())) > _MOST_DRAFT_BYTES:
            raise InvalidInput(f"a draft holds at most {_MOST_DRAFT_BYTES >> 20} MiB", param="files")


def _version_of(tenant: TenantId, version: Version, conn: Connection) -> Version | None:
    return store.version_of(conn, tenant, version.prompt, version.digest)


def _may_write(name: str) -> bool:
    return name.endswith((".md", ".jsonl")) and not name.startswith(".")


def _reason(rationale: str) -> str:
    if not rationale.strip():
        raise InvalidInput(
            "say why: the reason stays with the version",
            param="rationale",
            hint="a sentence is enough; on the command line --why TEXT",
        )
    return rationale.strip()[:4000]


def _made(
    name: str,
    loaded: Loaded,
    origin: store.Origin,
    ctx: Context,
    rationale: str,
    *,
    files: Mapping[str, str] | None = None,
    base: Mapping[str, str] | None = None,
) -> Version:
    return Version(
        name,
        loaded.digest,
        origin,
        ctx.principal.id,
        rationale,
        now(),
        loaded.spec.component(),
        dict(loaded.files if files is None else files),
        dict(base or {}),
    )
