r"""How records are written: one line each, on standard output.

The engine makes every line a record of its own log and adds the time; what comes on standard error it calls an error.
So everything goes to standard output, as ``INFO driver.service: endpoint connected endpoint_id=4f… ifindex=7``, and a
traceback stays in its record's line, with ``\n`` for the line ends.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from plugin.settings import LogLevel

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""Attributes that every record has; the others are the fields that ``extra`` has added."""


class LineFormatter(logging.Formatter):
    """One record, one line: level, logger, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render ``record``, the fields in the order in which they were given."""
        parts = [f"{record.levelname} {record.name}: {record.getMessage()}"]
        parts += [f"{name}={_quoted(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        if record.stack_info:
            parts.append(self.formatStack(record.stack_info))
        return " ".join(parts).replace("\r", "\\r").replace("\n", "\\n")


def _quoted(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(character.isspace() for character in text) else text


def configuration(level: LogLevel) -> dict[str, Any]:
    """Configuration for :func:`logging.config.dictConfig`: ours at ``level``, libraries from warning on."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": LineFormatter}},
        "handlers": {"stdout": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"}},
        "root": {"level": level.name, "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"level": level.name, "handlers": ["stdout"], "propagate": False},
            "gunicorn.access": {"level": "WARNING", "handlers": ["stdout"], "propagate": False},
            **{name: {"level": "WARNING"} for name in ("grpc", "pyroute2", "werkzeug")},
        },
    }
