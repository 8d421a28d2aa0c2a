"""What can go wrong with a call, by what a caller would do about it."""

from __future__ import annotations


class ClientError(Exception):
    """A call did not succeed. The message is one line."""


class Invalid(ClientError):
    """The call is wrong, so repeating it does not help: an empty key, a media type that is none, a bad parameter."""


class PreconditionFailed(ClientError):
    """The key does not have the revision that the write asks for; nothing was written."""


class TooLarge(ClientError):
    """A key, a value, a transaction or an event is larger than a limit of the server or of the client."""


class NoSpace(ClientError):
    """The server has no space for the write; nothing was written."""


class Unavailable(ClientError):
    """
    The server could not be reached, or cannot serve now.

    :ivar retry_after: the seconds after which the server asked to try again; None if it did not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Uncertain(Unavailable):
    """A write was sent, and it is not known whether it was done. Read the key to find out."""


class Gone(ClientError):
    """
    The server no longer has the changes after a revision.

    :ivar oldest: the earliest revision after which it has them.
    """

    def __init__(self, message: str, oldest: int) -> None:
        super().__init__(message)
        self.oldest = oldest


class Unexpected(ClientError):
    """The answer is not one of the native API: another server is at that URL, or the profile is not served there."""


class LockLost(ClientError):
    """A lock is not held any more: it was not renewed in time, or another client removed it."""
