"""The stores of a release by name and region: search and sort."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Sort = Literal["store_id", "name", "region", "predicted_sales", "data_through"]
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
"""Soft hyphens and what else a name may hold that nobody sees, and nobody types."""


def searchable(text: str) -> str:
    """The text without what does not count in a search.

    That is case, and which of several equal sequences of characters a letter is: an umlaut may be
    one character or two (Unicode's form NFKC).
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).casefold()


def _sortable(text: str) -> str:
    """Letters with accents count as those without, unless the texts are the same otherwise."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", searchable(text))
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return f"{plain}\0{decomposed}"


@dataclass(frozen=True)
class StoreDirectory:
    """`texts` has what a search looks at; all have a value for each row of the release."""

    names: Sequence[str]
    regions: Sequence[str]
    texts: pa.Array
    data_through: Sequence[date | None]
    target_dates: pa.Array
    predicted: pa.Array

    @classmethod
    def of(
        cls, stores: pa.Table, describe: Callable[[str | None], dict[str, Any]]
    ) -> StoreDirectory:
        """`describe` reads a description. 100,000 stores take about half a second."""
        described = [describe(text) for text in stores["description"].to_pylist()]
        names = [str(description.get("name") or "") for description in described]
        regions = [str(description.get("region") or "") for description in described]
        ids = stores["store_id"].to_pylist()
        texts = [
            searchable(f"{store_id}\n{name}\n{region}")
            for store_id, name, region in zip(ids, names, regions, strict=True)
        ]
        return cls(
            names,
            regions,
            pa.array(texts, pa.string()),
            stores["data_through"].to_pylist(),
            stores["target_dates"].combine_chunks(),
            stores["predicted"].combine_chunks(),
        )

    def matching(self, rows: Sequence[int], search: str) -> Sequence[int]:
        """Those of `rows` whose id, name and region together hold every word of `search`."""
        terms = searchable(search).split()
        if not terms:
            return rows
        matches = pc.match_substring(self.texts, terms[0])
        for term in terms[1:]:
            matches = pc.and_(matches, pc.match_substring(self.texts, term))
        flags: list[bool] = matches.to_pylist()
        return [row for row in rows if flags[row]]

    def sorted(
        self, rows: Sequence[int], sort: Sort, *, descending: bool, first_day: date
    ) -> Sequence[int]:
        """`rows` by a field, and by store id where it is the same.

        `predicted_sales` is the total of the days from `first_day` on. Rows without a value are
        the last ones.
        """
        if sort == "store_id":
            return list(reversed(rows)) if descending else rows
        values = self._values(sort, first_day)
        known = [row for row in rows if values[row] not in (None, "")]
        unknown = [row for row in rows if values[row] in (None, "")]
        return sorted(known, key=values.__getitem__, reverse=descending) + unknown

    def _values(self, sort: Sort, first_day: date) -> Sequence[Any]:
        if sort == "name":
            return list(map(_sortable, self.names))
        if sort == "region":
            return list(map(_sortable, self.regions))
        if sort == "data_through":
            return self.data_through
        coming = pc.greater_equal(self.target_dates.flatten(), pa.scalar(first_day, pa.date32()))
        rows = pc.list_parent_indices(self.target_dates).filter(coming)
        sums = pa.table({"row": rows, "sales": self.predicted.flatten().filter(coming)})
        totals: list[float | None] = [None] * len(self.target_dates)
        for total in sums.group_by("row").aggregate([("sales", "sum")]).to_pylist():
            totals[total["row"]] = total["sales_sum"]
        return totals
