"""Whole programs on top of the library and the datasets; they run from a checkout: ``python -m pipelines.aachen``."""

from samfeat_hloc.errors import end_early_interrupts

end_early_interrupts(__name__)
