"""The XML API, as the object_store crate (delta-rs) and libgoogle-cloud-cpp speak it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from .answer import XML, Answer, etag, media, sums
from .objects import LARGEST_PAGE, Refusal, md5
from .resources import sent_sums, timestamp, verify
from .uploads import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .objects import Store
    from .request import Request
    from .uploads import Uploads

_HEADERS: Final = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-type": "contentType",
}
_METADATA: Final = "x-goog-meta-"


class XmlApi:
    """Answers requests of the XML API from `store`; refusals are raised."""

    def __init__(self, store: Store, uploads: Uploads) -> None:
        self.page_size = LARGEST_PAGE
        self._store = store
        self._uploads = uploads
        self._ops: dict[str, Callable[[Request], Answer]] = {
            "bucket": self._bucket,
            "list": self._list,
            "get": self._read,
            "stat": self._read,
            "insert": self._insert,
            "start": self._start,
            "part": self._part,
            "abort": self._abort,
            "delete": self._delete,
            "copy": self._copy,
        }

    def answer(self, request: Request) -> Answer:
        return self._ops[request.op](request)

    def _bucket(self, request: Request) -> Answer:
        self._store.bucket(request.bucket)
        return Answer(200)

    def _list(self, request: Request) -> Answer:
        after = request.query.get("start-after", "")
        asked = request.number("max-keys")
        prefix = request.query.get("prefix", "")
        page = self._store.page(
            request.bucket,
            prefix=prefix,
            delimiter=request.query.get("delimiter", ""),
            resume=request.query.get("continuation-token", ""),
            start=after and after + "\0",
            size=min(asked or self.page_size, self.page_size),
        )
        lines = [
            "<?xml version='1.0' encoding='UTF-8'?>",
            "<ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>",
            f"<Name>{request.bucket}</Name><Prefix>{escape(prefix)}</Prefix>",
            f"<KeyCount>{len(page.items) + len(page.prefixes)}</KeyCount>",
            f"<IsTruncated>{'false' if page.resume is None else 'true'}</IsTruncated>",
        ]
        if page.resume is not None:
            lines.append(f"<NextContinuationToken>{escape(page.resume)}</NextContinuationToken>")
        lines += [
            f"<Contents><Key>{escape(item.key)}</Key><Generation>{item.generation}</Generation>"
            f"<MetaGeneration>{item.metageneration}</MetaGeneration>"
            f"<LastModified>{timestamp(item.updated)}</LastModified>"
            f"<ETag>{escape(etag(item))}</ETag><Size>{len(item.body)}</Size></Contents>"
            for item in page.items
        ]
        lines += [
            f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>"
            for common in page.prefixes
        ]
        return Answer(200, [XML], "".join([*lines, "</ListBucketResult>"]).encode())

    def _read(self, request: Request) -> Answer:
        stored = self._store.get(
            request.bucket, request.key, request.number("generation"), request.conditions()
        )
        return media(stored, request)

    def _insert(self, request: Request) -> Answer:
        if "uploadId" in request.query:
            return self._complete(request)
        verify(request.body, sent_sums(request.headers.get("x-goog-hash", "")))
        stored = self._store.put(
            request.bucket,
            request.key,
            request.body,
            request.conditions(),
            _fields(request.headers),
        )
        return Answer(200, sums(stored))

    def _start(self, request: Request) -> Answer:
        self._store.bucket(request.bucket)
        upload = Upload(request.bucket, request.key, request.conditions(), _fields(request.headers))
        upload_id = self._uploads.begin(upload)
        return _document(
            "InitiateMultipartUploadResult",
            {"Bucket": request.bucket, "Key": request.key, "UploadId": upload_id},
        )

    def _part(self, request: Request) -> Answer:
        upload = self._uploads.get(request.query["uploadId"])
        number = request.number("partNumber")
        if number is None:
            raise Refusal(400, "invalid", "A part needs its partNumber.")
        upload.parts[number] = request.body
        return Answer(200, [(b"etag", _part_etag(request.body).encode())])

    def _complete(self, request: Request) -> Answer:
        upload = self._uploads.get(request.query["uploadId"])
        if upload.done is None:
            chosen: list[bytes] = []
            for part in ET.fromstring(request.body).iter():  # noqa: S314 - our own clients' XML
                if part.tag.rpartition("}")[2] != "Part":
                    continue
                texts = {child.tag.rpartition("}")[2]: child.text or "" for child in part}
                body = upload.parts.get(int(texts["PartNumber"]))
                if body is None or _part_etag(body).strip('"') != texts["ETag"].strip('"'):
                    raise Refusal(400, "invalidPart", f"No such part: {texts['PartNumber']}")
                chosen.append(body)
            upload.done = self._store.put(
                upload.bucket,
                upload.key,
                b"".join(chosen),
                upload.conditions,
                upload.fields,
                components=len(chosen),
            )
            upload.parts.clear()
        answer = _document(
            "CompleteMultipartUploadResult",
            {"Bucket": upload.bucket, "Key": upload.key, "ETag": etag(upload.done)},
        )
        answer.headers += sums(upload.done)
        return answer

    def _abort(self, request: Request) -> Answer:
        self._uploads.drop(request.query["uploadId"])
        return Answer(204)

    def _delete(self, request: Request) -> Answer:
        self._store.delete(
            request.bucket, request.key, request.number("generation"), request.conditions()
        )
        return Answer(204)

    def _copy(self, request: Request) -> Answer:
        source = self._store.get(*request.source)
        stored = self._store.put(
            request.bucket, request.key, source.body, request.conditions(), source.fields
        )
        answer = _document(
            "CopyObjectResult", {"ETag": etag(stored), "LastModified": timestamp(stored.updated)}
        )
        answer.headers += sums(stored)
        return answer


def _fields(headers: Mapping[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        field: headers[header] for header, field in _HEADERS.items() if header in headers
    }
    metadata = {
        name.removeprefix(_METADATA): value
        for name, value in headers.items()
        if name.startswith(_METADATA)
    }
    return {**fields, "metadata": metadata} if metadata else fields


def _part_etag(body: bytes) -> str:
    return f'"{md5(body)}"'


def _document(root: str, texts: Mapping[str, str]) -> Answer:
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items())
    return Answer(
        200, [XML], f"<?xml version='1.0' encoding='UTF-8'?><{root}>{inner}</{root}>".encode()
    )
