"""What the tests of the service share."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # google.api_core says this once where grpc is installed without its status package.
    config.addinivalue_line("filterwarnings", "ignore:Please install grpcio-status:ImportWarning")
