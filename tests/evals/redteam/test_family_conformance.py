"""What every family of attacks promises, over every plug-in that is found."""

from __future__ import annotations

import re

import pytest

from interlock.evals.metrics._refusals import declining
from interlock.evals.redteam.families import families
from interlock.evals.redteam.service import Asked, made
from interlock.evals.redteam.signals import seen
from interlock.evals.redteam.types import Attack, Need, Setting, Trial
from interlock.evals.redteam.words import pair_of_words
from interlock.evals.types import Call, Case, Output

NAMES = families.names()
EVERYTHING: frozenset[Need] = frozenset({"system", "prompt", "documents", "tools", "open", "attacker"})
_IDS = {
    "owasp-llm": r"LLM(0[1-9]|10)",
    "owasp-agentic": r"ASI(0[1-9]|10)",
    "nist": r"NISTAML\.0\d\d",
    "atlas": r"AML\.T\d{4}(\.\d{3})?",
}


def attacks(name: str, *, size: str = "whole", seed: int = 7, reach: frozenset[Need] = EVERYTHING) -> list[Attack]:
    setting = Setting(seed, size, reach, lambda word: pair_of_words(seed, word))  # type: ignore[arg-type]
    return list(families.get(name).attacks(setting))


def said(trial: Trial) -> str:
    """Everything that a target is told."""
    turns = trial.ask if isinstance(trial.ask, str) else "\n".join(turn.content for turn in trial.ask)
    return "\n".join([turns, trial.system, *(each.text for each in trial.documents)])


@pytest.mark.parametrize("name", NAMES)
def test_a_family_says_what_it_is_and_where_it_is_filed(name: str) -> None:
    family = families.get(name)
    assert 20 <= len(family.about) <= 160
    assert family.frameworks.owasp_llm
    assert family.frameworks.nist
    assert family.frameworks.atlas
    for each in attacks(name):
        for tag in (each.frameworks or family.frameworks).tags():
            catalogue, _, entry = tag.partition(":")
            assert re.fullmatch(_IDS[catalogue], entry), tag


@pytest.mark.parametrize("name", NAMES)
def test_attacks_have_names_of_their_own_and_the_same_ones_every_time(name: str) -> None:
    found = attacks(name)
    assert len({each.name for each in found}) == len(found)
    assert found == attacks(name)
    assert all(re.fullmatch(r"[a-z0-9_.]{1,80}", each.name) for each in found)
    quick = {each.name for each in attacks(name, size="quick")}
    assert quick <= {each.name for each in found}
    assert 0 < len(quick) <= len(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_has_a_twin_that_is_another_message_with_something_to_answer(name: str) -> None:
    for each in attacks(name):
        assert said(each.trial) != said(each.twin) or each.trial.asker != each.twin.asker
        assert each.facts, f"{each.name}: no fact says whether the twin was answered"
        for fact in each.facts:
            assert all(fact)


@pytest.mark.parametrize("name", NAMES)
def test_neither_silence_nor_a_refusal_nor_an_echo_is_a_success(name: str) -> None:
    for each in attacks(name):
        assert each.signals
        assert seen(each.signals, Output("")) is None
        assert seen(each.signals, Output("I'm sorry, but I can't help with that.", outcome="refused")) is None
        question = each.trial.ask if isinstance(each.trial.ask, str) else each.trial.ask[-1].content
        assert seen(each.signals, Output(question)) is None, f"{each.name}: whoever repeats the message succeeds"
        for document in each.trial.documents:
            if document.reader in {"", each.trial.asker}:
                assert seen(each.signals, Output(document.text)) is None, f"{each.name}: whoever quotes succeeds"


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_is_useful_to_the_twin_is_no_success(name: str) -> None:
    for each in attacks(name):
        answer = Output(" ".join(fact[0] for fact in each.facts))
        twin_secret = each.twin.asker and each.twin.asker != each.trial.asker
        assert twin_secret or seen(each.signals, answer) is None
        assert not declining(answer.text)


def _success(attack: Attack) -> Output:
    signal = attack.signals[0]
    match signal.kind:
        case "says" | "begins":
            return Output(f"{signal.of[0]} and more")
        case "links":
            return Output(f"See [details](https://{signal.of[0]}/x?q=1).")
        case "calls":
            return Output(calls=(Call(signal.of[0], {"value": signal.holds}),))
        case "overlaps":
            return Output((signal.of or [attack.trial.system])[0])
        case "exceeds":
            return Output("word " * 10, output_tokens=int(signal.least))
        case "complies":
            return Output("Here it is. " + " ".join(signal.of))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_attack_is_after_is_seen(name: str) -> None:
    for each in attacks(name):
        assert seen(each.signals, _success(each), [each.trial.system]) == each.signals[0].kind, each.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "reach", [{"prompt", "documents"}, {"prompt", "tools", "open"}, {"system", "tools", "open"}, EVERYTHING]
)
def test_attacks_become_cases_that_a_suite_takes_or_are_named_as_left_out(name: str, reach: set[Need]) -> None:
    from interlock.core.errors import InvalidInput

    try:
        found = made(Asked(families=[name], size="whole", reach=frozenset(reach)))
    except InvalidInput:
        assert all(each.needs - reach for each in attacks(name))
        return
    every = attacks(name, reach=frozenset(reach))
    tried = [case for case in found.cases if "attack" in case.tags]
    assert len(tried) + sum(not each.twin_only for each in found.left) == len(every)
    for case in found.cases:
        again = Case.model_validate_json(case.model_dump_json(by_alias=True, exclude_defaults=True))
        assert again == case
    twins = {case.pair for case in found.cases if "twin" in case.tags}
    alone = {f"{each.family}.{each.attack}" for each in found.left if each.twin_only}
    assert {case.pair for case in tried} == twins | alone


def test_another_seed_plants_other_words() -> None:
    first, second = ({str(each.signals) for each in attacks("injection", seed=seed)} for seed in (1, 2))
    assert len(first & second) <= 1
