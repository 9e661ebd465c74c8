"""What the program of version 0.1 makes of a bucket: `python read_as_0_1.py BUCKET`, one JSON line.

It runs with the code of that version in front of its path. The API answers, then a night runs.
"""

import json
import os
import sys
import time

from starlette.testclient import TestClient
from tests.shop import LAST, Shop, midnight

from api.main import create_app
from api.settings import Settings as ApiSettings
from ray_job.bucket import receipts
from ray_job.bucket.scores import decode
from ray_job.bucket.storage import open_bucket


def main(bucket: str) -> None:
    os.environ["STORECAST_API_BUCKET"] = bucket
    shop = Shop(open_bucket(bucket))
    with TestClient(create_app(ApiSettings.load(), lambda: midnight(LAST))) as client:
        for _ in range(200):
            ready = client.get("/readyz")
            if ready.status_code == 200:
                break
            time.sleep(0.1)
        assert ready.json()["release"] == shop.pointer.current, ready.json()
        answers = {
            path: client.get(path)
            for path in (
                "/v1/stores/s002/forecast",
                "/v1/stores/s001/forecast?level=item",
                "/v1/stores/s002/history",
                "/v1/releases",
            )
        }
    scores = {
        str(day): decode(shop.storage.read(key), key).num_rows
        for day, key in shop.pointer.accuracy.items()
    }
    entry = shop.pointer.current_entry
    receipt = receipts.read(shop.storage, entry.as_of, entry.run_id)
    night = shop.run(LAST)
    sys.stdout.write(
        json.dumps(
            {
                "statuses": {path: answer.status_code for path, answer in answers.items()},
                "forecast": answers["/v1/stores/s002/forecast"].json(),
                "scores": scores,
                "receipt": receipt.status,
                "night": night.status,
                "stores": len(shop.release().stores),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
