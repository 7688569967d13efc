"""`interlock keys`, `interlock token`, `interlock accounts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import click

from interlock.cli.session import Session, emit, json_option, pass_session, run, table
from interlock.core.clock import now
from interlock.core.context import Role

if TYPE_CHECKING:
    from interlock.access.types import Account

__all__ = ["accounts", "keys", "token"]

_ROLES = [role.value for role in Role]


def _shown(key: Any) -> dict[str, object]:  # Any: an access.types.ApiKey
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "roles": sorted(key.roles),
        "state": key.state(now()),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
    }


def _account(account: Account) -> dict[str, object]:
    return {
        "username": account.username,
        "roles": sorted(account.roles),
        "groups": sorted(account.groups),
        "disabled": account.disabled,
    }


@click.group()
def keys() -> None:
    """Manage API keys."""


@keys.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, type=click.Choice(_ROLES), help="Role of the key; repeatable.")
@click.option("--days", type=float, help="Life in days (default: no end).")
@json_option
@pass_session
def create(session: Session, name: str, roles: tuple[str, ...], days: float | None, as_json: bool) -> None:
    """Create a key for the service NAME. Its secret is shown once."""

    async def work() -> None:
        async with session.open() as app:
            new = await app.parts.access.create_key(
                app.owner(), name=name, roles=[Role(role) for role in roles], days=days
            )
            if as_json:
                emit({**_shown(new.key), "secret": new.secret})
            else:
                click.echo(new.secret)
                click.secho("Keep it now: it is not stored and not shown again.", err=True, dim=True)

    run(work())


@keys.command("list")
@json_option
@pass_session
def list_keys(session: Session, as_json: bool) -> None:
    """All keys, newest first."""

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.access.keys(app.owner())
            if as_json:
                emit([_shown(key) for key in found])
            else:
                table(
                    ["prefix", "name", "roles", "state", "expires", "last used"],
                    [
                        (
                            k.prefix,
                            k.name,
                            ", ".join(sorted(k.roles)) or "none",
                            k.state(now()),
                            k.expires_at and f"{k.expires_at:%Y-%m-%d %H:%M}",
                            k.last_used_at and f"{k.last_used_at:%Y-%m-%d %H:%M}",
                        )
                        for k in found
                    ],
                )

    run(work())


@keys.command()
@click.argument("key")
@json_option
@pass_session
def revoke(session: Session, key: str, as_json: bool) -> None:
    """Revoke a key by id or prefix, at once."""

    async def work() -> None:
        async with session.open() as app:
            revoked = await app.parts.access.revoke_key(app.owner(), key)
            if as_json:
                emit(_shown(revoked))
            else:
                click.echo(f"{revoked.prefix} ({revoked.name}) is revoked")

    run(work())


@click.group()
def token() -> None:
    """Mint on-behalf-of tokens."""


@token.command()
@click.option("--user", required=True, help="End user's id.")
@click.option("--group", "groups", multiple=True, help="Group; repeatable (default: the directory's).")
@click.option("--conversation", help="Conversation id.")
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Life of the token.")
@json_option
@pass_session
def mint(
    session: Session, user: str, groups: tuple[str, ...], conversation: str | None, minutes: float, as_json: bool
) -> None:
    """A signed token for the header X-Interlock-On-Behalf-Of."""

    async def work() -> None:
        async with session.open() as app:
            access = app.parts.access
            known = access.directory.get(user)
            minted = await access.tokens.mint(
                app.workspace.settings.tenant,
                user=user,
                groups=list(groups) or sorted(known.groups if known else ()),
                conversation=conversation,
                life_s=int(minutes * 60),
            )
            if as_json:
                emit({"token": minted, "header": "X-Interlock-On-Behalf-Of"})
            else:
                click.echo(minted)

    run(work())


@token.command()
@json_option
@pass_session
def secret(session: Session, as_json: bool) -> None:
    """Print the tenant's HMAC secret, for a service that mints its own tokens (interlock.client.mint_token)."""

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.access.signing_secret(app.owner())
            if as_json:
                emit({"tenant": app.workspace.settings.tenant, "kid": "default", "algorithm": "HS256", "secret": found})
            else:
                click.echo(found)
                click.secho("Whoever holds it can speak for every user of this tenant.", err=True, dim=True)

    run(work())


@token.command()
@click.argument("kid")
@click.option("--algorithm", type=click.Choice(["EdDSA", "ES256", "RS256"]), default="EdDSA", show_default=True)
@click.option("--public-key", type=click.File("r"), required=True, help="PEM file of the public key.")
@json_option
@pass_session
def register(session: Session, kid: str, algorithm: str, public_key: TextIO, as_json: bool) -> None:
    """Accept tokens signed by the private half of a public key, under the key id KID."""

    async def work() -> None:
        async with session.open() as app:
            key = await app.parts.access.register_signer(app.owner(), kid, algorithm, public_key.read())
            if as_json:
                emit({"kid": key.kid, "algorithm": key.algorithm})
            else:
                click.echo(f"tokens signed by {key.kid!r} ({key.algorithm}) are accepted")

    run(work())


