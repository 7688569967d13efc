"""Findings in the forms that other tools read: SARIF 2.1.0, and annotations of GitHub's workflows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interlock import __version__
from interlock.prompts.linting import Finding

__all__ = ["github", "sarif"]

_LEVELS = {"error": "error", "warn": "warning"}


# Any: JSON on its way out.
def sarif(found: Sequence[Finding]) -> dict[str, Any]:
    """One run, with each rule that found something."""
    known = {each.rule: each for each in found}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "interlock prompt lint",
                        "version": __version__,
                        "rules": [
                            {
                                "id": name,
                                "shortDescription": {"text": each.reason},
                                "help": {"text": each.remedy},
                            }
                            for name, each in sorted(known.items())
                        ],
                    }
                },
                "results": [
                    {
                        "ruleId": each.rule,
                        "level": _LEVELS[each.severity],
                        "message": {"text": f"{each.message}. {each.remedy}"},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": each.file},
                                    "region": {"startLine": each.line},
                                }
                            }
                        ],
                    }
                    for each in found
                ],
            }
        ],
    }


def github(found: Sequence[Finding]) -> str:
    """One workflow command a line."""
    return "".join(
        f"::{_LEVELS[each.severity]} file={_property(each.file)},line={each.line},"
        f"title={_property(each.rule)}::{_data(f'{each.message}. {each.remedy}')}\n"
        for each in found
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
