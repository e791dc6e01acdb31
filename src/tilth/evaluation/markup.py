"""Parts of an HTML page and the numbers in them; every text is escaped here, and only here."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

Cell = str | tuple[str, str]  # text; or text and, below it, small text


def text(plain: str) -> str:
    """Return a text so that it is harmless in HTML, also in an attribute."""
    return escape(plain)


def paragraph(plain: str, look: str) -> str:
    """Return a paragraph of a class of the style sheet."""
    return f'<p class="{look}">{text(plain)}</p>'


def figure(svg: str, caption: str) -> str:
    """Return a chart, which is already SVG, with its caption."""
    return f"<figure>{svg}<figcaption>{text(caption)}</figcaption></figure>"


def details(summary: str, html: str) -> str:
    """Return HTML that a reader opens."""
    return f"<details><summary>{text(summary)}</summary>{html}</details>"


def facts(named: Mapping[str, str]) -> str:
    """Return names with their values, or nothing where there are none."""
    if not named:
        return ""
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in named.items())
    return f"<dl>{rows}</dl>"


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    texts: int = 1,
    best: int | None = None,
) -> str:
    """Return a table that scrolls sideways where it is too wide.

    Args:
        caption: what the table shows.
        head: the name of each column.
        rows: a cell for each column; the first names its row.
        texts: how many columns, from the first, are text; the others are numbers.
        best: the row that stands out.

    Returns:
        The HTML.
    """
    looks = ["prose"] * texts + ["number"] * (len(head) - texts)
    heads = "".join(
        f'<th scope="col" class="{look}">{text(column)}</th>'
        for column, look in zip(head, looks, strict=True)
    )
    body = "".join(_row(row, looks, is_best=place == best) for place, row in enumerate(rows))
    name = text(caption)
    return (
        f'<p class="caption">{name}</p><div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[Cell], looks: Sequence[str], *, is_best: bool) -> str:
    first, *others = (_cell(cell) for cell in row)
    cells = "".join(f'<td class="{look}">{cell}</td>' for cell, look in zip(others, looks[1:], strict=True))
    best = ' class="best"' if is_best else ""
    return f'<tr{best}><th scope="row" class="{looks[0]}">{first}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return text(cell)
    main, below = cell
    return f"{text(main)}<small>{text(below)}</small>"


def number(value: float) -> str:
    """Return a number with three decimals, never -0, and a dash for one that is not a number."""
    return "–" if math.isnan(value) else f"{value:z.3f}".replace("-", "−")


def signed(value: float) -> str:
    """Return a number with its sign; what rounds to 0 has none."""
    shown = number(value)
    return f"+{shown}" if value > 0 and shown != number(0) else shown


def between(low: float, high: float, form: Callable[[float], str]) -> str:
    """Return an interval, its ends in a form such as `number` or `signed`."""
    return f"{form(low)} to {form(high)}"


def p_value(p: float) -> str:
    """Return a p with three decimals; none is ever shown as 0."""
    return "< 0.001" if p < 0.001 else number(p)


def percent(share: float | None) -> str:
    """Return a share, 0 to 1, in percent with one decimal, and a dash for a share of nothing."""
    return "–" if share is None else f"{100 * share:.1f}%"
