"""Fakes, conformance contracts and backend emulators, for plb's and plugins' tests."""
