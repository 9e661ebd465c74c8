"""`python -m tests.processes.compare_demos OLD NEW`: whether two checkouts give the same demo.

OLD and NEW are checkouts with an environment in .venv. Each runs `storecast demo` and serves its
bucket. What may differ is named in `DIFFERENT`: digests, run ids, moments, durations. Everything
else in releases, parts and answers must be equal. Ends with 1 and the first differences otherwise.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

DIFFERENT = (
    (re.compile(r"\d{8}-\d{8}T\d{6}-[0-9a-f]{6}(-\d+)?"), "RUN"),
    (re.compile(r"\d{8}-\d{8}T\d{6}"), "MODEL"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "MOMENT"),
    (re.compile(r"\b\d\d:\d\d\b"), "TIME"),
    (re.compile(r"WyJ[\w=-]{20,}"), "PAGE TOKEN"),
    (re.compile(r"[0-9a-f]{32,64}"), "DIGEST"),
)
ADDRESSES = (
    "/v1/stores?page_size=50",
    "/v1/stores/s001/forecast",
    "/v1/stores/s001/forecast?page_size=3",
    "/v1/stores/s002/forecast",
    "/v1/stores/s005/forecast",
    "/v1/stores/s999/forecast",
    "/v1/stores/s002/history",
    "/v1/forecasts:batchGet?store_id=s002&store_id=s009",
    "/v1/runs/latest",
    "/results/s002",
    "/results/s002.csv",
    "/results/nowhere",
    "/openapi.json",
    "/",
    "/?store_id=s002",
)
TABLES = """
import json, sys
from ray_job.bucket import parts, pointer, releases
from ray_job.bucket.storage import open_bucket
storage = open_bucket(sys.argv[1])
current, _ = pointer.read(storage)
tables = {"releases": [], "parts": []}
for entry in current.history:
    stores = releases.load(storage, entry.release, entry.sha256).stores
    tables["releases"].append([str(entry.as_of), stores.to_pylist()])
    for row in stores.to_pylist():
        for place in row["parts"] or []:
            data = storage.read(place["part"])
            rows = parts.read_rows(data, "", place["first_row"], place["rows"])
            tables["parts"].append([str(row["as_of"]), row["store_id"], rows.to_pylist()])
json.dump(tables, sys.stdout, default=str)
"""


def main() -> int:
    old, new = (record(Path(checkout).resolve()) for checkout in sys.argv[1:3])
    differences = [name for name in old if old[name] != new.get(name)]
    for name in differences[:10]:
        sys.stdout.write(f"{name} differs:\n  {old[name][:600]}\n  {new.get(name, '')[:600]}\n")
    sys.stdout.write(f"{len(old)} compared, {len(differences)} differ\n")
    return 1 if differences else 0


def record(checkout: Path) -> dict[str, str]:
    """Everything that is compared of a checkout, by name, as normalised text."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        bucket = Path(folder, "data")
        environment["STORECAST_BUCKET"] = str(bucket)
        run(checkout, environment, "-m", "ray_job", "demo")
        tables = json.loads(run(checkout, environment, "-c", TABLES, str(bucket)))
        recorded = {
            f"{kind} {place}": normalised(entry)
            for kind in tables
            for place, entry in enumerate(tables[kind])
        }
        recorded |= answers(checkout, environment, bucket)
    return recorded


def run(checkout: Path, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [str(checkout / ".venv" / "bin" / "python"), *arguments],
        cwd=checkout,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def answers(checkout: Path, environment: dict[str, str], bucket: Path) -> dict[str, str]:
    port = 18_500 + os.getpid() % 400
    environment = {
        **environment,
        "STORECAST_API_BUCKET": str(bucket),
        "STORECAST_API_PORT": str(port),
    }
    server = subprocess.Popen(
        [str(checkout / ".venv" / "bin" / "python"), "-m", "api"],
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz")
        return {
            address: normalised(fetch(f"http://127.0.0.1:{port}{address}")) for address in ADDRESSES
        }
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            if fetch(url)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


def fetch(url: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["content-type"], error.read().decode()


def normalised(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    for pattern, name in DIFFERENT:
        text = pattern.sub(name, text)
    return text


if __name__ == "__main__":
    raise SystemExit(main())
