"""How fast files are read, in the parser process and with its limits: ``python -m benchmarks.parsing [--scans]``.

The files are made here (reportlab, openpyxl, Pillow of the test requirements), so the figures are those of easy files.
"""

from __future__ import annotations

import io
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from interlock.knowledge.parsing import Parser

SENTENCE = "Invoices are kept for ten years from the end of the year in which they were written. "


def plain_pdf(pages: int) -> bytes:
    """Pages of fifty lines."""
    from reportlab.pdfgen import canvas

    stream = io.BytesIO()
    sheet = canvas.Canvas(stream, invariant=1)
    for _ in range(pages):
        for line in range(50):
            sheet.drawString(60, 790 - 14 * line, SENTENCE[:70])
        sheet.showPage()
    sheet.save()
    return stream.getvalue()


def table_pdf(rows: int) -> bytes:
    """A ruled table of three columns over as many pages as it needs."""
    from reportlab.lib import colors
    from reportlab.platypus import SimpleDocTemplate, Table, TableStyle

    table = Table([["Item", "2024", "2025"]] + [[f"Part {n}", n, n + 1] for n in range(rows)], repeatRows=1)
    table.setStyle(TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.black)]))
    stream = io.BytesIO()
    SimpleDocTemplate(stream, invariant=1).build([table])
    return stream.getvalue()


def scanned_pdf(pages: int) -> bytes:
    """Pictures of forty printed lines at 144 dots per inch."""
    from PIL import Image, ImageDraw, ImageFont
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen import canvas

    image = Image.new("RGB", (1190, 1684), "white")
    draw = ImageDraw.Draw(image)
    for line in range(40):
        draw.text((80, 60 + 38 * line), SENTENCE[:70], fill="black", font=ImageFont.load_default(24))
    stream = io.BytesIO()
    sheet = canvas.Canvas(stream, invariant=1)
    for _ in range(pages):
        sheet.drawImage(ImageReader(image), 0, 0, 595, 842)
        sheet.showPage()
    sheet.save()
    return stream.getvalue()


def workbook(rows: int) -> bytes:
    """Ten columns of words and numbers."""
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Data")
    sheet.append([f"column {n}" for n in range(10)])
    for row in range(rows):
        sheet.append([row * 1.5 if column % 2 else f"word {row} {column}" for column in range(10)])
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def records(count: int) -> bytes:
    """A list of flat records."""
    return json.dumps([{"id": n, "name": f"name {n}", "text": SENTENCE} for n in range(count)]).encode()


def source_code() -> bytes:
    """A module of the standard library."""
    return Path(json.__file__).parent.parent.joinpath("argparse.py").read_bytes() * 4


CASES: list[tuple[str, str, str, Callable[[], bytes], float, str]] = [
    ("PDF, text", "pdf", "a.pdf", lambda: plain_pdf(300), 300, "pages"),
    ("PDF, ruled tables", "pdf", "t.pdf", lambda: table_pdf(3000), 3000, "rows"),
    ("Excel", "xlsx", "a.xlsx", lambda: workbook(20_000), 20_000, "rows"),
    ("JSON", "json", "a.json", lambda: records(50_000), 50_000, "records"),
    ("Python", "code", "a.py", source_code, 0, "lines"),
]
SCANS = ("PDF, scanned", "pdf", "s.pdf", lambda: scanned_pdf(3), 3.0, "pages")


async def main(cases: list[tuple[str, str, str, Callable[[], bytes], float, str]]) -> None:
    """Print one row a format. Seconds are those of the wall: run it on a quiet machine."""
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print("| file | size | read in | speed | address space of the process |\n|---|---|---|---|---|")
    for title, loader, name, make, count, unit in cases:
        data = make()
        async with Parser(timeout_s=120, memory_bytes=2 << 30) as parser:
            await parser.load("pdf", plain_pdf(1), "warm.pdf")
            started = time.monotonic()
            await parser.load(loader, data, name)
            seconds = time.monotonic() - started
            process = parser._process
            status = Path(f"/proc/{process.pid}/status") if process is not None else None
            peak = int(status.read_text().split("VmPeak:")[1].split()[0]) // 1024 if status and status.exists() else 0
        count = count or data.count(b"\n")
        speed = f"{count / seconds:,.1f} {unit} a second"
        print(f"| {title} | {len(data) // 1024:,} KiB | {seconds:.1f} s | {speed} | {peak:,} MiB |", flush=True)


if __name__ == "__main__":
    anyio.run(main, [SCANS] if "--scans" in sys.argv else CASES)
