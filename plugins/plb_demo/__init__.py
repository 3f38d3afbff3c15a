"""Watch several algorithms answer 200 questions while a backend breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plb_core import BuildContext, NoSettings, Provider, hookimpl
from plb_demo.command import DemoCommand

if TYPE_CHECKING:
    from plb_core.protocols import Command

__all__ = ["DemoCommand", "plb_register_command"]


def _build(_: NoSettings, __: BuildContext) -> Command:
    return DemoCommand()


@hookimpl
def plb_register_command() -> Provider[Command]:
    """Offer `plb demo`."""
    return Provider(
        name="demo",
        build=_build,
        summary="Watch several algorithms answer 200 questions while a backend breaks.",
    )
