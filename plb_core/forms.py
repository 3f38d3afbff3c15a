"""Whether an object that a plugin built has the form its kind must have.

Looked at once, when it is built, so that a wrong one is a line in the report of
problems and not a failure of every question.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeGuard, get_args

from plb_core.types import BackendTraits, Knowledge, Price

if TYPE_CHECKING:
    from plb_core.sections import Kind

_SYNC: Final[Mapping[Kind, tuple[str, ...]]] = {
    "algorithm": ("choose", "observe"),
    "classifier": ("classify",),
    "command": ("configure", "run"),
    "cost_scorer": ("ceiling", "estimate", "actual"),
    "health_check": ("judge",),
    "listener": ("observe",),
    "quality_scorer": ("score",),
}

_OTHER: Final[Mapping[Kind, tuple[str, ...]]] = {
    "backend": ("start", "close", "ask", "stream", "ping", "traits"),
    "health_check": ("probe", "interval_s"),
    "service": ("start", "close"),
    "store": ("start", "close", "load", "write"),
}


def fault(kind: Kind, plugin: str, made: object) -> str:
    """Return what is wrong with an object that `plugin` built, "" when it is sound."""
    sync = _SYNC.get(kind, ())
    missing = [
        name for name in (*sync, *_OTHER.get(kind, ())) if not hasattr(made, name)
    ]
    if missing:
        return f"{plugin!r} built a {type(made).__name__} without " + " and ".join(
            missing
        )
    for name in sync:
        if inspect.iscoroutinefunction(getattr(made, name)):
            return f"`{name}` of {plugin!r} is async; it must not wait"
    if kind == "health_check":
        return _interval_fault(plugin, made)
    if kind == "backend":
        return _backend_fault(plugin, made)
    return ""


def capability_fault(plugin: str, made: object, traits: BackendTraits) -> str:
    """Return which capability a backend cannot have, "" when there is none such."""
    if "embeddings" in traits.capabilities and not hasattr(made, "embed"):
        return f"{plugin!r} is to have embeddings, but it has no `embed`"
    return ""


def _interval_fault(plugin: str, made: object) -> str:
    interval_s: object = getattr(made, "interval_s", None)
    if _is_number(interval_s) and 0 < interval_s < math.inf:
        return ""
    return f"interval_s of {plugin!r} is no duration: {interval_s!r}"


def _backend_fault(plugin: str, made: object) -> str:
    if inspect.iscoroutinefunction(getattr(made, "stream", None)):
        return f"`stream` of {plugin!r} is async without `yield`"
    traits: object = getattr(made, "traits", None)
    if not isinstance(traits, BackendTraits):
        return f"the traits of {plugin!r} are not BackendTraits"
    wrong = [name for name, is_sound in _soundness(traits).items() if not is_sound]
    if wrong:
        return f"the traits of {plugin!r} cannot be: {', '.join(wrong)}"
    return ""


def _soundness(traits: BackendTraits) -> Mapping[str, bool]:
    most: object = traits.max_in_flight
    return {
        "knowledge": traits.knowledge in get_args(Knowledge),
        "capabilities": isinstance(traits.capabilities, frozenset),
        "max_in_flight": isinstance(most, int) and _is_number(most) and most >= 1,
        "price": traits.price is None or isinstance(traits.price, Price),
    }


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
