"""What a plugin hands back is looked at here before the core believes it.

A fault of a classifier or scorer costs its own verdict, never the user's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeGuard, TypeVar, get_args

from loguru import logger

from plb_core.errors import BadAnswer
from plb_core.types import Answer, Chunk, Decision, Usage, Wanted

if TYPE_CHECKING:
    from plb_core.protocols import Classifier, CostScorer, QualityScorer
    from plb_core.types import BackendInfo, Query

_Subject = TypeVar("_Subject")

UNCLASSIFIED: Final = Decision("either", "general", 0.0)
_WANTED: Final = get_args(Wanted)


def classify(classifier: Classifier, query: Query) -> Decision:
    """Return the classifier's decision, `UNCLASSIFIED` when it fails."""
    try:
        decision: object = classifier.classify(query)
        if (
            isinstance(decision, Decision)
            and decision.wanted in _WANTED
            and isinstance(decision.kind, str)
        ):
            return decision
        _complain("the classifier", "an impossible decision")
    except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
        _complain("the classifier", type(error).__name__)
    return UNCLASSIFIED


def answer_cost(
    scorer: CostScorer | None, query: Query, answer: Answer, info: BackendInfo
) -> int | None:
    """Return micro-USD as billed, else as counted, else as estimated, else None."""
    billed = answer.cost_micro_usd
    if billed is not None:
        if _is_amount(billed):
            return billed
        _complain(f"backend {info.name!r}", "a bill that is no amount")
    if scorer is None:
        return None
    if answer.usage is None:
        return _amount(scorer.estimate, query, info)
    return _amount(scorer.actual, answer.usage, info)


def cost_ceiling(scorer: CostScorer, query: Query, info: BackendInfo) -> int | None:
    """Return micro-USD that the query can cost at most, None when unknown."""
    return _amount(scorer.ceiling, query, info)


def answer_bill(
    scorer: CostScorer | None, answer: Answer, info: BackendInfo
) -> int | None:
    """Return micro-USD as billed or counted; None when only an estimate is possible."""
    if answer.cost_micro_usd is not None and _is_amount(answer.cost_micro_usd):
        return answer.cost_micro_usd
    price, usage = info.traits.price, answer.usage
    if usage is None and price is not None and not price.by_use:
        usage = Usage()  # a flat price per request needs no counts
    if usage is not None and usage.estimated:
        return None
    return usage_cost(scorer, usage, info)


def usage_cost(
    scorer: CostScorer | None, usage: Usage | None, info: BackendInfo
) -> int | None:
    """Return micro-USD for what was used, None when either is unknown."""
    if scorer is None or usage is None:
        return None
    return _amount(scorer.actual, usage, info)


def answer_quality(
    scorer: QualityScorer | None, query: Query, answer: Answer
) -> Mapping[str, float] | None:
    """Return {dimension: 0..1}, None when the scorer fails or has no opinion."""
    if scorer is None:
        return None
    try:
        marks = scorer.score(query, answer)
        if not marks:
            return None
        for mark in marks.values():
            if not 0.0 <= mark <= 1.0:  # so that NaN fails too
                _complain("the quality scorer", "a mark outside 0 to 1")
                return None
    except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
        _complain("the quality scorer", type(error).__name__)
        return None
    return marks


def is_answer(value: object) -> TypeGuard[Answer]:
    """Whether a backend's return value is an answer with text."""
    return isinstance(value, Answer) and isinstance(value.text, str)


def check_chunk(chunk: object) -> None:
    """Raise `BadAnswer` for what no stream may yield."""
    if not isinstance(chunk, Chunk):
        raise BadAnswer(f"the plugin yielded a {type(chunk).__name__}")
    if not isinstance(chunk.text, str):
        raise BadAnswer(f"the plugin yielded a {type(chunk.text).__name__} as text")
    if not chunk.end or chunk.end == "truncated":
        return
    if chunk.end != "complete" or not is_answer(chunk.answer):
        raise BadAnswer("the stream's end carries no answer")


def _amount(
    ask: Callable[[_Subject, BackendInfo], int | None],
    subject: _Subject,
    info: BackendInfo,
) -> int | None:
    try:
        amount = ask(subject, info)
    except Exception as error:  # noqa: BLE001 - a fault in the plugin itself
        _complain("the cost scorer", type(error).__name__)
        return None
    if amount is None or _is_amount(amount):
        return amount
    _complain("the cost scorer", "a cost that is no amount")
    return None


def _is_amount(value: object) -> bool:
    return type(value) is int and value >= 0  # a bool is no amount


def _complain(who: str, what: str) -> None:
    logger.error("{} failed with {}", who, what)
