"""The audit log through its door: what was written stays, and whoever changes it is found out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import interlock.testing.postgres
from interlock.core.audit import AuditEvent
from interlock.core.canonical import canonical_bytes
from interlock.core.context import Context, EndUser, Principal
from interlock.core.errors import Misconfigured, NotFound
from interlock.core.ids import PrincipalId, TenantId
from interlock.core.sealing import Sealer
from interlock.governance.merkle import verify_inclusion
from interlock.governance.service import Governance, payload_of
from interlock.governance.signing import HeadSigner
from interlock.governance.store import audit_heads, audit_lines, audit_tree
from interlock.governance.subjects import Subjects
from interlock.stores.sql import open_sql
from interlock.testing.postgres import fresh_database

postgres_server = interlock.testing.postgres.postgres_server
ACME, RIVAL = TenantId("acme"), TenantId("rival")
EVENT = AuditEvent(ACME, "key_1", "chat.answer", "sha256:0", "ok", {"tokens": 5, "app": "x"}, end_user="ada")


def caller(tenant=ACME):
    return Context(tenant, Principal(PrincipalId("p"), "user"))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def place(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'control.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("postgres_server"))
    sql = open_sql(url)
    await sql.migrate()
    yield sql, url
    await sql.close()


def log_on(sql, folder):
    return Governance(sql, HeadSigner(folder / "audit.key"), Subjects(sql, Sealer(folder / "master.key")))


@pytest.fixture
async def log(place, tmp_path):
    governance = log_on(place[0], tmp_path)
    yield governance
    await governance.close()


async def fill(log, lines=10):
    for number in range(lines):
        await log.append(replace(EVENT, subject=f"s{number}", end_user=f"user{number % 3}"))


async def test_lines_read_back_as_they_were_written(log):
    await log.append(EVENT)
    (line,) = await log.lines(caller())
    assert (line.seq, line.actor, line.action, line.outcome, line.end_user) == (0, "key_1", "chat.answer", "ok", "ada")
    assert (line.details, line.subject, line.at) == ({"tokens": 5, "app": "x"}, "sha256:0", EVENT.at)
    assert await log.lines(caller(RIVAL)) == []


async def test_an_untouched_log_verifies(log):
    assert (await log.verify()).ok
    await fill(log)
    found = await log.verify()
    assert (found.ok, found.size, found.problems) == (True, 10, ())
    head = await log.head()
    assert (head.size, head.root) == (10, found.root)


async def test_lines_queued_together_share_a_head_and_keep_their_order(log, place):
    for number in range(25):
        log.append_soon(replace(EVENT, subject=f"s{number}"))
    assert log.waiting == 25
    await log.flush()
    assert log.waiting == 0
    assert [line.subject for line in await log.lines(caller())] == [f"s{n}" for n in range(24, -1, -1)]
    assert await place[0].read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(audit_heads))) == 1


async def test_pages_and_actions_are_kept_apart(log):
    await fill(log)
    await log.append(replace(EVENT, action="key.create"))
    assert [line.seq for line in await log.lines(caller(), before=5, limit=3)] == [4, 3, 2]
    assert [line.seq for line in await log.lines(caller(), action="key.create")] == [10]


async def test_every_line_has_a_proof_under_the_head(log):
    await fill(log, 13)
    for line in await log.lines(caller()):
        head, path = await log.prove(line.seq)
        proof = [bytes.fromhex(node) for node in path]
        assert verify_inclusion(bytes.fromhex(line.leaf), line.seq, head.size, proof, bytes.fromhex(head.root))
    for seq in (13, -1, 10**30):
        with pytest.raises(NotFound):
            await log.prove(seq)


CHANGES = {
    "a line's data": lambda c: c.execute(
        sa.update(audit_lines).where(audit_lines.c.seq == 3).values(data=b'{"v":1}')
    ),
    "a line's data and leaf": lambda c: c.execute(
        sa.update(audit_lines).where(audit_lines.c.seq == 3).values(data=b"{}", leaf=bytes(32))
    ),
    "a line's leaf": lambda c: c.execute(sa.update(audit_lines).where(audit_lines.c.seq == 3).values(leaf=bytes(32))),
    "a line's tenant": lambda c: c.execute(sa.update(audit_lines).where(audit_lines.c.seq == 3).values(tenant="z")),
    "a line's action": lambda c: c.execute(sa.update(audit_lines).where(audit_lines.c.seq == 3).values(action="z")),
    "a line's time": lambda c: c.execute(
        sa.update(audit_lines).where(audit_lines.c.seq == 3).values(at=EVENT.at.replace(year=2001))
    ),
    "a missing line": lambda c: c.execute(sa.delete(audit_lines).where(audit_lines.c.seq == 3)),
    "the order of two lines": lambda c: [
        c.execute(sa.update(audit_lines).where(audit_lines.c.seq == old).values(seq=new))
        for old, new in ((3, 99), (4, 3), (99, 4))
    ],
    "a line put in front": lambda c: [
        c.execute(sa.update(audit_lines).where(audit_lines.c.seq == n).values(seq=n + 1)) for n in range(9, -1, -1)
    ],
    "the last line": lambda c: c.execute(sa.delete(audit_lines).where(audit_lines.c.seq == 9)),
    "a head's root": lambda c: c.execute(sa.update(audit_heads).where(audit_heads.c.size == 5).values(root=bytes(32))),
    "a head's time": lambda c: c.execute(
        sa.update(audit_heads).where(audit_heads.c.size == 5).values(at=EVENT.at.replace(year=2001))
    ),
    "a head's signature": lambda c: c.execute(
        sa.update(audit_heads).where(audit_heads.c.size == 5).values(signature="AAAA")
    ),
    "a head of more lines": lambda c: c.execute(
        sa.update(audit_heads).where(audit_heads.c.size == 10).values(size=11)
    ),
    "the newest head": lambda c: c.execute(sa.delete(audit_heads).where(audit_heads.c.size == 10)),
    "every head": lambda c: c.execute(sa.delete(audit_heads)),
    "the frontier": lambda c: c.execute(sa.update(audit_tree).values(frontier=bytes(64))),
    "the frontier's size": lambda c: c.execute(sa.update(audit_tree).values(size=9)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_behind_its_back_is_found(log, place, change):
    await fill(log)
    await place[0].write(lambda c: CHANGES[change](c) and None)
    found = await log.verify()
    assert not found.ok
    assert found.problems


async def cut_off(sql, folder, keep):
    """What an intruder with the signing key would do: drop the newest lines and make the rest look whole."""

    def cut(connection):
        lines = connection.execute(sa.select(audit_lines).where(audit_lines.c.seq < keep)).mappings().all()
        for table in (audit_lines, audit_heads, audit_tree):
            connection.execute(sa.delete(table))
        return [dict(line) for line in lines]

    lines = await sql.write(cut)
    again = log_on(sql, folder)
    for _ in lines:
        await again.append(EVENT)
    return again


async def test_a_rewritten_log_is_found_by_a_head_kept_elsewhere(log, place, tmp_path):
    await fill(log)
    kept = await log.head()
    forged = await cut_off(place[0], tmp_path, 6)
    assert (await forged.verify()).ok  # whoever holds the signing key can forge a whole log
    found = await forged.verify(size=kept.size, root=kept.root)
    assert not found.ok
    assert "cut off or rewritten" in found.problems[-1]
    await forged.close()


async def test_a_log_that_grew_still_holds_the_head_kept_elsewhere(log):
    await fill(log, 4)
    kept = await log.head()
    await fill(log, 7)
    assert (await log.verify(size=kept.size, root=kept.root)).ok
    assert (await log.verify(size=kept.size, root=kept.root.upper())).ok
    assert not (await log.verify(size=3, root=kept.root)).ok


async def test_another_signing_key_is_found(log, place, tmp_path):
    await fill(log)
    other = Governance(
        place[0], HeadSigner(tmp_path / "other.key"), Subjects(place[0], Sealer(tmp_path / "master.key"))
    )
    found = await other.verify()
    assert not found.ok
    assert "not signed by this workspace's key" in found.problems[0]
    (tmp_path / "broken.key").write_bytes(b"x")
    with pytest.raises(Misconfigured):
        HeadSigner(tmp_path / "broken.key").public_key  # noqa: B018 - reading it is the test


async def test_a_person_is_forgotten_and_every_proof_still_holds(log, place):
    await fill(log)
    before = await log.head()
    stored = await place[0].read(lambda c: list(c.scalars(sa.select(audit_lines.c.data))))
    assert not any(b"user1" in data for data in stored)
    assert await log.forget(ACME, "user1")
    assert not await log.forget(ACME, "user1")
    assert {line.end_user for line in await log.lines(caller())} == {"user0", "user2", "erased"}
    assert (await log.verify(size=before.size, root=before.root)).ok
    head, path = await log.prove(1)
    line = (await log.lines(caller(), before=2, limit=1))[0]
    proof = [bytes.fromhex(node) for node in path]
    assert verify_inclusion(bytes.fromhex(line.leaf), 1, head.size, proof, bytes.fromhex(head.root))
    # Seen again, the person is somebody new; what was erased stays erased.
    await log.append(replace(EVENT, end_user="user1"))
    assert [line.end_user for line in await log.lines(caller(), limit=10)].count("user1") == 1


async def test_forgetting_in_one_tenant_leaves_the_other_alone(log):
    await log.append(replace(EVENT, tenant=ACME))
    await log.append(replace(EVENT, tenant=RIVAL))
    await log.forget(ACME, "ada")
    assert (await log.lines(caller(RIVAL)))[0].end_user == "ada"


async def test_a_record_is_written_on_every_exit(log):
    ctx = caller().on_behalf_of(EndUser("ada"))
    endings = [None, NotFound("x"), ValueError("y"), asyncio.CancelledError()]

    async def end(ending):
        async with log.record(ctx, None, action="test.it") as record:
            record.set(n=1)
            if ending is not None:
                raise ending

    await end(None)
    for ending in endings[1:]:
        with pytest.raises(type(ending)):
            await end(ending)
    lines = await log.lines(ctx)
    assert [line.outcome for line in reversed(lines)] == ["ok", "not_found", "internal_error", "client_left"]
    assert all(line.details == {"n": 1} and line.end_user == "ada" for line in lines)


async def test_a_flush_that_is_cancelled_writes_each_line_once(log):
    for number in range(50):
        log.append_soon(replace(EVENT, subject=f"s{number}"))
    tasks = [asyncio.ensure_future(log.flush()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await log.flush()
    assert sorted(line.subject for line in await log.lines(caller())) == sorted(f"s{n}" for n in range(50))
    assert (await log.verify()).ok


WRITER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_governance import EVENT, log_on, replace
from interlock.stores.sql import open_sql

async def main(url, folder, name, lines):
    sql = open_sql(url)
    log = log_on(sql, Path(folder))
    for n in range(int(lines)):
        log.append_soon(replace(EVENT, subject=f"{{name}}-{{n}}", end_user=f"u{{n % 4}}"))
        if n % 3 == 0:
            await log.flush()
    await log.close()
    await sql.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_append_together_leave_no_gap(place, tmp_path):
    sql, url = place
    code = WRITER.format(path=[str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-W", "ignore", "-c", code, url, str(tmp_path)]

    def run():
        writers = [
            subprocess.Popen([*command, name, "40"], stderr=subprocess.PIPE, text=True) for name in ("one", "two")
        ]
        return [(writer.communicate()[1], writer.returncode) for writer in writers]

    for errors, code in await asyncio.to_thread(run):
        assert code == 0, errors[-3000:]
    log = log_on(sql, tmp_path)
    found = await log.verify()
    assert (found.ok, found.size, found.problems) == (True, 80, ())
    lines = await log.lines(caller(), limit=1000)
    assert [line.seq for line in lines] == list(range(79, -1, -1))
    for name in ("one", "two"):
        mine = [line.subject for line in reversed(lines) if line.subject.startswith(name + "-")]
        assert mine == [f"{name}-{n}" for n in range(40)]
    await log.close()


@given(st.text(), st.dictionaries(st.text(), st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_a_line_is_hashed_as_canonical_json(subject, details):
    event = replace(EVENT, subject=subject, details=details)
    expected = {
        "v": 1, "tenant": "acme", "at": event.at.isoformat(), "actor": "key_1", "end_user": "", "action": "chat.answer",
        "subject": subject, "outcome": "ok", "details": details, "trace_id": "",
    }  # fmt: skip
    assert payload_of(event, "") == canonical_bytes(expected)
