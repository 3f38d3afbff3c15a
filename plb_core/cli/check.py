"""`plb check`: say everything that is wrong with a configuration, or what it means."""

from __future__ import annotations

import argparse
import json

from plb_core.balancer import Balancer
from plb_core.cli.common import add_config_options, add_json_option, load_config
from plb_core.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add options."""
    add_json_option(parser)
    add_config_options(parser)


def run(options: argparse.Namespace) -> int:
    """Build the plan without starting it; status 2 when that fails."""
    try:
        plan = Balancer(load_config(options)).plan
    except ConfigError as error:
        if not options.json:
            raise
        problems = [
            {"file": p.file, "line": p.line, "key": p.key, "message": p.message}
            for p in error.problems
        ]
        print(json.dumps({"ok": False, "problems": problems}, indent=2))
        return 2
    facts = {
        "ok": True,
        "backends": {
            name: candidate.info.plugin for name, candidate in plan.candidates.items()
        },
        "tracks": {
            name: [each.name for each in track.chain]
            for name, track in plan.tracks.items()
        },
        "routes": list(plan.routes),
        "services": list(plan.services),
        "models": list(plan.model_names()),
    }
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    print("The configuration is sound.")
    for name, candidate in plan.candidates.items():
        tier = candidate.info.priority
        print(f"  backend {name}: {candidate.info.plugin}, tier {tier}")
    for name, track in plan.tracks.items():
        chain = ", then ".join(each.name for each in track.chain)
        print(f"  track {name}: {chain}")
    for name in plan.routes:
        print(f"  route {name}")
    for name in plan.services:
        print(f"  service {name}")
    return 0
