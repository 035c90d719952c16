"""How records look in the engine's log."""

from __future__ import annotations

import logging
import logging.config
import sys

import pytest

from plugin.logs import LineFormatter, configuration
from plugin.settings import LogLevel


def _line(message: str, *arguments: object, **fields: object) -> str:
    record = logging.getLogger("driver.service").makeRecord(
        "driver.service", logging.INFO, __file__, 1, message, arguments, None, extra=fields
    )
    return LineFormatter().format(record)


def test_fields_follow_the_message_in_order() -> None:
    assert _line("connected", ifindex=7, endpoint_id="ab") == "INFO driver.service: connected ifindex=7 endpoint_id=ab"


@pytest.mark.parametrize(("value", "text"), [("", "''"), ("no route", "'no route'"), (None, "None")])
def test_values_that_would_run_together_are_quoted(value: object, text: str) -> None:
    assert _line("failed", reason=value) == f"INFO driver.service: failed reason={text}"


def test_record_with_line_ends_stays_one_line() -> None:
    assert _line("a\nb %s", "c\r\nd") == r"INFO driver.service: a\nb c\r\nd"


def test_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("why")  # noqa: TRY301
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())

    line = LineFormatter().format(record)

    assert line.startswith("ERROR x: failed Traceback (most recent call last):\\n")
    assert line.endswith("ValueError: why")
    assert "\n" not in line


@pytest.mark.parametrize("level", list(LogLevel))
def test_configuration_names_a_level_that_logging_knows(level: LogLevel) -> None:
    assert configuration(level)["root"]["level"] in logging.getLevelNamesMapping()
