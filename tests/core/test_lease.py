from __future__ import annotations

import asyncio
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
