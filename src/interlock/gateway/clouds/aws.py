"""Where AWS credentials come from, in the order AWS's own tools look.

Environment; profiles of the shared files (roles by AssumeRole or web identity, IAM Identity Center, keys); web identity
(EKS); container endpoint (ECS, EKS Pod Identity); instance metadata (EC2, IMDSv2 only). Temporary ones are read anew
five minutes before they expire, and used until they do while that fails. Source: "Standardized credential providers",
AWS SDKs and tools reference guide.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from interlock.core.clock import now
from interlock.core.errors import InterlockError, Misconfigured, Unavailable
from interlock.gateway.clouds._call import call
from interlock.gateway.clouds.aws_profiles import Profiles, SsoToken, expiry
from interlock.gateway.clouds.sigv4 import AwsKeys, sign

__all__ = ["AwsCredentials", "region_of"]

_EARLY = timedelta(minutes=5)
_FAILED_S = 2.0
_MOST_ROLES = 5
_CONTAINER = "http://169.254.170.2"
_INSTANCE = "http://169.254.169.254"
_CONTAINER_HOSTS = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "127.0.0.1", "::1"}


def region_of(environ: Mapping[str, str]) -> str | None:
    """The region that the environment names."""
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None


class AwsCredentials:
    """Keys of this machine's principal, read anew before they expire.

    Args:
        profile: of the shared files; given, nothing else is looked at.
        param: dotted name of the setting to name in errors.
    """

    def __init__(self, environ: Mapping[str, str], *, profile: str | None = None, param: str, region: str) -> None:
        self._environ = environ
        self._profile = profile
        self._param = param
        self._region = region
        self._keys: AwsKeys | None = None
        self._failed: tuple[float, InterlockError | None] = (0.0, None)
        self._reading = asyncio.Lock()  # many first calls must not become many reads of a metadata endpoint

    async def keys(self) -> AwsKeys:
        """Credentials to sign with. May read files and call metadata endpoints. Raises: Misconfigured, Unavailable."""
        async with self._reading:
            known = self._keys
            if known is not None and (known.expires_at is None or known.expires_at - _EARLY > now()):
                return known
            at, failed = self._failed
            if failed is not None and time.monotonic() - at < _FAILED_S:
                # Those who wait behind a failed call do not each make it again.
                return self._still_good(known, failed)
            try:
                self._keys = known = await self._read()
            except InterlockError as error:
                self._failed = (time.monotonic(), error)
                return self._still_good(known, error)
            return known

    @staticmethod
    def _still_good(known: AwsKeys | None, failed: InterlockError) -> AwsKeys:
        """What was read before, as long as it holds. Raises: `failed`."""
        if known is None or known.expires_at is None or known.expires_at <= now():
            raise failed
        return known

    def forget(self) -> bool:
        """Read them anew next time; False when none were read yet."""
        had = self._keys is not None
        self._keys = None
        self._failed = (0.0, None)
        return had

    async def _read(self) -> AwsKeys:
        env = self._environ
        if not self._profile and env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY"):
            return self._from_environment()
        profiles = Profiles(env, param=self._param)
        name = self._profile or env.get("AWS_PROFILE") or "default"
        if profiles.get(name) is not None and (found := await self._from_profile(profiles, name, ())):
            return found
        if not self._profile:
            if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") and env.get("AWS_ROLE_ARN"):
                session = env.get("AWS_ROLE_SESSION_NAME") or "interlock"
                return await self._by_web_identity(env["AWS_ROLE_ARN"], env["AWS_WEB_IDENTITY_TOKEN_FILE"], session)
            if self._has_container:
                return await self._from_container()
            if env.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and (found := await self._from_instance()):
                return found
        raise Misconfigured(
            f"no AWS credentials were found{f' for the profile {name!r}' if self._profile else ''}",
            param=self._param,
            hint="export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run: aws configure",
        )

    @property
    def _has_container(self) -> bool:
        return any(self._environ.get(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI") for kind in ("RELATIVE", "FULL"))

    def _from_environment(self) -> AwsKeys:
        env = self._environ
        try:
            keys = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
        except KeyError as error:
            raise Misconfigured("the environment holds no AWS keys", param=self._param) from error
        return AwsKeys(*keys, env.get("AWS_SESSION_TOKEN") or None)

    async def _from_profile(self, profiles: Profiles, name: str, seen: tuple[str, ...]) -> AwsKeys | None:
        """Credentials of a profile; None when it holds nothing that leads to some."""
        said = profiles.get(name)
        if said is None:
            raise Misconfigured(f"there is no AWS profile {name!r}", param=self._param, hint="see ~/.aws/config")
        role = said.get("role_arn")
        # A profile may be its own source: its keys then take the role.
        if role and name not in seen:
            session = said.get("role_session_name") or "interlock"
            if file := said.get("web_identity_token_file"):
                return await self._by_web_identity(role, file, session)
            base = await self._source(profiles, name, said, seen)
            return await self._by_role(base, role, session, said)
        if token := profiles.sso_token(name):
            return await self._by_sso(token)
        if "aws_access_key_id" in said and "aws_secret_access_key" in said:
            keys = said["aws_access_key_id"], said["aws_secret_access_key"]
            return AwsKeys(*keys, said.get("aws_session_token"))
        if "credential_process" in said:
            raise Misconfigured(
                f"the AWS profile {name!r} starts a program for its credentials, which is not done here",
                param=self._param,
                hint="use role_arn, IAM Identity Center or keys",
            )
        return None

    async def _source(self, profiles: Profiles, name: str, said: Mapping[str, str], seen: tuple[str, ...]) -> AwsKeys:
        """What signs the call that takes a role."""
        if said.get("mfa_serial"):
            raise Misconfigured(
                f"the AWS profile {name!r} asks for a one-time code, which a server cannot type",
                param=self._param,
                hint="use a role that needs none",
            )
        source, kind = said.get("source_profile"), said.get("credential_source")
        found: AwsKeys | None = None
        if source:
            if len(seen) >= _MOST_ROLES or (source in seen and source != name):
                raise Misconfigured(f"the AWS profiles of {name!r} lead in a circle", param=self._param)
            found = await self._from_profile(profiles, source, (*seen, name))
        elif kind == "Environment":
            found = self._from_environment()
        elif kind == "EcsContainer":
            found = await self._from_container()
        elif kind == "Ec2InstanceMetadata":
            found = await self._from_instance()
        if found is None:
            raise Misconfigured(
                f"the AWS profile {name!r} has no credentials to take its role with",
                param=self._param,
                hint="set source_profile, or credential_source: Environment, EcsContainer or Ec2InstanceMetadata",
            )
        return found

    async def _by_role(self, base: AwsKeys, role: str, session: str, said: Mapping[str, str]) -> AwsKeys:
        form = {"Action": "AssumeRole", "RoleArn": role, "RoleSessionName": session}
        if said.get("external_id"):
            form["ExternalId"] = said["external_id"]
        if said.get("duration_seconds"):
            form["DurationSeconds"] = said["duration_seconds"]
        return await self._sts(form, signed_by=base)

    async def _by_web_identity(self, role: str, file: str, session: str) -> AwsKeys:
        try:
            # Read each time: whoever mounts it renews it.
            home = Path(self._environ.get("HOME") or "~").expanduser()
            path = home / file[2:] if file.startswith("~/") else Path(file)
            token = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(
                f"the web identity token cannot be read: {type(error).__name__}", param=self._param
            ) from error
        form = {"Action": "AssumeRoleWithWebIdentity", "RoleArn": role, "RoleSessionName": session}
        return await self._sts({**form, "WebIdentityToken": token}, signed_by=None)

    async def _sts(self, form: Mapping[str, str], *, signed_by: AwsKeys | None) -> AwsKeys:
        what, action = "AWS STS", form["Action"]
        url = self._environ.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{self._region}.{_domain(self._region)}"
        body = urlencode({**form, "Version": "2011-06-15"}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if signed_by is not None:
            headers |= sign(
                "POST",
                url,
                headers=headers,
                body=body,
                keys=signed_by,
                region=self._region,
                service="sts",
                at=now(),
            )
        headers["accept"] = "application/json"
        answer = await call("POST", url, what=what, headers=headers, body=body)
        if answer.status != 200:
            raise self._refused(what, answer.status)
        try:
            found = answer.json(what)[f"{action}Response"][f"{action}Result"]["Credentials"]
            return AwsKeys(
                found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], expiry(found["Expiration"])
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Unavailable(f"{what} sent no credentials", code="secret_store_unavailable") from error

    async def _by_sso(self, token: SsoToken) -> AwsKeys:
        what = "AWS IAM Identity Center"
        base = self._environ.get("AWS_ENDPOINT_URL_SSO") or f"https://portal.sso.{token.region}.{_domain(token.region)}"
        query = urlencode({"role_name": token.role, "account_id": token.account})
        url = f"{base.rstrip('/')}/federation/credentials?{query}"
        answer = await call("GET", url, what=what, headers={"x-amz-sso_bearer_token": token.token})
        if answer.status != 200:
            raise self._refused(what, answer.status)
        try:
            found = answer.json(what)["roleCredentials"]
            return AwsKeys(
                found["accessKeyId"], found["secretAccessKey"], found["sessionToken"], expiry(found["expiration"])
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Unavailable(f"{what} sent no credentials", code="secret_store_unavailable") from error

    async def _from_container(self) -> AwsKeys:
        url = self._environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") or ""
        if relative := self._environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
            url = _CONTAINER + relative
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _CONTAINER_HOSTS:
            # AWS's own tools refuse it too: the token must not leave the machine in the clear.
            raise Misconfigured("the container credentials are at a foreign address", param=self._param)
        headers: dict[str, str] = {}
        token = self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN") or ""
        if file := self._environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
            try:
                token = Path(file).read_text("utf-8").strip()
            except OSError as error:
                raise Misconfigured(f"the container token cannot be read: {error.strerror}", param=self._param) from (
                    error
                )
        if token:
            headers["authorization"] = token
        answer = await call("GET", url, what="the container's credentials endpoint", headers=headers, timeout_s=2.0)
        if answer.status != 200:
            raise self._refused("the container's credentials endpoint", answer.status)
        return _temporary(answer.json("the container's credentials endpoint"))

    async def _from_instance(self) -> AwsKeys | None:
        base = (self._environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _INSTANCE).rstrip("/")
        what = "the instance metadata"
        try:
            token = await call(
                "PUT",
                f"{base}/latest/api/token",
                what=what,
                headers={"x-aws-ec2-metadata-token-ttl-seconds": "300"},
                timeout_s=1.0,
            )
        except Unavailable:
            # Not on EC2.
            return None
        if token.status != 200:
            return None
        headers = {"x-aws-ec2-metadata-token": token.body.decode("latin-1").strip()}
        listing = f"{base}/latest/meta-data/iam/security-credentials/"
        roles = await call("GET", listing, what=what, headers=headers, timeout_s=1.0)
        if roles.status != 200 or not roles.body.strip():
            return None
        role = quote(roles.body.decode("utf-8", "replace").split("\n")[0].strip(), safe="")
        answer = await call("GET", listing + role, what=what, headers=headers, timeout_s=1.0)
        if answer.status != 200:
            raise self._refused(what, answer.status)
        return _temporary(answer.json(what))

    def _refused(self, what: str, status: int) -> Misconfigured | Unavailable:
        if status >= 500:
            return Unavailable(f"{what} answered {status}", code="secret_store_unavailable")
        return Misconfigured(f"{what} answered {status}", param=self._param)


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"


def _temporary(found: Any) -> AwsKeys:
    try:
        return AwsKeys(
            found["AccessKeyId"], found["SecretAccessKey"], found.get("Token"), expiry(found.get("Expiration"))
        )
    except (AttributeError, KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise Unavailable("an AWS endpoint sent no credentials", code="secret_store_unavailable") from error
