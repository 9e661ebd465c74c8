"""`storecast --help` is quick: it loads no library of the job."""

import subprocess
import sys

HEAVY = ("ray", "sklearn", "pandas", "numpy", "pyarrow", "deltalake", "duckdb", "kubernetes")


def test_help_loads_no_library_of_the_job():
    script = (
        "import sys; from ray_job.__main__ import main\n"
        "sys.argv = ['storecast', '--help']\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert process.stderr.strip() == "[]"
    for command in ("demo", "ingest", "train", "run", "rollback", "submit", "token"):
        assert f"\n  {command} " in process.stdout
