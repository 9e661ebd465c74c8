"""The page around a report's plots and tables: plain HTML and a style sheet of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { --ink:#1d2733; --soft:#5d6b7a; --rule:#e3e8ee; --ground:#f6f8fa; --forecast:#1f6feb;
  --band:#cfe1fd; --shade:#eceff3; --naive:#d97a1e; --actual:#1d2733; --limit:#9aa7b5; }
* { box-sizing:border-box; }
body { margin:0 auto; padding:28px 24px 48px; max-width:1120px; color:var(--ink); background:#fff;
  font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
h1 { font-size:26px; margin:0 0 4px; }
h2 { font-size:18px; margin:34px 0 10px; padding-top:12px; border-top:1px solid var(--rule); }
p { margin:6px 0; max-width:76ch; }
p.soft, .note { color:var(--soft); }
.tiles { display:flex; flex-wrap:wrap; gap:12px; margin:18px 0 6px; padding:0; }
.tile { flex:1 1 150px; background:var(--ground); border:1px solid var(--rule); border-radius:8px;
  padding:10px 14px; }
.tile b { display:block; font-size:24px; font-weight:650; font-variant-numeric:tabular-nums; }
.tile span { color:var(--soft); font-size:13px; }
.pair { display:grid; gap:20px 28px; align-items:start;
  grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr)); }
figure { margin:0; break-inside:avoid; }
figcaption { font-weight:600; margin:0 0 4px; font-size:14px; }
.key { font-weight:400; color:var(--soft); margin-left:12px; font-size:13px; white-space:nowrap; }
.key i { display:inline-block; width:14px; height:3px; margin:0 5px 3px 0; }
.key i.forecast { background:var(--forecast); } .key i.naive { background:var(--naive); }
.key i.actual { background:var(--actual); }
.key i.band { height:9px; margin-bottom:0; background:var(--band); }
.key i.shade { height:11px; margin-bottom:-1px; background:var(--shade); }
.key i.limit { height:0; background:none; border-top:2px dashed var(--limit); }
svg { width:100%; height:auto; display:block; }
svg text { font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif; fill:var(--soft); }
svg text.name { fill:var(--ink); }
.grid { stroke:var(--rule); stroke-width:1; } .limit { stroke:var(--limit); stroke-width:1.2;
  stroke-dasharray:4 3; fill:none; }
.line { fill:none; stroke-width:2; stroke-linejoin:round; }
.line.forecast { stroke:var(--forecast); }
.line.naive { stroke:var(--naive); stroke-width:1.5; } .line.actual { stroke:var(--actual);
  stroke-width:1.5; }
.dot.forecast { fill:var(--forecast); } .dot.naive { fill:var(--naive); }
.dot.actual { fill:var(--actual); }
.bar.forecast, .cell { fill:var(--forecast); } .bar.naive { fill:var(--naive); }
.bar.actual { fill:var(--actual); } .band { fill:var(--band); } .shade { fill:var(--shade); }
.ground { fill:var(--ground); }
table { border-collapse:collapse; font-size:14px; font-variant-numeric:tabular-nums; width:100%;
  break-inside:avoid; }
caption { text-align:left; font-weight:600; padding-bottom:4px; }
th, td { padding:3px 10px 3px 0; border-bottom:1px solid var(--rule); text-align:right;
  font-weight:400; vertical-align:top; }
th { color:var(--soft); } th, td { white-space:nowrap; }
th:first-child, td:first-child { text-align:left; white-space:normal; }
th:last-child, td:last-child { padding-right:0; }
.wide { overflow-x:auto; }
tr.best td { font-weight:650; }
@page { margin:14mm; }
@media (max-width:560px) { body { padding:18px 14px 32px; } h1 { font-size:21px; }
  .tile { flex-basis:40%; } table { font-size:13px; } }
@media print { body { max-width:none; padding:0; font-size:11px; } table { font-size:10.5px; }
  h1 { font-size:21px; } h2 { font-size:15px; margin:16px 0 6px; padding-top:8px; }
  figcaption { font-size:11.5px; } .key { font-size:11px; margin-left:8px; }
  td, th { padding-top:2px; padding-bottom:2px; } .tile span { font-size:11px; }
  h2, h2 + p { break-after:avoid; } .tile { flex-basis:90px; } .tile b { font-size:17px; }
  .pair { grid-template-columns:1fr 1fr; gap:12px 18px; } .tile { padding:6px 8px; }
  * { print-color-adjust:exact; -webkit-print-color-adjust:exact; } }
"""


def page(name: str, body: Iterable[str]) -> str:
    """A whole document that asks nothing of any host."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def title(text: str) -> str:
    return f"<h1>{escape(text)}</h1>"


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def tiles(told: Iterable[tuple[str, str]]) -> str:
    """Figures with what they are."""
    each = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for value, name in told
    )
    return f'<div class="tiles">{each}</div>'


def pair(*parts: str) -> str:
    """Side by side where there is room."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], best: int | None = None
) -> str:
    """The first column is text; `best` is the row to stand out."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = "".join(
        f"<tr{' class=best' if place == best else ''}>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for place, row in enumerate(rows)
    )
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    whole = f"<table>{named}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="wide">{whole}</div>'


def share(value: float | None, *, signed: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    told = f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"
    return told.replace("-", "−")


def decimal(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"
