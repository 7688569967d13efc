"""A Git repository: the files of one branch, changes by the difference of two commits."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, cast
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from pydantic import AfterValidator, Field

from interlock.core.errors import InvalidInput, MissingExtra, TooLarge, Unavailable
from interlock.knowledge.connectors._http import checked_url
from interlock.knowledge.connectors._naming import apart
from interlock.knowledge.connectors._sites import EnvName, secret
from interlock.knowledge.ports import Connector, CursorExpired, SourceItem, SourcePage, Surroundings
from interlock.knowledge.sources import Source, absolute

__all__ = ["GitSource", "plugin"]

_PAGE = 500
_MOST_LISTING = 512_000_000
_REGULAR = frozenset({"100644", "100755"})
_LFS = b"version https://git-lfs.github.com/spec/"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def _address(url: str) -> str:
    if url.startswith(("https://", "http://")):
        return checked_url(url)
    if url.startswith("ssh://"):
        if urlsplit(url).password or not urlsplit(url).hostname or (urlsplit(url).hostname or "").startswith("-"):
            raise ValueError("an ssh address has a host and no password")
        return url
    if url.startswith("-") or "::" in url or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        raise ValueError("it is a folder, or an address that starts with https://, http:// or ssh://")
    return url


def _branch(ref: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_/+@][A-Za-z0-9_./+@-]{0,199}", ref) or ".." in ref:
        raise ValueError("it is the name of a branch or tag")
    return ref


class GitSource(Source):
    """The files of one branch of a repository. Needs the program `git`."""

    kind: Literal["git"] = "git"
    url: Annotated[str, AfterValidator(_address), Field(min_length=1)]
    """A folder with a repository, or an https, http or ssh address"""
    ref: Annotated[str, AfterValidator(_branch)] = "HEAD"
    """Branch or tag; `HEAD` is the default branch"""
    token_env: EnvName | None = None
    """Environment variable with a token for https"""
    user: str = Field(default="x-access-token", pattern=r"^[^:\s]{1,200}$")
    """The user's name that goes with the token"""
    ssh_key: str | None = None
    """File with the private key for ssh; the host must be in the known hosts of the user who ingests"""
    timeout_s: float = Field(default=600.0, gt=0, le=7200)
    """Time for one transfer, in seconds"""

    def place(self) -> str:
        """Address and branch."""
        return f"{self.url}@{self.ref}"

    def based(self, base: Path) -> Self:
        """The same with a folder made absolute."""
        if "://" in self.url:
            return self
        return self.model_copy(update={"url": absolute(self.url, base)})


class _Entry(NamedTuple):
    path: str
    blob: str


