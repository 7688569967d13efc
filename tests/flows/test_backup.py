"""Backup and restore of a whole installation, and archives of earlier versions."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from interlock.app import App, open_app
from interlock.core.errors import Conflict, InvalidInput
from interlock.flows.backup import Site, back_up, restore
from interlock.templates import write_template

pytestmark = pytest.mark.anyio

SAMPLE = Path(__file__).parent.parent / "samples" / "archive-1.tar.gz"
"""Made by `interlock backup` of version 0.1.0 on the template `qa`; every later version must be able to restore it."""


def quiet(what: str, done: int) -> None:
    del what, done


def site(app: App) -> Site:
    return Site(app.sql, app.blobs, app.workspace.data, (app.workspace.settings.tenant,), app.embedded_index)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    # The sample's tenant is the name of the folder it was made in.
    write_template("qa", tmp_path / "smp")
    return tmp_path / "smp"


async def test_an_archive_of_the_first_version_is_restored_whole(workspace: Path) -> None:
    async with open_app(workspace) as app:
        report = await restore(site(app), SAMPLE, quiet, replace=False)
        assert not report.rebuild_index
    async with open_app(workspace) as app:
        owner = app.owner()
        assert [info.source for info in await app.parts.knowledge.documents(owner)] == ["welcome.md"]
        assert [key.name for key in await app.parts.access.keys(owner)] == ["sample"]
        assert (await app.parts.governance.verify()).ok
        release = await app.parts.releases.resolve(owner, "app/assistant")
        assert (release.mode, release.channel) == ("frozen", "prod")
        people = {line.end_user for line in await app.parts.governance.lines(owner)}
        assert "ana" in people, "sealed values open with the restored master key"


async def test_a_backup_of_a_restored_workspace_holds_the_same_rows(workspace: Path, tmp_path: Path) -> None:
    async with open_app(workspace) as app:
        restored = await restore(site(app), SAMPLE, quiet, replace=False)
        written = await back_up(site(app), tmp_path / "again.tar.gz", quiet)
    # Where its one channel pointed became the first of the moves that are kept since.
    assert written.rows == restored.rows + 1
    assert written.objects == restored.objects
    assert (tmp_path / "again.tar.gz").stat().st_mode & 0o077 == 0, "an archive holds keys: nobody else may read it"


async def test_a_restore_refuses_a_workspace_with_data_unless_told(workspace: Path) -> None:
    async with open_app(workspace) as app:
        await restore(site(app), SAMPLE, quiet, replace=False)
    async with open_app(workspace) as app:
        with pytest.raises(Conflict):
            await restore(site(app), SAMPLE, quiet, replace=False)
        await restore(site(app), SAMPLE, quiet, replace=True)


async def test_a_damaged_archive_changes_nothing(workspace: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(SAMPLE.read_bytes()[:-3000])
    async with open_app(workspace) as app:
        before = await app.parts.access.create_key(app.owner(), name="before", roles=[], days=None)
        with pytest.raises(InvalidInput):
            await restore(site(app), broken, quiet, replace=True)
        assert [k.id for k in await app.parts.access.keys(app.owner())] == [before.key.id]


async def test_an_archive_cannot_write_outside_the_restore(workspace: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.tar.gz"
    (tmp_path / "payload").write_text("x")
    with tarfile.open(evil, "w:gz") as archive:
        archive.add(tmp_path / "payload", "../../outside")
    async with open_app(workspace) as app:
        with pytest.raises(InvalidInput):
            await restore(site(app), evil, quiet, replace=True)
    assert not (tmp_path / "outside").exists()


async def test_a_backup_never_overwrites_a_file(workspace: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept.tar.gz"
    target.write_text("precious")
    async with open_app(workspace) as app:
        with pytest.raises(Conflict):
            await back_up(site(app), target, quiet)
    assert target.read_text() == "precious"


async def test_an_archive_of_another_tenant_is_refused_before_anything_changes(workspace: Path, tmp_path: Path) -> None:
    async with open_app(workspace) as app:
        await app.parts.access.create_key(app.owner(), name="mine", roles=[], days=None)
        await back_up(site(app), tmp_path / "one.tar.gz", quiet)
    write_template("qa", tmp_path / "other")
    async with open_app(tmp_path / "other") as app:
        with pytest.raises(Conflict) as caught:
            await restore(site(app), tmp_path / "one.tar.gz", quiet, replace=False)
        assert "tenant: smp" in (caught.value.hint or "")
        assert await app.parts.access.keys(app.owner()) == []


async def test_nobody_stays_signed_in_through_a_restore(workspace: Path, tmp_path: Path) -> None:
    async with open_app(workspace) as app:
        accounts, tenant = app.parts.access.accounts, app.workspace.settings.tenant
        await accounts.create(tenant, "ana", "correct horse battery", roles=[])
        cookie, _ = await accounts.sign_in(tenant, "ana", "correct horse battery", "127.0.0.1")
        await back_up(site(app), tmp_path / "signed-in.tar.gz", quiet)
        assert await accounts.session(cookie) is not None
    write_template("qa", tmp_path / "again" / "smp")
    async with open_app(tmp_path / "again" / "smp") as app:
        await restore(site(app), tmp_path / "signed-in.tar.gz", quiet, replace=False)
        assert await app.parts.access.accounts.session(cookie) is None
