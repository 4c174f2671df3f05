"""Draw why an answer was given: photo and answering picture side by side, with the points that agree."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from streetrecall.bundle.answer import Answer, Bundle, Seen
from streetrecall.files import whole
from streetrecall.pictures.photo import Bytes

HEIGHT, GAP, MARGIN = 480, 24, 44
GROUND, TEXT = "#ffffff", "#1a1a1a"
# Colours that people with any kind of colour blindness tell apart (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SHOWN = 60  # lines that are drawn at most


def draw(bundle: Bundle, seen: Sequence[Seen], answer: Answer, path: Path) -> None:
    """Write the drawing for the best neighbour of ``answer`` to ``path``, PNG; ``seen`` are the photos asked."""
    figure(bundle, [picture for one in seen for picture in one.pictures], answer, path)


def figure(bundle: Bundle, pictures: Sequence[Bytes], answer: Answer, path: Path) -> None:
    best = answer.neighbours[0]
    found = [bundle.matches(picture, best.row) for picture in pictures] if bundle.compares else []
    chosen = int(np.argmax([len(a) for a, _ in found])) if found else 0
    a, b = found[chosen] if found else (np.zeros((0, 2)), np.zeros((0, 2)))
    left, right = _fit(Image.fromarray(pictures[chosen])), _answering(bundle, best.row)
    canvas = Image.new("RGB", (left.width + GAP + right.width, HEIGHT + 2 * MARGIN), GROUND)
    canvas.paste(left, (0, MARGIN))
    canvas.paste(right, (left.width + GAP, MARGIN))
    drawing = ImageDraw.Draw(canvas)
    for number in np.linspace(0, len(a) - 1, min(SHOWN, len(a))).astype(int).tolist():
        colour = COLOURS[number % len(COLOURS)]
        x, y = a[number] * (left.width, left.height) + (0, MARGIN)
        u, v = b[number] * (right.width, right.height) + (left.width + GAP, MARGIN)
        drawing.line((x, y, u, v), fill=colour, width=1)
        for at in ((x, y), (u, v)):
            drawing.ellipse((at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4), outline=colour, width=2)
    many = f", {len(a)} points agree" if bundle.compares else ""
    drawing.text((8, 14), f"photo{many}", fill=TEXT, font_size=16)
    drawing.text((left.width + GAP, 14), f"place {best.place}, {best.month or 'undated'}", fill=TEXT, font_size=16)
    credit = " ".join(part for part in (best.attribution, best.licence) if part)
    drawing.text((left.width + GAP, HEIGHT + MARGIN + 14), credit, fill=TEXT, font_size=14)
    with whole(path) as partial:
        canvas.save(partial, "PNG")


def _fit(picture: Image.Image) -> Image.Image:
    return picture.resize((max(round(picture.width * HEIGHT / picture.height), 1), HEIGHT), Image.Resampling.LANCZOS)


def _answering(bundle: Bundle, row: int) -> Image.Image:
    """The answering picture; where its licence lets no picture be passed on, an empty frame for its points."""
    data = bundle.gallery.thumbnail(row)
    if data is not None:
        with Image.open(io.BytesIO(data)) as picture:
            return _fit(picture.convert("RGB"))
    width, height = (int(bundle.gallery.columns[name][row]) for name in ("width", "height"))
    empty = _fit(Image.new("RGB", (width, height), "#eeeeee"))
    ImageDraw.Draw(empty).text((12, 12), "its licence does not let the picture be shown", fill=TEXT, font_size=14)
    return empty
