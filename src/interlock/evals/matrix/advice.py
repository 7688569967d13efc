"""What measurements of an app's arms say: which to take, and whether documents, retrieval, examples, another model or
tuning would help.

An arm is a variant whose settings name its `model` and its `arm`. Every answer rests on paired differences over the
same cases; what they cannot tell is said to be open, with the number of cases it would take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interlock.core.errors import InvalidInput
from interlock.evals.comparing import Beside
from interlock.evals.matrix.contrasts import contrast
from interlock.evals.matrix.drawing import cell_of
from interlock.evals.matrix.types import Advice, Contrast, Finding, Matrix, Measured, Question

__all__ = ["ARMS", "DOCUMENTS", "EXAMPLES", "PROMPT", "RIGHT", "SHOWN", "advise"]

PROMPT, EXAMPLES = "prompt only", "prompt and examples"
DOCUMENTS, SHOWN, RIGHT = "documents", "documents and examples", "right documents"
ARMS = (PROMPT, EXAMPLES, DOCUMENTS, SHOWN, RIGHT)
_FEW_LABELS = 200
"""Examples below which tuning a model on them is rarely worth a trial: they are better shown to it."""
_DEARER = 2.0
"""A teacher that costs less than so many times its student is simply used."""


@dataclass(frozen=True, slots=True)
class _Arms:
    """The arms that were measured whole."""

    quality: str
    higher: bool
    margin: float
    runs: Mapping[str, Beside]
    """By label."""
    labels: Mapping[tuple[str, str], str]
    """Model and arm to label."""
    means: Mapping[str, float]
    costs: Mapping[str, float]
    """US dollars a case; of those whose cost is known."""

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(model for model, _ in self.labels))

    def beside(self, model: str, arm: str, other_model: str, other_arm: str) -> Contrast | None:
        return next(iter(self.all_beside([((model, arm), (other_model, other_arm))])), None)

    def all_beside(self, pairs: Sequence[tuple[tuple[str, str], tuple[str, str]]]) -> list[Contrast]:
        """Those of the pairs of which both were measured. Any one could be better by chance: they share the error."""
        known = [(self.labels[new], self.labels[old]) for new, old in pairs if {new, old} <= set(self.labels)]
        return [self.contrast(new, old, 0.05 / len(known)) for new, old in known]

    def contrast(self, new: str, old: str, alpha: float = 0.05) -> Contrast:
        return contrast(self.runs[new], self.runs[old], self.quality, margin=self.margin, alpha=alpha)

    def best(self, labels: Sequence[str]) -> str:
        sign = 1 if self.higher else -1
        return max(labels, key=lambda label: (sign * self.means[label], -self.costs.get(label, 0.0)))


def advise(matrix: Matrix, runs: Sequence[Beside], *, margin: float, examples: int) -> Advice:
    """Read what was measured.

    Args:
        runs: of the variants that were measured whole, by label.
        margin: of quality; what differs by less counts as equal.
        examples: labelled cases at hand besides those that were asked.

    Raises: InvalidInput: nothing was measured that an app could be.
    """
    arms = _arms(matrix, runs, margin)
    real = [label for (_, arm), label in arms.labels.items() if arm != RIGHT]
    if not real:
        raise InvalidInput("no arm was measured whole", param="suite", hint=f"interlock compare show {matrix.id}")
    recommended, why = _chosen(arms, real)
    findings = (
        _documents(arms),
        _retrieval(arms),
        _examples(arms),
        _model(arms),
        _tuning(arms, examples),
    )
    costs = {label: value * 1000 for label, value in arms.costs.items()}
    return Advice(recommended, tuple(why), findings, margin, costs)


def _arms(matrix: Matrix, runs: Sequence[Beside], margin: float) -> _Arms:
    by_label = {run.target: run for run in runs}
    labels: dict[tuple[str, str], str] = {}
    means: dict[str, float] = {}
    costs: dict[str, float] = {}
    better = "higher"
    for each in matrix.variants:
        quality = cell_of(matrix, each.run, matrix.quality) if _whole(each, by_label) else None
        if quality is None:
            continue
        settings = each.variant.settings
        labels[settings["model"], settings["arm"]] = each.variant.label
        means[each.variant.label] = quality.mean
        better = quality.better
        cost = cell_of(matrix, each.run, "cost")
        if cost is not None:
            costs[each.variant.label] = cost.mean
    return _Arms(matrix.quality, better == "higher", margin, by_label, labels, means, costs)


def _whole(each: Measured, runs: Mapping[str, Beside]) -> bool:
    return not each.error and each.variant.label in runs and {"model", "arm"} <= set(each.variant.settings)


def _chosen(arms: _Arms, real: Sequence[str]) -> tuple[str, list[str]]:
    """The cheapest of those that are shown to be as good as the best."""
    best = arms.best(real)
    others = [label for label in real if label != best]
    # Each could be called as good by chance: the error is divided among them.
    found = {label: arms.contrast(label, best, 0.05 / max(1, len(others))) for label in others}
    as_good = [best, *(label for label, each in found.items() if each.verdict in {"better", "as good"})]
    told = [f"{best!r} has the best quality: {arms.quality} {arms.means[best]:.3g}."]
    priced = [label for label in as_good if label in arms.costs]
    chosen = min(priced, key=lambda label: arms.costs[label]) if best in priced else best
    if chosen != best:
        told.append(
            f"{chosen!r} is not worse by {arms.margin:g} ({_figures(found[chosen])}), and {best!r} costs "
            f"{_times(arms.costs[best], arms.costs[chosen])}."
        )
    if best not in arms.costs:
        told.append("What it costs is not known: prices of its model are not set (`cost.prices`).")
    for label in others:
        cheaper = label in arms.costs and arms.costs[label] < arms.costs.get(chosen, 0.0)
        if cheaper and found[label].verdict == "cannot tell":
            more = found[label].more
            told.append(
                f"{label!r} is cheaper, and whether it is as good cannot be told"
                + (f": about {more:,} more cases would." if more else ".")
            )
    return chosen, told


def _documents(arms: _Arms) -> Finding:
    pairs = arms.all_beside([((model, DOCUMENTS), (model, PROMPT)) for model in arms.models])
    return _yes_or_no(
        "documents",
        pairs,
        none="Only one of the prompt alone and the prompt with documents was measured.",
        yes="Answering from documents is better than the prompt alone",
        no="Documents bring nothing that the prompt alone does not",
    )


def _retrieval(arms: _Arms) -> Finding:
    pairs = arms.all_beside([((model, RIGHT), (model, DOCUMENTS)) for model in arms.models])
    return _yes_or_no(
        "retrieval",
        pairs,
        none="The right documents were not given: cases name none, or the app has no documents.",
        yes="With the right documents given it is better: retrieval loses answers (`interlock knowledge tune`)",
        no="Retrieval is not what is missing: the right documents, given by hand, bring no more",
    )


def _examples(arms: _Arms) -> Finding:
    shown = [((model, EXAMPLES), (model, PROMPT)) for model in arms.models]
    pairs = arms.all_beside([*shown, *(((model, SHOWN), (model, DOCUMENTS)) for model in arms.models)])
    return _yes_or_no(
        "examples",
        pairs,
        none="There were no labelled examples besides the cases that were asked.",
        yes="Examples in the prompt help",
        no="Examples in the prompt bring nothing",
    )


def _model(arms: _Arms) -> Finding:
    first, *others = arms.models
    arm = _shared_arm(arms)
    pairs = arms.all_beside([((model, arm), (first, arm)) for model in others])
    return _yes_or_no(
        "model",
        pairs,
        none="One model was measured: name others with --model.",
        yes=f"Another model is better than {first} (arm {arm!r})",
        no=f"No other model that was measured is better than {first} (arm {arm!r})",
    )


def _shared_arm(arms: _Arms) -> str:
    """The arm of which most models were measured; the best of them where several are equal."""
    count = {arm: sum((model, arm) in arms.labels for model in arms.models) for arm in ARMS if arm != RIGHT}
    most = max(count.values())
    return _arm_of_best(arms, [arm for arm, number in count.items() if number == most])


def _arm_of_best(arms: _Arms, names: Sequence[str]) -> str:
    """The one of these arms in which some model does best."""
    labels = {label: arm for (_, arm), label in arms.labels.items() if arm in names}
    return labels[arms.best(list(labels))]


def _tuning(arms: _Arms, examples: int) -> Finding:
    """Would a small model, tuned, do what a dear one does? Measured is the gap it would have to close, and whether
    something that costs no training closes it.
    """
    arm = _shared_arm(arms)
    labels = {model: arms.labels[model, arm] for model in arms.models if (model, arm) in arms.labels}
    teacher = next(model for model, label in labels.items() if label == arms.best(list(labels.values())))
    priced = {model: arms.costs[label] for model, label in labels.items() if label in arms.costs}
    if len(labels) < 2 or teacher not in priced or len(priced) < 2:
        return Finding(
            "tuning",
            "not measured",
            "Tuning would have to close the gap between a cheap model and a better, dearer one: measure both with"
            " --model, and set their prices. A model that is tuned already is measured like any other.",
        )
    student = min(priced, key=lambda model: (priced[model], model != teacher))
    if student == teacher:
        return Finding("tuning", "no", f"{teacher} is the best and the cheapest that was measured: nothing is to gain.")
    gap = arms.contrast(labels[student], labels[teacher])
    if gap.verdict in {"better", "as good"}:
        return Finding("tuning", "no", f"{student} is as good as {teacher} already.", (gap,))
    if gap.verdict == "cannot tell":
        return Finding("tuning", "cannot tell", f"Whether {student} is behind {teacher} is open{_more([gap])}.", (gap,))
    for other, remedy in ((RIGHT, "the right documents: mend retrieval first"), (SHOWN, "examples in the prompt"),
                          (EXAMPLES, "examples in the prompt")):  # fmt: skip
        closes = arms.beside(student, other, teacher, arm)
        if closes is not None and closes.verdict in {"better", "as good"}:
            return Finding("tuning", "no", f"{student} is behind {teacher}, but not with {remedy}.", (gap, closes))
    if priced[teacher] < _DEARER * priced[student]:
        return Finding(
            "tuning",
            "no",
            f"{teacher} costs less than {_DEARER:g} times {student}: use it instead of tuning the other.",
            (gap,),
        )
    said = (
        f"{student} is behind {teacher} ({_figures(gap)}), nothing cheaper closes the gap, and {teacher} costs "
        f"{_times(priced[teacher], priced[student])}: tuning {student} is worth a trial, whose result is measured here "
        "like any other model."
    )
    if examples < _FEW_LABELS:
        said += f" There are {examples} labelled examples besides these cases; collect {_FEW_LABELS} or more first."
    return Finding("tuning", "yes", said, (gap,))


def _yes_or_no(question: Question, pairs: Sequence[Contrast], *, none: str, yes: str, no: str) -> Finding:
    found = tuple(pairs)
    if not found:
        return Finding(question, "not measured", none)
    verdicts = {each.verdict for each in found}
    if "better" in verdicts:
        where = ", ".join(f"{each.new} {_figures(each)}" for each in found if each.verdict == "better")
        return Finding(question, "yes", f"{yes}: {where}.", found)
    if "cannot tell" in verdicts:
        return Finding(question, "cannot tell", f"These cases cannot tell{_more(found)}.", found)
    return Finding(question, "no", f"{no}.", found)


def _more(found: Sequence[Contrast]) -> str:
    needed = [each.more for each in found if each.verdict == "cannot tell" and each.more]
    return f": about {max(needed):,} more would" if needed else ""


def _figures(found: Contrast) -> str:
    if found.value is None or found.interval is None:
        return "no case in both"
    return f"{found.value:+.3g}, 95 % {found.interval.low:+.3g} to {found.interval.high:+.3g}"


def _times(dear: float, cheap: float) -> str:
    return "more, and this nothing" if cheap <= 0 else f"{dear / cheap:.3g} times as much"
