"""Pictures with text in them: photographs of pages, screenshots, scans as TIFF."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from interlock.core.errors import InvalidInput, TooLarge
from interlock.knowledge.loaders._building import TextBuilder
from interlock.knowledge.loaders._ocr import can_recognise, missing_extra, recognise
from interlock.knowledge.loaders._pdf_layout import Line, add_lines
from interlock.knowledge.types import LoadedDocument, PageNote, PageSize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["ImageLoader", "plugin"]

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
_MAX_PIXELS = 60_000_000
_MAX_FRAMES = 200
_LONGEST = 3_000
"""Pixels of the longer side that recognition is shown."""
_SMALLEST = 24
"""Pixels of a side; smaller pictures are icons."""


class ImageLoader:
    """Every frame of a TIFF is a page, of others the first frame is read; sizes and boxes are in pixels.

    Without the extra `ocr` it claims no suffix: pictures beside documents are then left out, as other files are.
    """

    version = "image/1"
    isolated = True

    @property
    def suffixes(self) -> frozenset[str]:
        """Those of pictures, while they can be read."""
        names = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif"}
        return frozenset(names if can_recognise() else ())

    def load(self, data: bytes, name: str) -> LoadedDocument:
        """See :class:`~interlock.knowledge.ports.Loader`."""
        if not can_recognise():
            raise missing_extra(f"the picture {name!r}")
        lines: list[Line] = []
        sizes: list[PageSize] = []
        notes: list[PageNote] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about odd metadata, and sizes that are checked below
                kind = _read(data, name, lines, sizes, notes)
        except InvalidInput:
            raise
        except _bomb() as error:
            raise _too_large(name) from error
        except Exception as error:
            # Pillow raises OSError, ValueError, SyntaxError and more on damaged pictures.
            raise InvalidInput(f"the picture {name!r} is damaged", param=name, code="damaged_document") from error
        builder = TextBuilder(name, kind)
        add_lines(builder, lines)
        if builder.is_empty:
            raise InvalidInput(f"the picture {name!r} has no text", param=name, code="no_text_in_picture")
        stem = name.rpartition("/")[2].rpartition(".")[0]
        return builder.build(title=stem, pages=len(sizes), page_sizes=sizes, notes=notes)


def _bomb() -> type[Exception]:
    from PIL.Image import DecompressionBombError

    return DecompressionBombError


def _too_large(name: str) -> TooLarge:
    return TooLarge(f"the picture {name!r} has more than {_MAX_PIXELS} pixels", param=name, hint="make it smaller")


def _read(data: bytes, name: str, lines: list[Line], sizes: list[PageSize], notes: list[PageNote]) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
        frames = min(getattr(picture, "n_frames", 1), _MAX_FRAMES) if picture.format == "TIFF" else 1
        for number in range(frames):
            picture.seek(number)
            width, height = picture.size
            if width * height > _MAX_PIXELS:
                raise _too_large(name)
            image, scale = _pixels(picture)
            sizes.append(PageSize(round(image.shape[1] / scale), round(image.shape[0] / scale)))
            if min(width, height) < _SMALLEST:
                continue
            found = recognise(image, number + 1, scale=scale)
            lines.extend(found.lines)
            notes.append(PageNote(number + 1, "text_recognised" if found.lines else "no_text", found.confidence))
        return str(Image.MIME.get(picture.format or "", "image/png"))


def _pixels(picture: Image) -> tuple[NDArray[np.uint8], float]:
    """``(h, w, 3)`` uint8, blue green red, on white where it is transparent, upright; and pixels of it per pixel."""
    import numpy as np
    from PIL import Image, ImageOps

    scale = min(1.0, _LONGEST / max(picture.size))
    shown = picture.convert("RGBA") if "A" in picture.getbands() or "transparency" in picture.info else picture
    if scale < 1.0:
        shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
    if shown.mode == "RGBA":
        paper = Image.new("RGBA", shown.size, "white")
        shown = Image.alpha_composite(paper, shown)
    upright = ImageOps.exif_transpose(shown) or shown
    return np.ascontiguousarray(np.asarray(upright.convert("RGB"), dtype=np.uint8)[:, :, ::-1]), scale


plugin = ImageLoader()
