"""The contract passes a plain good algorithm, and each test fails a broken one."""

# The broken algorithms break types and ignore arguments on purpose.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False
# mypy: disallow-incomplete-defs=False

import random
from collections import Counter, defaultdict
from typing import ClassVar

import attrs
import pytest

from plb_core import Choice, Provider, ScoringAlgorithm
from plb_core.testing import fakes
from plb_core.testing.contracts import AlgorithmContract
from plb_core.testing.contracts.bench import state_bytes


class Least(ScoringAlgorithm):
    def score(self, query, candidate):
        return -float(candidate.in_flight)


def contract_for(algorithm_class, **attributes):
    provider = Provider("broken", lambda _, context: algorithm_class(context))
    return type(
        "Contract", (AlgorithmContract,), {"provider": provider, **attributes}
    )()


class OneSlot:
    __slots__ = "held"  # noqa: PLC0205 - Python allows it, so it must be counted

    def __init__(self, held):
        self.held = held


class Slotted(Least):
    """Keeps what it learns in objects with slots."""

    def __init__(self, context):
        super().__init__(context)
        self.kept = OneSlot([])

    def observe(self, outcome):
        self.kept.held.append(outcome.request_id)


class TestLeast(AlgorithmContract):
    provider = Provider("least", lambda _, context: Least(context))
    worse_state: ClassVar = {"in_flight": 3}


class TestLeastWithNothingWorse(AlgorithmContract):
    provider = Provider("least", lambda _, context: Least(context))

    @pytest.mark.parametrize("worse", ["a", "b"])
    @pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
    def test_does_not_prefer_the_worse_of_a_pair(self, order, worse):
        with pytest.raises(pytest.skip.Exception, match="names nothing"):
            super().test_does_not_prefer_the_worse_of_a_pair(order, worse)


class Invents(Least):
    def choose(self, query, candidates):
        stranger = attrs.evolve(candidates[0])
        return Choice(stranger)


class ReturnsTheCandidate(Least):
    def choose(self, query, candidates):
        return candidates[0]


class ChoosesAsync(Least):
    async def choose(self, query, candidates):  # type: ignore[override]  # broken
        return Choice(candidates[0])


class ObservesAsync(Least):
    async def observe(self, outcome):  # type: ignore[override]  # broken
        return None


class FirstOfTheList(Least):
    def choose(self, query, candidates):
        return Choice(candidates[0])


class PrefersBusy(ScoringAlgorithm):
    def score(self, query, candidate):
        return float(candidate.in_flight)


class OldFriends(Least):
    """Stays with those it has seen answer."""

    def __init__(self, context):
        super().__init__(context)
        self.seen: Counter[str] = Counter()

    def observe(self, outcome):
        self.seen[outcome.backend] = 1

    def score(self, query, candidate):
        return float(self.seen[candidate.name]) if len(self.seen) > 2 else 0.0


class Sorts(Least):
    def choose(self, query, candidates):
        candidates.sort(key=lambda each: each.name)
        return super().choose(query, candidates)


class Drops(Least):
    def choose(self, query, candidates):
        choice = super().choose(query, candidates)
        candidates.remove(choice.candidate)
        candidates.insert(0, choice.candidate)
        return choice


class CountsInFlight(Least):
    def choose(self, query, candidates):
        choice = super().choose(query, candidates)
        choice.candidate.in_flight += 1
        return choice


class TouchesDecayed(Least):
    def choose(self, query, candidates):
        candidates[0].latency.add(1.0, self.now())
        return super().choose(query, candidates)


class EditsOptions(Least):
    def choose(self, query, candidates):
        query.options["stop"].append("x")
        return super().choose(query, candidates)


class EditsOutcome(Least):
    def observe(self, outcome):
        outcome.latency_s = 0.0


class ZeroProbability(Least):
    def choose(self, query, candidates):
        return Choice(candidates[0], 0.0)


class ShortScores(Least):
    def choose(self, query, candidates):
        return Choice(candidates[0], 1.0, [1.0] * (len(candidates) - 1 or 2))


class NotANumber(Least):
    def choose(self, query, candidates):
        return Choice(candidates[0], 1.0, [float("nan")] * len(candidates))


class NeedsLatency(ScoringAlgorithm):
    def score(self, query, candidate):
        return -candidate.latency_s


class DividesByWeight(ScoringAlgorithm):
    def score(self, query, candidate):
        return candidate.in_flight / candidate.weight


class OnlyKnownBackends(Least):
    def __init__(self, context):
        super().__init__(context)
        self.served = {"a": 0, "b": 0}

    def observe(self, outcome):
        self.served[outcome.backend] += 1


class OnlyAnswers(Least):
    def observe(self, outcome):
        if outcome.result not in ("answer", "error"):
            raise ValueError(outcome.result)


class ReturnsFromObserve(Least):
    def observe(self, outcome):
        return outcome


class RemembersTheFirstList(Least):
    def __init__(self, context):
        super().__init__(context)
        self.first = None

    def choose(self, query, candidates):
        self.first = self.first or list(candidates)
        return super().choose(query, self.first)


