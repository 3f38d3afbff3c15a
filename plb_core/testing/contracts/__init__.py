"""Conformance contracts: subclass one per plugin, and its protocol is tested."""

from plb_core.testing.contracts.algorithm import AlgorithmContract
from plb_core.testing.contracts.backend import BackendContract
from plb_core.testing.contracts.classifier import ClassifierContract
from plb_core.testing.contracts.health_check import HealthCheckContract
from plb_core.testing.contracts.quality_scorer import QualityScorerContract
from plb_core.testing.contracts.store import StoreContract

__all__ = [
    "AlgorithmContract",
    "BackendContract",
    "ClassifierContract",
    "HealthCheckContract",
    "QualityScorerContract",
    "StoreContract",
]
