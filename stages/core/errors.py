"""Errors that a user can mend."""


class InputError(Exception):
    """Input, parameters or environment that a stage cannot work with.

    The message names the file, the row and the field where they are known, says what was found, and ends with what to do.
    Stages print it without a traceback and end with exit code 2.
    """
