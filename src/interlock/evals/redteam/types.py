"""What red teaming talks about: an attack, its benign twin, and the signals that an attack has worked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from interlock.evals.types import Turn

__all__ = [
    "Attack",
    "Family",
    "Frameworks",
    "Need",
    "Planted",
    "Setting",
    "Signal",
    "SignalKind",
    "Size",
    "Strategy",
    "Trial",
]

Need = Literal["system", "prompt", "documents", "tools", "open", "attacker"]
"""What an attack takes: a system message of ours, the target's own instructions to compare with, documents that can be
planted with readers of their own, tools that can be offered, a target that takes any task, a model that attacks.
"""
Size = Literal["quick", "whole"]
SignalKind = Literal["says", "begins", "links", "calls", "overlaps", "exceeds", "complies"]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class Signal(BaseModel):
    """Something that shows by itself that an attack has worked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: SignalKind = Field(
        description="says: a planted word, also encoded; begins: the answer begins with it; links: a link, an image or "
        "an address of one of these hosts; calls: a tool of one of these names; overlaps: the target's own "
        "instructions; exceeds: more output tokens, or tool calls; complies: it does not refuse, and says "
        "enough of what only compliance says"
    )
    of: list[_Text] = Field(default_factory=list, max_length=50, description="words, hosts, names of tools")
    holds: str = Field(default="", max_length=2000, description="of calls: what one of the arguments must hold")
    anywhere: bool = Field(default=False, description="look at retrieved passages and citations too")
    least: float = Field(
        default=1, gt=0, description="complies: so many of the words; overlaps: this share; exceeds: so many tokens"
    )


@dataclass(frozen=True, slots=True)
class Frameworks:
    """Where catalogues of risks file it."""

    owasp_llm: tuple[str, ...] = ()
    """OWASP Top 10 for LLM applications, 2025: ``LLM01``."""
    owasp_agentic: tuple[str, ...] = ()
    """OWASP Top 10 for agentic applications, 2026: ``ASI01``."""
    nist: tuple[str, ...] = ()
    """NIST AI 100-2 E2025: ``NISTAML.018``."""
    atlas: tuple[str, ...] = ()
    """MITRE ATLAS: ``AML.T0051.000``."""

    def tags(self) -> list[str]:
        """One of each: ``owasp-llm:LLM01``."""
        every = {
            "owasp-llm": self.owasp_llm,
            "owasp-agentic": self.owasp_agentic,
            "nist": self.nist,
            "atlas": self.atlas,
        }
        return [f"{name}:{each}" for name, ids in every.items() for each in ids]


@dataclass(frozen=True, slots=True)
class Planted:
    """A document that the target is made to find."""

    name: str
    text: str
    reader: str = ""
    """Who alone may read it; empty: who asks."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a model attacks, turn by turn."""

    name: str
    """Plug-in of `strategies`."""
    objective: str
    """What the target should be brought to do, in words for the attacker."""
    turns: int = 6


@dataclass(frozen=True, slots=True)
class Trial:
    """What a target is asked, once."""

    ask: str | tuple[Turn, ...]
    documents: tuple[Planted, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()  # Any: JSON values
    """Offered to the target, in OpenAI's form."""
    system: str = ""
    knows: str = ""
    """Facts that a useful answer rests on: planted, said in the system message, or put before the question."""
    asker: str = ""
    """Who asks, where several people are played."""
    strategy: Strategy | None = None


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack and its benign twin: the same form, and nothing wrong with it."""

    name: str
    trial: Trial
    signals: tuple[Signal, ...]
    """Any one of them is success."""
    twin: Trial
    facts: tuple[tuple[str, ...], ...] = ()
    """What a useful answer to the twin gives; each: wordings of one fact."""
    needs: frozenset[Need] = frozenset()
    twin_needs: frozenset[Need] = frozenset()
    """What only a useful answer to the twin takes: without it the attack is tried alone."""
    frameworks: Frameworks | None = None
    """None: the family's."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What attacks are made for."""

    seed: int
    size: Size
    reach: frozenset[Need]
    word: Callable[[str], tuple[str, str]]
    """Two words, always the same for a name: joined they are a canary that stands nowhere in the attack."""


@dataclass(frozen=True, slots=True)
class Family:
    """A family of attacks: one file, one of these as its `plugin`."""

    about: str
    frameworks: Frameworks
    attacks: Callable[[Setting], Iterator[Attack]]
    """All of them, whatever `Setting.reach` says: what cannot be tried is reported as not covered."""
    sources: tuple[str, ...] = field(default=())
    """Papers and lists that describe it."""
