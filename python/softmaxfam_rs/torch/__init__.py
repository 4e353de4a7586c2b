"""Modules and data sets for torch."""

from .sampling import NegativeSampler as NegativeSampler
