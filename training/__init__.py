"""Training SAMFeat: photographs in, a checkpoint out."""
