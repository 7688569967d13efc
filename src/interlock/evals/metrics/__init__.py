"""Metrics. One file each, with a `plugin` that says what it scores and how."""

import importlib
from importlib.util import find_spec
from typing import Any

from interlock.core.plugins import Registry
from interlock.evals.ports import Derived, Metric

__all__ = ["about", "metrics"]

# Any: each metric has options of its own type.
metrics: Registry[Metric[Any] | Derived[Any]] = Registry("metric", "interlock.evals.metrics", extra="eval")


def about(name: str) -> str:
    """The first sentence of a metric's file, for lists; of one from elsewhere what its module or function says."""
    metric = metrics.get(name)
    scored = metric.combine if isinstance(metric, Derived) else metric.score
    # Several built-in files may share one function; the name tells them apart.
    own = f"{__name__}.{name}"
    module = importlib.import_module(own if find_spec(own) is not None else scored.__module__)
    told = module.__doc__ or scored.__doc__ or ""
    return " ".join(told.strip().split("\n\n")[0].split())
