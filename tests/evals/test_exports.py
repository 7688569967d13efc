"""Forms of a report, of real runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner
from tests.evals.suites import Answering, questions, suite_of

from interlock.cli.root import cli
from interlock.evals.exports import exports
from interlock.evals.ports import Instruments
from interlock.evals.report import Report
from interlock.evals.service import Evaluations
from interlock.evals.types import Case, Output

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>\u0000&\"'"


async def made(folder: Path, right_up_to: int, **fields: Any) -> Report:
    rows = [{**each, "slices": {"language": "de"}} for each in questions(60)]
    rows[0] = {**rows[0], "id": HOSTILE}

    def answer(case: Case, repeat: int) -> Output:
        number = int(case.question.removeprefix("say "))
        return Output(str(number) if number < right_up_to and number else "no", cost_nano=1000)

    gate = {"rules": [{"metric": "exact", "at_least": 0.8}, {"metric": "latency", "at_most": 60, "quantile": 0.5}]}
    suite = suite_of(folder, rows, metrics=["exact", "latency"], gate=gate, **fields)
    return await Evaluations(folder / "runs").run(suite, Answering(answer), Instruments())


@pytest.mark.parametrize(("right", "verdict", "failures"), [(60, "pass", 0), (10, "fail", 2)])
async def test_junit_fails_exactly_where_the_gate_does(tmp_path: Path, right: int, verdict: str, failures: int) -> None:
    report = await made(tmp_path, right)
    assert report.gate is not None
    assert report.gate.verdict == verdict
    root = ElementTree.fromstring(exports.get("junit")(report))
    gate, metrics = root.findall("testsuite")
    assert len(root.findall(".//failure")) == failures == int(root.attrib["failures"])
    assert [case.attrib["name"] for case in gate.findall("testcase")] == [
        "exact >= 0.8",
        "50% of latency <= 60",
        "the gate as a whole",
    ]
    assert [case.attrib["name"] for case in metrics.findall("testcase")] == ["failed", "exact", "latency"]
    assert int(root.attrib["tests"]) == len(root.findall(".//testcase"))
    output = metrics.find("testcase[@name='exact']/system-out")
    assert output is not None
    assert "<script>alert(1)</script>\ufffd&\"': 0" in (output.text or "")


async def test_not_enough_evidence_is_red_in_ci_as_its_exit_code_is(tmp_path: Path) -> None:
    report = await made(tmp_path, 49)
    assert report.gate is not None
    assert report.gate.verdict == "not_enough_evidence"
    root = ElementTree.fromstring(exports.get("junit")(report))
    assert {each.attrib["type"] for each in root.findall(".//failure")} == {"not_enough_evidence"}


async def test_a_slice_that_does_not_decide_is_skipped_and_not_red(tmp_path: Path) -> None:
    rows = [
        {**each, "slices": {"part": "rare" if number < 2 else "usual"}} for number, each in enumerate(questions(80))
    ]
    gate = {"rules": [{"metric": "exact", "at_least": 0.8}], "slices": ["part"]}
    suite = suite_of(tmp_path, rows, gate=gate)
    target = Answering(lambda case, repeat: case.question.removeprefix("say "))
    report = await Evaluations(tmp_path / "runs").run(suite, target, Instruments())
    assert report.gate is not None
    assert report.gate.verdict == "pass"
    root = ElementTree.fromstring(exports.get("junit")(report))
    assert not root.findall(".//failure")
    skipped = [case.attrib["name"] for case in root.findall(".//testcase") if case.find("skipped") is not None]
    assert skipped == ["exact >= 0.8 [part=rare]"]


class Seen(HTMLParser):
    VOID = frozenset({"meta", "line", "rect", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_is_whole_in_itself_and_escapes_what_others_wrote(tmp_path: Path) -> None:
    page = exports.get("html")(await made(tmp_path, 10))
    seen = Seen()
    seen.feed(page)
    assert seen.open == []
    assert "script" not in seen.tags
    assert seen.links == []
    assert not re.search(r"https?://|@import|url\(", page)
    assert "alert(1)</script>" not in page
    for words in ("test: fail", "exact >= 0.8", "floor: refuse", "language=de", "Worst cases"):
        assert words in seen.text
    assert "light-dark(" in page


async def test_a_report_without_gate_and_values_has_a_page_too(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, questions(3), metrics=["declines"], floors=False)
    report = await Evaluations(tmp_path / "runs").run(suite, Answering(lambda case, repeat: "x"), Instruments())
    assert "measured" in exports.get("html")(report)
    assert not ElementTree.fromstring(exports.get("junit")(report)).findall(".//failure")


async def test_the_worst_cases_are_listed_and_sealed_ones_never(tmp_path: Path) -> None:
    report = await made(tmp_path, 55)
    assert sorted(each.case for each in report.worst) == sorted([HOSTILE, *(f"c{n}" for n in range(55, 60))])
    sealed = await made(tmp_path, 10, cases=[{"file": "cases.jsonl", "sealed": True}])
    assert sealed.worst == ()


async def test_a_report_from_before_worst_cases_were_kept_is_read(tmp_path: Path) -> None:
    whole = msgspec.to_builtins(await made(tmp_path, 60))
    del whole["worst"]
    assert msgspec.convert(json.loads(json.dumps(whole)), Report).worst == ()


def test_the_command_line_writes_every_form_by_its_ending(tmp_path: Path) -> None:
    suite_of(tmp_path, questions(2))
    outputs = [tmp_path / f"report{ending}" for ending in (".json", ".xml", ".html", ".md")]
    given = [
        "eval",
        "run",
        str(tmp_path / "suite.yaml"),
        "--target",
        "command:cat",
        "--home",
        str(tmp_path / "runs"),
        "-q",
    ]
    done = CliRunner().invoke(cli, [*given, *(word for place in outputs for word in ("-o", str(place)))])
    assert done.exit_code == 0, done.output
    beginnings = [place.read_text("utf-8")[:9] for place in outputs]
    assert beginnings == ['{\n  "id":', "<?xml ver", "<!doctype", "## test: "]
