"""Profiles of AWS's shared files: what `~/.aws/config` and `~/.aws/credentials` say about one, joined.

Source: "Shared config and credentials files" and "Assume role credential provider", AWS SDKs and tools reference guide.
"""

from __future__ import annotations

import configparser
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from interlock.core.clock import now
from interlock.core.errors import Misconfigured

__all__ = ["Profiles", "SsoToken", "expiry"]

_MOST_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class SsoToken:
    """What `aws sso login` left behind, and what it is to be exchanged for."""

    token: str = field(repr=False)
    region: str
    account: str
    role: str


class Profiles:
    """The files as they are now.

    Args:
        param: dotted name of the setting to name in errors.
    """

    def __init__(self, environ: Mapping[str, str], *, param: str) -> None:
        self._environ = environ
        self._param = param
        config = self._read("AWS_CONFIG_FILE", "config")
        self._sessions: dict[str, dict[str, str]] = {}
        self._profiles: dict[str, dict[str, str]] = {}
        for name in config.sections():
            values = dict(config.items(name))
            kind, _, rest = name.partition(" ")
            if kind == "profile" and rest:
                self._profiles[rest.strip()] = values
            elif kind == "sso-session" and rest:
                self._sessions[rest.strip()] = values
            elif name == "default":
                self._profiles.setdefault(name, values)
        credentials = self._read("AWS_SHARED_CREDENTIALS_FILE", "credentials")
        for name in credentials.sections():
            # Where both files have something, the credentials file has the keys.
            self._profiles[name] = {**self._profiles.get(name, {}), **dict(credentials.items(name))}

    def get(self, name: str) -> Mapping[str, str] | None:
        """What is said about a profile; None when nothing is."""
        return self._profiles.get(name)

    def sso_token(self, name: str) -> SsoToken | None:
        """The cached token of a profile that signs in by IAM Identity Center; None when it does not.

        Raises: Misconfigured: it is incomplete, or nobody has signed in for too long.
        """
        profile = self._profiles.get(name, {})
        session = profile.get("sso_session")
        said = {**profile, **self._session(name, session)} if session else profile
        start = said.get("sso_start_url")
        if not session and not start:
            return None
        try:
            account, role, region = said["sso_account_id"], said["sso_role_name"], said["sso_region"]
        except KeyError as error:
            raise Misconfigured(f"the AWS profile {name!r} lacks {error.args[0]}", param=self._param) from error
        # The name of a file, not a signature: AWS's own tools take this digest.
        digest = hashlib.sha1((session or start or "").encode(), usedforsecurity=False).hexdigest()
        hint = f"run: aws sso login --profile {name}"
        try:
            found = json.loads(self._text(self._home() / ".aws" / "sso" / "cache" / f"{digest}.json"))
            token, until = str(found["accessToken"]), datetime.fromisoformat(found["expiresAt"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"nobody has signed in for the AWS profile {name!r}"
            raise Misconfigured(why, param=self._param, hint=hint) from error
        if until.tzinfo is None or until <= now():
            raise Misconfigured(f"the sign-in of the AWS profile {name!r} has expired", param=self._param, hint=hint)
        return SsoToken(token, region, account, role)

    def _session(self, profile: str, name: str) -> Mapping[str, str]:
        if name not in self._sessions:
            raise Misconfigured(f"the AWS profile {profile!r} names no sso-session that there is", param=self._param)
        return self._sessions[name]

    def _home(self) -> Path:
        return Path(self._environ.get("HOME") or "~").expanduser()

    def _read(self, variable: str, name: str) -> configparser.RawConfigParser:
        path = Path(self._environ.get(variable) or self._home() / ".aws" / name).expanduser()
        # One bad line must not hide what comes later; AWS's own tools take the last of two equal ones.
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(self._text(path))
        except (OSError, ValueError, configparser.Error):
            # Not there, or not readable: a profile that is asked for by name is then missed by name.
            return configparser.RawConfigParser()
        return parser

    def _text(self, path: Path) -> str:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError("the file is too large")
        return data.decode("utf-8")


# Any: JSON of a service.
def expiry(value: Any) -> datetime | None:
    """When credentials end: seconds, milliseconds or ISO 8601. Raises: ValueError."""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        seconds = float(value)
        return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, tz=now().tzinfo)
    found = datetime.fromisoformat(str(value))
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found
