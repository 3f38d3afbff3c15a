"""Choose the backend from which a good answer is cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from plb_contrib_algorithms.good_answers import GoodAnswers, Prior
from plb_core import (
    BuildContext,
    Choice,
    Outcome,
    Price,
    Provider,
    Query,
    Rating,
    ScoringAlgorithm,
    doc,
    hookimpl,
)
from plb_core.settings import at_least, positive, share

if TYPE_CHECKING:
    from plb_core import Candidate

INDIFFERENT: Final = 0.01  # a loss within 1 % of the least is no reason to prefer


@attrs.frozen
class Settings:
    """What `[algorithm.cost_aware]` accepts."""

    quality_bar: float = attrs.field(
        default=0.5,
        validator=share,
        metadata=doc("Quality from which an answer counts as good, 0..1."),
    )
    cost_weight_factor: float = attrs.field(
        default=0.3,
        validator=share,
        metadata=doc(
            "Weight of money against bad answers, 0..1; 1 looks at money alone."
        ),
    )
    prefer_low_cost: bool = attrs.field(
        default=True,
        metadata=doc("Let money count; false takes the surest backend within budget."),
    )
    bad_answer_micro_usd: float = attrs.field(
        default=5000.0,
        validator=at_least(0),
        metadata=doc("What a bad or missing answer costs you besides its bill."),
    )
    exploration: float = attrs.field(
        default=0.02,
        validator=share,
        metadata=doc("Share of choices drawn evenly from all that fit the budget."),
    )
    prior_answered: float = attrs.field(
        default=0.95,
        validator=[at_least(0.01), share],
        metadata=doc("Chance of an answer assumed of an unknown backend."),
    )
    prior_good: float = attrs.field(
        default=0.8,
        validator=[at_least(0.01), share],
        metadata=doc("Chance that an unknown backend's answer is good."),
    )
    prior_strength: float = attrs.field(
        default=5.0,
        validator=positive,
        metadata=doc("How many observations each prior is worth."),
    )
    optimism: float = attrs.field(
        default=1.5,
        validator=at_least(0),
        metadata=doc(
            "Standard deviations of benefit of the doubt; gets new backends tried."
        ),
    )
    half_life_observations: float = attrs.field(
        default=200.0,
        validator=positive,
        metadata=doc("Observations of a backend after which an older one counts half."),
    )
    unknown_cost_micro_usd: float = attrs.field(
        default=5000.0,
        validator=at_least(0),
        metadata=doc("Cost assumed per request of a backend without a price."),
    )
    typical_input_tokens: int = attrs.field(
        default=1000,
        validator=at_least(0),
        metadata=doc("Input tokens of a typical request, for the price table."),
    )
    typical_output_tokens: int = attrs.field(
        default=500,
        validator=at_least(0),
        metadata=doc("Output tokens of a typical request, for the price table."),
    )
    typical_searches: int = attrs.field(
        default=1,
        validator=at_least(0),
        metadata=doc("Searches of a typical request, for the price table."),
    )


class CostAware(ScoringAlgorithm):
    """Prefer the backend from which a *good* answer is expected to be cheapest.

    Formula: score = -(w·E + (1-w)·B·(1-P)) / P. E is the expected cost of an attempt
    (decayed observed mean, blended with the price table at typical usage), P the
    chance that an attempt gives an answer of at least `quality_bar`, B what a bad
    answer costs besides, w = cost_weight_factor (0 when prefer_low_cost is false).
    1/P attempts are needed for one good answer, so E/P is its cost and (1-P)/P the
    bad answers endured on the way; with w = 1 the score is -E/P. Losses within 1 %
    of the least share the traffic by lot.
    P = P(answered) · P(good | answered), per backend and query kind; each factor is
    min(1, m + optimism·√(m(1-m)/(n+k+1))), m = (count + k·prior) / (n + k), with
    discounted counts and k = prior_strength. An answer without a quality says
    nothing about P(good | answered).
    A query's budget_micro_usd rules out what is expected to cost more; if nothing
    fits, the lowest E is taken.
    Knows nothing: E from the price table, else unknown_cost_micro_usd; P = 1, so
    that the cheapest is tried first and the next when it disappoints.
    Source: renewal argument; the idea of pricing good answers is OpenRouter's.
    Memory: five floats per backend and kind, for 64 kinds and one for the rest.

    Worked example (w = 1, k = 5, optimism 0, priors 0.95 and 0.8; a costs 1,000 and
    b 1,500 micro-USD per request by their price tables):

    | observed                    | P(a)            | score of a | of b  | taken |
    | --------------------------- | --------------- | ---------- | ----- | ----- |
    | nothing                     | 0.95 · 0.8      | -1316      | -1974 | a     |
    | a failed 5 times            | 0.475 · 0.8     | -2632      | -1974 | b     |
    | a answered badly 5 times    | 0.975 · 0.4     | -2564      | -1974 | b     |
    | a answered unjudged 5 times | 0.975 · 0.8     | -1282      | -1974 | a     |
    """

    def __init__(self, settings: Settings, context: BuildContext) -> None:
        super().__init__(context)
        self.exploration = settings.exploration
        self._settings = settings
        weight = settings.cost_weight_factor if settings.prefer_low_cost else 0.0
        self._money = weight
        self._strength = settings.prior_strength
        self._bad_answer = (1.0 - weight) * settings.bad_answer_micro_usd
        prior = Prior(
            settings.prior_answered,
            settings.prior_good,
            settings.prior_strength,
            settings.optimism,
        )
        self.answers = GoodAnswers(
            prior, settings.quality_bar, settings.half_life_observations
        )
        self._configured = {info.name for info in context.backends}
        self._table_costs: dict[str, tuple[Price | None, float]] = {}

    def choose(self, query: Query, candidates: Sequence[Candidate]) -> Choice:
        """Return the cheapest good answer within the query's budget."""
        now_s = self.now()
        records = self.answers.of_kind(query.kind)
        costs = [self._expected(each, now_s) for each in candidates]
        scores = [
            self._score(cost, self.answers.chance(records.get(each.name)))
            for each, cost in zip(candidates, costs, strict=True)
        ]
        budget = query.budget_micro_usd
        if budget is None:
            return self.pick(candidates, _with_ties(scores))
        limit = max(budget, min(costs))
        fitting = [index for index, cost in enumerate(costs) if cost <= limit]
        choice = self.pick(
            [candidates[index] for index in fitting],
            _with_ties([scores[index] for index in fitting]),
        )
        return Choice(choice.candidate, choice.probability, scores)

    def score(self, query: Query, candidate: Candidate) -> float:
        """Return minus the loss per good answer, in weighted micro-USD."""
        record = self.answers.of_kind(query.kind).get(candidate.name)
        cost = self.expected_micro_usd(candidate)
        return self._score(cost, self.answers.chance(record))

    def expected_micro_usd(self, candidate: Candidate) -> float:
        """Return the expected cost of one attempt in micro-USD."""
        return self._expected(candidate, self.now())

    def observe(self, outcome: Outcome) -> None:
        """Learn whether the attempt gave an answer, and a good one."""
        result = outcome.result
        if result == "cancelled" or (result == "truncated" and not outcome.error):
            return  # the client went away
        self.answers.attempt(
            outcome.backend,
            outcome.kind,
            answered=result == "answer",
            quality=outcome.quality,
        )

    def rate(self, rating: Rating) -> None:
        """Learn from a later verdict whether the answer was good."""
        self.answers.verdict(rating.backend, rating.kind, rating.quality)

    def adopt(self, previous: CostAware) -> None:
        """Take over the counts of backends that are still configured."""
        self.answers.adopt(previous.answers, self._configured)

    def _score(self, cost: float, chance: float) -> float:
        return -(self._money * cost + self._bad_answer * (1.0 - chance)) / chance

    def _expected(self, candidate: Candidate, now_s: float) -> float:
        price = candidate.info.traits.price
        known = self._table_costs.get(candidate.name)
        if known is None or known[0] is not price:
            known = (price, self._table_cost(price))
            self._table_costs[candidate.name] = known
        return candidate.cost.blended(known[1], self._strength, now_s)

    def _table_cost(self, price: Price | None) -> float:
        known = self._settings
        if price is None:
            return known.unknown_cost_micro_usd
        return (
            price.request_micro_usd
            + price.search_micro_usd * known.typical_searches
            + price.input_micro_usd_per_mtok * known.typical_input_tokens / 1e6
            + price.output_micro_usd_per_mtok * known.typical_output_tokens / 1e6
        )


def _with_ties(scores: list[float]) -> list[float]:
    best = max(scores)
    enough = best * (1.0 + INDIFFERENT)
    return [best if score >= enough else score for score in scores]


@hookimpl
def plb_register_algorithm() -> Provider[CostAware]:
    """Offer `cost_aware`."""
    return Provider(
        "cost_aware", CostAware, Settings, "cheapest good answer within the budget"
    )
