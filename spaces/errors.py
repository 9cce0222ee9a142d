"""The one exception for what the user can put right."""


class InputError(ValueError):
    """The user's input is wrong. The message is one line: where, what is wrong, what is allowed. Exit status 2."""
