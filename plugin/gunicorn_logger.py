"""gunicorn's logger without its log of accesses, which would be prepared for every call and thrown away."""

from __future__ import annotations

from gunicorn.glogging import Logger


class QuietLogger(Logger):  # type: ignore[misc] # gunicorn is untyped
    """What gunicorn itself has to say."""

    @property
    def access_log_enabled(self) -> bool:
        """Never; what is called and how it ends is said by the handlers."""
        return False
