"""Fault cases: plb with real servers, a network that fails, and a judge."""
