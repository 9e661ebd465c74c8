"""The JSON API, as google-cloud-storage and libgoogle-cloud-cpp (pyarrow) speak it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from . import partial
from .answer import Answer, as_json, media
from .objects import LARGEST_PAGE, Conditions, Refusal
from .resources import bucket_resource, object_resource, root, sent_sums, verify, writable
from .uploads import Upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from .objects import Store, Stored
    from .request import Request
    from .uploads import Uploads

_UNSUPPORTED: Final = ("matchGlob", "versions", "softDeleted", "includeFoldersAsPrefixes")


class JsonApi:
    """Answers requests of the JSON API from `store`; refusals are raised."""

    def __init__(self, store: Store, uploads: Uploads) -> None:
        self.page_size = LARGEST_PAGE
        self._store = store
        self._uploads = uploads
        self._ops: dict[str, Callable[[Request], Answer]] = {
            "list-buckets": self._list_buckets,
            "create-bucket": self._create_bucket,
            "drop-bucket": self._drop_bucket,
            "bucket": self._bucket,
            "list": self._list,
            "get": self._get,
            "stat": self._stat,
            "insert": self._insert,
            "start": self._start,
            "part": self._resume,
            "abort": self._abort,
            "delete": self._delete,
            "patch": self._patch,
            "compose": self._compose,
            "copy": self._copy,
            "rewrite": self._rewrite,
            "move": self._move,
        }

    def answer(self, request: Request) -> Answer:
        return self._ops[request.op](request)

    def _list_buckets(self, _: Request) -> Answer:
        buckets = [bucket_resource(self._store.bucket(name)) for name in self._store.bucket_names()]
        return as_json({"kind": "storage#buckets", "items": buckets})

    def _create_bucket(self, request: Request) -> Answer:
        return as_json(bucket_resource(self._store.create_bucket(json.loads(request.body)["name"])))

    def _drop_bucket(self, request: Request) -> Answer:
        self._store.drop_bucket(request.bucket)
        return Answer(204)

    def _bucket(self, request: Request) -> Answer:
        return as_json(bucket_resource(self._store.bucket(request.bucket)))

    def _list(self, request: Request) -> Answer:
        for name in _UNSUPPORTED:
            if request.query.get(name) not in (None, "false"):
                raise Refusal(400, "unsupported", f"The fake does not know {name}.")
        asked = request.number("maxResults")
        page = self._store.page(
            request.bucket,
            prefix=request.query.get("prefix", ""),
            delimiter=request.query.get("delimiter", ""),
            trailing=request.query.get("includeTrailingDelimiter") == "true",
            resume=request.query.get("pageToken", ""),
            start=request.query.get("startOffset", ""),
            end=request.query.get("endOffset", ""),
            size=min(asked or self.page_size, self.page_size),
        )
        listing: dict[str, Any] = {"kind": "storage#objects"}
        if page.items:
            listing["items"] = [object_resource(item, root(request.headers)) for item in page.items]
        if page.prefixes:
            listing["prefixes"] = page.prefixes
        if page.resume is not None:
            listing["nextPageToken"] = page.resume
        if wanted := request.query.get("fields"):
            listing = partial.select(listing, wanted)
        return as_json(listing)

    def _get(self, request: Request) -> Answer:
        return media(self._read(request), request)

    def _stat(self, request: Request) -> Answer:
        return self._resource(self._read(request), request)

    def _read(self, request: Request) -> Stored:
        return self._store.get(
            request.bucket, request.key, request.number("generation"), request.conditions()
        )

    def _insert(self, request: Request) -> Answer:
        if "upload_id" in request.query:
            return self._resume(request)
        stored = self._put(
            request.bucket, request.key, request.content, request.conditions(), request.resource
        )
        return self._resource(stored, request)

    def _put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        conditions: Conditions,
        resource: dict[str, Any],
    ) -> Stored:
        if not key:
            raise Refusal(400, "required", "The upload names no object.")
        verify(body, resource)
        return self._store.put(bucket, key, body, conditions, writable(resource))

    def _start(self, request: Request) -> Answer:
        resource = request.resource
        resource.setdefault("contentType", request.headers.get("x-upload-content-type"))
        conditions = request.conditions()
        conditions.check(self._store.find(request.bucket, request.key), reading=False)
        upload = Upload(request.bucket, request.key, conditions, resource)
        upload_id = self._uploads.begin(upload)
        location = (
            f"{root(request.headers)}/upload/storage/v1/b/{quote(request.bucket)}/o"
            f"?uploadType=resumable&upload_id={upload_id}"
        )
        return Answer(
            200, [(b"location", location.encode()), (b"x-guploader-uploadid", upload_id.encode())]
        )

    def _resume(self, request: Request) -> Answer:
        upload = self._uploads.get(request.query["upload_id"])
        complete = upload.done is not None or self._uploads.receive(
            upload, request.headers.get("content-range"), request.body
        )
        if not complete:
            held = len(upload.received)
            return Answer(308, [(b"range", b"bytes=0-%d" % (held - 1))] if held else [])
        if upload.done is None:
            resource = {**upload.fields, **sent_sums(request.headers.get("x-goog-hash", ""))}
            upload.done = self._put(
                upload.bucket, upload.key, bytes(upload.received), upload.conditions, resource
            )
            upload.received.clear()
        return self._resource(upload.done, request)

    def _abort(self, request: Request) -> Answer:
        self._uploads.drop(request.query["upload_id"])
        return Answer(499)

    def _delete(self, request: Request) -> Answer:
        self._store.delete(
            request.bucket, request.key, request.number("generation"), request.conditions()
        )
        return Answer(204)

    def _patch(self, request: Request) -> Answer:
        sent = json.loads(request.body)
        patched = self._store.patch(
            request.bucket, request.key, writable(sent), request.conditions()
        )
        return self._resource(patched, request)

    def _compose(self, request: Request) -> Answer:
        asked = json.loads(request.body)
        sources = [
            self._store.get(
                request.bucket,
                source["name"],
                _whole(source.get("generation")),
                Conditions(_whole(source.get("objectPreconditions", {}).get("ifGenerationMatch"))),
            )
            for source in asked["sourceObjects"]
        ]
        stored = self._store.put(
            request.bucket,
            request.key,
            b"".join(source.body for source in sources),
            request.conditions(),
            writable(asked.get("destination", {})),
            components=sum(source.components or 1 for source in sources),
        )
        return self._resource(stored, request)

    def _source(self, request: Request) -> Stored:
        conditions = Conditions(
            request.number("ifSourceGenerationMatch"),
            request.number("ifSourceGenerationNotMatch"),
            request.number("ifSourceMetagenerationMatch"),
        )
        return self._store.get(*request.source, request.number("sourceGeneration"), conditions)

    def _copied(self, request: Request) -> Stored:
        source = self._source(request)
        changed = writable(json.loads(request.body) if request.body.strip() else {})
        return self._store.put(
            request.bucket,
            request.key,
            source.body,
            request.conditions(),
            changed or source.fields,
            source.components,
        )

    def _copy(self, request: Request) -> Answer:
        return self._resource(self._copied(request), request)

    def _rewrite(self, request: Request) -> Answer:
        stored = self._copied(request)
        size = str(len(stored.body))
        return as_json(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": object_resource(stored, root(request.headers)),
            }
        )

    def _move(self, request: Request) -> Answer:
        with self._store.lock:
            source = self._source(request)
            stored = self._copied(request)
            self._store.delete(*request.source, source.generation)
        return self._resource(stored, request)

    def _resource(self, stored: Stored, request: Request) -> Answer:
        resource = object_resource(stored, root(request.headers))
        if wanted := request.query.get("fields"):
            resource = partial.select(resource, wanted)
        return as_json(resource)


def _whole(sent: str | int | None) -> int | None:
    return None if sent is None else int(sent)
