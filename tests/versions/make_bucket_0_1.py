"""Makes `bucket-0.1.tar.gz`, a bucket as version 0.1 left it: three nights, their scores, a model.

    git archive 5b72904 | tar -x -C OLD
    PYTHONPATH=OLD python tests/versions/make_bucket_0_1.py tests/versions/bucket-0.1.tar.gz

It runs the code of that commit, and its modules have the names that they had then.
"""

import gzip
import io
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.shop import DAY, LAST, Shop, filled, midnight, objects

from ray_job.bucket.storage import open_bucket


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        filled(Path(name), objects())
        shop = Shop(open_bucket(name))
        for back in (3, 2, 1):
            as_of = LAST - back * DAY
            shop.run(as_of, now=midnight(as_of))
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            for path in sorted(Path(name).rglob("*")):
                if path.is_file() and not path.name.startswith(".storecast-"):
                    entry = tarfile.TarInfo(path.relative_to(name).as_posix())
                    entry.size = path.stat().st_size
                    archive.addfile(entry, io.BytesIO(path.read_bytes()))
    target.write_bytes(gzip.compress(raw.getvalue(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
