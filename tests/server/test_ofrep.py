"""Flags over the OpenFeature Remote Evaluation Protocol, by plain HTTP and by the OpenFeature SDK itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagEvaluationDetails, Reason
from openfeature.hook import Hook, HookContext, HookHints

from interlock.access.keys import Keys
from interlock.app import open_app
from interlock.client.openfeature import InterlockProvider
from interlock.core.context import Role
from interlock.core.ids import TenantId
from interlock.flows.experiment import plan
from interlock.flows.flags import Unresolved, evaluate_all
from interlock.releases.experiments.types import ExperimentSpec
from interlock.releases.flags.types import FlagSpec, Resolution
from interlock.testing.servers import run_server
from interlock.testing.workspaces import write_workspace

AT = "/ofrep/v1/evaluate/flags"
FLAGS = {
    "banner": {"variants": {"calm": "All is well", "storm": "We are slow today"}, "default": "calm"},
    "gone": {"variants": {"yes": True}, "default": "yes", "enabled": False},
}
APP_FLAGS = {
    "long_answers": {
        "variants": {"long": True, "short": False},
        "default": "short",
        "rules": [{"when": {"groups": "staff"}, "variant": "long"}, {"split": {"long": 25, "short": 75}}],
    },
    "limit": {
        "variants": {"few": 3, "many": 12.5},
        "default": "few",
        "rules": [{"when": {"plan": ["pro", "max"]}, "variant": "many"}],
    },
    "theme": {
        "variants": {"control": {"colour": "blue"}, "terse": {"colour": "red"}},
        "default": "control",
        "rules": [{"arm_of": "helper"}],
    },
}


class House(NamedTuple):
    url: str
    keys: dict[str, str]
    releases: tuple[str, str]

    def ask(self, path: str, context: Any = None, *, who: str = "app", **headers: str) -> httpx2.Response:
        body = {} if context is None else {"context": context}
        sent = {"authorization": f"Bearer {self.keys[who]}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return httpx2.post(self.url + path, json=body, headers=sent, timeout=30, trust_env=False)

    def flag(self, key: str, **context: Any) -> Any:
        answer = self.ask(f"{AT}/{key}", context)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def _begin(root: Path) -> tuple[dict[str, str], tuple[str, str]]:
    async with open_app(root) as app:
        releases = []
        for prompt in ("Be kind.", "Be terse."):
            (root / "apps" / "helper" / "prompt.md").write_text(prompt)
            releases.append((await app.parts.releases.freeze(app.owner(), "helper")).id)
        await app.parts.releases.point(app.owner(), "helper", "prod", releases[0])
        spec = {
            "name": "shorter",
            "app": "helper",
            "arms": [{"name": "control"}, {"name": "terse", "release": releases[1]}],
            "traffic": 50,
            "primary": {"measure": "declined", "effect": 0.1},
        }
        planned = await plan(app.parts, app.owner(), ExperimentSpec.model_validate(spec))
        await app.parts.releases.start_experiment(app.owner(), planned.id)
        store = Keys(app.sql)
        keys = {
            name: (
                await store.create(TenantId(tenant), name=name, roles=[Role.VIEWER], by="test", expires_at=None)
            ).secret
            for name, tenant in (("app", "acme"), ("rival", "rival"))
        }
        return keys, (releases[0], releases[1])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    route = {"route": {"targets": ["scripted/m"]}}
    root = write_workspace(
        tmp_path_factory.mktemp("flags") / "workspace",
        settings={
            "gateway": {"providers": {"scripted": {"kind": "scripted", "script": [{"reply": "ok"}]}}, "detect": False},
            "releases": {"flags": FLAGS},
        },
        apps={"helper": {**route, "flags": APP_FLAGS}, "secret": {**route, "tenants": ["acme"]}},
    )
    keys, releases = asyncio.run(_begin(root))
    with run_server(root) as server:
        yield House(server.url, keys, releases)


def test_declared_flags_tell_value_variant_and_reason(house: House) -> None:
    assert house.flag("banner") == {"key": "banner", "value": "All is well", "variant": "calm", "reason": "STATIC"}
    assert house.flag("gone") == {"key": "gone", "reason": "DISABLED"}
    staff = house.flag("helper.long_answers", groups=["staff", "it"])
    assert (staff["value"], staff["variant"], staff["reason"]) == (True, "long", "TARGETING_MATCH")
    assert house.flag("helper.limit", plan="free")["value"] == 3
    assert house.flag("helper.limit", plan="max")["value"] == 12.5
    assert house.flag("helper.limit")["reason"] == "DEFAULT"


def test_a_split_is_sticky_and_has_its_shares(house: House) -> None:
    drawn = [house.flag("helper.long_answers", targetingKey=f"person-{n}") for n in range(200)]
    assert {each["reason"] for each in drawn} == {"SPLIT"}
    assert 25 <= sum(each["value"] for each in drawn) <= 80
    assert [house.flag("helper.long_answers", targetingKey=f"person-{n}") for n in range(20)] == drawn[:20]
    nobody = house.ask(f"{AT}/helper.long_answers", {})
    assert (nobody.status_code, nobody.json()["errorCode"]) == (400, "TARGETING_KEY_MISSING")


def test_release_channel_and_arm_are_those_that_serve_the_unit(house: House) -> None:
    control, terse = house.releases
    seen: dict[str | None, int] = {}
    for n in range(60):
        arm = house.flag("helper.arm", targetingKey=f"person-{n}")
        release = house.flag("helper.release", targetingKey=f"person-{n}")
        theme = house.flag("helper.theme", targetingKey=f"person-{n}")
        seen[arm.get("value")] = seen.get(arm.get("value"), 0) + 1
        if "value" in arm:
            assert arm["reason"] == release["reason"] == theme["reason"] == "SPLIT"
            assert release["value"] == {"control": control, "terse": terse}[arm["value"]]
            assert release["variant"] == theme["variant"] == arm["value"]
            assert arm["metadata"]["rollout"].startswith("exp_")
        else:
            assert (arm["reason"], release["reason"], theme["reason"]) == ("DEFAULT", "STATIC", "DEFAULT")
            assert release["value"] == control
    assert set(seen) == {None, "control", "terse"}
    channel = house.flag("helper.channel")
    assert (channel["value"], channel["reason"]) == ("prod", "STATIC")
    assert house.flag("secret.channel")["value"] == "dev"


def test_bulk_has_every_flag_and_an_etag_that_changes_with_them(house: House) -> None:
    first = house.ask(AT, {"targetingKey": "person-1"})
    assert first.status_code == 200
    keys = [each["key"] for each in first.json()["flags"]]
    assert {"banner", "gone", "helper.limit", "helper.release", "secret.arm"} <= set(keys)
    assert keys == sorted(keys)
    tag = first.headers["etag"]
    again = house.ask(AT, {"targetingKey": "person-1"}, if_none_match=f'"other", {tag}')
    assert (again.status_code, again.content) == (304, b"")
    other = house.ask(AT, {"targetingKey": "person-1", "plan": "max"}, if_none_match=tag)
    assert (other.status_code, other.headers["etag"] == tag) == (200, False)
    without = {each["key"]: each for each in house.ask(AT, {}).json()["flags"]}
    assert without["helper.long_answers"]["errorCode"] == "TARGETING_KEY_MISSING", "one fails, the others do not"
    assert without["banner"]["value"] == "All is well"


def test_what_cannot_be_asked_is_told_in_the_protocols_words(house: House) -> None:
    for key in ("nothing", "helper.nothing", "nobody.release", "helper@stage.release"):
        answer = house.ask(f"{AT}/{key}", {})
        assert (answer.status_code, answer.json()["errorCode"], answer.json()["key"]) == (404, "FLAG_NOT_FOUND", key)
    for context in ("text", {"targetingKey": 7}, {"unit": "request"}, {"groups": "staff"}):
        answer = house.ask(f"{AT}/banner", context)
        assert (answer.status_code, answer.json()["errorCode"]) == (400, "INVALID_CONTEXT"), context
        assert house.ask(AT, context).json()["errorCode"] == "INVALID_CONTEXT"
    broken = httpx2.post(
        house.url + AT,
        content=b"{",
        headers={"authorization": f"Bearer {house.keys['app']}", "content-type": "application/json"},
        trust_env=False,
    )
    assert (broken.status_code, broken.json()["errorCode"]) == (400, "PARSE_ERROR")
    assert house.ask(f"{AT}/secret.release", {}, who="rival").status_code == 404, "an app of another tenant"
    assert not any("secret" in each["key"] for each in house.ask(AT, {}, who="rival").json()["flags"])
    refused = httpx2.post(house.url + AT, json={}, headers={"authorization": "Bearer il_wrong"}, trust_env=False)
    assert refused.status_code == 401
    told = httpx2.get(
        house.url + "/ofrep/v1/configuration", headers={"x-api-key": house.keys["app"]}, trust_env=False
    ).json()
    assert told["name"] == "Interlock"


class Recording(Hook):
    """What a hook is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None]] = []

    def before(self, hook_context: HookContext, hints: HookHints) -> EvaluationContext | None:
        self.seen.append(("before", hook_context.flag_key, None))
        return EvaluationContext(attributes={"plan": "max"})

    def after(self, hook_context: HookContext, details: FlagEvaluationDetails[Any], hints: HookHints) -> None:
        self.seen.append(("after", hook_context.flag_key, details.variant))

    def error(self, hook_context: HookContext, exception: Exception, hints: HookHints) -> None:
        self.seen.append(("error", hook_context.flag_key, type(exception).__name__))


