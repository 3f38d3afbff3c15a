"""Write the page of fault cases from the lines that a run recorded."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

NOTE = "<!-- Written by `python -m tests.faults --page`; do not edit. -->"
# Held in every case, and so not repeated in every row.
ALWAYS = ("lost", "undocumented", "fds_delta", "tasks_delta", "lag_ms", "secrets_shown")


def page(lines: Iterable[str]) -> str:
    """Return the page in Markdown; of several lines of one case the last counts."""
    cases = {line["case"]: line for line in map(json.loads, lines)}
    ordered = [cases[name] for name in sorted(cases)]
    return "\n".join(_parts(ordered)) + "\n"


def _parts(cases: list[Mapping[str, Any]]) -> Iterator[str]:
    form = "full" if any(case["full"] for case in cases) else "quick"
    seeds = ", ".join(sorted({str(case["seed"]) for case in cases}))
    requests = sum(case["requests"] for case in cases)
    lost = sum(case["lost"] for case in cases)
    yield "# What happens when things break\n"
    yield f"{NOTE}\n"
    yield "Each case runs plb's gateway over real HTTP before emulated backends."
    yield "The backends keep a book of what they billed; the load comes by the clock."
    yield f"This is the {form} form with seed {seeds}, on {platform.machine()}"
    yield f"under Python {platform.python_version()}.\n"
    yield (
        f"Lost requests: {lost} of {requests}"
        + (f" (95 % bound {_bound(requests)})." if not lost and requests else ".")
    )
    yield "A request is lost when its client sees a connection error, a cut answer that"
    yield "does not say so, an undocumented status, or nothing.\n"
    yield "Held in every case besides its own figures: nothing lost, no undocumented"
    yield "status, files and tasks back to the start, event loop never more than 100 ms"
    yield "late, no key in logs or answers.\n"
    yield "| case | fault | requests | answered | other | p99 ms | figures |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    yield from map(_row, cases)


def _bound(requests: int) -> str:
    """Return three over n, the upper bound of a rate of which none was seen."""
    return f"{300 / requests:.3g} %"


def _row(case: Mapping[str, Any]) -> str:
    figures = "; ".join(
        f"{name} {figure['value']:g}{_limit(figure)}"
        for name, figure in case["figures"].items()
        if name not in ALWAYS or not _passes(figure)
    )
    name = case["case"] if case["passed"] else f"{case['case']} (does not pass)"
    refused = case["shed"] + case["documented_errors"]
    return (
        f"| {name} | {case['title']} | {case['requests']} | {case['ok']} | {refused}"
        f" | {case['p99_ms']:g} | {figures} |"
    )


def _passes(figure: Mapping[str, Any]) -> bool:
    low, high = figure["at_least"], figure["at_most"]
    value = figure["value"]
    return (low is None or value >= low) and (high is None or value <= high)


def _limit(figure: Mapping[str, Any]) -> str:
    low, high = figure["at_least"], figure["at_most"]
    if low is not None and low == high:
        return f" (= {low:g})"
    bounds = [
        f"≥ {low:g}" if low is not None else "",
        f"≤ {high:g}" if high is not None else "",
    ]
    shown = ", ".join(filter(None, bounds))
    return f" ({shown})" if shown else ""
