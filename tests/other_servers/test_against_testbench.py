"""Our own fake against Google's storage-testbench, in the calls that the three clients make.

The clients run on both, and each answer is compared in what a client reads of it: status, headers,
fields, generations by their order. What differs is listed by call and field, with the reason; a
difference that is not listed fails, and so does one that is listed and does not occur.
"""

import uuid

import pytest

from tests.fake_gcs import FakeGcs
from tests.fake_gcs.clients import storage_client
from tests.other_servers import scenario, servers
from tests.other_servers.recorder import Exchange, forwarded, recorder

DIFFERENCES = {
    ("DELETE", "status"): "the testbench answers 200, Cloud Storage's reference 204",
    ("GET", "content-range"): "the testbench adds it to the answer of a whole object, 200",
    ("POST", "size"): "the testbench leaves the size of an empty object out",
    ("GET", "items"): "the testbench leaves the size of an empty object out",
}
"""(method, field): why the testbench is not followed there."""
NOT_IN_THE_TESTBENCH = {
    "list-type=2": "it has no XML listing",
}
"""Calls of delta-rs that the testbench cannot answer."""
OF_XML = {
    ("PUT", "x-goog-generation"): "the testbench names no generation of what was written",
    ("PUT", "x-goog-metageneration"): "the same",
    ("PUT", "x-goog-stored-content-length"): "the same",
    ("PUT", "x-goog-hash"): "the testbench answers with the word None",
    ("DELETE", "status"): "the testbench has no XML delete, 405",
}
"""(method, field) of delta-rs' calls: why the testbench is not followed there."""


@pytest.fixture(scope="module")
def testbench(tmp_path_factory):
    with servers.testbench(tmp_path_factory.mktemp("testbench")) as url:
        yield url


@pytest.fixture
def fake():
    with FakeGcs.serve() as gcs:
        yield gcs.url


def record(url, use, folder):
    """What a client asked a server and read of its answers, and the exchanges."""
    name = f"b{uuid.uuid4().hex[:12]}"
    with storage_client(url) as client:
        client.create_bucket(name)
    with recorder(url) as (proxy, exchanges):
        use(proxy, name, folder)
        reader = scenario.Reader(proxy, name)
        read = [(reader.call(exchange), reader.answer(exchange)) for exchange in exchanges]
    return read, exchanges, name


def differences(ours, theirs):
    """(method, field), call, and both values of each field that differs."""
    for (call, our_answer), (_, their_answer) in zip(ours, theirs, strict=True):
        for field in our_answer | their_answer:
            values = our_answer.get(field), their_answer.get(field)
            if values[0] != values[1]:
                yield (call[0], field), call, values


def without_empty_sizes(items):
    return [
        {name: value for name, value in item.items() if (name, value) != ("size", "0")}
        for item in items or []
    ]


def is_listed(place, values):
    """Whether the difference is the one that its line describes, and not another one there."""
    ours, theirs = values
    described = {
        ("DELETE", "status"): lambda: values == (204, 200),
        ("GET", "content-range"): lambda: ours is None and theirs.startswith("bytes 0-"),
        ("POST", "size"): lambda: values == ("0", None),
        ("GET", "items"): lambda: without_empty_sizes(ours) == theirs,
    }
    return place in described and described[place]()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_google_storage_and_arrow_read_the_same(fake, testbench, tmp_path):
    listed = set()
    for use in (scenario.use_google_storage, scenario.use_arrow):
        ours, _, _ = record(fake, use, tmp_path)
        theirs, _, _ = record(testbench, use, tmp_path)
        assert [call for call, _ in ours] == [call for call, _ in theirs]
        assert len(ours) >= 5
        for place, call, values in differences(ours, theirs):
            assert is_listed(place, values), f"{call}: {place[1]}: {values}"
            listed.add(place)
    assert listed == set(DIFFERENCES)


def test_delta_rs_would_read_the_same(fake, testbench, tmp_path):
    """delta-rs cannot run there; the calls that it makes of our fake are repeated."""
    _, exchanges, ours = record(fake, scenario.use_delta, tmp_path)
    theirs = f"b{uuid.uuid4().hex[:12]}"
    with storage_client(testbench) as client:
        client.create_bucket(theirs)
    our_reader = scenario.Reader(fake, ours)
    their_reader = scenario.Reader(testbench, theirs)
    compared, left_out, listed = set(), set(), set()
    for exchange in exchanges:
        limit = next((part for part in NOT_IN_THE_TESTBENCH if part in exchange.path), None)
        if limit is not None:
            left_out.add(limit)
            continue
        answer = forwarded(
            Exchange(
                exchange.method,
                exchange.path.replace(ours, theirs),
                {
                    name: value.replace(ours, theirs)
                    for name, value in exchange.headers.items()
                    if name != "host"
                },
                exchange.body.replace(ours.encode(), theirs.encode()),
            ),
            testbench,
        )
        call = our_reader.call(exchange)
        # Without the generations of writes the two number differently.
        ours_read, theirs_read = (
            {
                field: "a generation" if field == "x-goog-generation" else value
                for field, value in reader.answer(answered).items()
            }
            for reader, answered in ((our_reader, exchange), (their_reader, answer))
        )
        for place, _, values in differences([(call, ours_read)], [(call, theirs_read)]):
            if is_listed(place, values):
                continue
            is_known = values[1] in {None, "None", 405} and place in OF_XML
            assert is_known, f"{call}: {place[1]}: {values}"
            listed.add(place)
        compared.add((exchange.method, exchange.status))
    assert {("PUT", 200), ("GET", 200), ("GET", 404), ("DELETE", 204)} <= compared
    assert left_out == set(NOT_IN_THE_TESTBENCH)
    assert listed == set(OF_XML)
