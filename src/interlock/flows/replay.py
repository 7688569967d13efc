"""Past requests, answered by a candidate and by what its channel serves: evidence before anybody meets it.

No content of live traffic is kept, so the requests come from a file that somebody has made of their own records. What
they cause is answers, which nobody gets: apps call no tools by themselves, and those that a request offers are not run.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec

from interlock.core.canonical import canonical_bytes, digest_bytes, digest_json
from interlock.core.clock import now
from interlock.core.context import Context, Role
from interlock.core.errors import InvalidInput
from interlock.core.release import Release
from interlock.evals.suite import read_suite
from interlock.evals.types import Case, Output
from interlock.flows.evaluation_targets import WorkspaceTarget, open_release_target
from interlock.flows.parts import Parts
from interlock.gateway.types import RouteSpec
from interlock.releases.promotion import Evidence
from interlock.releases.rollouts.replaying import MEASURED, Met, Replay, Replayed, judge_replay

__all__ = ["NO_REQUESTS", "Sample", "replay"]

NO_REQUESTS = "no content of live traffic is kept here: replay takes a file of past requests"
_NEUTRAL = frozenset(
    {
        "rate_limit_exceeded",
        "insufficient_quota",
        "targets_resting",
        "provider_rate_limited",
        "provider_quota_exhausted",
    }
)
"""Ends that say nothing of a release: a limit or a target that both share."""


class Sample(msgspec.Struct, frozen=True):
    """Which of the requests, and how."""

    file: Path
    most: int = 500
    """Units (conversations, people, single requests) that are drawn from it."""
    seed: int = 7
    concurrency: int = 4


async def replay(
    parts: Parts,
    ctx: Context,
    app: str,
    release: str,
    sample: Sample,
    *,
    channel: str = "prod",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Replay, Evidence]:
    """Answer past requests by a frozen release and by what the channel points at, judge and attach what came of it.

    The guardrails and alpha are those of the app's rollouts. Costs what twice as many requests cost.

    Raises: Forbidden, NotFound; InvalidInput: the file, or the channel points at this release or at none.
    """
    ctx.require(Role.OPERATOR)
    candidate, control = await parts.releases.load(ctx, app, release), await parts.releases.pick(ctx, app, channel)
    if candidate.id == control.id:
        raise InvalidInput(f"{app}@{channel} points at this release: there is nothing to compare", param="release")
    spec = parts.releases.source(app, ctx).rollout()
    guardrails = [each for each in spec.guardrails if each.measure in MEASURED]
    if not guardrails:
        raise InvalidInput(
            f"none of the app's guardrails can be seen in a replay: {', '.join(sorted(MEASURED))} can",
            param="rollout.guardrails",
        )
    requests = _requests(sample.file)
    cases = _drawn(requests, sample)
    seen = await _answered(parts, cases, (control, candidate), sample.concurrency, progress)
    found = judge_replay(guardrails, spec.alpha, seen)
    asked, whole = _digests(cases), digest_json(_digests(requests))
    file_digest = digest_bytes(sample.file.read_bytes())
    against = _Against(channel, control.id, file_digest, found.units)
    covers = await _covered(parts, ctx, candidate, against, asked)
    at = now()
    report = canonical_bytes(
        {
            "replay": msgspec.to_builtins(found),
            "app": app,
            "channel": channel,
            "candidate": candidate.id,
            "control": control.id,
            "requests": file_digest,
            "requests_digest": whole,
            "asked": asked,
            "seed": sample.seed,
            "guardrails": [each.model_dump(mode="json") for each in guardrails],
            "alpha": spec.alpha,
            "at": at.isoformat(),
        }
    )
    summary: dict[str, str | int | float | bool] = {
        "channel": channel,
        "control": control.id,
        "requests": found.requests,
        "requests_digest": whole,
        "seed": sample.seed,
        "units": found.units,
        "p": found.p,
        "alpha": spec.alpha,
        "covers": ",".join(covers),
        **{f"harm.{check.measure}": round(check.harm, 6) for check in found.checks},
        **{f"harm_at_most.{check.measure}": round(check.high, 6) for check in found.checks},
    }
    given = Evidence(
        digest_bytes(report),
        candidate.app,
        candidate.id,
        "replay",
        sample.file.stem[:128],
        found.verdict,
        ctx.principal.id,
        at,
        found.reason[:1000],
        summary,
    )
    await parts.releases.attach(ctx, given, report)
    return found, given


def _digests(cases: Sequence[Case]) -> list[str]:
    """Of each request, in no order of the file: its number there makes it no other."""
    return sorted(digest_json(case.model_dump(mode="json", exclude={"id"})) for case in cases)


class _Against(NamedTuple):
    channel: str
    control: str
    file_digest: str
    units: int


async def _covered(
    parts: Parts, ctx: Context, candidate: Release, against: _Against, asked: Sequence[str]
) -> list[str]:
    """Digests of earlier replays that did not pass, all of whose requests are asked again."""
    found, now_asked = list[str](), Counter(asked)
    for each in await parts.releases.evidence(ctx, candidate.app, candidate.id):
        said = each.summary.get("channel", against.channel), each.summary.get("control")
        if each.kind != "replay" or each.verdict == "pass" or said != (against.channel, against.control):
            continue
        report = msgspec.json.decode(await parts.releases.report(ctx, candidate.app, candidate.id, each.digest))
        if (before := report.get("asked")) is not None:
            is_covered = Counter(before) <= now_asked
        else:
            # Replays were once kept with the digest of their file alone.
            is_covered = report.get("requests") == against.file_digest and against.units >= int(each.summary["units"])
        if is_covered:
            found.append(each.digest)
    return found


def _requests(file: Path) -> Sequence[Case]:
    """Cases of a file. Raises: InvalidInput naming file and line."""
    return read_suite(file).cases if file.suffix in {".yaml", ".yml"} else _lines(file)


def _lines(file: Path) -> list[Case]:
    from pydantic import ValidationError

    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file.name} cannot be read", param="--requests", hint=NO_REQUESTS) from error
    cases: list[Case] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = msgspec.json.decode(line)
            if "messages" in said:
                said["input"] = said.pop("messages")
            cases.append(Case.model_validate({"id": f"line-{number}", **said}))
        except (msgspec.DecodeError, ValidationError, TypeError) as error:
            raise InvalidInput(
                f"{file.name}, line {number}: no request",
                param="--requests",
                hint=(
                    'one JSON object a line: {"input": "…" or "messages": […], '
                    '"group": "conversation or person", "as": "user"}'
                ),
            ) from error
    if not cases:
        raise InvalidInput(f"{file.name} has no requests", param="--requests", hint=NO_REQUESTS)
    return cases


def _drawn(cases: Sequence[Case], sample: Sample) -> list[Case]:
    """All requests of so many units; the same seed draws the same."""
    units = sorted({case.unit for case in cases})
    chosen = set(random.Random(sample.seed).sample(units, min(sample.most, len(units))))  # noqa: S311 - no secret
    return [case for case in cases if case.unit in chosen]


async def _answered(
    parts: Parts,
    cases: Sequence[Case],
    pair: tuple[Release, Release],
    concurrency: int,
    progress: Callable[[int, int], None] | None,
) -> list[Replayed]:
    targets = [await open_release_target(parts, each, f"release:{each.app}:{each.id}") for each in pair]
    # An answer that is kept from live traffic is quick and free, and only the control has any.
    is_kept = any(RouteSpec.model_validate(each.components["route"], extra="ignore").cache for each in pair)
    found: list[Replayed | None] = [None] * len(cases)
    limiter, done = anyio.CapacityLimiter(concurrency), 0

    async def one(place: int, case: Case) -> None:
        nonlocal done
        async with limiter:
            # Whoever goes second may find connections warm and machines busy: in turn it is either.
            order = (0, 1) if place % 2 else (1, 0)
            met: list[Met] = [Met(), Met()]
            for side in order:
                met[side] = await _met(targets[side], case, is_kept=is_kept)
            found[place] = Replayed(case.unit, met[0], met[1])
            done += 1
            if progress is not None:
                progress(done, len(cases))

    try:
        async with anyio.create_task_group() as group:
            for place, case in enumerate(cases):
                group.start_soon(one, place, case)
    finally:
        for target in targets:
            await target.close()
    return [each for each in found if each is not None]


async def _met(target: WorkspaceTarget, case: Case, *, is_kept: bool) -> Met:
    return read_output(await target.run(case, 0), is_kept=is_kept)


def read_output(output: Output, *, is_kept: bool = False) -> Met:
    """What an answer says of its release."""
    if output.error in _NEUTRAL:
        return Met()
    failed = bool(output.error)
    return Met(
        error=float(failed),
        declined=None if failed or not output.outcome else float(output.outcome == "declined"),
        blocked=float(output.outcome == "refused"),
        latency=None if failed or is_kept or not output.latency_s else math.log(output.latency_s),
        cost=None if failed or is_kept or not output.cost_nano else math.log(output.cost_nano),
    )
