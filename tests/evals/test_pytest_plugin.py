"""Suites as tests, in a pytest of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SUITE = """
suite: sums
cases:
{cases}
metrics: [exact, {{metric: contains, options: {{none: [sorry]}}}}]
gate:
  rules:
    - {{metric: exact, at_least: 0.8}}
    - {{metric: contains, at_least: {contains}}}
"""
ANSWERS = """
def right(case):
    a, b = case["input"].split("+")
    return str(int(a) + int(b))

async def wrong(case):
    return "sorry"
"""


def written(pytester: pytest.Pytester, count: int = 60, contains: float = 0.5) -> None:
    cases = "\n".join(
        "  - " + json.dumps({"id": f"c{n}", "input": f"{n}+1", "expected": str(n + 1)}) for n in range(count)
    )
    (pytester.path / "sums.suite.yaml").write_text(SUITE.format(cases=cases, contains=contains), "utf-8")
    pytester.makepyfile(answers=ANSWERS)
    pytester.syspathinsert()


def ran(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(
        "-p", "interlock.testing.pytest_plugin", "-p", "no:randomly", "--interlock-home", "runs", *words
    )


def test_every_rule_of_a_gate_is_a_test(pytester: pytest.Pytester) -> None:
    written(pytester)
    done = ran(pytester, "-v", "--interlock-target", "python:answers:right")
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines(["*sums.suite.yaml::exact >= 0.8 PASSED*", "*sums.suite.yaml::gate PASSED*"])
    assert len(list((pytester.path / "runs").glob("ev_*"))) == 1, "the suite is run once for all its rules"


def test_a_violated_rule_fails_with_its_value_and_without_a_traceback(pytester: pytest.Pytester) -> None:
    written(pytester)
    done = ran(pytester, "--interlock-target", "python:answers:wrong")
    done.assert_outcomes(failed=3)
    done.stdout.fnmatch_lines(["exact >= 0.8: violated, it is 0 (95 %: 0 to 0.0*) over 60 units (run ev_*)"])
    done.stdout.no_fnmatch_line("*Traceback*")
    done.stdout.no_fnmatch_line("*pytest_plugin.py:*")


def test_what_is_not_shown_is_not_passed(pytester: pytest.Pytester) -> None:
    written(pytester, count=3)
    done = ran(pytester, "--interlock-target", "python:answers:right", "-k", "exact")
    done.assert_outcomes(failed=1, deselected=2)
    done.stdout.fnmatch_lines(["exact >= 0.8: not enough evidence, it is 1 (*) over 3 units; about * more cases*"])


def test_suites_are_left_alone_without_a_target(pytester: pytest.Pytester) -> None:
    written(pytester)
    pytester.makepyfile("def test_other(): pass")
    ran(pytester).assert_outcomes(passed=1)


def test_a_bad_suite_and_a_bad_target_are_told_in_their_own_words(pytester: pytest.Pytester) -> None:
    written(pytester)
    (pytester.path / "bad.suite.yaml").write_text("suite: x\ncases: []\nmetrics: [exact]\n", "utf-8")
    done = ran(pytester, "--interlock-target", "python:answers:nobody", "--continue-on-collection-errors")
    done.assert_outcomes(errors=1, failed=3)
    done.stdout.fnmatch_lines(["*'bad.suite.yaml': cases: List should have at least 1 item*"])
    done.stdout.fnmatch_lines(["'answers' has no 'nobody'"])


def test_a_suite_is_run_from_a_test_of_ones_own(pytester: pytest.Pytester) -> None:
    written(pytester)
    pytester.makepyfile(
        """
        import pytest
        from answers import right, wrong
        from interlock.testing.pytest_plugin import GateNotPassed, assert_gate

        def test_passes(evaluate_suite):
            report = evaluate_suite("sums.suite.yaml", right, repeats=2)
            assert report.executions == 120
            assert_gate(report)

        def test_fails(evaluate_suite):
            report = evaluate_suite("sums.suite.yaml", wrong)
            with pytest.raises(GateNotPassed, match="exact >= 0.8"):
                assert_gate(report)

        def test_named(evaluate_suite):
            assert_gate(evaluate_suite("sums.suite.yaml", "python:answers:right"))
        """
    )
    ran(pytester).assert_outcomes(passed=3)


def test_the_plug_in_is_registered_where_it_is_installed() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    module = "interlock.testing.pytest_plugin"
    assert project["entry-points"]["pytest11"] == {module: module}
