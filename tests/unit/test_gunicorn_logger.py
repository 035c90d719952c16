"""No line of an access log is prepared."""

from __future__ import annotations

from gunicorn.config import Config

from plugin.gunicorn_logger import QuietLogger
from plugin.logs import configuration
from plugin.settings import LogLevel


def test_accesses_are_not_logged() -> None:
    config = Config()
    config.set("logconfig_dict", configuration(LogLevel.DEBUG))

    assert not QuietLogger(config).access_log_enabled
