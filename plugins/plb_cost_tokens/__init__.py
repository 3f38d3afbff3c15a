"""Cost scorer `tokens`: what a question may, will probably and did cost."""

from plb_core import Provider, hookimpl
from plb_core.protocols import CostScorer
from plb_cost_tokens.scorer import TokenCost, TokenCostSettings


@hookimpl
def plb_register_cost_scorer() -> Provider[CostScorer]:
    """Offer the scorer."""
    return Provider(
        name="tokens",
        build=lambda settings, _context: TokenCost(settings),
        settings=TokenCostSettings,
        summary="Costs from token, request and search prices, in whole micro-dollars.",
    )
