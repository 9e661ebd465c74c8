"""Makes `spark-tables.tar.gz`: histories that Spark's own Delta Lake wrote, one for each feature.

python -m venv SPARK; SPARK/bin/pip install pyspark==3.5.5 delta-spark==3.3.0   # and Java 17
SPARK/bin/python make_spark_tables.py spark-tables.tar.gz
"""

import gzip
import io
import sys
import tarfile
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

# ruff: noqa: S608 - nothing of these statements comes from outside

COLUMNS = (
    "store_id STRING, item_id STRING, date DATE, sales DOUBLE, delivered_at TIMESTAMP, op STRING,"
    " promo DOUBLE"
)
ROWS = [
    "('1', 'a', DATE'2026-03-26', 5.0, TIMESTAMP'2026-03-27 01:00:00', 'set', 0.0)",
    "('1', 'a', DATE'2026-03-27', 6.0, TIMESTAMP'2026-03-28 01:00:00', 'set', 1.0)",
    "('1', 'a', DATE'2026-03-27', 7.0, NULL, NULL, NULL)",
    "('1', NULL, DATE'2026-03-27', 3.0, NULL, 'set', NULL)",
    "('2', 'b', DATE'2026-03-27', 1.0, NULL, 'add', NULL)",
    "('2', 'b', DATE'2026-03-27', 2.0, NULL, 'add', NULL)",
    "('3', 'c', DATE'2026-03-27', 9.0, NULL, NULL, NULL)",
    "('3', 'c', DATE'2026-03-28', 8.0, NULL, NULL, NULL)",
]
TABLES = {
    "plain": {"delta.checkpointInterval": "3"},
    "deletion_vectors": {"delta.enableDeletionVectors": "true"},
    "column_mapping": {"delta.columnMapping.mode": "name"},
    "version_2_checkpoint": {"delta.checkpointPolicy": "v2", "delta.checkpointInterval": "2"},
    "row_tracking": {"delta.enableRowTracking": "true"},
    "append_only": {"delta.appendOnly": "true"},
}


def write(spark: SparkSession, folder: Path, name: str, properties: dict[str, str]) -> None:
    table = f"delta.`{folder / name}`"
    listed = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
    spark.sql(
        f"CREATE TABLE {table} ({COLUMNS}) USING delta PARTITIONED BY (store_id)"
        f" TBLPROPERTIES ({listed})"
    )
    spark.sql(f"INSERT INTO {table} VALUES {', '.join(ROWS)}")
    if name == "append_only":
        return
    spark.sql(f"DELETE FROM {table} WHERE store_id = '3' AND date = DATE'2026-03-28'")
    if name == "deletion_vectors":
        return  # a merge would write the file again, without its deletion vector
    spark.sql(
        f"MERGE INTO {table} t USING (SELECT '3' AS store_id, DATE'2026-03-27' AS date) n"
        " ON t.store_id = n.store_id AND t.date = n.date WHEN MATCHED THEN UPDATE SET sales = 4.0"
    )
    spark.sql(f"INSERT INTO {table} VALUES ('3', 'c', DATE'2026-03-29', 2.0, NULL, NULL, NULL)")


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "tables")
        spark = (
            SparkSession.builder.master("local[1]")
            .config("spark.jars.packages", "io.delta:delta-spark_2.12:3.3.0")
            .config("spark.jars.ivy", str(Path(name, "ivy")))
            .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
            .config(
                "spark.sql.catalog.spark_catalog",
                "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            )
            .config("spark.sql.session.timeZone", "UTC")
            .config("spark.sql.shuffle.partitions", "1")
            .config("spark.databricks.delta.snapshotPartitions", "1")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .getOrCreate()
        )
        for table, properties in TABLES.items():
            write(spark, folder, table, properties)
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and not path.name.endswith(".crc"):
                    entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
                    entry.size = path.stat().st_size
                    archive.addfile(entry, io.BytesIO(path.read_bytes()))
    target.write_bytes(gzip.compress(raw.getvalue(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
