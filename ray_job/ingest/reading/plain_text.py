"""CSV files that are not plain become plain: UTF-8, one kind of line ends, the header first."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from ray_job.ingest.reading.raw_files import bad_file

EMPTY_FILE = "the file is empty: deliver it again, or remove it"
DAMAGED_GZIP = "the gzip file is damaged or cut off: deliver it again"
NOT_UTF8 = "the file is not UTF-8 text: save it as UTF-8"
_DELIMITERS = ",;\t|"
_START_BYTES = 1 << 16
_TITLE_LINES = 20
"""In so many lines the header is looked for."""
_FOREIGN = (
    (b"PK\x03\x04", "the file is an Excel or ZIP file, not CSV: save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "the file is an old Excel file, not CSV: save it as CSV"),
    (b"PAR1", "the file is a Parquet file: give it a name that ends in .parquet"),
    (b"\x1f\x8b", "the file is a gzip file: give it a name that ends in .csv.gz"),
)
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_ASCII_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Start:
    """How a CSV file begins. `skipped` is the number of lines before its header."""

    encoding: str
    skipped: int
    delimiter: str
    header: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        return self.encoding == "utf-8-sig" and self.skipped == 0


def read_start(path: Path, name: str, required: Collection[str]) -> Start:
    """The encoding, the delimiter and the header of the CSV file at `path`.

    The header is the first line that has the columns `required`; without one, it is the first line
    that has as many fields as most lines. Raises BadFilesError in the name of `name`, or OSError.
    """
    start = _read_bytes(path, name)
    for magic, sentence in _FOREIGN:
        if start.startswith(magic):
            raise bad_file(name, sentence)
    encoding = _encoding(start)
    text = _decoded(start, encoding, name)
    if not text.strip():
        raise bad_file(name, EMPTY_FILE)
    delimiter, first = None, 0
    lines = re.split(r"\r\n|\r|\n", text)
    if match := re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE):
        delimiter, first = match[1], 1
    while first < len(lines) - 1 and not lines[first].strip():
        first += 1
    header_line = _header_line(lines, first, delimiter, required)
    delimiter = delimiter or _delimiter(lines[header_line])
    # A field of the header may contain line ends, so that the header is read from the whole text.
    header = _fields("\n".join(lines[header_line:]), delimiter)
    return Start(encoding, header_line, delimiter, tuple(header))


def _header_line(
    lines: Sequence[str], first: int, delimiter: str | None, required: Collection[str]
) -> int:
    """The number of the header's line, counted from 0."""
    fields = [_fields(line, delimiter) for line in lines[first : first + _TITLE_LINES]]
    for number, names in enumerate(fields):
        if required and set(required) <= set(names):
            return first + number
    counts = [len(names) for names in fields if names and any(names)]
    usual = max(counts, key=counts.count, default=0)
    if len(fields[0]) < usual:
        return first + next(number for number, names in enumerate(fields) if len(names) == usual)
    return first


def plain_copy(path: Path, name: str, encoding: str, skipped: int, folder: Path) -> Path:
    """A copy of a CSV file as UTF-8 with line feeds, without its first `skipped` lines.

    Raises BadFilesError in the name of `name`, or OSError.
    """
    copy = folder / f"plain-{uuid4().hex}.csv"
    try:
        with (
            _opened(path) as source,
            io.TextIOWrapper(source, encoding) as lines,
            copy.open("w", encoding="utf-8", newline="\n") as target,
        ):
            for number, line in enumerate(lines):
                if number >= skipped:
                    target.write(line)
    except UnicodeError as error:
        raise bad_file(name, NOT_UTF8) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise bad_file(name, DAMAGED_GZIP) from error
    return copy


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        with _opened(path) as file:
            return file.read(_START_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise bad_file(name, DAMAGED_GZIP) from error


def _opened(path: Path) -> BinaryIO:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _encoding(start: bytes) -> str:
    """UTF-16 and UTF-32 by their mark, UTF-16 without one by the zeros between letters."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return encoding
    sample = start[:1000]
    if sample[1::2].count(0) > _ASCII_SHARE * len(sample):
        return "utf-16-le"
    if sample[0::2].count(0) > _ASCII_SHARE * len(sample):
        return "utf-16-be"
    return "utf-8-sig"


def _decoded(start: bytes, encoding: str, name: str) -> str:
    if encoding == "utf-8-sig" and b"\0" in start:
        raise bad_file(name, "the file has zero bytes and is no text: save it as UTF-8")
    is_whole = len(start) < _START_BYTES
    try:
        return start.decode(encoding, errors="strict" if is_whole else "ignore")
    except UnicodeError as error:
        raise bad_file(name, NOT_UTF8) from error


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=lambda mark: (len(_fields(line, mark)), -_DELIMITERS.index(mark)))


def _fields(text: str, delimiter: str | None) -> list[str]:
    """The stripped fields of the first record of a CSV text."""
    try:
        record = next(csv.reader(io.StringIO(text), delimiter=delimiter or _delimiter(text)), [])
    except csv.Error:
        return []
    return [field.strip() for field in record]