class GlobalChance(Least):
    def choose(self, query, candidates):
        return Choice(random.choice(candidates), 1.0 / len(candidates))


class KeepsRequests(Least):
    def __init__(self, context):
        super().__init__(context)
        self.requests = set()

    def observe(self, outcome):
        self.requests.add(outcome.request_id)


class KeepsQuestions(Least):
    def __init__(self, context):
        super().__init__(context)
        self.counts = defaultdict(int)

    def choose(self, query, candidates):
        self.counts[query.text] += 1
        return super().choose(query, candidates)


class KeepsMuch(Least):
    """Holds a fixed but large table."""

    def __init__(self, context):
        super().__init__(context)
        self.table = list(range(100_000))


@pytest.mark.parametrize(
    ("broken", "test", "arguments", "message"),
    [
        (Invents, "returns_one_of_the_candidates", (2,), "not one of"),
        (ReturnsTheCandidate, "returns_one_of_the_candidates", (1,), "returned Cand"),
        (RemembersTheFirstList, "backends_may_come_and_go", (), "parallel|not one"),
        (ChoosesAsync, "choose_and_observe_are_synchronous", (), "async"),
        (ObservesAsync, "choose_and_observe_are_synchronous", (), "async"),
        (FirstOfTheList, "shares_ties_fairly", (3,), "equal backends"),
        (OldFriends, "does_not_starve_a_new_backend", (), "new backend"),
        (
            Sorts,
            "does_not_change_query_candidates_or_outcome",
            (),
            "reordered",
        ),
        (
            Drops,
            "does_not_change_query_candidates_or_outcome",
            (),
            "reordered",
        ),
        (
            CountsInFlight,
            "does_not_change_query_candidates_or_outcome",
            (),
            "candidate was changed",
        ),
        (
            TouchesDecayed,
            "does_not_change_query_candidates_or_outcome",
            (),
            "candidate was changed",
        ),
        (
            EditsOptions,
            "does_not_change_query_candidates_or_outcome",
            (),
            "query was changed",
        ),
        (
            EditsOutcome,
            "does_not_change_query_candidates_or_outcome",
            (),
            "observe changed",
        ),
        (ZeroProbability, "returns_one_of_the_candidates", (2,), "probability 0"),
        (ShortScores, "returns_one_of_the_candidates", (2,), "parallel"),
        (NotANumber, "returns_one_of_the_candidates", (2,), "not finite"),
        (ReturnsFromObserve, "observes_every_result_in_any_order", (), "nothing"),
        (GlobalChance, "is_reproducible_with_the_same_seed", (), "different choices"),
        (KeepsRequests, "memory_stays_bounded", (), "state grew"),
        (KeepsQuestions, "memory_stays_bounded", (), "state grew"),
        (Slotted, "memory_stays_bounded", (), "state grew"),
        (KeepsMuch, "memory_stays_bounded", (), "state holds"),
    ],
)
def test_fails_a_broken_algorithm(broken, test, arguments, message):
    contract = contract_for(broken)
    with pytest.raises(AssertionError, match=message):
        getattr(contract, f"test_{test}")(*arguments)


@pytest.mark.parametrize(
    ("broken", "test", "error"),
    [
        (NeedsLatency, "copes_with_unknown_and_extreme_measurements", TypeError),
        (
            DividesByWeight,
            "copes_with_unknown_and_extreme_measurements",
            ZeroDivisionError,
        ),
        (OnlyKnownBackends, "observes_every_result_in_any_order", KeyError),
        (OnlyAnswers, "observes_every_result_in_any_order", ValueError),
    ],
)
def test_shows_what_an_algorithm_raises(broken, test, error):
    contract = contract_for(broken)
    with pytest.raises(error):
        getattr(contract, f"test_{test}")()


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("worse", ["a", "b"])
def test_fails_an_algorithm_that_prefers_the_worse(order, worse):
    contract = contract_for(PrefersBusy, worse_state={"in_flight": 3})
    with pytest.raises(AssertionError, match="is worse, yet"):
        contract.test_does_not_prefer_the_worse_of_a_pair(order, worse)


def test_fails_an_algorithm_that_ignores_worse_outcomes():
    contract = contract_for(FirstOfTheList, worse_outcome={"latency_s": 9.0})
    with pytest.raises(AssertionError, match="is worse, yet"):
        contract.test_does_not_prefer_the_worse_of_a_pair(("a", "b"), "a")


def test_builds_with_the_given_settings():
    class Picky(Least):
        def __init__(self, settings, context):
            super().__init__(context)
            self.settings = settings

    provider = Provider("picky", Picky)
    contract = type(
        "Contract", (AlgorithmContract,), {"provider": provider, "settings": "mine"}
    )()
    made = contract.make(fakes.context())
    assert made.settings == "mine"


def test_counts_what_an_object_with_slots_holds():
    assert state_bytes(OneSlot("x" * 10_000)) > 10_000
