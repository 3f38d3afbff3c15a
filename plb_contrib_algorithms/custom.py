"""The user's own algorithm: a function, or a score in one line."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn

import attrs

from plb_contrib_algorithms.expression import ExpressionError, compile_expression
from plb_core import (
    AlgorithmFailed,
    BuildContext,
    Candidate,
    Choice,
    ConfigError,
    Outcome,
    Problem,
    Provider,
    Query,
    ScoringAlgorithm,
    doc,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    Function = Callable[[Query, Sequence[Candidate]], object]

UNKNOWN_QUALITY: Final = 0.7
UNKNOWN_COST_USD: Final = 0.005
UNKNOWN_LATENCY_S: Final = 1.0
UNKNOWN_TTFT_S: Final = 0.5
UNKNOWN_ERROR_RATE: Final = 0.05


@attrs.frozen
class Settings:
    """What `[algorithm.custom]` accepts: exactly one of the two."""

    callable: str | None = attrs.field(
        default=None,
        metadata=doc(
            "Your function as 'package.module:function', installed or beside the"
            " configuration file; it gets the query and the candidates and returns one"
            " of them, or a Choice."
        ),
    )
    score: str | None = attrs.field(
        default=None,
        metadata=doc(
            "Your score as an expression such as 'quality - 0.3*cost_usd - latency_s';"
            " the highest wins."
        ),
    )


def _cost_usd(candidate: Candidate) -> float:
    cost_micro_usd = candidate.cost_micro_usd
    if cost_micro_usd is not None:
        return cost_micro_usd / 1e6
    price = candidate.info.traits.price
    return 0.0 if price is not None and price.free else UNKNOWN_COST_USD


def _or(value: float | None, unknown: float) -> float:
    return unknown if value is None else value


NAMES: Final[Mapping[str, Callable[[Candidate], float]]] = MappingProxyType(
    {
        "quality": lambda each: _or(each.quality_mean, UNKNOWN_QUALITY),
        "cost_usd": _cost_usd,
        "latency_s": lambda each: _or(each.latency_s, UNKNOWN_LATENCY_S),
        "ttft_s": lambda each: _or(each.ttft_s, UNKNOWN_TTFT_S),
        "error_rate": lambda each: _or(each.error_rate, UNKNOWN_ERROR_RATE),
        "in_flight": lambda each: float(each.in_flight),
        "max_in_flight": lambda each: float(each.max_in_flight),
        "load": lambda each: each.in_flight / max(1, each.max_in_flight),
        "weight": lambda each: each.weight,
        "priority": lambda each: float(each.info.priority),
        "served": lambda each: float(each.served),
        "healthy": lambda each: float(each.health in ("healthy", "unknown")),
    }
)


class ScoredByExpression(ScoringAlgorithm):
    """Prefer the backend with the highest value of the user's expression.

    Formula: the setting `score`, over the names of `NAMES`; ties by lot.
    Knows nothing: quality 0.7, cost_usd 0 for a backend whose price table is free and
    0.005 otherwise, latency_s 1.0, ttft_s 0.5, error_rate 0.05.
    Source: the user. Memory: none.

    Worked example (score = "quality - 0.3*cost_usd - latency_s"):

    | backend                                 | score          |
    | --------------------------------------- | -------------- |
    | unmeasured, free                        | 0.7 - 0 - 1.0  |
    | quality 0.9, 10,000 micro-USD, 0.2 s    | 0.697          |
    | quality 0.8, unmeasured cost, 0.2 s     | 0.5985         |
    """

    def __init__(self, text: str, context: BuildContext) -> None:
        super().__init__(context)
        try:
            used, self._function = compile_expression(text, tuple(NAMES))
        except ExpressionError as error:
            _refuse(context, "score", str(error), error)
        self._readers = tuple(NAMES[name] for name in used)

    def score(self, query: Query, candidate: Candidate) -> float:  # noqa: ARG002 - the language has no names for the query
        """Return the expression's value for this candidate."""
        try:
            return float(
                self._function(*[reader(candidate) for reader in self._readers])
            )
        except ZeroDivisionError as error:
            message = f"the score of backend {candidate.name!r} divides by zero"
            raise AlgorithmFailed(self.name, message) from error


class ChosenByFunction:
    """Let the user's function choose.

    Formula, source and memory: the function's own. It is called with the query and
    the candidates and returns one of these, or a `Choice` of one; a bare candidate
    counts as chosen with certainty, so a function that draws lots should return a
    `Choice` with its probability. What it raises counts as the algorithm's failure.
    """

    def __init__(self, path: str, context: BuildContext) -> None:
        self.name = context.name
        self._function = _import(path, context)

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the function's choice, after checking it."""
        chosen = self._function(query, candidates)
        if isinstance(chosen, Candidate):
            chosen = Choice(chosen)
        elif not isinstance(chosen, Choice):
            message = (
                f"the function returned {type(chosen).__name__}, expected one of the"
                " candidates or a Choice"
            )
            raise AlgorithmFailed(self.name, message)
        if not 0.0 < chosen.probability <= 1.0:
            message = f"the function's probability is {chosen.probability!r}"
            raise AlgorithmFailed(self.name, message)
        for each in candidates:
            if each is chosen.candidate:
                return chosen
        message = "the function returned a backend that is not among the candidates"
        raise AlgorithmFailed(self.name, message)

    def observe(self, outcome: Outcome) -> None:
        """Learn nothing: a function has no state of plb's."""


def _refuse(
    context: BuildContext,
    setting: str,
    message: str,
    cause: BaseException | None = None,
) -> NoReturn:
    key = f"algorithm.{context.name}.{setting}"
    raise ConfigError([Problem(message, key=key)]) from cause


def _import(path: str, context: BuildContext) -> Function:
    module_name, colon, attribute = path.partition(":")
    if not (colon and module_name and attribute):
        _refuse(context, "callable", "expected 'package.module:function'")
    folder = str(context.folder.resolve())
    sys.path.append(folder)  # so that a module beside config.toml is found
    try:
        function: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing runs the user's module, which may raise anything
        message = f"importing {module_name!r} failed: {type(error).__name__}: {error}"
        _refuse(context, "callable", message, error)
    finally:
        sys.path.remove(folder)
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        message = f"{attribute!r} in {module_name!r} is missing or cannot be called"
        _refuse(context, "callable", message)
    if inspect.iscoroutinefunction(function):
        _refuse(context, "callable", f"{attribute!r} must not be async")
    return function


def build(
    settings: Settings, context: BuildContext
) -> ScoredByExpression | ChosenByFunction:
    """Build from whichever of the two settings is given."""
    if settings.score is not None and settings.callable is None:
        return ScoredByExpression(settings.score, context)
    if settings.callable is not None and settings.score is None:
        return ChosenByFunction(settings.callable, context)
    message = "expected exactly one of 'callable' and 'score'"
    raise ConfigError([Problem(message, key=f"algorithm.{context.name}")])


@hookimpl
def plb_register_algorithm() -> Provider[ScoredByExpression | ChosenByFunction]:
    """Offer `custom`."""
    return Provider(
        "custom", build, Settings, "your own function, or a score in one line"
    )
