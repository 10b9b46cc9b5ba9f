"""The one error that omfa raises about what it is given: data, settings, files, machines.

And the one warning, where it goes on with what can be used. This module imports nothing, so that
the command lines can catch the classes before anything heavy is loaded.
"""


class DataError(ValueError):
    """An error in three parts: what was being done, what was found, what to do next.

    Parameters
    ----------
    doing : str
        What was being done to what: ``"SEED reader: subject 7 session 2"``.
    found : str
        What was found.
    action : str
        What to do next, without a full stop.

    Examples
    --------
    >>> from omfa.pipeline import DataError
    >>> print(DataError("Reading 7_happy.csv", "it has 3 columns", "Write one for each electrode"))
    Reading 7_happy.csv: it has 3 columns. Write one for each electrode.
    """

    def __init__(self, doing: str, found: str, action: str) -> None:
        super().__init__(doing, found, action)

    def __str__(self) -> str:
        doing, found, action = self.args
        return f"{doing}: {found}. {action}."


class DataWarning(UserWarning):
    """Something of what omfa was given is left out, or made again, and the rest goes on."""
