"""The one exception that means: what the user gave is wrong, and here is what to do."""

from __future__ import annotations


class InputError(ValueError):
    """A file, option or value from outside that cannot be used.

    The message is one line that names what was wrong, where, and what to do. The command line prints it and
    exits with status 2; in Python it is an ordinary ``ValueError``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class MissingExtraError(InputError):
    """An optional dependency is not installed: ``MissingExtraError("parquet output", "parquet")``."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency: pip install 'vidpose[{extra}]'")
