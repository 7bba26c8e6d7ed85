"""Side-by-side measurements, one script a question."""

from samfeat_hloc.errors import end_early_interrupts

end_early_interrupts(__name__)
