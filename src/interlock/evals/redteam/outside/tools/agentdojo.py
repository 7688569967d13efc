"""AgentDojo (Debenedetti et al. 2024): injections in what an agent's tools give back, beside its user's tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from interlock.evals.redteam.outside._environments import basic, python_environment, wrong_report
from interlock.evals.redteam.outside.types import Call, Place, Row

__all__ = ["plugin"]

_QUICK = ["-s", "slack", "--attack", "important_instructions_no_names"]


class _AgentDojo:
    about = "AgentDojo: injections in what an agent's tools give back, and how useful it stays"
    version = "0.1.35"
    executable = "venv/bin/python"

    def install(self, home: Path) -> Sequence[Call]:
        return python_environment(home, f"agentdojo=={self.version}")

    def attack(self, home: Path, place: Place, options: Sequence[str]) -> Call:
        defaults = [] if {"-s", "--suite", "--attack"} & set(options) else _QUICK
        arguments = [
            *(str(home / self.executable), "-m", "agentdojo.scripts.benchmark"),
            *("--model", "LOCAL", "--model-id", place.model, "--logdir", str(place.folder / "logs")),
            *defaults,
            *options,
        ]
        # Its local model is asked on this machine, at this port.
        return Call(arguments, basic(LOCAL_LLM_PORT=str(urlsplit(place.address).port)))

    def read(self, folder: Path) -> Sequence[Row]:
        counts: dict[str, list[int]] = {}
        for place in sorted((folder / "logs").rglob("*.json")):
            try:
                found = json.loads(place.read_text("utf-8"))
                if not isinstance(found, dict) or found.get("injection_task_id") is None or "security" not in found:
                    continue
                row = counts.setdefault(f"{found['suite_name']}/{found['attack_type']}", [0, 0, 0, 0])
                if found.get("error"):
                    row[3] += 1
                    continue
                row[0] += 1
                row[1] += bool(found["security"])
                row[2] += bool(found["utility"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise wrong_report("AgentDojo", type(error).__name__) from error
        if not counts:
            raise wrong_report("AgentDojo", "it tried no injection")
        return [
            Row(name, tried, worked, useful, failed) for name, (tried, worked, useful, failed) in sorted(counts.items())
        ]


plugin = _AgentDojo()
