"""Guesses of what the columns of a file mean. They are used in messages, never in silence."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ray_job.ingest.reading.shapes import Column

_FEW = 12
_LONGEST = 40
_HEADERS: Mapping[str, str] = {
    "store_id": (
        "storeid store shop shopid storenbr storenr storeno storenumber storecode branch branchid"
        " outlet outletid location locationid site siteid filiale filialid filialnr filialnummer"
        " markt marktid marktnr magasin tienda butik airstoreid hpgstoreid"
    ),
    "date": (
        "day datum tag dt ds salesdate saledate businessdate businessday orderdate"
        " transactiondate timestamp datetime time visitdate calendardate fecha tarih dato"
    ),
    "sales": (
        "sale qty quantity units unitsales unitssold sold amount revenue turnover umsatz menge"
        " absatz value y demand netsales grosssales salesamount visitors ventes ventas total"
    ),
    "item_id": (
        "item itemid itemnbr itemnr sku skuid product productid productcode productnbr family"
        " category article articleid artikel artikelid artikelnr ean gtin dept department material"
        " warengruppe"
    ),
    "open": "isopen opened geoeffnet offen storeopen",
    "promo": "onpromotion promotion ispromo promoted aktion promoflag",
    "in_stock": "instock stock onhand onhandqty stockonhand qtyonhand quantityonhand inventory"
    " inventorylevel stocklevel availability available bestand lagerbestand verfuegbar",
    "region": "state bundesland area province county land stateid regionid district gebiet",
    "holiday": "holidayname feiertag description stateholiday event name",
    "closed_for_good": "closed permanentlyclosed closedforever geschlossen isclosed",
}
"""Headers, without capitals and marks, that often have the meaning of our column."""


def guess_columns(
    names: Iterable[str], headers: Sequence[str], mapped: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The header in a file that probably is each of our columns `names`.

    Headers that `mapped` uses already, or that have our own name, are left alone.
    """
    free = [header for header in headers if header not in (mapped or {}).values()]
    guesses: dict[str, str] = {}
    for name in names:
        if name in headers and name not in (mapped or {}):
            continue
        for known in (_plain(name), *_HEADERS.get(name, "").split()):
            fitting = [
                header
                for header in free
                if _plain(header) == known and header not in guesses.values()
            ]
            if len(fitting) == 1:
                guesses[name] = fitting[0]
                break
    return guesses


def columns_line(guesses: Mapping[str, str]) -> str:
    """The line of settings that maps our columns to headers."""
    pairs = ", ".join(f"{name} = {toml_text(header)}" for name, header in guesses.items())
    return f"columns = {{ {pairs} }}"


def toml_text(text: str) -> str:
    """A text in TOML, with escapes for what a basic string may not hold."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def header_hint(
    kind: str, required: Collection[str], columns: Sequence[Column], headers: Mapping[str, str]
) -> str:
    """What a file has instead of a missing column, and the settings that would map it."""
    names = [column.header for column in columns]
    known = {column.name for column in columns}
    shown = ", ".join(name[:_LONGEST] for name in names[:_FEW]) + (
        ", …" if len(names) > _FEW else ""
    )
    used = {name: header for name, header in headers.items() if header in names}
    missing = [name for name in required if name not in known]
    optional = [name for name in ("item_id", "sales") if name not in known and kind == "sales"]
    guesses = guess_columns([*missing, *(n for n in optional if n not in missing)], names, used)
    file_has = f"the file has {shown}: "
    if not any(name in guesses for name in missing):
        return (
            f"{file_has}add it, or give its header under columns of [{kind}] in the settings"
            f" ({columns_line({missing[0] if missing else 'sales': 'its header'})})"
        )
    line = columns_line(used | guesses)
    return (
        f"{file_has}add it, or put {line} under [{kind}] in the settings if that is what they mean"
    )


def _plain(header: str) -> str:
    folded = header.casefold().replace("ö", "oe").replace("ä", "ae").replace("ü", "ue")
    return re.sub("[^a-z0-9]", "", folded)
