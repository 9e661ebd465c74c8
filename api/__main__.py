"""`python -m api` starts the service. Settings are read from `STORECAST_API_…` variables."""

from __future__ import annotations

import gc
import sys

from api import logs
from api.main import create_app, warm_up
from api.settings import ServiceSettings
from api.transport.server import Server
from ray_job.bucket.errors import StorecastError

_EXIT_WRONG_USE = 2
_SWITCH_SECONDS = 0.0005


def main() -> int:
    """The exit code: 0 after a stop, 1 if the server did not start, 2 for wrong settings."""
    logs.install()
    try:
        settings = ServiceSettings.load()
        app = create_app(settings)
    except StorecastError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_WRONG_USE
    warm_up(app)
    # While a thread computes, a request waits this long for its turn, not 5 ms each time.
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = Server(app, settings)
    # What is there now stays. Without this a full collection reads all of it, and nobody is
    # answered for 60 to 100 ms.
    gc.collect()
    gc.freeze()
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main())
