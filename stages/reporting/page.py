"""A self-contained page: one file without scripts or requests, for desktop and phone, light and dark, pointer and keyboard."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from stages.reporting.charts import MARKERS

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1c2126; --soft: #5b646d; --rule: #dfe3e6; --panel: #f4f5f4; --link: #0b57a4;
  --c0: #1f6fc4; --c1: #c6421f; --c2: #5f6b75; --c3: #7b4bb3; --c4: #0d7f5f; --c5: #a0640a; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e7eaec; --soft: #a3adb5; --rule: #343a40; --panel: #1e2226; --link: #8cc2ff;
  --c0: #6bb0ff; --c1: #ff8f6b; --c2: #b3bdc6; --c3: #c9a2ff; --c4: #58d3ac; --c5: #f0b45c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 0 0 .3rem; } p { max-width: 44rem; margin: .4rem 0; } .lead { font-size: 1.1rem; } .soft { color: var(--soft); font-size: .9rem; }
a { color: var(--link); } a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; padding: 0; margin: .8rem 0 0; } nav a { display: inline-block; padding: .35rem 0; }
.skip { position: absolute; left: -999px; } .skip:focus { position: static; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem; margin: .8rem 0; max-width: 68rem; }
figure { margin: 0; padding: .7rem; background: var(--panel); border-radius: .5rem; max-width: 34rem; } svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--soft); } svg text.row, svg .cell + text { fill: var(--ink); }
svg text.name { fill: var(--ink); } svg text.row { paint-order: stroke; stroke: var(--panel); stroke-width: 4px; }
.grid { stroke: var(--rule); } .zero { stroke: var(--soft); stroke-dasharray: 3 3; } .trail { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.dot { fill: currentColor; stroke: var(--panel); stroke-width: .8; } .band, .bar { fill: currentColor; stroke: none; } .band { opacity: .13; } .bar { opacity: .45; }
.cross, .whisker { stroke: currentColor; stroke-width: 1.4; } .cross { opacity: .45; } .whisker { stroke-width: 2.2; } .cell { fill: var(--c0); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; margin: .6rem 0; }
.legend svg { display: inline-block; width: 1.1rem; vertical-align: -.15rem; }
.scroll { overflow-x: auto; max-width: 100%; } table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; margin: .4rem 0; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; } th { color: var(--soft); font-weight: 600; }
td + td { white-space: nowrap; } summary { cursor: pointer; padding: .45rem 0; color: var(--link); } details { margin: .2rem 0; }
@media print { nav, .skip { display: none; } figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    body: str
    "HTML"

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return "-".join("".join(letter if letter.isalnum() else " " for letter in self.title.lower()).split())


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{escape(words)}</p>' if kind else f"<p>{escape(words)}</p>"


def figure(title: str, svg: str) -> str:
    """A drawing under its title."""
    return f"<figure><h3>{escape(title)}</h3>{svg}</figure>"


def panels(figures: Iterable[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="panels">{"".join(figures)}</div>'


def legend(names: Iterable[tuple[str, int]]) -> str:
    """Which colour and marker stands for what."""
    items = (
        f'<li class="c{look}"><svg viewBox="-8 -6 16 12" aria-hidden="true"><path d="{MARKERS[look % len(MARKERS)]}" class="dot"/></svg> {escape(name)}</li>'
        for name, look in names
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, opened: bool = False) -> str:
    """A table to unfold; it scrolls by itself where it is too wide."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    inner = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{inner}</details>"


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page. The policy in its head forbids it to load anything."""
    links = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in sections)
    parts = "".join(f'<section aria-labelledby="{section.anchor}"><h2 id="{section.anchor}">{escape(section.title)}</h2>{section.body}</section>' for section in sections)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><a class="skip" href="#content">Skip to the content</a>
<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p><nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main id="content">{parts}</main>
<footer><p class="soft">Made by the stage report of Plumbline. Adapters built with it lean on purpose: say so wherever you share one.</p></footer></body>
</html>
"""
