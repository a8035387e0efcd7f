"""The one exception that means "the user can fix this"."""


class UserError(ValueError):
    """A user's mistake: its message is one sentence that names the file and the fix.

    The command line prints the sentence and exits with code 2; nothing else in the package
    catches it. An invariant of our own that breaks is an `assert`, never a `UserError`.
    """


def nearest(word: str, choices: list[str]) -> str:
    """Return " (did you mean 'x'?)" for the choice most like `word`, or ""."""
    import difflib

    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
