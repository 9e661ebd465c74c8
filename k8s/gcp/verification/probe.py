# ruff: noqa: INP001 - runs in a pod, with Python alone
"""What the account of this pod may do in the bucket: `probe.py BUCKET PREFIX…`.

Prints a JSON object: `rights` has for each prefix whether it may `read`, `create` and `delete`
there, `race` the status of a create-only write to an object that exists (null where there is none),
`kubernetes` whether the API server accepts a connection. It changes nothing: Cloud Storage looks
at the rights before it looks for the object and its generation, and no object has generation 1 or
the name that is asked for. 404 and 412 mean "allowed", 403 means "not allowed".
"""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request

NO_OBJECT = "verify-no-such-object"
RECEIPTS = "results/receipts/"
"""Nobody deletes there, so a create-only write to an object that was listed meets it."""
FORBIDDEN, PRECONDITION_FAILED, NOT_FOUND = 403, 412, 404


def status(method: str, url: str, token: str) -> int:
    return answer(method, url, token)[0]


def answer(method: str, url: str, token: str) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    body = b"" if method == "POST" else None
    request = urllib.request.Request(url, method=method, headers=headers, data=body)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def token_of_the_pod() -> str:
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        return str(json.load(response)["access_token"])


def is_allowed(code: int) -> bool:
    """Raises ValueError for a status that says neither."""
    if code not in {FORBIDDEN, PRECONDITION_FAILED, NOT_FOUND}:
        raise ValueError(f"Cloud Storage answers {code}")
    return code != FORBIDDEN


def rights(host: str, bucket: str, prefix: str, token: str) -> dict[str, bool]:
    name = urllib.parse.quote(f"{prefix}{NO_OBJECT}", safe="")
    item = f"{host}/storage/v1/b/{bucket}/o/{name}"
    upload = f"{host}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
    return {
        "read": is_allowed(status("GET", item, token)),
        "create": is_allowed(status("POST", f"{upload}&ifGenerationMatch=1", token)),
        "delete": is_allowed(status("DELETE", f"{item}?ifGenerationMatch=1", token)),
    }


def race(host: str, bucket: str, token: str) -> int | None:
    query = urllib.parse.urlencode({"prefix": RECEIPTS, "maxResults": 1})
    code, body = answer("GET", f"{host}/storage/v1/b/{bucket}/o?{query}", token)
    items = json.loads(body).get("items", []) if code < FORBIDDEN else []
    if not items:
        return None
    name = urllib.parse.quote(items[0]["name"], safe="")
    upload = f"{host}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
    return status("POST", f"{upload}&ifGenerationMatch=0", token)


def reaches_kubernetes() -> bool:
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    try:
        socket.create_connection((host, 443), timeout=10).close()
    except OSError:
        return False
    return True


def main(bucket: str, prefixes: list[str]) -> None:
    host = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
    token = token_of_the_pod()
    seen = {
        "rights": {prefix: rights(host, bucket, prefix, token) for prefix in prefixes},
        "race": race(host, bucket, token),
        "kubernetes": reaches_kubernetes(),
    }
    print(json.dumps(seen))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
