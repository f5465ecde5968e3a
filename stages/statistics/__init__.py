"""Intervals and agreement, thin over NumPy, SciPy and scikit-learn."""