class _Git:
    def __init__(self, source: GitSource, surroundings: Surroundings) -> None:
        program = shutil.which("git")
        if program is None:
            raise MissingExtra("a git source needs the program 'git'", hint="install git, e.g. apt-get install git")
        self._source = source
        self._max_bytes = surroundings.max_bytes
        self._home = Path(tempfile.mkdtemp(prefix="interlock-git-"))
        self._command = [program, "--no-replace-objects", "-C", str(self._home)]
        token = secret(surroundings.environ, source.token_env, "git") if source.token_env else None
        self._environ = _environment(source, self._home, token)
        self._blobs: dict[str, str] = {}

    async def changes(self, cursor: str | None) -> AsyncIterator[SourcePage]:
        """Files of the newest commit, or what changed since the commit `cursor`."""
        commit = await self._newest()
        if commit == cursor:
            yield SourcePage(cursor=commit)
            return
        await self._git("init", "--quiet", "--bare")
        await self._fetch(commit)
        if cursor is None:
            entries, removed = await self._tree(commit), list[str]()
        else:
            entries, removed = await self._difference(cursor, commit)
        self._blobs = dict(entries)
        pages = range(0, max(1, len(entries)), _PAGE)
        for start in pages:
            last = start == pages[-1]
            yield SourcePage(
                [SourceItem(entry.path, entry.blob) for entry in entries[start : start + _PAGE]],
                removed if last else (),
                cursor=commit if last else None,
                complete=last and cursor is None,
            )

    async def _newest(self) -> str:
        said = await self._git("ls-remote", "--", self._source.url, self._source.ref)
        found = {name: sha for sha, _, name in (line.partition("\t") for line in said.decode().splitlines())}
        ref = self._source.ref
        for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"):
            if _COMMIT.fullmatch(found.get(name, "")):
                return found[name]
        raise InvalidInput(f"the repository has no branch or tag {ref!r}", param="sources.ref", code="source_not_found")

    async def _fetch(self, commit: str) -> None:
        options = ["--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
        await self._git("fetch", *options, "--", self._source.url, commit)

    async def _tree(self, commit: str) -> list[_Entry]:
        blobs: dict[bytes, str] = {}
        for record in (await self._git("ls-tree", "-r", "-z", commit)).split(b"\0"):
            facts, _, name = record.partition(b"\t")
            fields = facts.decode().split()
            if name and fields[0] in _REGULAR:
                blobs[name] = fields[2]
        taken = {_readable(name) for name in blobs if _is_plain(name)}
        entries: list[_Entry] = []
        for name, blob in blobs.items():
            path = _readable(name)
            if not _is_plain(name):
                path = apart(path, name) if path in taken else path
                taken.add(path)
            entries.append(_Entry(path, blob))
        return entries

    async def _difference(self, before: str, commit: str) -> tuple[list[_Entry], list[str]]:
        if not _COMMIT.fullmatch(before):
            raise CursorExpired("the cursor is no commit")
        try:
            await self._fetch(before)
        except Unavailable as error:
            # Rewritten history: the commit of the last run is nowhere any more.
            raise CursorExpired("the commit of the last run is gone") from error
        said = await self._git("diff-tree", "-r", "-z", "--no-renames", "--raw", "--no-abbrev", before, commit)
        fields = said.split(b"\0")
        entries: list[_Entry] = []
        removed: list[str] = []
        for facts, name in zip(fields[0::2], fields[1::2], strict=False):
            if not _is_plain(name):
                raise CursorExpired("a name is no UTF-8: only a listing of all tells it from others")
            _, mode, _, blob, _ = facts.decode().split()
            # A file that became a link or a submodule is gone as a document.
            if mode in _REGULAR:
                entries.append(_Entry(_readable(name), blob))
            else:
                removed.append(_readable(name))
        return entries, removed

    async def fetch(self, item: SourceItem) -> bytes:
        """The file."""
        blob = self._blobs[item.source]
        size = int(await self._git("cat-file", "-s", blob))
        if size > self._max_bytes:
            raise TooLarge(
                f"the file {item.source!r} has {size} bytes, more than {self._max_bytes}",
                param=item.source,
                hint="leave it out with exclude, or raise knowledge.max_file_bytes",
            )
        data = await self._git("cat-file", "blob", blob)
        if data.startswith(_LFS):
            raise InvalidInput(
                f"the file {item.source!r} is kept outside of the repository (Git LFS)",
                param=item.source,
                code="git_lfs_pointer",
                hint="leave it out with exclude, or ingest a folder with a full checkout",
            )
        return data

    async def _git(self, *arguments: str) -> bytes:
        try:
            with anyio.fail_after(self._source.timeout_s):
                done = await anyio.run_process(
                    [*self._command, *arguments],
                    env=self._environ,
                    check=False,
                    stdin=subprocess.DEVNULL,
                )
        except TimeoutError as error:
            raise Unavailable(
                f"git {arguments[0]} took longer than {self._source.timeout_s:g} s",
                code="source_unreachable",
                hint="raise timeout_s of the source",
            ) from error
        if done.returncode != 0:
            # Its own words may hold the address and what a server sent.
            raise Unavailable(
                f"git {arguments[0]} failed ({done.returncode})",
                code="source_unreachable",
                hint="check url, ref and token of the source: git ls-remote says more",
            )
        if len(done.stdout) > _MOST_LISTING:
            raise TooLarge(f"git {arguments[0]} gave more than {_MOST_LISTING} bytes")
        return done.stdout

    async def aclose(self) -> None:
        """Remove the copy."""
        await to_thread.run_sync(lambda: shutil.rmtree(self._home, ignore_errors=True))


def _is_plain(name: bytes) -> bool:
    return _readable(name).encode() == name


def _readable(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _environment(source: GitSource, home: Path, token: str | None) -> dict[str, str]:
    """What git may know and do: no configuration of this machine, no helpers, hooks, prompts or other protocols."""
    config = {
        "core.hooksPath": os.devnull,
        "core.fsmonitor": "false",
        "core.symlinks": "false",
        "protocol.allow": "never",
        "protocol.https.allow": "always",
        "protocol.http.allow": "always",
        "protocol.ssh.allow": "always",
        "protocol.file.allow": "always",
        "http.followRedirects": "false",
        "credential.helper": "",
        "fetch.fsckObjects": "true",
        "transfer.credentialsInUrl": "die",
        "gc.auto": "0",
        "maintenance.auto": "false",
    }
    if "://" not in source.url:
        # The repository may belong to another user; only its objects are read.
        config["safe.directory"] = source.url
    if token is not None:
        basic = base64.b64encode(f"{source.user}:{token}".encode()).decode()
        config[f"http.{source.url}.extraHeader"] = f"Authorization: Basic {basic}"
    ssh = ["ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oClearAllForwardings=yes"]
    if source.ssh_key is not None:
        ssh += ["-oIdentitiesOnly=yes", f"-i {_quoted(source.ssh_key)}"]
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home) if source.ssh_key is None and "ssh://" not in source.url else os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": " ".join(ssh),
        "GIT_CONFIG_COUNT": str(len(config)),
    }
    for number, (name, value) in enumerate(config.items()):
        # In the environment, not among the arguments: those can be read by everybody on the machine.
        environ |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return environ


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"


class _Plugin:
    model = GitSource

    def open(self, source: Source, surroundings: Surroundings) -> Connector:
        return _Git(cast(GitSource, source), surroundings)


plugin = _Plugin()
