"""What a notebook shows: progress bars, and values as small cards.

Whatever comes from users or catalogues reaches the page as text, never as markup.
"""

import base64
import html
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import TqdmWarning

with warnings.catch_warnings():
    # Without ipywidgets tqdm draws its bars as text, which serves as well: no word about it.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

__all__ = ["boxes_picture", "card", "facts", "table", "tqdm"]

SIDE = 180
"""Pixels of the longer side of a picture."""
GAP = 5
"""Pixels that a box must have for a line to be seen between it and the next."""

_STYLE = (
    "<style>"
    ".rsg{font:13px/1.5 system-ui,sans-serif;max-width:1000px}"
    ".rsg header{padding:2px 0 4px;border-bottom:1px solid #8886}"
    ".rsg header b{margin-right:.7em}.rsg header span{opacity:.7;overflow-wrap:anywhere}"
    ".rsg section{display:flex;flex-wrap:wrap;gap:8px 24px;padding:6px 0;align-items:flex-start}"
    ".rsg table{border:0;border-collapse:collapse;margin:0;font-size:inherit}"
    ".rsg th,.rsg td{border:0;padding:1px 14px 1px 0;text-align:left;vertical-align:top;background:none}"
    ".rsg th{font-weight:500;opacity:.7;white-space:nowrap}"
    ".rsg td{overflow-wrap:anywhere;max-width:34em}"
    ".rsg td.n,.rsg th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".rsg figure{margin:0}.rsg img{display:block;margin:0;image-rendering:pixelated}"
    ".rsg .p{display:flex;flex-wrap:wrap;gap:8px 16px}.rsg figcaption{max-width:180px;opacity:.85}"
    ".rsg i{display:inline-block;width:.75em;height:.75em;margin-right:.35em}"
    ".rsg figcaption span{margin-right:1em;white-space:nowrap}"
    "</style>"
)  # fmt: skip


def card(kind: str, name: str, words: str, pictures: Sequence[str] = ()) -> str:
    """A value as HTML.

    Args:
        kind: What it is.
        name: Which one.
        words: What there is to say, as HTML made by the other functions here.
        pictures: What there is to see, as HTML too.

    Examples:
        >>> "&lt;b&gt;" in card("Job", "out/<b>", facts({"windows": "4"}))
        True
    """
    head = f"<header><b>{html.escape(kind)}</b><span>{html.escape(name)}</span></header>"
    seen = f'<div class="p">{"".join(pictures)}</div>' if pictures else ""
    return f'{_STYLE}<div class="rsg">{head}<section>{words}{seen}</section></div>'


def facts(rows: Mapping[str, object]) -> str:
    """Names and values, a line each."""
    lines = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table>{''.join(lines)}</table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers are set to the right."""
    rows = list(rows)
    right = [bool(rows) and isinstance(rows[0][at], int) for at in range(len(columns))]

    def line(tag: str, cells: Sequence[object]) -> str:
        return "".join(
            f"<{tag} class={'n' if number else 't'}>{html.escape(_notebook_cell_text(cell))}</{tag}>"
            for cell, number in zip(cells, right, strict=True)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><tr>{line('th', columns)}</tr>{body}</table>"


def boxes_picture(
    boxes: NDArray[np.float64],
    kinds: NDArray[np.integer],
    names: Mapping[str, str],
    *,
    title: str,
) -> str:
    """Boxes as a small picture with its legend.

    Args:
        boxes: Left, top, right, bottom of each (N x 4), y down.
        kinds: Which of the names each has; where many share a pixel the last name is seen.
        names: What they are, with their colours as "#rrggbb".
        title: What is seen.
    """
    from PIL import Image  # noqa: PLC0415 - bars have no pictures

    if not len(boxes):
        return f"<figure><figcaption>{html.escape(title)}: none</figcaption></figure>"
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    scale = SIDE / max(*(high - low), 1e-12)
    width, height = np.maximum(1, np.ceil((high - low) * scale)).astype(int).tolist()
    edges = np.clip(np.rint((boxes - np.tile(low, 2)) * scale), 0, [width, height] * 2).astype(int)
    pixels = np.zeros((height, width, 4), np.uint8)
    paints = [[*(int(colour[at : at + 2], 16) for at in (1, 3, 5)), 255] for colour in names.values()]
    for index in np.argsort(kinds, kind="stable"):
        left, top, right, bottom = edges[index]
        right -= right - left >= GAP
        bottom -= bottom - top >= GAP
        pixels[top : max(bottom, top + 1), left : max(right, left + 1)] = paints[kinds[index]]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    seen = np.bincount(kinds, minlength=len(names))
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(name)} {count:,}</span>'
        for (name, colour), count in zip(names.items(), seen.tolist(), strict=True)
        if count
    )
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" alt="{html.escape(title)}">'
        f"<figcaption>{html.escape(title)}<br>{legend}</figcaption></figure>"
    )


def _notebook_cell_text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
