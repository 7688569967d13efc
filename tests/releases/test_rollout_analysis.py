"""What too few units cannot show is not shown."""

from __future__ import annotations

from interlock.releases.rollouts.analysing import analyse
from interlock.releases.rollouts.types import Guardrail, RolloutSpec, UnitOutcome


def unit(number: int, arm: str, *, error: float = 0.0) -> UnitOutcome:
    return UnitOutcome(f"{arm}{number}", arm, number, 1, error, None, 0.0, None, None, None, None, None, 0)


def outcomes(units: int) -> list[UnitOutcome]:
    return [unit(n, arm) for arm in ("control", "candidate") for n in range(units)]


SPEC = RolloutSpec(steps=[50], guardrails=[Guardrail(measure="error", margin=0.02)], min_units=50)


def test_no_error_in_a_few_units_is_no_proof_that_there_are_none() -> None:
    # Were the true rate one in twenty, sixty units without an error would still come in one run of twenty.
    few = analyse(SPEC, outcomes(60), percent=50, step_ns=0, last=True)
    assert (few.action, few.checks[0].verdict) == ("go_on", "open")
    many = analyse(SPEC, outcomes(1500), percent=50, step_ns=0, last=True)
    assert (many.action, many.checks[0].verdict) == ("advance", "safe")
