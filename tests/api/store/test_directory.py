"""Search and order of stores whose names are not ASCII."""

from __future__ import annotations

import unicodedata

import pytest

from api.store.items import search_items
from api.store.part_cache import PartCache
from tests.api.fixtures.bucket import AS_OF, Bucket, StoreSpec
from tests.api.fixtures.serving import serve

NAMES = ("Zebra", "Äpfel", "Apfel", "Azur", "Süd\u00adstern", "STRASSE", "ﬁliale")


@pytest.fixture(scope="module", params=["NFC", "NFD"])
def named_api(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    specs = [
        StoreSpec(str(number), description={"name": unicodedata.normalize(request.param, name)})
        for number, name in enumerate(NAMES)
    ]
    Bucket.make(folder).publish(specs)
    with serve(str(folder)) as api:
        yield api


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("search", "expected"),
    [("äpfel", ["1"]), ("ÄPF", ["1"]), ("südstern", ["4"]), ("straße", ["5"]), ("filiale", ["6"])],
)
def test_a_letter_is_found_however_it_is_written(named_api, form, search, expected):
    query = {"q": unicodedata.normalize(form, search)}
    answer = named_api.get("/v1/stores", params=query).json()
    assert [store["store_id"] for store in answer["stores"]] == expected


def test_a_letter_with_an_accent_is_sorted_beside_the_one_without(named_api):
    stores = named_api.get("/v1/stores?sort=name").json()["stores"]
    assert [NAMES[int(store["store_id"])] for store in stores] == [
        "Apfel", "Äpfel", "Azur", "ﬁliale", "STRASSE", "Süd\u00adstern", "Zebra",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_items_are_found_however_their_letters_are_written(tmp_path, form):
    items = ("Brot", "Käse", unicodedata.normalize("NFD", "Kürbis"))
    bucket = Bucket.make(tmp_path)
    bucket.publish([StoreSpec("1", items=items)], as_of=AS_OF)
    with serve(str(tmp_path)) as api:
        parts, snapshot = api.service.parts, api.service.state.snapshot
        assert isinstance(parts, PartCache)
        for search, name in (("käse", "Käse"), ("KÜRB", items[2]), ("rot", "Brot")):
            text = unicodedata.normalize(form, search)
            page, matching = search_items(parts, snapshot.store("1"), text, 0, 50)
            assert [item.item_id for item in page.items] == [name]
            assert matching == 1
