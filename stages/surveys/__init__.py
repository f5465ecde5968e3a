"""Surveys of people: files of any statistics package, codebooks, respondents as personas."""
