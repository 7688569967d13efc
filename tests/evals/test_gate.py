"""The gate's promise: it passes what it should not with probability alpha at most, and says when it cannot tell."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from interlock.evals.gate.deciding import decide
from interlock.evals.gate.evidence import Measured
from interlock.evals.gate.rules import GateSpec
from interlock.evals.ports import Scale
from interlock.evals.tally import CaseInfo, MetricValues

Draw = Callable[[random.Random], float]


def _cases(count: int, *, group: int = 1, **slices: str) -> list[CaseInfo]:
    return [CaseInfo(f"c{n}", f"g{n // group}", "", slices, "d") for n in range(count)]


def _measured(values: list[float], scale: Scale = "binary", name: str = "m", **more: object) -> Measured:
    return Measured(name, scale, "higher", MetricValues({f"c{n}": [value] for n, value in enumerate(values)}))


def _gate(**rule: object) -> GateSpec:
    return GateSpec.model_validate({"rules": [{"metric": "m", **rule}]})


def _false_passes(
    make: Callable[[random.Random], tuple[list[float], list[float] | None]],
    gate: GateSpec,
    runs: int,
    scale: Scale = "binary",
) -> float:
    passed = 0
    for seed in range(runs):
        new, old = make(random.Random(seed))
        cases = _cases(len(new))
        baseline = None if old is None else {"m": _measured(old, scale)}
        passed += decide(gate, {"m": _measured(new, scale)}, cases, baseline, paired=cases).verdict == "pass"
    return passed / runs


def _slack(runs: int) -> float:
    """Three standard errors of a rate of .05."""
    return 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


@pytest.mark.parametrize("truth", [0.8, 0.95])
def test_a_rate_at_its_threshold_is_passed_with_probability_alpha_at_most(truth: float) -> None:
    gate = _gate(at_least=truth)
    rate = _false_passes(lambda chance: ([float(chance.random() < truth) for _ in range(150)], None), gate, 400)
    assert rate <= _slack(400)


def test_a_mean_of_rare_disasters_is_not_passed_more_often() -> None:
    """Tests of signs and normal approximations break here: nearly every value is perfect, few are 0."""
    gate = _gate(at_least=0.97)
    rate = _false_passes(lambda chance: ([float(chance.random() >= 0.03) for _ in range(60)], None), gate, 400, "unit")
    assert rate <= _slack(400)


def test_harm_at_the_margin_is_passed_with_probability_alpha_at_most() -> None:
    gate = _gate(margin=0.03)

    def pair(chance: random.Random) -> tuple[list[float], list[float]]:
        old = [1.0] * 200
        return [0.0 if chance.random() < 0.03 else 1.0 for _ in old], old

    assert _false_passes(pair, gate, 300) <= _slack(300)


def test_improvement_that_is_none_is_passed_with_probability_alpha_at_most() -> None:
    def pair(chance: random.Random) -> tuple[list[float], list[float]]:
        return [float(chance.random() < 0.7) for _ in range(80)], [float(chance.random() < 0.7) for _ in range(80)]

    assert _false_passes(pair, _gate(improves=True), 150) <= _slack(150)


def test_repeats_of_a_conversation_count_once() -> None:
    """Twenty answers of one conversation that all go well prove as little as one."""
    values = [1.0] * 100
    alone = decide(_gate(at_least=0.8), {"m": _measured(values)}, _cases(100))
    together = decide(_gate(at_least=0.8), {"m": _measured(values)}, _cases(100, group=50))
    assert (alone.verdict, together.verdict) == ("pass", "not_enough_evidence")
    assert together.rules[0].units == 2


def test_too_few_cases_say_how_many_more() -> None:
    decision = decide(_gate(at_least=0.8), {"m": _measured([1.0] * 8 + [0.0])}, _cases(9))
    assert decision.verdict == "not_enough_evidence"
    assert decision.more is not None and 20 < decision.more < 400
    assert "more cases" in decision.reasons[0]


def test_the_cases_asked_for_would_likely_settle_it() -> None:
    few = decide(_gate(at_least=0.8), {"m": _measured([1.0] * 18 + [0.0] * 2)}, _cases(20))
    assert few.more is not None
    settled = 0
    for seed in range(100):
        chance = random.Random(seed)
        values = [float(chance.random() < 0.9) for _ in range(20 + few.more)]
        settled += decide(_gate(at_least=0.8), {"m": _measured(values)}, _cases(len(values))).verdict == "pass"
    assert settled >= 70


def test_a_clear_miss_fails() -> None:
    decision = decide(_gate(at_least=0.9), {"m": _measured([1.0] * 50 + [0.0] * 50)}, _cases(100))
    assert decision.verdict == "fail"
    assert "is violated: 0.5" in decision.reasons[0]


def test_every_case_must_keep_what_is_asked_of_every_case() -> None:
    perfect = decide(_gate(at_least=1), {"m": _measured([1.0] * 5)}, _cases(5))
    broken = decide(_gate(at_least=1), {"m": _measured([1.0] * 4 + [0.0])}, _cases(5))
    assert (perfect.verdict, broken.verdict) == ("pass", "fail")
    assert "of others, up to 60.0% may not" in perfect.rules[0].note


def test_a_value_that_is_missing_is_the_worst_it_could_be() -> None:
    whole = _measured([1.0] * 30)
    holed = Measured(
        "m", "binary", "higher", MetricValues({f"c{n}": [1.0] for n in range(20)}, {f"c{n}": 1 for n in range(20, 30)})
    )
    gate = _gate(at_least=0.85)
    assert decide(gate, {"m": whole}, _cases(30)).verdict == "pass"
    assert decide(gate, {"m": holed}, _cases(30)).verdict == "not_enough_evidence"


def test_a_slice_that_is_harmed_fails_the_gate_that_passes_on_the_whole() -> None:
    cases = [CaseInfo(f"c{n}", f"c{n}", "", {"language": "de" if n < 40 else "en"}, "d") for n in range(1000)]
    values = [float(n >= 30) for n in range(1000)]
    gate = GateSpec.model_validate({"rules": [{"metric": "m", "at_least": 0.9}], "slices": ["language"]})
    decision = decide(gate, {"m": _measured(values)}, cases)
    assert decision.verdict == "fail"
    assert [each.slice for each in decision.rules if each.verdict == "fail"] == ["language=de"]


def test_many_slices_do_not_fail_a_gate_by_chance() -> None:
    """Fifty slices at their threshold: without Holm's correction most runs would find one that is violated."""
    failed = 0
    for seed in range(60):
        chance = random.Random(seed)
        cases = [CaseInfo(f"c{n}", f"c{n}", "", {"topic": str(n % 50)}, "d") for n in range(1000)]
        values = [float(chance.random() < 0.9) for _ in cases]
        gate = GateSpec.model_validate({"rules": [{"metric": "m", "at_least": 0.9}], "slices": ["topic"]})
        failed += decide(gate, {"m": _measured(values)}, cases).verdict == "fail"
    assert failed <= 8


