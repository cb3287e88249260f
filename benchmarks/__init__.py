"""Timings against peers. Every figure is a ratio of two things timed in turn in the same process."""
