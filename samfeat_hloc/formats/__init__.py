"""The only code that reads or writes the files that pass between stages."""
