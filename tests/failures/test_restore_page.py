"""docs/restore.md: what it says to do brings back what was damaged, and loses what it says."""

import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_job.__main__ import app
from ray_job.bucket import keys, pointer
from ray_job.bucket.errors import InputError, StorecastError
from ray_job.data.histories import open_histories
from tests.support.shop import DAY, LAST, MODEL, Shop, filled, midnight, objects, snapshot, train

PAGE = (Path(__file__).parents[2] / "docs" / "restore.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, flags=re.MULTILINE))
SETTINGS_FILE = """
time_zone = "Europe/Berlin"
lookback_days = 84
ingest = { row_group_rows = 200 }
plan = { chunk_rows = 420 }
"""


def commands(section):
    blocks = re.findall(r"```sh\n(.*?)```", SECTIONS[section], flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Every object of the chain after three nights."""
    shop = Shop(filled(tmp_path_factory.mktemp("published") / "bucket", objects()))
    for back in (2, 1, 0):
        shop.run(LAST - back * DAY)
    return snapshot(shop.storage)


@pytest.fixture
def shop(published, tmp_path):
    return Shop(filled(tmp_path / "bucket", published))


@pytest.fixture
def follow(shop, tmp_path, monkeypatch):
    """Gives the commands of a section, with real values in place of the arguments in capitals."""
    (tmp_path / "settings.toml").write_text(SETTINGS_FILE)
    monkeypatch.setenv("STORECAST_BUCKET", shop.storage.url)

    def storecast(arguments):
        if arguments[0] == "run":
            shop.run(LAST, now=midnight(LAST) + DAY / 2, force="--force" in arguments)
        elif arguments[0] == "train":
            train(shop.storage, "again")
        else:
            options = ["--settings", str(tmp_path / "settings.toml")]
            result = CliRunner().invoke(app, [*arguments, *options])
            assert result.exit_code == 0, result.output + repr(result.exception)

    def gcloud(arguments):
        """`gcloud storage mv FROM/* TO/` and `gcloud storage cp FILE TO`, in the directory."""
        if arguments[1] == "rm":
            shop.delete(arguments[2].removeprefix("$STORECAST_BUCKET/"))
            return
        verb, source, target = arguments[1:]
        key = target.removeprefix("$STORECAST_BUCKET/")
        if verb == "cp":
            shop.storage.create(key, (tmp_path / source).read_bytes())
            return
        prefix = source.removeprefix("$STORECAST_BUCKET/").removesuffix("*")
        for name, data in snapshot(shop.storage, prefix).items():
            shop.storage.create(key + name.removeprefix(prefix), data)
        shop.delete(prefix)

    def call(section, **values):
        for line in commands(section):
            program, *arguments = [values.get(word, word) for word in shlex.split(line)]
            {"storecast": storecast, "gcloud": gcloud}[program](arguments)

    return call


def run_again(shop):
    return shop.run(LAST, now=midnight(LAST) + DAY / 2)


def damage(shop, key, how):
    if how == "gone":
        shop.delete(key)
    else:
        shop.tamper(key, lambda data: b"" if how == "empty" else data[: len(data) // 2])


each_damage = pytest.mark.parametrize("how", ["gone", "empty", "cut"])


@each_damage
def test_the_pointer(shop, follow, how):
    before = shop.pointer
    damage(shop, keys.POINTER, how)
    follow("The pointer")
    assert shop.pointer == before
    shop.check()
    run_again(shop)
    assert shop.pointer == before, "the next run knows what was published"


def test_the_pointer_after_a_rollback(shop, follow):
    release = shop.pointer.history[1].release
    CliRunner().invoke(app, ["rollback", "--bucket", shop.storage.url])
    before = shop.pointer
    assert before.current == release
    shop.delete(keys.POINTER)
    result = CliRunner().invoke(app, ["restore-pointer", release, "--bucket", shop.storage.url])
    assert result.exit_code == 0
    assert shop.pointer.model_copy(update={"time_zone": before.time_zone}) == before
    run_again(shop)
    assert shop.pointer.current == release, "publishing is held"


def test_a_pointer_that_is_good_is_not_made_again(shop):
    """It is no error if the command would make the same one: it may be given again after a kill."""
    before = shop.storage.read_versioned(keys.POINTER)
    result = CliRunner().invoke(app, ["restore-pointer", "--bucket", shop.storage.url])
    assert result.exit_code == 0
    assert "The pointer is good" in result.output
    older = ["restore-pointer", shop.pointer.history[1].release, "--bucket", shop.storage.url]
    assert "the pointer is good" in str(CliRunner().invoke(app, older).exception)
    assert shop.storage.read_versioned(keys.POINTER) == before
    CliRunner().invoke(app, ["rollback", "--bucket", shop.storage.url])
    before = shop.storage.read_versioned(keys.POINTER)
    result = CliRunner().invoke(app, ["restore-pointer", "--bucket", shop.storage.url])
    assert isinstance(result.exception, InputError)
    assert "the pointer is good" in str(result.exception)
    assert shop.storage.read_versioned(keys.POINTER) == before


def test_a_pointer_of_a_bucket_without_publications_is_not_made(shop):
    shop.delete("results/receipts/", "results/current.json")
    result = CliRunner().invoke(app, ["restore-pointer", "--bucket", shop.storage.url])
    assert "no release was published" in str(result.exception)
    unknown = ["restore-pointer", "20260101-x", "--bucket", shop.storage.url]
    assert "no such release" in str(CliRunner().invoke(app, unknown).exception)
    assert shop.storage.stat(keys.POINTER) is None


def test_a_release_that_was_not_published_does_not_become_current(shop, follow):
    before = shop.pointer
    data = shop.storage.read(keys.release(before.current))
    shop.storage.create(keys.release("20260401-20260402T000000-aaaaaa-0"), data)
    shop.run(LAST, publish=False, now=midnight(LAST) + DAY / 3)
    shop.delete(keys.POINTER)
    follow("The pointer")
    assert shop.pointer == before


@each_damage
def test_the_release_that_is_current(shop, follow, how):
    before = shop.all_rows()
    damage(shop, keys.release(shop.pointer.current), how)
    with pytest.raises(StorecastError):
        shop.release()
    follow("The release that is current")
    assert shop.all_rows() == before
    assert shop.pointer.current_entry.as_of == LAST
    assert shop.pointer.hold_through is None
    shop.check()


@each_damage
def test_a_part(shop, follow, how):
    before = shop.all_rows()
    damage(shop, shop.part_keys()[0], how)
    follow("A part")
    assert shop.all_rows() == before
    shop.check()


@pytest.mark.parametrize(
    "damaged",
    ["batch_data/_delta_log/", "batch_data/", "context/weather/", "newest commit", "a file"],
)
def test_the_histories(shop, follow, damaged):
    before = shop.all_rows()
    if damaged == "newest commit":
        newest = max(snapshot(shop.storage, "batch_data/_delta_log/"))
        shop.tamper(newest, lambda data: data[:20])
    elif damaged == "a file":
        shop.delete(f"batch_data/{shop.partition_files('s003')[0]}")
    else:
        shop.delete(damaged)
    follow("The histories")
    after = shop.all_rows()
    assert after["store_id"] == before["store_id"]
    assert after["predicted_sales"].to_numpy() == pytest.approx(
        before["predicted_sales"].to_numpy()
    )
    shop.check()


def test_raw_files(shop, follow):
    raw = snapshot(shop.storage, "raw_data/")
    before = open_histories(shop.storage).files
    published = shop.pointer
    shop.delete("raw_data/")
    run_again(shop)
    assert shop.pointer == published, "nothing has to be done for the forecast"
    for key, data in raw.items():
        shop.storage.create(key, data)
    follow("Raw files")
    assert open_histories(shop.storage).files == before


@each_damage
def test_the_models_pointer(shop, follow, how):
    damage(shop, keys.CURRENT_MODEL, how)
    follow("The models' pointer", VERSION=MODEL)
    assert shop.release().header.model_version == MODEL
    shop.check()


def test_grants(shop, follow, tmp_path):
    (tmp_path / "grants.json").write_text('{"grants": []}')
    follow("Grants of the API")
    assert shop.storage.read(keys.GRANTS) == b'{"grants": []}'


@pytest.mark.parametrize(
    ("prefix", "lines"),
    [("results/", ["storecast run"]), ("models/", ["storecast train", "storecast run"])],
)
def test_a_whole_prefix(shop, follow, prefix, lines, monkeypatch):
    (row,) = re.findall(rf"^\| `{prefix}` \| (.*?) \|", SECTIONS["A whole prefix"], re.MULTILINE)
    assert re.findall(r"`(.+?)`", row) == lines
    expected = set(shop.stores())
    shop.delete(prefix)
    monkeypatch.setitem(SECTIONS, "row", "```sh\n" + "\n".join(lines) + "\n```\n")
    follow("row")
    assert set(shop.stores()) == expected
    shop.check()


def test_packs(shop):
    before = shop.all_rows()
    shop.delete("packs/", "results/parts/", "results/releases/", "results/current.json")
    shop.run(LAST, now=midnight(LAST) + DAY / 2)
    assert shop.all_rows() == before


def test_every_object_that_a_run_needs_has_a_section(published):
    prefixes = {key.split("/")[0] for key in published}
    assert all(f"`{prefix}/`" in SECTIONS["A whole prefix"] for prefix in prefixes)


def test_a_restored_pointer_is_written_once(shop):
    """Another writer that was faster is not overwritten."""
    shop.delete(keys.POINTER)
    first = CliRunner().invoke(app, ["restore-pointer", "--bucket", shop.storage.url])
    again = CliRunner().invoke(app, ["restore-pointer", "--bucket", shop.storage.url])
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "The pointer is good" not in first.output
    assert "The pointer is good" in again.output
    assert pointer.read(shop.storage)[0].current is not None


def test_what_is_damaged_among_the_releases_is_named(shop):
    oldest = shop.pointer.history[-1].release
    damage(shop, keys.release(oldest), "cut")
    shop.delete(keys.POINTER)
    result = CliRunner().invoke(app, ["restore-pointer", "--bucket", shop.storage.url])
    assert f"left out: {keys.release(oldest)}" in result.output
    assert len(shop.pointer.history) == 2


def test_gcloud_s_parser_accepts_the_page_s_commands(parse_gcloud):
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
        for line in block.splitlines()
    ]
    assert {line.split()[0] for line in lines} == {"storecast", "gcloud", "kubectl"}
    asked = [
        shlex.split(line.replace("$STORECAST_BUCKET", "gs://bucket"))[1:]
        for line in lines
        if line.startswith("gcloud ")
    ]
    assert any(fnmatch(" ".join(arguments), "storage restore *#*") for arguments in asked)
    for arguments, answer in zip(asked, parse_gcloud(asked), strict=True):
        assert answer["code"] == 1, f"{arguments}: {answer['output']}"
