"""Suites as tests of pytest: `*.suite.yaml` files are collected, and every rule of their gate is a test of its own.

    pytest --interlock-target app/support tests/

A rule that is violated fails, and so does one without enough evidence: what is not shown is not passed. The suite is
run once a file, when its first rule is asked for. With pytest-xdist add ``--dist loadfile``, which keeps the rules of a
file in one process.

In tests of one's own the fixture ``evaluate_suite`` runs a suite against a function or a target, and
:func:`assert_gate` says why a report does not pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from interlock.evals.gate.deciding import RuleResult
    from interlock.evals.ports import Instruments
    from interlock.evals.report import Report

__all__ = ["EvaluateSuite", "GateNotPassed", "assert_gate"]

_ENDINGS = (".suite.yaml", ".suite.yml")


class GateNotPassed(AssertionError):
    """A report does not pass; its text says which rule and why."""


class EvaluateSuite(Protocol):
    """What the fixture ``evaluate_suite`` gives."""

    def __call__(
        self,
        suite: str | Path,
        target: str | Callable[[dict[str, Any]], Any],  # Any: a case's fields in, an answer out
        *,
        instruments: Instruments | None = None,
        baseline: str | None = None,
        judge: str | None = None,
        repeats: int | None = None,
    ) -> Report:
        """Run `suite` (relative to the test's own file) against a function, plain or async, or a target as
        ``interlock eval run`` names it. Runs are kept in the test's ``tmp_path``, or below ``--interlock-home``.

        Args:
            instruments: for metrics that need an embedder or a checker, with a function only: a target's name brings
                those of the workspace.
        """


def assert_gate(report: Report) -> None:
    """Raises: GateNotPassed: the report has no gate, or one that does not pass."""
    if report.gate is None:
        raise GateNotPassed(f"the suite {report.suite!r} has no gate")
    if report.gate.verdict != "pass":
        told = "\n".join(f"  {reason}" for reason in report.gate.reasons)
        raise GateNotPassed(f"{report.suite}: {report.gate.verdict.replace('_', ' ')} (run {report.id})\n{told}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plug-in's options."""
    group = parser.getgroup("interlock", "evaluation suites (*.suite.yaml)")
    group.addoption("--interlock-target", metavar="TARGET", help="collect suites, and run them against this target")
    group.addoption(
        "--interlock-option", action="append", default=[], metavar="NAME=VALUE", help="option of the target"
    )
    group.addoption("--interlock-baseline", metavar="RUN", help="run to compare with: an id, or 'last'")
    group.addoption("--interlock-judge", metavar="MODEL", help="route or provider/model that judges")
    group.addoption("--interlock-home", metavar="FOLDER", help="where runs are kept")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Suites, once a target is given."""
    if file_path.name.endswith(_ENDINGS) and parent.config.getoption("--interlock-target"):
        collector: SuiteFile = SuiteFile.from_parent(parent, path=file_path)
        return collector
    return None


class SuiteFile(pytest.File):
    """A suite."""

    _ran: Report | Exception | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each rule and one for the gate as a whole; without a gate one that it can be run."""
        from interlock.core.errors import InterlockError
        from interlock.evals.suite import read_suite

        try:
            suite = read_suite(self.path)
        except InterlockError as error:
            raise self.CollectError(_told(error)) from error
        for number, rule in enumerate(suite.spec.gate.rules if suite.spec.gate else ()):
            yield RuleItem.from_parent(self, name=rule.text(), number=number)
        yield WholeItem.from_parent(self, name="gate" if suite.spec.gate else "run")

    def report(self) -> Report:
        """Of the suite's run, which is made once."""
        if self._ran is None:
            try:
                self._ran = self._run()
            except Exception as error:  # noqa: BLE001 - kept for the other rules, which would run into the same
                self._ran = error
        if isinstance(self._ran, Exception):
            raise self._ran
        return self._ran

    def _run(self) -> Report:
        from interlock.cli.evals import Asked, evaluate
        from interlock.cli.session import Session

        given = self.config.getoption
        home = given("--interlock-home")
        asked = Asked(
            target=given("--interlock-target"),
            options=given("--interlock-option"),
            baseline=given("--interlock-baseline"),
            judge=given("--interlock-judge"),
            home=None if home is None else Path(home),
            quiet=True,
        )
        return asyncio.run(evaluate(Session(None, ()), self.path, asked))


class _Item(pytest.Item):
    parent: SuiteFile

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # Any: pytest's own
        """Our errors in their own words, anything else with its traceback."""
        from interlock.core.errors import InterlockError

        if isinstance(excinfo.value, GateNotPassed):
            return str(excinfo.value)
        if isinstance(excinfo.value, InterlockError):
            return _told(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands."""
        return self.path, None, f"{self.path.name}: {self.name}"


class RuleItem(_Item):
    """One rule of a gate, over all cases."""

    def __init__(self, *, number: int, **given: Any) -> None:
        super().__init__(**given)
        self._number = number

    def runtest(self) -> None:
        """Raises: GateNotPassed."""
        report = self.parent.report()
        assert report.gate is not None
        result = [each for each in report.gate.rules if not each.slice][self._number]
        if result.verdict != "pass":
            raise GateNotPassed(_rule(result, report.id))


class WholeItem(_Item):
    """The gate with its slices, or a suite without one."""

    def runtest(self) -> None:
        """Raises: GateNotPassed."""
        report = self.parent.report()
        if report.gate is not None:
            assert_gate(report)


def _rule(result: RuleResult, run: str) -> str:
    value = "no value" if result.value is None else f"it is {result.value:.4g}"
    interval = "" if result.interval is None else f" (95 %: {result.interval.low:.4g} to {result.interval.high:.4g})"
    more = "" if result.more is None else f"; about {result.more:,} more cases would settle it"
    note = f"; {result.note}" if result.note else ""
    verdict = "violated" if result.verdict == "fail" else "not enough evidence"
    return f"{result.rule}: {verdict}, {value}{interval} over {result.units} units{more}{note} (run {run})"


def _told(error: Any) -> str:  # Any: an InterlockError, which is not imported before it is needed
    return f"{error.message}\n{error.hint}" if error.hint else str(error.message)


@pytest.fixture
def evaluate_suite(request: pytest.FixtureRequest, tmp_path: Path) -> EvaluateSuite:
    """Run a suite in a test: see :class:`EvaluateSuite`."""
    home = Path(request.config.getoption("--interlock-home") or tmp_path / "interlock-runs")

    def evaluate_it(
        suite: str | Path,
        target: str | Callable[[dict[str, Any]], Any],
        *,
        instruments: Instruments | None = None,
        baseline: str | None = None,
        judge: str | None = None,
        repeats: int | None = None,
    ) -> Report:
        from interlock.cli.evals import Asked, evaluate
        from interlock.cli.session import Session
        from interlock.evals.ports import Instruments as Given
        from interlock.evals.service import Evaluations, Options
        from interlock.evals.suite import overridden, read_suite
        from interlock.evals.targets.python import PythonTarget

        place = request.path.parent / suite
        if isinstance(target, str):
            asked = Asked(target, baseline=baseline, judge=judge, repeats=repeats, home=home, quiet=True)
            return asyncio.run(evaluate(Session(None, ()), place, asked))
        read = overridden(read_suite(place), repeats=repeats)
        name = f"python:{getattr(target, '__qualname__', type(target).__qualname__)}"
        given = instruments or Given(workspace=read.folder)
        return asyncio.run(Evaluations(home).run(read, PythonTarget(name, target), given, Options(baseline=baseline)))

    return evaluate_it
