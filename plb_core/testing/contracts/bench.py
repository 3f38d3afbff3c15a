"""One algorithm on a bench: driven, checked and measured the way the core would."""

from __future__ import annotations

import inspect
import random
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from types import FunctionType, MappingProxyType, MethodType, ModuleType
from typing import TYPE_CHECKING, Final

from plb_core.protocols import Choice
from plb_core.testing import fakes
from plb_core.types import Usage

if TYPE_CHECKING:
    from plb_core.candidate import Candidate
    from plb_core.testing.contracts.algorithm import AlgorithmContract

_PLAIN: Final[Mapping[str, object]] = MappingProxyType({})


class Bench:
    """One algorithm on a fake clock, fed the way the core feeds it."""

    def __init__(self, contract: AlgorithmContract, seed: int = 0) -> None:
        self.contract = contract
        self.clock = fakes.FakeClock()
        self.algorithm = contract.make(contract.context(self.clock, seed))
        self.query = contract.query()
        self._requests = 0

    def candidates(self, *names: str) -> list[Candidate]:
        """Return idle, healthy candidates of these names."""
        return [self.contract.candidate(name, self.clock) for name in names]

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """Choose, and check what every choice must satisfy."""
        choice = self.algorithm.choose(self.query, candidates)
        assert not inspect.isawaitable(choice), "choose must not be async"
        assert isinstance(choice, Choice), f"choose returned {type(choice).__name__}"
        assert any(choice.candidate is each for each in candidates), (
            "the choice is not one of the candidates"
        )
        assert 0.0 < choice.probability <= 1.0, (
            f"probability {choice.probability} is not in (0, 1]"
        )
        if len(choice.scores):
            assert len(choice.scores) == len(candidates), (
                "scores do not run parallel to the candidates"
            )
            total = sum(float(score) for score in choice.scores)
            assert abs(total) < float("inf"), "a score is not finite"
        return choice

    def finish(self, chosen: Candidate, choice: Choice, **facts: object) -> None:
        """Report the attempt as finished, 0.1 s after it was chosen."""
        self._requests += 1
        values: dict[str, object] = {
            "request_id": f"req_{self._requests}",
            "usage": Usage(input_tokens=20, output_tokens=50),
            "quality": 0.8,
            "cost_micro_usd": 1000,
            "probability": choice.probability,
            "via": choice.via,
            "at_s": self.clock.now_s,
            **facts,
        }
        outcome = fakes.outcome(chosen.name, **values)  # type: ignore[arg-type]  # facts are Outcome fields
        chosen.observe(outcome)
        self.algorithm.observe(outcome)

    def serve(
        self,
        candidates: Sequence[Candidate],
        requests: int,
        facts: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
    ) -> Counter[str]:
        """Send requests one after another; return how many each backend got."""
        counts: Counter[str] = Counter()
        for _ in range(requests):
            choice = self.choose(candidates)
            chosen = choice.candidate
            chosen.in_flight += 1
            self.clock.advance(0.1)
            chosen.in_flight -= 1
            self.finish(chosen, choice, **facts.get(chosen.name, _PLAIN))
            counts[chosen.name] += 1
        return counts


def state_bytes(root: object) -> int:
    """Return the memory that `root` holds, without code, clocks and random sources."""
    skipped = (
        type, ModuleType, FunctionType, MethodType, random.Random, fakes.FakeClock,
    )  # fmt: skip
    seen: set[int] = set()
    queue: deque[object] = deque([root])
    total = 0
    while queue:
        each = queue.popleft()
        if id(each) in seen or isinstance(each, skipped):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        if isinstance(each, Mapping):
            queue.extend(each.keys())
            queue.extend(each.values())
        elif isinstance(each, list | tuple | set | frozenset | deque):
            queue.extend(each)
        else:
            queue.extend(vars(each).values() if hasattr(each, "__dict__") else ())
            for cls in type(each).__mro__:
                slots = cls.__dict__.get("__slots__", ())
                for slot in (slots,) if isinstance(slots, str) else slots:
                    if hasattr(each, slot) and slot != "__weakref__":
                        queue.append(getattr(each, slot))
    return total