@pytest.fixture
def hook() -> Recording:
    return Recording()


@pytest.fixture
def client(house: House, hook: Recording) -> Iterator[OpenFeatureClient]:
    api.set_provider(InterlockProvider(house.url, api_key=house.keys["app"], hooks=[hook]))
    yield api.get_client()
    api.shutdown()


def test_the_sdk_reads_every_type_with_variant_and_reason(client: OpenFeatureClient, house: House) -> None:
    ada = EvaluationContext("person-1", {"groups": ["staff"]})
    found = client.get_boolean_details("helper.long_answers", False, ada)
    assert (found.value, found.variant, found.reason) == (True, "long", Reason.TARGETING_MATCH)
    assert client.get_string_value("banner", "?") == "All is well"
    assert client.get_float_value("helper.limit", 0.0) == 12.5, "the hook has added the plan"
    arms = {client.get_string_value("helper.arm", "outside", EvaluationContext(f"person-{n}")) for n in range(40)}
    assert arms == {"outside", "control", "terse"}
    assert client.get_object_value("helper.theme", {}, ada)["colour"] in {"blue", "red"}
    release = client.get_string_details("helper.release", "", ada)
    assert release.value in house.releases
    assert release.flag_metadata["channel"] == "prod"
    gone = client.get_boolean_details("gone", False)
    assert (gone.value, gone.reason, gone.error_code) == (False, Reason.DISABLED, None)


