"""A swap of releases under load."""

from __future__ import annotations

import asyncio

import httpx

from tests.api.fixtures.bucket import Bucket, StoreSpec
from tests.api.fixtures.serving import serve

STORES = 3000


def specs(base: float) -> list[StoreSpec]:
    return [StoreSpec(f"{number:05d}", base=base) for number in range(STORES)]


def test_a_swap_under_load(tmp_path):
    """No request fails, and all numbers of an answer are of the release that it names."""
    bucket = Bucket.make(tmp_path)
    bucket.publish(specs(0), name="r0", parts_per_run=4)
    later = [
        bucket.publish(specs(number * 1000), name=f"r{number}", parts_per_run=4, point=False)
        for number in (1, 2)
    ]
    releases: set[str] = set()

    async def send_requests(client: httpx.AsyncClient, worker: int) -> None:
        number = worker
        while len(releases) < 3:
            number = (number + 7) % STORES
            answer = await client.get(f"/v1/stores?outcome=ok&page_size={2 + number % 50}")
            assert answer.status_code == 200
            body = answer.json()
            number_of_release = float(body["release"].removeprefix("r"))
            for store in body["stores"]:
                assert store["release"] == body["release"]
                assert store["days"][0]["predicted_sales"] == number_of_release * 1000 + 1
            releases.add(body["release"])

    async def publish() -> None:
        for entry in later:
            await asyncio.sleep(0.7)
            bucket.point(entry)

    async def load(port: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            workers = [send_requests(client, worker) for worker in range(4)]
            await asyncio.wait_for(asyncio.gather(publish(), *workers), 30)

    with serve(str(tmp_path), refresh_seconds=0.1) as api:
        asyncio.run(load(api.port))
    assert releases == {"r0", "r1", "r2"}
