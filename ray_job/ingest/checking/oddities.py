"""What looks odd in rows of sales that can be read. Each check gives at most one sentence."""

# The SQL has only our own names and numbers.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator

from ray_job.ingest.reading.workspace import Workspace

_WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_LEAST_WEEKS = 4
_ENDED_DAYS = 28
_FACTOR = 30
_RARE = 0.34
_STORES = "(SELECT store_id, date, sum(sales) AS sales FROM checked_sales GROUP BY ALL)"


def oddities(workspace: Workspace, rows: str) -> list[str]:
    """Sentences about the rows of SQL `rows` (file, store_id, item_id, date, sales)."""
    workspace.run(f"CREATE OR REPLACE TEMP TABLE checked_sales AS {rows}")
    checks = (_weekdays, _zeros_ahead, _jump, _rare_items, _ended_items)
    return [sentence for check in checks for sentence in check(workspace)]


def _weekdays(workspace: Workspace) -> Iterator[str]:
    """Weekly rows, and weekdays on which nobody sells."""
    rows = workspace.run(
        "SELECT isodow(date) - 1 AS weekday, count(DISTINCT date) AS days,"
        f" count(*) FILTER (sales <> 0) AS sold FROM {_STORES} GROUP BY weekday ORDER BY weekday"
    )
    sold = {weekday: days for weekday, days, count in rows if count}
    if rows and not sold:
        yield "all sales are 0"
    if sum(sold.values()) < 2 * _LEAST_WEEKS:
        return
    if len(sold) == 1:
        yield (
            f"all sales lie on {_WEEKDAYS[next(iter(sold))]}: these are weekly sums, and Storecast"
            " forecasts days; deliver sales by day"
        )
        return
    closed = [_WEEKDAYS[weekday] for weekday in range(len(_WEEKDAYS)) if weekday not in sold]
    if closed:
        yield f"no store sells on {' and '.join(closed)}: these days are forecast as closed"
    [(stores, example)] = workspace.run(
        "SELECT count(DISTINCT store_id), min({'store': store_id, 'weekday': weekday}) FROM ("
        " SELECT store_id, min(isodow(date) - 1) AS weekday, count(*) AS sold,"
        f" count(DISTINCT isodow(date)) AS weekdays FROM {_STORES} WHERE sales <> 0"
        f" GROUP BY store_id) WHERE weekdays = 1 AND sold > {_LEAST_WEEKS}"
    )
    if stores:
        yield (
            f"{stores:,} stores sell on one weekday only (store {example['store']}:"
            f" {_WEEKDAYS[example['weekday']]}): these may be weekly sums"
        )


def _zeros_ahead(workspace: Workspace) -> Iterator[str]:
    """The newest days on which every store has sales of 0, although such weekdays have sales."""
    days = [
        day
        for (day,) in workspace.run(
            f"WITH days AS (SELECT date, count(*) AS stores, max(abs(sales)) AS most FROM {_STORES}"
            " GROUP BY date), weekdays AS (SELECT isodow(date) AS weekday, max(most) AS most"
            " FROM days GROUP BY weekday),"
            " last AS (SELECT max(date) AS date FROM days WHERE most > 0)"
            " SELECT days.date FROM days JOIN weekdays ON weekday = isodow(days.date)"
            " WHERE days.most = 0 AND stores >= 3 AND weekdays.most > 0"
            " AND days.date > (SELECT date FROM last) ORDER BY 1"
        )
    ]
    if days:
        until = f" to {days[-1]}" if len(days) > 1 else ""
        yield (
            f"every store has sales of 0 on {days[0]}{until}: zeros that are filled in ahead are"
            " no sales, and such days count as not delivered"
        )


def _jump(workspace: Workspace) -> Iterator[str]:
    """Days on which a store sells many times what it sells on its other good days."""
    rows = workspace.run(
        "SELECT store_id, arg_max(date, sales), max(sales), quantile_cont(sales, 0.9) AS usual"
        f" FROM {_STORES} WHERE sales > 0 GROUP BY store_id"
        f" HAVING count(*) >= 10 AND max(sales) > {_FACTOR} * usual"
        " ORDER BY max(sales) / usual DESC"
    )
    if rows:
        store, day, most, usual = rows[0]
        others = f" (and {len(rows) - 1:,} other stores)" if len(rows) > 1 else ""
        yield (
            f"store {store} has sales of {most:,.10g} on {day}, {most / usual:,.0f} times its good"
            f" days{others}: check the unit"
        )


def _rare_items(workspace: Workspace) -> Iterator[str]:
    [(items, rare)] = workspace.run(
        f"SELECT count(*), count(*) FILTER (sold < {_RARE} * days AND days >= 14) FROM ("
        " SELECT count(*) AS days, count(*) FILTER (sales <> 0) AS sold FROM checked_sales"
        " WHERE item_id <> '' GROUP BY store_id, item_id)"
    )
    if rare:
        yield f"{rare:,} of {items:,} items sell on fewer than a third of their days"


def _ended_items(workspace: Workspace) -> Iterator[str]:
    [(ended, example)] = workspace.run(
        "SELECT count(*), min({'store': store_id, 'item': item_id, 'last': last}) FROM ("
        " SELECT store_id, item_id, max(date) FILTER (sales <> 0) AS last FROM checked_sales"
        " WHERE item_id <> '' GROUP BY ALL) JOIN (SELECT store_id, max(date) AS newest"
        " FROM checked_sales WHERE sales <> 0 GROUP BY ALL) USING (store_id)"
        f" WHERE last < newest - {_ENDED_DAYS}"
    )
    if ended:
        yield (
            f"{ended:,} items have not been sold for four weeks (store {example['store']}, item"
            f" {example['item']}: last on {example['last']}): they may have ended"
        )
