"""What fails now: logged when it begins and when it is over, and not in between."""

import logging

_log = logging.getLogger(__name__)


class Troubles:
    """The things that fail, by their names."""

    def __init__(self) -> None:
        self._failing: dict[str, str] = {}

    def why(self, what: str) -> str:
        """Return why something fails now, empty if it does not."""
        return self._failing.get(what, "")

    def failed(self, what: str, error: object) -> None:
        """Log the first failure only."""
        if what not in self._failing:
            _log.warning("%s: %s; trying again", what, error)
        self._failing[what] = str(error)

    def recovered(self, what: str) -> None:
        """Log that it works again, if it did not."""
        if self._failing.pop(what, None) is not None:
            _log.info("%s: works again", what)
