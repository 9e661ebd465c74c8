"""`python -m tests.benchmarks.api`: what the service must hold, measured with wrk.

Servers are measured in turns, several times, and medians compared: on a shared machine a single
measurement says little. Ends with exit code 1 where something does not hold.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from ray_job.bucket.storage import open_bucket
from tests.api.fixtures.bucket import Bucket
from tests.api.fixtures.tokens import (
    AUDIENCE,
    ISSUER,
    PROXY,
    PROXY_AUDIENCE,
    bearer,
    key_set,
    proxy_token,
    token,
    write_grants,
)
from tests.benchmarks.api.buckets import Size, publish

ROUNDS = 5
SECONDS = 4
ROOT = Path(__file__).parents[3]
SMALL = Size(stores=1000, items=1, parts=4)
MANY_STORES = Size(stores=100_000, items=1, parts=16)
MANY_ROWS = Size(stores=20_000, items=72, parts=64)

ROTATE = """
local number = 0
request = function()
  number = (number + 1) % 1000
  return wrk.format("GET", string.format("/v1/stores/%06d/forecast", number))
end
"""
NEW_TOKENS = 25_000
"""More than the service remembers, so that each request has a token that it has to verify."""
WITH_NEW_TOKENS = """
local tokens = {{}}
for line in io.lines("{tokens}") do tokens[#tokens + 1] = line end
local number = 0
request = function()
  number = number % #tokens + 1
  local headers = {{ ["X-Goog-IAP-JWT-Assertion"] = tokens[number] }}
  return wrk.format("GET", string.format("/v1/stores/%06d/forecast", number % 1000), headers)
end
"""


@dataclass(frozen=True)
class Rate:
    per_second: float
    p99_milliseconds: float
    longest_milliseconds: float
    failed: bool


@dataclass(frozen=True)
class Server:
    url: str
    pid: int


def main() -> int:
    if shutil.which("wrk") is None:
        print("wrk is not installed (apt-get install wrk)")  # noqa: T201
        return 2
    said: list[tuple[str, str, str, bool]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests(folder / "small", said)
        loading(folder / "stores", said)
        rows(folder / "rows", said)
    for what, value, wanted, holds in said:
        print(f"{'ok  ' if holds else 'FAIL'}  {what:58} {value:>14}   {wanted}")  # noqa: T201
    return 0 if all(holds for *_, holds in said) else 1


def requests(folder: Path, said: list[tuple[str, str, str, bool]]) -> None:
    today = datetime.now(UTC).date()
    publish(folder, SMALL, as_of=today - timedelta(days=1), name="a", base=100)
    issuers = _sign_in(folder)
    now = datetime.now(UTC)
    headers = bearer(token("bench", now=now))
    script = folder / "rotate.lua"
    script.write_text(ROTATE)
    tokens = folder / "tokens"
    tokens.write_text(
        "\n".join(
            proxy_token("bench", email="bench@example.com", now=now, jti=str(number))
            for number in range(NEW_TOKENS)
        )
    )
    new_tokens = folder / "tokens.lua"
    new_tokens.write_text(WITH_NEW_TOKENS.format(tokens=tokens))
    rates: dict[str, list[Rate]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(serve(folder, STORECAST_API_ISSUERS=issuers))
        with httpx.Client(base_url=ours.url, headers=headers) as client:
            answer = client.get("/v1/stores/000000/forecast")
            assert answer.status_code == 200
            same = {**headers, "If-None-Match": answer.headers["etag"]}
            for number in range(SMALL.stores):
                client.get(
                    f"/v1/stores/{number:06d}/forecast", headers={"Accept-Encoding": "identity"}
                )
        body = folder / "body"
        body.write_bytes(answer.content)
        ceilings = {
            which: stack.enter_context(_ceiling(which, body)) for which in ("bare", "fastapi")
        }
        before = _reads(ours)
        path = "/v1/stores/000000/forecast"
        for _ in range(ROUNDS):
            for which, server in (*ceilings.items(), ("ours", ours)):
                rates.setdefault(which, []).append(wrk(server.url + path, headers))
                rate = wrk(server.url, headers, script)
                rates.setdefault(f"{which}, 1000 stores", []).append(rate)
            rates.setdefault("304", []).append(wrk(ours.url + path, same))
            rates.setdefault("a new token each", []).append(wrk(ours.url, {}, new_tokens))
        reads = _reads(ours) - before
    per_second = {
        which: statistics.median(each.per_second for each in several)
        for which, several in rates.items()
    }
    p99 = {
        which: statistics.median(each.p99_milliseconds for each in several)
        for which, several in rates.items()
    }
    for which, several in rates.items():
        good = not any(each.failed for each in several)
        said.append(
            (f"requests/s, {which}", f"{per_second[which]:,.0f}", f"p99 {p99[which]:.1f} ms", good)
        )
    for label in ("", ", 1000 stores"):
        to_fastapi = per_second[f"ours{label}"] / per_second[f"fastapi{label}"]
        to_bare = per_second[f"ours{label}"] / per_second[f"bare{label}"]
        said.append((f"of FastAPI{label}", f"{to_fastapi:.0%}", "≥ 85 %", to_fastapi >= 0.85))
        said.append((f"of bare uvicorn{label}", f"{to_bare:.0%}", "≥ 50 %", to_bare >= 0.5))
    unchanged = per_second["304"] / per_second["ours"]
    said.append(("304 of a 200", f"{unchanged:.0%}", "≥ 95 %", unchanged >= 0.95))
    slower = p99["ours"] / p99["bare"]
    said.append(("p99 of bare's", f"{slower:.1f} ×", "≤ 3 ×", slower <= 3))
    # The background look reads the pointer and the grants every few seconds, whatever is asked.
    said.append(("reads of parts or releases by requests", f"{reads:.0f}", "0", reads == 0))


def loading(folder: Path, said: list[tuple[str, str, str, bool]]) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    publish(folder, MANY_STORES, as_of=yesterday, name="a", base=100)
    with serve(folder) as server:
        url = f"{server.url}/v1/stores/000042/forecast"
        httpx.get(url, headers={"Accept-Encoding": "identity"})
        running = subprocess.Popen(
            ["wrk", "-t1", "-c32", "-d20s", "--latency", url], stdout=subprocess.PIPE, text=True
        )
        time.sleep(1)
        publish(folder, MANY_STORES, as_of=yesterday, name="b", base=200)
        output, _ = running.communicate()
        rate = _parse(output)
        release = httpx.get(url).json()["release"]
        seconds = _metric(server, "storecast_api_load_seconds")
    said.append(("loading 100,000 stores × 7 days", f"{seconds:.1f} s", "≤ 3 s", seconds <= 3))
    said.append(("swapped under load, failed requests", str(rate.failed), "False", not rate.failed))
    longest = rate.longest_milliseconds
    said.append(("longest request", f"{longest:.0f} ms", "≤ 100 ms", longest <= 100))
    said.append(("served after the swap", release, "b", release == "b"))


def rows(folder: Path, said: list[tuple[str, str, str, bool]]) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    publish(folder, MANY_ROWS, as_of=yesterday, name="a", base=100)
    with serve(folder, STORECAST_API_MEMORY_BYTES="0") as server:
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="utf-8")
        anonymous = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
        took = []
        with httpx.Client(base_url=server.url) as client:
            for number in range(0, MANY_ROWS.stores, 50):
                params = {"item_id": f"item-{number % MANY_ROWS.items:06d}"}
                started = time.perf_counter()
                answer = client.get(f"/v1/stores/{number:06d}/forecast", params=params)
                took.append((time.perf_counter() - started) * 1000)
                assert answer.status_code == 200
    what = f"RssAnon with {MANY_ROWS.rows:,} rows"
    said.append((what, f"{anonymous:.0f} MB", "< 500 MB", anonymous < 500))
    median = statistics.median(took)
    said.append(
        ("a single read, not remembered (median)", f"{median:.1f} ms", "< 5 ms", median < 5)
    )


def wrk(url: str, headers: dict[str, str], script: Path | None = None) -> Rate:
    command = ["wrk", "-t1", "-c32", f"-d{SECONDS}s", "--latency"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    if script is not None:
        command += ["-s", str(script)]
    done = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    return _parse(done.stdout)


def _parse(output: str) -> Rate:
    def milliseconds(pattern: str) -> float:
        number, unit = re.search(pattern, output).groups()  # type: ignore[union-attr]
        return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]

    return Rate(
        float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),  # type: ignore[index]
        milliseconds(r"99%\s+([\d.]+)(us|ms|s)"),
        milliseconds(r"Latency\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)"),
        "Non-2xx" in output.replace("Non-2xx or 3xx", "Non-2xx") or "Socket errors" in output,
    )


@contextmanager
def serve(folder: Path, **variables: str) -> Iterator[Server]:
    port = _free_port()
    environment = {
        **os.environ,
        "STORECAST_API_BUCKET": str(folder),
        "STORECAST_API_PORT": str(port),
        "STORECAST_API_DRAIN_SECONDS": "0",
        **variables,
    }
    with _running([sys.executable, "-m", "api"], port, "/readyz", environment) as server:
        yield server


def _ceiling(which: str, body: Path) -> object:
    port = _free_port()
    command = [sys.executable, "-m", "tests.benchmarks.api.ceilings", which, str(port), str(body)]
    return _running(command, port, "/v1/stores/000000/forecast", dict(os.environ))


@contextmanager
def _running(
    command: list[str], port: int, path: str, environment: dict[str, str]
) -> Iterator[Server]:
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(1200):
                if _answers(url + path):
                    break
                time.sleep(0.05)
            yield Server(url, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _sign_in(folder: Path) -> str:
    keys_of = folder / "keys.json"
    keys_of.write_bytes(key_set("k1", ec_names=("p1",)))
    write_grants(
        Bucket(open_bucket(str(folder))).storage,
        {"subject": "bench", "stores": "*"},
        {"issuer": PROXY, "email": "bench@example.com", "stores": "*"},
    )
    proxy = {
        "issuer": PROXY,
        "audience": PROXY_AUDIENCE,
        "algorithms": ["ES256"],
        "header": "x-goog-iap-jwt-assertion",
        "trust_email": True,
    }
    jwks = {"jwks": f"file://{keys_of}"}
    return json.dumps([{"issuer": ISSUER, "audience": AUDIENCE, **jwks}, {**proxy, **jwks}])


def _reads(server: Server) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("storecast_api_storage_reads_total")
        and not any(what in line for what in ('"pointer"', '"grants"'))
    )


def _metric(server: Server, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    raise SystemExit(main())
