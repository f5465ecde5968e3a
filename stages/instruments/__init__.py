"""What measures: questionnaires and their scoring, and judges of free text."""
