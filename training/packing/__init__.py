"""The pack: one compact HDF5 file of everything a training run reads."""
