"""`explain` and the memory behind it, whatever plugins and clients put in."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from plb_core import Choice, Query, UnknownModel
from plb_core.errors import UnknownRequest
from plb_core.history import History, Trace

from .conftest import Rig

MakeRig = Callable[..., Rig]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ((), [None, None, None]),
        ((1.0, 2, -3.5), [1.0, 2, -3.5]),
        ((1.0,), [None, None, None]),
        ((1.0, 2.0, 3.0, 4.0), [None, None, None]),
        ((math.nan, math.inf, 3.0), [None, None, 3.0]),
        (("high", None, 3.0), [None, None, 3.0]),
        (5, [None, None, None]),
    ],
)
async def test_scores_that_do_not_fit_are_left_out(
    rig: MakeRig, scores: object, shown: list[float | None]
) -> None:
    """One score too few made `explain` raise ValueError; a NaN made bad JSON."""
    r = rig()
    r.first.answer = lambda each: Choice(each[0], scores=scores)  # type: ignore[arg-type]
    reply = await r.balancer.ask("q")
    told = r.balancer.explain(reply.request_id)
    json.dumps(told, allow_nan=False)
    candidates = told["attempts"][0]["candidates"]  # type: ignore[index]
    assert [each["score"] for each in candidates] == shown


@pytest.mark.asyncio
async def test_an_endless_model_name_is_no_model(rig: MakeRig) -> None:
    """Under a wildcard, thousands of names of a megabyte each were remembered."""
    r = rig('[backend.a]\n[backend.a.models]\n"*" = "*"\n')
    assert (await r.balancer.ask(Query("q", model="m" * 256))).backend == "a"
    with pytest.raises(UnknownModel) as caught:
        await r.balancer.ask(Query("q", model="m" * 1_000_000))
    assert len(str(caught.value)) < 1000
    assert not r.balancer.plan._pools.keys() & {"m" * 1_000_000}


def test_the_oldest_trace_goes_first(rig: MakeRig) -> None:
    track = rig().balancer.plan.track
    history = History(kept=2)
    for name in "abc":
        history.add(Trace(name, "auto", "general", "either", "", track))
    assert [history.find(name).request_id for name in "bc"] == ["b", "c"]
    with pytest.raises(UnknownRequest, match="'a' among the last 2"):
        history.find("a")
    assert len(history._order) == len(history._traces) == 2
