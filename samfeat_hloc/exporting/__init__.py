"""Writers of a model in other programs' formats, one file a format."""
