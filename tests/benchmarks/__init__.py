"""Measurements, not tests: each prints what it saw beside a reference that was measured in the same run."""
