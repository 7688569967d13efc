"""What a channel asks, and what meets it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from interlock.core.context import Role
from interlock.core.ids import AppName, ReleaseId
from interlock.releases.promotion import Evidence, PromotionPolicy, SignOff, demands, merged

AT = datetime(2026, 11, 23, tzinfo=UTC)
POLICY = PromotionPolicy(evaluations=["kind"])


def run(verdict: str, *, hours_ago: float = 1, p: float = 0.001, cases: str = "d1") -> Evidence:
    summary: dict[str, str | int | float | bool] = {"suite_digest": cases, "p": p, "alpha": 0.05}
    at = AT - timedelta(hours=hours_ago)
    return Evidence("sha256:1", AppName("a"), ReleaseId("r"), "evaluation", "kind", verdict, "ci", at, "", summary)


def signature(by: str, verdict: str = "approved", role: str = "risk") -> Evidence:
    return Evidence("sha256:2", AppName("a"), ReleaseId("r"), "sign_off", role, verdict, by, AT)


def state(evidence: list[Evidence], policy: PromotionPolicy = POLICY) -> str:
    (asked,) = demands(policy, evidence, built_by="dev", at=AT, app="a")
    return asked.state


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ([], "open"),
        ([run("pass")], "met"),
        ([run("fail")], "failed"),
        ([run("not_enough_evidence")], "open"),
        ([run("pass", hours_ago=2), run("fail", hours_ago=1)], "failed"),
        ([run("pass", hours_ago=24 * 31)], "open"),
        # Passing again proves nothing less.
        ([run("pass", hours_ago=n, p=0.04) for n in range(1, 9)], "met"),
    ],
)
def test_the_newest_run_decides(evidence: list[Evidence], expected: str) -> None:
    assert state(evidence) == expected


def test_who_asks_until_it_passes_has_to_pass_the_more_clearly() -> None:
    missed = [run("not_enough_evidence", hours_ago=9 - n) for n in range(4)]
    assert state([*missed, run("pass", p=0.03)]) == "open"
    assert state([*missed, run("pass", p=0.001)]) == "met"
    assert state([*missed, run("pass", p=0.03, cases="other cases")]) == "met"
    (asked,) = demands(POLICY, [*missed, run("pass", p=0.03)], built_by="dev", at=AT, app="a")
    assert "after 4 runs of the same cases" in asked.why and "0.01 is asked for" in asked.why


REPLAY = PromotionPolicy(replay=True)


def replayed(
    verdict: str,
    *,
    hours_ago: float = 1,
    units: int = 100,
    digest: str = "d1",
    covers: str = "",
    seed: int = 7,
    **other: str | float,
) -> Evidence:
    summary: dict[str, str | int | float | bool] = {
        "channel": "prod", "control": "c1", "requests_digest": digest, "units": units, "seed": seed,
        "p": 0.03, "alpha": 0.05, "covers": covers, **other,
    }  # fmt: skip
    at = AT - timedelta(hours=hours_ago)
    return Evidence(
        f"sha256:{hours_ago:g}", AppName("a"), ReleaseId("r"), "replay", "past", verdict, "ci", at, "", summary
    )


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ([replayed("pass")], "met"),
        ([replayed("pass", channel="stage")], "open"),
        ([replayed("pass", control="c2")], "open"),
        # A redrawn seed is a repeat, and has to be the clearer for it.
        ([replayed("fail", hours_ago=2), replayed("pass", seed=8)], "open"),
        ([replayed("fail", hours_ago=2), replayed("pass", seed=8, p=0.01)], "met"),
        ([replayed("not_enough_evidence", hours_ago=2), replayed("pass", seed=8)], "open"),
        ([replayed("not_enough_evidence", hours_ago=2), replayed("pass", digest="d2")], "met"),
        ([replayed("fail", hours_ago=2), replayed("pass", p=0.01, units=99)], "failed"),
        ([replayed("fail", hours_ago=2), replayed("pass", p=0.01, digest="d2", units=500)], "failed"),
        ([replayed("fail", hours_ago=2), replayed("pass", p=0.01, digest="d2", covers="sha256:2")], "met"),
        ([replayed("fail", hours_ago=2), replayed("pass", p=0.03, digest="d2", covers="sha256:2")], "open"),
        ([replayed("fail", hours_ago=2, channel="stage"), replayed("pass", digest="d2")], "met"),
        ([replayed("pass", hours_ago=24 * 31)], "open"),
    ],
)
def test_a_replay_counts_for_its_channel_and_against_what_that_serves(evidence: list[Evidence], expected: str) -> None:
    (asked,) = demands(REPLAY, evidence, built_by="dev", at=AT, app="a", channel="prod", pointed="c1")
    assert asked.state == expected, asked.why
    (anything,) = demands(REPLAY, [replayed("pass", control="c2")], built_by="dev", at=AT, app="a", pointed=None)
    assert anything.state == "met", "a channel that points nowhere compares with nothing"


def test_a_replay_that_was_kept_without_its_channel_still_speaks_against_a_release_and_never_for_it() -> None:
    def kept(verdict: str, **summary: str | int | float | bool) -> Evidence:
        return Evidence(
            "sha256:old", AppName("a"), ReleaseId("r"), "replay", "past", verdict, "ci", AT - timedelta(hours=3), "",
            {"control": "c1", "requests": 120, "units": 120, **summary},
        )  # fmt: skip

    def says(*evidence: Evidence) -> str:
        return demands(REPLAY, evidence, built_by="dev", at=AT, app="a", pointed="c1")[0].state

    assert says(kept("pass")) == "open"
    assert says(kept("fail"), replayed("pass", p=0.001)) == "failed"
    assert says(kept("fail"), replayed("pass", p=0.001, covers="sha256:old")) == "met"


def test_tests_of_the_prompt_grow_old_and_nothing_tested_is_no_pass() -> None:
    def tested(days: float, count: int) -> Evidence:
        at = AT - timedelta(days=days)
        return Evidence(
            "sha256:3", AppName("a"), ReleaseId("r"), "prompt_tests", "p", "pass", "ci", at, "", {"tests": count}
        )

    policy = PromotionPolicy(prompt_tests=True, max_age_days=7)
    assert state([tested(6, 2)], policy) == "met"
    assert state([tested(8, 2)], policy) == "open"
    assert state([tested(1, 0)], policy) == "open"


def test_sign_off_is_by_other_people_than_the_builder_and_a_rejection_stops_it() -> None:
    policy = PromotionPolicy(sign_off=SignOff(count=2))
    assert state([signature("dev"), signature("eve")], policy) == "open"
    assert state([signature("eve"), signature("eve")], policy) == "open"
    assert state([signature("eve"), signature("bob")], policy) == "met"
    assert state([signature("eve"), signature("bob"), signature("bob", "rejected")], policy) == "failed"
    assert state([signature("eve"), signature("bob", role="auditor")], policy) == "open"


def test_an_app_can_ask_for_more_than_the_workspace_and_never_for_less() -> None:
    house = PromotionPolicy(evaluations=["safety"], max_age_days=7, sign_off=SignOff(count=2), rollout=True)
    app = PromotionPolicy(evaluations=["kind"], max_age_days=90, sign_off=SignOff(roles=[Role.RISK, Role.AUDITOR]))
    both = merged(house, app)
    assert (both.evaluations, both.max_age_days, both.rollout) == (["kind", "safety"], 7, True)
    assert both.sign_off == [SignOff(count=2), SignOff(roles=[Role.RISK, Role.AUDITOR])]
    apart = merged(PromotionPolicy(sign_off=SignOff()), PromotionPolicy(sign_off=SignOff(roles=[Role.OPERATOR])))
    risk, operator = demands(apart, [signature("eve")], built_by="dev", at=AT, app="a")
    assert (risk.state, operator.state) == ("met", "open"), "neither's word stands for the other's"
