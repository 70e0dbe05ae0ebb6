"""What an API server can answer instead of what was asked for.

All are OSErrors, as `Scheduler.ask` promises, with a text that says what to do.
"""


class ApiError(OSError):
    """The API server cannot be reached, or its answer cannot be used.

    `retry_after_s` is how long it asks to be left alone, 0 if it does not say.
    """

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ExpiredError(ApiError):
    """410: the version or the continue token is older than what the server remembers."""


class TokenError(ApiError):
    """401: the token is not (or no longer) accepted; the next one may be."""


class DeniedError(ApiError):
    """403: who asks may not."""


class MissingError(ApiError):
    """404: no such object, or no such kind of object."""
