"""What plb does about each kind of failure: one table, settable per backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from plb_core.errors import BackendError, NoAnswer
from plb_core.types import Action

MEANING: Final[Mapping[Action, str]] = {
    "next": "ask another backend",
    "again": "ask it once more when it is alone in its tier, else another",
    "wait": "ask it again after the time it named, if that is short and nothing else"
    " is open, else another",
    "larger": "ask a backend with a larger context, never the same again",
    "stop": "give the failure to the caller",
}

DEFAULT_ACTIONS: Final[Mapping[str, Action]] = {
    # One reset or 5xx is often a hiccup; sending again is cheap and quick.
    "backend_unreachable": "again",
    "backend_refused": "again",
    # A silent backend has used up the time that a second silence would need.
    "backend_timeout": "next",
    "backend_busy": "wait",
    "backend_misconfigured": "next",
    # It was generated and probably billed: the same backend would do it again.
    "bad_answer": "next",
    "no_answer.not_found": "next",
    "no_answer.invalid_request": "next",
    "no_answer.context_length": "larger",
    # Not plb's to work around: the refusal is the answer.
    "no_answer.content_filter": "stop",
}


def known_codes(_: Any, __: attrs.Attribute[Any], table: Mapping[str, object]) -> None:
    """Accept tables whose keys are codes of errors that an action can be set for."""
    for code in table:
        if code not in DEFAULT_ACTIONS:
            known = ", ".join(DEFAULT_ACTIONS)
            message = f"there is no error {code!r}; settable are {known}"
            raise ValueError(message)


def action_for(
    error: BackendError | NoAnswer, overrides: Mapping[str, Action]
) -> Action:
    """Return the action for an error, by its backend's overrides, then the defaults.

    A plugin's own kind of error is treated as what it derives from, else as "next".
    """
    for kind in type(error).__mro__:
        code = str(getattr(kind, "code", ""))
        if isinstance(error, NoAnswer):
            code = f"{code}.{error.reason}"
        action = overrides.get(code) or DEFAULT_ACTIONS.get(code)
        if action is not None:
            return action
    return "next"
