"""Tests of prompts as JUnit XML, for CI. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from interlock.prompts.testing import TestResult

__all__ = ["junit"]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Sequence[TestResult]) -> str:
    """One `testsuite` a prompt."""
    prompts = dict.fromkeys(each.prompt for each in results)
    suites = "".join(_suite(name, [each for each in results if each.prompt == name]) for name in prompts)
    failed = sum(not each.passed for each in results)
    head = f'<testsuites name="prompts" tests="{len(results)}" failures="{failed}" errors="0">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}\n{suites}</testsuites>\n'


def _suite(name: str, results: Sequence[TestResult]) -> str:
    failed = sum(not each.passed for each in results)
    seconds = sum(each.seconds for each in results)
    head = f'tests="{len(results)}" failures="{failed}" errors="0" time="{seconds:.3f}"'
    return f"  <testsuite name={_attr(name)} {head}>\n{''.join(map(_case, results))}  </testsuite>\n"


def _case(result: TestResult) -> str:
    head = f"    <testcase classname={_attr(f'{result.prompt}.{result.kind}')} name={_attr(result.name)}"
    head += f' time="{result.seconds:.3f}"'
    if result.passed:
        return f"{head}/>\n"
    told = "\n".join(result.failures)
    message = _attr(result.failures[0])
    return f"{head}><failure message={message}>{escape(_NOT_XML.sub(' ', told))}</failure></testcase>\n"


def _attr(text: str) -> str:
    return quoteattr(_NOT_XML.sub(" ", text))
