"""Which of Delta's features a table uses, and whether this program can read and write it.

The protocol (PROTOCOL.md of Delta Lake, "Table Features") lets a writer require features of each
reader. To ignore one gives wrong rows: deleted rows come back, or columns are looked for under
names that they do not have. So each feature that is in use and not supported is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deltalake import DeltaTable

from ray_job.bucket.errors import InputError

_READABLE = {
    *("timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "deletionVectors", "columnMapping"),
}
"""Reader features that change nothing as long as neither a file nor a property uses them."""
_TYPE_FEATURES = {
    "variantType": '"variant"',
    "variantType-preview": '"variant"',
    "typeWidening": '"delta.typeChanges"',
    "typeWidening-preview": '"delta.typeChanges"',
}
"""Reader features that change nothing as long as the schema does not contain this text."""
_WRITABLE = {
    *("appendOnly", "invariants", "checkConstraints", "changeDataFeed", "columnMapping"),
    *("deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "domainMetadata"),
    *("generatedColumns", "identityColumns", "inCommitTimestamp", "clustering", "rowTracking"),
    *_TYPE_FEATURES,
}
"""Writer features that change nothing as long as no property or column uses them."""
_LAST_PLAIN_WRITER, _LAST_PLAIN_READER = 6, 2
_PROPERTIES = {
    "delta.appendOnly": "appendOnly",
    "delta.enableChangeDataFeed": "changeDataFeed",
    "delta.enableRowTracking": "rowTracking",
    "delta.enableInCommitTimestamps": "inCommitTimestamp",
}
_FIELD_PROPERTIES = {
    "delta.generationExpression": "generatedColumns",
    "delta.identity.start": "identityColumns",
    "delta.invariants": "invariants",
}


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """What the log says of the protocol: versions, features, properties and the columns' JSON."""

    reader_version: int = 1
    writer_version: int = 2
    reader_features: Collection[str] = ()
    writer_features: Collection[str] = ()
    properties: Mapping[str, str] | None = None
    schema: str = ""
    partition_columns: Collection[str] = ()

    def check_readable(self, root: str) -> None:
        """Raise InputError, which names the feature, if rows would be read wrongly."""
        mode = (self.properties or {}).get("delta.columnMapping.mode", "none")
        if mode != "none":
            raise _refusal(root, "columnMapping", f"its mode is {mode!r}")
        for feature, text in _TYPE_FEATURES.items():
            if text in self.schema:
                raise _refusal(root, feature, f"a column has {text}")
        if unknown := sorted(set(self.reader_features) - _READABLE - {*_TYPE_FEATURES}):
            raise _refusal(root, unknown[0], "readers have to understand it")
        if self.reader_version > _LAST_PLAIN_READER + 1:
            raise _refusal(root, f"reader version {self.reader_version}", "it is not known")

    def check_writable(self, root: str) -> None:
        """Raise InputError, which names the feature, if an ingest would break the table's rules."""
        properties = self.properties or {}
        for name, feature in _PROPERTIES.items():
            if properties.get(name, "").lower() == "true":
                raise _refusal(root, feature, f"{name} is true", "written")
        if constraints := sorted(name for name in properties if name.startswith("delta.constr")):
            raise _refusal(root, "checkConstraints", f"there is {constraints[0]}", "written")
        for name, feature in _FIELD_PROPERTIES.items():
            if f'"{name}"' in self.schema:
                raise _refusal(root, feature, f"a column has {name}", "written")
        if unknown := sorted(set(self.writer_features) - _WRITABLE):
            raise _refusal(root, unknown[0], "writers have to understand it", "written")
        if self.writer_version > _LAST_PLAIN_WRITER + 1:
            raise _refusal(
                root, f"writer version {self.writer_version}", "it is unknown", "written"
            )


@dataclass(slots=True)
class NewestHeader:
    """The newest `protocol` and `metaData` of a log that is replayed from its newest version on."""

    actions: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, of_version: Mapping[str, Sequence[Any]], lines: bytes) -> None:
        """The actions of one version by kind; `lines` is the commit, empty for a checkpoint."""
        for kind, of_kind in of_version.items():
            whole = of_kind
            if of_kind and lines:
                # Arrow reads no JSON objects with any keys, such as a table's properties.
                chosen = [line for line in lines.splitlines() if kind.encode() in line]
                whole = [json.loads(line).get(kind) for line in chosen]
            for action in whole:
                if action:
                    self.actions.setdefault(kind, action)

    def features(self) -> TableFeatures:
        protocol = self.actions.get("protocol", {})
        described = self.actions.get("metaData", {})
        return TableFeatures(
            protocol.get("minReaderVersion") or 1,
            protocol.get("minWriterVersion") or 1,
            protocol.get("readerFeatures") or (),
            protocol.get("writerFeatures") or (),
            dict(described.get("configuration") or {}),
            described.get("schemaString") or "",
            described.get("partitionColumns") or (),
        )


def features_of(table: DeltaTable) -> TableFeatures:
    """The features of a snapshot that delta-rs has opened."""
    protocol, described = table.protocol(), table.metadata()
    return TableFeatures(
        protocol.min_reader_version,
        protocol.min_writer_version,
        protocol.reader_features or (),
        protocol.writer_features or (),
        described.configuration,
        table.schema().to_json(),
        described.partition_columns,
    )


def deletion_vector_error(root: str, path: str) -> InputError:
    """The error for a file of which a deletion vector takes out rows."""
    return InputError(
        f"{root}: the table uses the feature deletionVectors ({path} has one), and is not read:"
        " rewrite it without them, in Spark by `REORG TABLE … APPLY (PURGE)`"
    )


def _refusal(root: str, feature: str, why: str, verb: str = "read") -> InputError:
    return InputError(
        f"{root}: the table uses the feature {feature} ({why}), and cannot be {verb}: write it"
        " without this feature; docs/writing-from-outside.md has what is understood"
    )
