"""Readers of public layouts, and the embedded town."""
