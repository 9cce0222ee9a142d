"""The two exceptions that end the command line with one line."""


class InputError(ValueError):
    """The user's input is wrong. The message is one line: where, what is wrong, what is allowed. Exit status 2."""


class StudyStopped(RuntimeError):
    """The study cannot go on, for a reason that no restart of a lane mends. What is recorded is safe. Exit status 3."""
