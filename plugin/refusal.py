"""What is served while the settings are wrong: every call is answered with the reason.

Registration is answered as usual, because an engine that cannot register the driver tells the user only that it
«could not resolve» it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, cast

from flask import Flask, Response, jsonify

from driver.api import create_app
from driver.external import ExternalConnectivity
from driver.ipam_adapter import IpamAdapter
from driver.protocol import Capabilities, Scope
from driver.service import NetworkService
from model.errors import InvalidInput


class _Refusing:
    """Has every method, and each raises the same error."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Callable[[object], NoReturn]:
        def refuse(_request: object) -> NoReturn:
            raise InvalidInput(self._reason)

        return refuse


def refusing_applications(reason: str) -> tuple[Flask, Flask]:
    """Make the applications for Docker's and for the operator's socket that say only why they do nothing."""
    refusing = _Refusing(reason)
    driver = create_app(
        cast("NetworkService", refusing),
        cast("ExternalConnectivity", refusing),
        cast("IpamAdapter", refusing),
        Capabilities(scope=Scope.LOCAL),
    )
    operator = Flask(__name__, static_folder=None)

    @operator.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @operator.route("/<path:path>", methods=["GET", "POST"])
    def refuse(path: str) -> tuple[Response, int]:
        del path
        return jsonify(error=reason), 500

    return driver, operator
