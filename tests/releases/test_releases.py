"""Releases: one digest for one behaviour, channels that point, files that are followed, samples that stay readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.core.audit import AuditEvent
from interlock.core.canonical import canonical_bytes
from interlock.core.context import Context, Principal, Role
from interlock.core.errors import Forbidden, InvalidInput, NotFound
from interlock.core.ids import AppName, PrincipalId, TenantId
from interlock.core.release import Release
from interlock.flows.app_files import app_sources
from interlock.gateway.types import RouteSpec
from interlock.guardrails.service import Guardrails
from interlock.knowledge.release import RetrievalSpec
from interlock.prompts.service import render
from interlock.releases.service import Releases, manifest_of
from interlock.releases.types import AppSource
from interlock.stores.blob.files import FileBlobs
from interlock.stores.sql import open_sql
from interlock.testing.workspaces import write_workspace

SAMPLES = Path(__file__).parent / "samples"
ACME = TenantId("acme")
APP = {
    "route": {"targets": ["scripted"], "temperature": 0.5},
    "knowledge": {"collection": "docs"},
    "guardrails": {"rules": [{"id": "r", "detector": "secrets", "at": ["input"], "action": "block"}]},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
COMPONENTS = st.dictionaries(st.text(min_size=1), st.dictionaries(st.text(), JSON, max_size=4), max_size=5)


class Lines:
    def __init__(self):
        self.events: list[AuditEvent] = []

    async def append(self, event):
        self.events.append(event)

    def append_soon(self, event):
        self.events.append(event)


def caller(*roles, tenant=ACME):
    return Context(tenant, Principal(PrincipalId("p"), "user", frozenset(roles or (Role.ADMIN,))))


class House:
    def __init__(self, folder, sql, sources=None):
        self.folder = folder
        self.sql = sql
        self.blobs = FileBlobs(folder / "blobs")
        self.audit = Lines()
        self.releases = Releases(sql, self.blobs, self.audit, sources or self.read())

    def read(self):
        return app_sources(self.folder / "apps", pins=lambda *_: {"embedder": "e1"})

    def edit(self, old, new, file="app.yaml"):
        path = self.folder / "apps" / "helper" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
async def house(tmp_path):
    write_workspace(tmp_path, apps={"helper": APP})
    sql = open_sql(f"sqlite:///{tmp_path / 'control.db'}")
    await sql.migrate()
    house = House(tmp_path, sql)
    yield house
    await house.blobs.close()
    await sql.close()


def shuffled(value):
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(COMPONENTS)
def test_the_digest_does_not_depend_on_the_order_of_keys(components):
    assert manifest_of(shuffled(components)) == manifest_of(components)
    assert manifest_of(json.loads(canonical_bytes(components)))[0] == manifest_of(components)[0]


@given(COMPONENTS.filter(bool), st.data())
def test_the_digest_changes_with_any_component(components, draw):
    kind = draw.draw(st.sampled_from(sorted(components)))
    changed = {**components, kind: {**components[kind], "another key": "x"}}
    gone = {name: value for name, value in components.items() if name != kind}
    added = {**components, kind + "'": {}}
    first, manifest = manifest_of(components)
    for other in (changed, gone, added):
        assert manifest_of(other)[0] != first
    assert {k: d for k, d in manifest_of(changed)[1].items() if k != kind} == {
        k: d for k, d in manifest.items() if k != kind
    }


@pytest.mark.parametrize(
    ("old", "new", "file", "kind"),
    [
        ("0.5", "0.6", "app.yaml", "route"),
        ("scripted", "scripted/other", "app.yaml", "route"),
        ("docs", "papers", "app.yaml", "retrieval"),
        ("secrets", "pii", "app.yaml", "guardrails"),
        ("passages", "documents", "prompt.md", "prompt"),
    ],
)
async def test_a_change_of_a_file_changes_its_component_alone(house, old, new, file, kind):
    before = house.releases.live("helper")
    house.edit(old, new, file)
    after = house.releases.live("helper")
    assert after.id != before.id
    assert {k for k in before.digests if before.digests[k] != after.digests[k]} == {kind}
    house.edit(new, old, file)
    assert house.releases.live("helper").id == before.id


async def test_a_description_is_no_behaviour(house):
    before = house.releases.live("helper")
    path = house.folder / "apps" / "helper" / "app.yaml"
    path.write_text(path.read_text() + "description: other words\n")
    assert house.releases.live("helper").id == before.id


async def test_a_prompt_in_another_folder_is_followed_too(house):
    (house.folder / "shared").mkdir()
    (house.folder / "shared" / "prompt.md").write_text("First.")
    path = house.folder / "apps" / "helper" / "app.yaml"
    path.write_text(path.read_text() + "prompt: ../../shared/prompt.md\n")
    first = house.releases.live("helper")
    (house.folder / "shared" / "prompt.md").write_text("Second, longer.")
    assert house.releases.live("helper").id != first.id


async def test_freezing_the_same_files_again_gives_the_same_release(house):
    first = await house.releases.freeze(caller(), "helper", "one")
    second = await house.releases.freeze(caller(), "helper", "two")
    assert first.id == second.id
    (kept,) = await house.releases.list(caller(), "helper")
    assert kept.note == "one"


async def test_prod_stays_frozen_while_dev_follows_the_files(house):
    releases, ctx = house.releases, caller()
    info = await releases.freeze(ctx, "helper")
    await releases.point(ctx, "helper", "prod", info.id)
    house.edit("0.5", "0.9")
    prod = await releases.resolve(ctx, "app/helper@prod")
    assert (prod.id, prod.mode, prod.components["route"]["temperature"]) == (info.id, "frozen", 0.5)
    assert (await releases.resolve(ctx, "app/helper")).id == info.id  # prod, once it points somewhere
    dev = await releases.resolve(ctx, "app/helper@dev")
    assert (dev.mode, dev.components["route"]["temperature"]) == ("live", 0.9)
    # Another process, whose files are broken, still serves what was frozen.
    (house.folder / "apps" / "helper" / "app.yaml").write_text("route: [")
    fresh = Releases(house.sql, house.blobs, house.audit, house.read())
    assert (await fresh.resolve(ctx, "app/helper@prod")).components == prod.components
    with pytest.raises(InvalidInput, match=r"app\.yaml"):
        await fresh.resolve(ctx, "app/helper@dev")


async def test_a_rollback_is_pointing_back(house):
    releases, ctx = house.releases, caller()
    first = await releases.freeze(ctx, "helper")
    await releases.point(ctx, "helper", "prod", first.id)
    house.edit("0.5", "0.9")
    second = await releases.freeze(ctx, "helper")
    await releases.point(ctx, "helper", "prod", second.id[7:17])
    assert (await releases.resolve(ctx, "app/helper")).id == second.id
    await releases.point(ctx, "helper", "prod", "rel_" + first.id[7:15])
    assert (await releases.resolve(ctx, "app/helper")).id == first.id
    assert [(e.action, e.subject) for e in house.audit.events] == [
        ("release.freeze", first.id),
        ("channel.point", first.id),
        ("release.freeze", second.id),
        ("channel.point", second.id),
        ("channel.point", first.id),
    ]


async def test_channels_are_apart(house):
    releases, ctx = house.releases, caller()
    first = await releases.freeze(ctx, "helper")
    await releases.point(ctx, "helper", "stage", first.id)
    assert (await releases.resolve(ctx, "app/helper@stage")).channel == "stage"
    await releases.point(ctx, "helper", "prod", first.id)
    assert [(await releases.resolve(ctx, f"app/helper@{c}")).channel for c in ("stage", "prod")] == ["stage", "prod"]
    assert [c.name for c in await releases.channels(ctx, "helper")] == ["prod", "stage"]


async def test_what_is_not_there_is_told_with_the_way_on(house):
    releases, ctx = house.releases, caller()
    info = await releases.freeze(ctx, "helper")
    with pytest.raises(NotFound, match="helper"):
        await releases.resolve(ctx, "app/nobody")
    with pytest.raises(NotFound, match="interlock release build"):
        await releases.resolve(ctx, "app/helper@prod")
    with pytest.raises(NotFound):
        await releases.resolve(ctx, "app/helper@nothing")
    with pytest.raises(InvalidInput):
        await releases.point(ctx, "helper", "dev", info.id)
    for release in ("sha256:" + "0" * 64, "", "rel_", info.id[7:12]):
        with pytest.raises(NotFound):
            await releases.point(ctx, "helper", "prod", release)


async def test_roles_and_tenants_are_kept(house):
    info = await house.releases.freeze(caller(), "helper")
    with pytest.raises(Forbidden):
        await house.releases.freeze(caller(Role.VIEWER), "helper")
    with pytest.raises(Forbidden):
        await house.releases.point(caller(Role.DEVELOPER), "helper", "prod", info.id)
    rival = caller(tenant=TenantId("rival"))
    assert await house.releases.list(rival, "helper") == []
    with pytest.raises(NotFound):
        await house.releases.point(rival, "helper", "prod", info.id)
    await house.releases.point(caller(), "helper", "prod", info.id)
    assert (await house.releases.resolve(rival, "app/helper")).mode == "live"


def test_a_broken_app_does_not_keep_the_others_from_opening(tmp_path):
    write_workspace(tmp_path, apps={"good": APP, "bad": {"route": {"targets": []}}, "odd": {"rooute": 1}})
    sources = app_sources(tmp_path / "apps", pins=lambda *_: {})
    assert sorted(sources) == ["bad", "good", "odd"]
    assert sources["good"].load()
    with pytest.raises(InvalidInput, match=r"bad/app\.yaml is wrong at 'route.targets'"):
        sources["bad"].load()


@pytest.mark.parametrize(
    "change",
    [
        {"route": {"targets": ["a"], "temprature": 1}},
        {"route": {"targets": ["a"], "temperature": "hot"}},
        {"guardrails": {"rules": [{"id": "x", "detector": "patterns", "at": ["input"], "patterns": ["("]}]}},
        {"guardrails": "nowhere.yaml"},
        {"channel": "production"},
        {"prompt": "nowhere.md"},
        {"answer": {"strategy": "guess"}},
    ],
    ids=str,
)
def test_unknown_and_wrong_fields_are_refused_when_written(tmp_path, change):
    write_workspace(tmp_path, apps={"helper": {**APP, **change}})
    with pytest.raises((InvalidInput, NotFound)) as caught:
        app_sources(tmp_path / "apps", pins=lambda *_: {})["helper"].load()
    assert "yaml" in caught.value.message or "prompt" in caught.value.message


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda p: p.stem)
async def test_a_release_stored_by_an_earlier_version_still_serves(house, sample):
    stored = json.loads(sample.read_text())
    components = stored["components"]
    release_id, manifest = manifest_of(components)
    assert release_id == stored["id"], "the digest of stored components must never change"
    assert manifest == stored["manifest"]
    for value in (*components.values(), manifest):
        await house.blobs.put(ACME, canonical_bytes(value))
    source = AppSource(AppName("helper"), "", lambda: components)
    releases = Releases(house.sql, house.blobs, house.audit, {"helper": source})
    await releases.freeze(caller(), "helper")
    await releases.point(caller(), "helper", "prod", release_id)
    again = Releases(house.sql, house.blobs, house.audit, {"helper": source})
    served = await again.resolve(caller(), "app/helper@prod")
    check_readable(served)
    # A later version may have added fields; after a rollback to this one they are passed over.
    newer = {kind: {**value, "a_later_field": {"x": 1}} for kind, value in components.items()}
    check_readable(Release(release_id, AppName("helper"), "prod", "frozen", newer))


def check_readable(release):
    assert RouteSpec.model_validate(release.components["route"], extra="ignore").targets
    assert RetrievalSpec.model_validate(release.components["retrieval"], extra="ignore").collection
    assert Guardrails().spec(release).rules
    assert Guardrails.rules(release)
    assert Guardrails().check_output(release, "plain words") == "plain words"
    assert "2026" not in render(caller(), release)
