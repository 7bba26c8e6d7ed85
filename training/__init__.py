"""Training SAMFeat: photographs in, a checkpoint out."""

from samfeat_hloc.errors import end_early_interrupts

end_early_interrupts(__name__)
