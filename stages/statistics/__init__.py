"""Intervals, tests, effect sizes, reliability and agreement, thin over NumPy, SciPy and scikit-learn."""
