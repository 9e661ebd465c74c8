"""`python -m api`: the service, settings from `STORECAST_API_…` variables."""

from __future__ import annotations

import sys

from api import logs
from api.main import create_app
from api.server import Server
from api.settings import Settings
from ray_job.bucket.errors import StorecastError

_WRONG_USE = 2


def main() -> int:
    logs.install()
    try:
        settings = Settings.load()
        app = create_app(settings)
    except StorecastError as error:
        sys.stderr.write(f"{error}\n")
        return _WRONG_USE
    server = Server(app, settings)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main())
