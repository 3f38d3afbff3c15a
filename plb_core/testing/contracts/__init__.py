"""Conformance contracts: subclass one per plugin, and its protocol is tested."""

from plb_core.testing.contracts.algorithm import AlgorithmContract

__all__ = ["AlgorithmContract"]
