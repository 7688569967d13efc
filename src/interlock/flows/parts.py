"""All parts of a running Interlock, as flows take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.access.service import Access
from interlock.cost.rules import Rules
from interlock.cost.service import Costs
from interlock.flows.shadowing import Shadowing
from interlock.gateway.background import Background
from interlock.gateway.conversations import Conversations
from interlock.gateway.kept import Kept
from interlock.gateway.service import Gateway
from interlock.governance.service import Governance
from interlock.guardrails.service import Guardrails
from interlock.observe.service import Observe
from interlock.releases.service import Releases
from interlock.serving.service import Models
from interlock.stores.jobs.base import Jobs

if TYPE_CHECKING:
    from interlock.evals.monitoring.service import Monitors
    from interlock.evals.review.service import Reviews
    from interlock.evals.service import Evaluations
    from interlock.flows.sampling import Sampling
    from interlock.knowledge.grounding.service import Grounding
    from interlock.knowledge.service import KnowledgeService
    from interlock.prompts.registry import Prompts

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """Built by :mod:`interlock.app`."""

    access: Access
    gateway: Gateway
    knowledge: KnowledgeService
    grounding: Grounding
    releases: Releases
    guardrails: Guardrails
    observe: Observe
    cost: Costs
    limits: Rules
    governance: Governance
    models: Models
    jobs: Jobs
    kept: Kept
    conversations: Conversations
    background: Background
    shadowing: Shadowing
    evaluations: Evaluations
    reviews: Reviews
    prompts: Prompts
    monitors: Monitors
    sampling: Sampling
