from __future__ import annotations

import pytest


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Run fault cases only where they are asked for: they take minutes."""
    if "faults" not in config.option.markexpr:
        cases = [item for item in items if item.get_closest_marker("faults")]
        if cases:
            config.hook.pytest_deselected(items=cases)
            items[:] = [item for item in items if item not in cases]
