"""Teachers that read maps beside a photograph, what all teachers share, and the store of their rows."""