def test_seconds_are_held_to_a_quantile_and_to_a_share_of_the_baseline() -> None:
    chance = random.Random(1)
    fast = [chance.lognormvariate(0, 0.3) for _ in range(200)]
    slow = [value * 1.5 for value in fast]

    def seconds(values: list[float]) -> Measured:
        return Measured("m", "real", "lower", MetricValues({f"c{n}": [value] for n, value in enumerate(values)}))

    cases = _cases(200)
    assert decide(_gate(quantile=0.9, at_most=2.5), {"m": seconds(fast)}, cases).verdict == "pass"
    assert decide(_gate(quantile=0.9, at_most=1.0), {"m": seconds(fast)}, cases).verdict == "fail"
    against = {"m": seconds(fast)}
    held = decide(_gate(margin_ratio=0.2), {"m": seconds(fast)}, cases, against, paired=cases)
    slower = decide(_gate(margin_ratio=0.2), {"m": seconds(slow)}, cases, against, paired=cases)
    assert (held.verdict, slower.verdict) == ("pass", "fail")
    assert slower.rules[0].value == pytest.approx(0.5)


def test_who_answers_only_the_quick_cases_is_not_faster() -> None:
    old = Measured("m", "real", "lower", MetricValues({f"c{n}": [float(1 + n % 5)] for n in range(100)}))
    new = Measured(
        "m",
        "real",
        "lower",
        MetricValues(
            {f"c{n}": [float(1 + n % 5)] for n in range(100) if n % 5 < 4},
            worst={f"c{n}": 1 for n in range(100) if n % 5 == 4},
        ),
    )
    cases = _cases(100)
    decision = decide(_gate(margin_ratio=0.1), {"m": new}, cases, {"m": old}, paired=cases)
    assert decision.verdict == "not_enough_evidence"
    assert "20 cases that the baseline answered have no value now" in decision.reasons[0]


def test_looking_after_every_batch_does_not_pass_what_it_should_not() -> None:
    passed = 0
    runs = 150
    for seed in range(runs):
        chance = random.Random(seed)
        values: list[float] = []
        for _ in range(20):
            values += [float(chance.random() < 0.8) for _ in range(20)]
            decision = decide(_gate(at_least=0.8), {"m": _measured(values)}, _cases(len(values)), looks_often=True)
            if decision.verdict == "pass":
                passed += 1
                break
    assert passed / runs <= _slack(runs)
