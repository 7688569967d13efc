"""Conditions in CEL: what they see, what they say, and which are refused when they are read."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from interlock.core.ids import AppName, ReleaseId
from interlock.releases.conditions import KINDS, Condition, facts, tried
from interlock.releases.promotion import Evidence, EvidenceKind, PromotionPolicy, demands, merged

AT = datetime(2026, 11, 1, tzinfo=UTC)


def shown(
    kind: EvidenceKind, name: str, verdict: str = "pass", *, days: float = 1, by: str = "ci", **figures: Any
) -> Evidence:
    summary = {key.replace("__", "."): value for key, value in figures.items()}
    return Evidence(
        "sha256:0", AppName("a"), ReleaseId("r"), kind, name, verdict, by, AT - timedelta(days=days), "", summary
    )


def says(that: str, *evidence: Evidence) -> tuple[str, str]:
    known = facts(evidence, built_by="dev", at=AT, app="a", release="sha256:1")
    state, why, _ = tried(Condition(name="c", that=that), known)
    return state, why


QUALITY = shown("evaluation", "kindness", mean__exact=0.9, cases=200)


def test_the_newest_evidence_of_each_name_is_seen_with_its_figures() -> None:
    older = shown("evaluation", "kindness", "fail", days=5, mean__exact=0.2)
    that = 'evidence.evaluation.kindness.verdict == "pass" && evidence.evaluation.kindness.mean.exact >= 0.85'
    assert says(that, QUALITY, older)[0] == "met"
    assert says("evidence.evaluation.kindness.runs == 2", QUALITY, older)[0] == "met"
    state, why = says("evidence.evaluation.kindness.mean.exact >= 0.95", QUALITY)
    assert (state, why) == ("failed", "evidence.evaluation.kindness.mean.exact is 0.9")
    assert says('evidence.evaluation["kindness"].age_days < 2.0', QUALITY)[0] == "met"


def test_what_cannot_be_reckoned_is_not_met_and_breaks_nothing() -> None:
    state, why = says("evidence.evaluation.kindness.cases / (evidence.evaluation.kindness.cases - 200) > 0", QUALITY)
    assert state == "failed"
    assert "cannot be asked" in why


def test_evidence_of_every_kind_is_seen() -> None:
    assert {*KINDS, "sign_off"} == set(get_args(EvidenceKind))
    for kind in KINDS:
        assert says(f'evidence.{kind}["n"].verdict == "pass"', shown(kind, "n"))[0] == "met"  # type: ignore[arg-type]


def test_what_is_not_there_yet_is_open_and_not_failed() -> None:
    state, why = says("evidence.red_team.probe.mean.attack_success < 0.05", QUALITY)
    assert (state, why) == ("open", "it reads evidence.red_team.probe.mean.attack_success, which is not there yet")
    assert says("!has(evidence.red_team.probe) || evidence.red_team.probe.mean.attack_success < 0.05")[0] == "met"


def test_signatures_and_comprehensions() -> None:
    signed = [shown("sign_off", "risk", "approved", by=name) for name in ("rita", "dev")]
    two = 'evidence.sign_offs.exists(s, s.role == "risk" && s.by != release.built_by)'
    assert says(two, *signed)[0] == "met"
    assert says(two, signed[1])[0] == "failed"
    every = 'evidence.evaluation.all(n, evidence.evaluation[n].verdict == "pass")'
    assert says(every, QUALITY, shown("evaluation", "other", "fail"))[0] == "failed"


def test_what_is_no_truth_value_or_cannot_be_asked_is_never_met() -> None:
    assert says("evidence.evaluation.kindness.cases", QUALITY) == ("failed", "it gives a int, and not true or false")
    state, why = says('evidence.evaluation.kindness.cases > "many"', QUALITY)
    assert state == "failed"
    assert "cannot be asked" in why


@pytest.mark.parametrize(
    ("that", "told"),
    [
        ("evidence.evaluation.kindness.verdict ==", "line 1, column 40"),
        ("true &&\n  &&", "line 2, column 3"),
        ("evidnce.evaluation.kindness.cases > 1", "no 'evidnce': a condition reads `evidence` and `release`"),
        (
            "evidence.evaluations.kindness.cases > 1",
            "no 'evidence.evaluations.kindness.cases': evidence has evaluation",
        ),
        ("release.author == 'x'", "release has app, id, built_by"),
        ("shell('rm') == 1", "no function 'shell'"),
        ("[1].all(a, [1].all(b, [1].all(c, true)))", "more than 2 of all, exists"),
        ("1 == " + "1" * 1000, "at most 1000 characters"),
        ("(" * 400 + "true" + ")" * 400, "no CEL in"),
    ],
)
def test_wrong_conditions_are_refused_with_their_place(that: str, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        PromotionPolicy.model_validate({"conditions": [{"name": "c", "that": that}]})
    (error,) = refused.value.errors()
    assert error["loc"] == ("conditions", 0, "that")
    assert told in error["msg"]


def test_the_dearest_condition_there_may_be_is_answered_at_once() -> None:
    many = [shown("evaluation", f"s{n}", days=n / 1000) for n in range(500)]
    began = time.perf_counter()
    dearest = (
        "evidence.evaluation.all(a, evidence.evaluation.all(b, evidence.evaluation[a].verdict.matches('(p+)+a.*') "
        "&& evidence.evaluation[b].age_days >= 0.0))"
    )
    assert says(dearest, *many)[0] == "met"
    assert time.perf_counter() - began < 5


def test_conditions_stand_beside_the_other_demands_and_old_evidence_is_not_seen() -> None:
    condition = {"name": "exact enough", "that": "evidence.evaluation.kindness.mean.exact > 0.8", "hint": "mend it"}
    policy = PromotionPolicy.model_validate(
        {"evaluations": ["kindness"], "conditions": [condition], "max_age_days": 10}
    )
    asked = demands(policy, [QUALITY], built_by="dev", at=AT, app="a")
    assert [(each.demand, each.state) for each in asked] == [("evaluation 'kindness'", "met"), ("exact enough", "met")]
    old = shown("evaluation", "kindness", days=20, mean__exact=0.9)
    (_, late) = demands(policy, [old], built_by="dev", at=AT, app="a")
    assert (late.state, late.hint) == ("open", "mend it")
    assert merged(policy, policy).conditions == policy.conditions


def test_without_the_library_a_condition_is_refused_and_never_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cel", None)
    with pytest.raises(ValidationError, match=r"pip install 'interlock\[policy\]'"):
        Condition(name="c", that="size(evidence.sign_offs) > 41")