def test_the_sdk_keeps_the_codes_value_where_a_flag_cannot_be_had(
    client: OpenFeatureClient, hook: Recording, house: House
) -> None:
    missing = client.get_string_details("nothing", "mine")
    assert (missing.value, missing.error_code, missing.reason) == ("mine", ErrorCode.FLAG_NOT_FOUND, Reason.ERROR)
    wrong = client.get_integer_details("banner", 7)
    assert (wrong.value, wrong.error_code) == (7, ErrorCode.TYPE_MISMATCH)
    nobody = client.get_boolean_details("helper.long_answers", False)
    assert nobody.error_code is ErrorCode.TARGETING_KEY_MISSING
    assert ("error", "nothing", "FlagNotFoundError") in hook.seen
    api.set_provider(InterlockProvider("http://127.0.0.1:9", timeout_s=1))
    away = api.get_client().get_string_details("banner", "mine")
    assert (away.value, away.error_code) == ("mine", ErrorCode.GENERAL)


def test_the_sdks_asynchronous_calls_answer_alike(house: House) -> None:
    async def work() -> None:
        provider = InterlockProvider(house.url, api_key=house.keys["app"])
        api.set_provider(provider)
        found = await api.get_client().get_string_details_async("banner", "?")
        assert (found.value, found.variant) == ("All is well", "calm")
        assert await api.get_client().get_float_value_async("helper.limit", 0.0) == 3.0
        await provider.aclose()

    asyncio.run(work())
    api.clear_providers()


async def test_a_flag_that_nobody_foresaw_fails_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_workspace(tmp_path / "workspace", settings={"releases": {"flags": FLAGS}})
    async with open_app(root) as app:
        declared = app.parts.releases.flags()
        assert isinstance(declared, dict)
        # No file can say so: it stands for whatever a later version overlooks.
        declared["broken"] = FlagSpec.model_construct(
            variants={"a": 1}, default="b", rules=[], enabled=True, description=""
        )
        found = {each.key: each for each in await evaluate_all(app.parts, app.owner(), {})}
    broken, banner = found["broken"], found["banner"]
    assert isinstance(broken, Unresolved)
    assert broken.code == "internal"
    assert isinstance(banner, Resolution)
    assert banner.value == "All is well"
    assert "a flag cannot be evaluated" in caplog.text
