"""The workspace's directory file: users and their groups, for embedded mode, the CLI and examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interlock.access.types import DirectoryUser
from interlock.core.errors import InvalidInput, NotFound
from interlock.core.wording import plain
from interlock.core.yaml_text import YamlFault, read_yaml

__all__ = ["read_directory", "user_of"]


class _User(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str = Field(pattern=r"^[A-Za-z0-9._@-]{1,128}$")
    name: str = ""
    title: str = ""
    groups: list[str] = Field(default_factory=list)


class _Directory(BaseModel):
    model_config = ConfigDict(extra="forbid")
    users: list[_User]


def read_directory(path: Path) -> Mapping[str, DirectoryUser]:
    """Users by id. Raises: InvalidInput naming the file and the field."""
    try:
        raw = read_yaml(path.read_text("utf-8"))
        parsed = _Directory.model_validate(raw)
    except (OSError, YamlFault) as error:
        raise InvalidInput(f"the directory file {path.name!r} cannot be read", param="access.users") from error
    except ValidationError as error:
        where = ".".join(str(step) for step in error.errors()[0]["loc"])
        raise InvalidInput(
            f"the directory file {path.name!r} is wrong at {where!r}: {plain(error.errors()[0]['msg'])}",
            param="access.users",
        ) from error
    return {user.id: DirectoryUser(user.id, user.name or user.id, frozenset(user.groups)) for user in parsed.users}


def user_of(directory: Mapping[str, DirectoryUser], name: str) -> DirectoryUser:
    """One user. Raises: NotFound, naming the known ones."""
    if name not in directory:
        raise NotFound(
            f"no user {name!r} in the workspace's directory",
            param="as",
            hint=f"known: {', '.join(sorted(directory)) or 'none; set access.users in interlock.yaml'}",
        )
    return directory[name]
