from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from plb_core import Answer, BackendRefused, NoAnswer

from .conftest import Rig

MakeRig = Callable[..., Rig]


def test_a_lease_holds_a_slot_and_returns_it(rig: MakeRig) -> None:
    r = rig()
    with r.balancer.lease("q") as lease:
        assert lease.name == lease.info.name == "a"
        assert lease.backend is r.a
        assert r.candidate("a").in_flight == 1
    assert r.idle()
    assert [o.result for o in r.first.outcomes] == ["answer"]


def test_a_reported_answer_is_scored_once(rig: MakeRig) -> None:
    r = rig()
    with r.balancer.lease("q") as lease:
        reply = lease.answer(Answer("text"), ttft_s=0.5)
    assert reply.text == "text"
    assert lease.reply is reply
    assert [(o.result, o.ttft_s) for o in r.first.outcomes] == [("answer", 0.5)]


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (BackendRefused("500", status=500), "error"),
        (NoAnswer("x"), "no_answer"),
        (asyncio.CancelledError(), "cancelled"),
        (ValueError("x"), "error"),
    ],
)
def test_an_exception_says_how_it_ended(
    rig: MakeRig, error: BaseException, result: str
) -> None:
    r = rig()
    with pytest.raises(type(error)), r.balancer.lease("q"):
        raise error
    assert [o.result for o in r.first.outcomes] == [result]
    assert r.idle()


def test_an_error_after_the_report_changes_nothing(rig: MakeRig) -> None:
    r = rig()
    with pytest.raises(NoAnswer), r.balancer.lease("q") as lease:
        lease.answer(Answer("text"))
        raise NoAnswer("late")
    assert [o.result for o in r.first.outcomes] == ["answer"]


@pytest.mark.parametrize("error", [GeneratorExit(), KeyboardInterrupt(), SystemExit()])
def test_a_program_that_ends_does_not_blame_the_backend(
    rig: MakeRig, error: BaseException
) -> None:
    """Closing a generator that held a lease counted as the backend's failure."""
    r = rig()
    with pytest.raises(type(error)), r.balancer.lease("q"):
        raise error
    assert [o.result for o in r.first.outcomes] == ["cancelled"]
    assert r.candidate("a").error_rate is None


@pytest.mark.parametrize("ttft_s", [math.nan, math.inf, -0.1])
def test_a_time_to_first_text_that_is_no_duration_is_refused(
    rig: MakeRig, ttft_s: float
) -> None:
    """A NaN stayed in the backend's mean for ever."""
    r = rig()
    with r.balancer.lease("q") as lease:
        with pytest.raises(ValueError, match="ttft_s"):
            lease.answer(Answer("text"), ttft_s=ttft_s)
        lease.answer(Answer("text"), ttft_s=0.0)
    assert r.candidate("a").ttft_s == 0.0


def test_one_lease_has_one_answer(rig: MakeRig) -> None:
    """A second report, or one after the block, was scored and then lost in silence."""
    r = rig()
    with r.balancer.lease("q") as lease:
        lease.answer(Answer("text"))
        with pytest.raises(RuntimeError, match="closed"):
            lease.answer(Answer("text"))
    with r.balancer.lease("q") as late:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        late.answer(Answer("text"))
    assert [o.result for o in r.first.outcomes] == ["answer", "answer"]


def test_a_lease_takes_its_slot_when_it_is_entered_and_only_then(rig: MakeRig) -> None:
    """A lease that was made but never entered kept its slot for ever."""
    r = rig()
    lease = r.balancer.lease("q")
    assert r.idle()
    with pytest.raises(RuntimeError, match="with"):
        _ = lease.name
    with lease:
        assert not r.idle()
        with pytest.raises(RuntimeError, match="once"):
            lease.__enter__()
    assert r.idle()