@token.command()
@json_option
@pass_session
def signers(session: Session, as_json: bool) -> None:
    """Keys that sign or signed on-behalf-of tokens."""

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.access.signers(app.owner())
            if as_json:
                emit(
                    [
                        {
                            "kid": key.kid,
                            "algorithm": key.algorithm,
                            "state": key.state,
                            "created_at": key.created_at,
                            "revoked_at": key.revoked_at,
                        }
                        for key in found
                    ]
                )
            else:
                table(
                    ["key id", "algorithm", "state", "since"],
                    [(k.kid, k.algorithm, k.state, f"{k.revoked_at or k.created_at:%Y-%m-%d %H:%M}") for k in found],
                )

    run(work())


@token.command("revoke")
@click.argument("kid")
@json_option
@pass_session
def revoke_signer(session: Session, kid: str, as_json: bool) -> None:
    """Accept no token signed by KID any more, at once; for `default` a new secret is made when it is next needed."""

    async def work() -> None:
        async with session.open() as app:
            await app.parts.access.revoke_signer(app.owner(), kid)
            if as_json:
                emit({"kid": kid, "state": "revoked"})
            else:
                click.echo(f"tokens signed by {kid!r} are refused from now on")

    run(work())


@click.group()
def accounts() -> None:
    """Manage console accounts."""


@accounts.command("create")
@click.argument("username")
@click.option("--role", "roles", multiple=True, type=click.Choice(_ROLES), default=["viewer"], show_default=True)
@click.option("--group", "groups", multiple=True, help="Group for document permissions; repeatable.")
@click.password_option(help="Asked for when not given.")
@json_option
@pass_session
def create_account(
    session: Session, username: str, roles: tuple[str, ...], groups: tuple[str, ...], password: str, as_json: bool
) -> None:
    """Create an account that can sign in to the console."""

    async def work() -> None:
        async with session.open() as app:
            account = await app.parts.access.accounts.create(
                app.workspace.settings.tenant, username, password, roles=[Role(r) for r in roles], groups=groups
            )
            if as_json:
                emit(_account(account))
            else:
                click.echo(f"{account.username} can sign in ({', '.join(sorted(account.roles))})")

    run(work())


@accounts.command("list")
@json_option
@pass_session
def list_accounts(session: Session, as_json: bool) -> None:
    """All accounts."""

    async def work() -> None:
        async with session.open() as app:
            found = await app.parts.access.accounts.list(app.workspace.settings.tenant)
            if as_json:
                emit([_account(account) for account in found])
            else:
                table(
                    ["username", "roles", "groups", "state"],
                    [
                        (
                            a.username,
                            ", ".join(sorted(a.roles)),
                            ", ".join(sorted(a.groups)),
                            "disabled" if a.disabled else "active",
                        )
                        for a in found
                    ],
                )

    run(work())


@accounts.command("password")
@click.argument("username")
@click.password_option(help="Asked for when not given.")
@json_option
@pass_session
def set_password(session: Session, username: str, password: str, as_json: bool) -> None:
    """Change a password and end the account's sessions."""

    async def work() -> None:
        async with session.open() as app:
            await app.parts.access.accounts.set_password(app.workspace.settings.tenant, username, password)
            if as_json:
                emit({"username": username, "changed": True})
            else:
                click.echo(f"the password of {username} is changed")

    run(work())


@accounts.command("disable")
@click.argument("username")
@json_option
@pass_session
def disable_account(session: Session, username: str, as_json: bool) -> None:
    """Keep an account out and end its sessions, at once."""
    _change(session, username, as_json, disabled=True)


@accounts.command("enable")
@click.argument("username")
@json_option
@pass_session
def enable_account(session: Session, username: str, as_json: bool) -> None:
    """Let a disabled account sign in again."""
    _change(session, username, as_json, disabled=False)


@accounts.command("set")
@click.argument("username")
@click.option(
    "--role", "roles", multiple=True, type=click.Choice(_ROLES), help="New role instead of all old ones; repeatable."
)
@click.option("--group", "groups", multiple=True, help="New group instead of all old ones; repeatable.")
@click.option("--no-groups", is_flag=True, help="Take all groups away.")
@json_option
@pass_session
def set_account(
    session: Session, username: str, roles: tuple[str, ...], groups: tuple[str, ...], no_groups: bool, as_json: bool
) -> None:
    """Give an account other roles or groups and end its sessions, at once."""
    if not roles and not groups and not no_groups:
        raise click.UsageError("say what is to change: --role, --group or --no-groups")
    if groups and no_groups:
        raise click.UsageError("--group and --no-groups exclude each other")
    _change(
        session,
        username,
        as_json,
        roles=[Role(role) for role in roles] if roles else None,
        groups=list(groups) if groups or no_groups else None,
    )


def _change(
    session: Session,
    username: str,
    as_json: bool,
    *,
    roles: list[Role] | None = None,
    groups: list[str] | None = None,
    disabled: bool | None = None,
) -> None:
    async def work() -> None:
        async with session.open() as app:
            changed = await app.parts.access.accounts.change(
                app.workspace.settings.tenant, username, roles=roles, groups=groups, disabled=disabled
            )
            if as_json:
                emit(_account(changed))
            else:
                state = "disabled" if changed.disabled else f"active ({', '.join(sorted(changed.roles))})"
                click.echo(f"{changed.username} is {state}; its sessions have ended")

    run(work())
