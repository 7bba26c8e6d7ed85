"""Whole programs on top of the library and the datasets; they run from a checkout: ``python -m pipelines.aachen``."""
