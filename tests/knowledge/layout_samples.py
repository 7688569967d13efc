"""PDF files with tables and scans, and pictures of text, made when a test asks for them."""

from __future__ import annotations

import io
from functools import cache


@cache
def table_pdf(rows=60, title="Annual report"):
    """A ruled table that goes on over the page, its heading row repeated."""
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Table, TableStyle

    styles = getSampleStyleSheet()
    head = ["Item", "2024", "2025"]
    table = Table([head] + [[f"Part {n} of the plan", str(100 + n), str(200 + n)] for n in range(rows)], repeatRows=1)
    table.setStyle(TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.black)]))
    stream = io.BytesIO()
    SimpleDocTemplate(stream, pagesize=A4, invariant=1).build(
        [
            Paragraph(title, styles["Title"]),
            Paragraph("Some words before the table explain it. " * 5, styles["BodyText"]),
            table,
            Paragraph("Words after the table.", styles["BodyText"]),
        ]
    )
    return stream.getvalue()


def words_pdf(words=((100, 700, "Quarterly figures"), (100, 600, "The second line")), *, rotate=0, crop=None, pages=1):
    """Words at places given in points from the bottom left corner of a page of 600 by 800."""
    import pypdfium2 as pdfium
    from reportlab.pdfgen import canvas

    stream = io.BytesIO()
    sheet = canvas.Canvas(stream, pagesize=(600, 800), invariant=1)
    for _ in range(pages):
        sheet.setFont("Helvetica", 12)
        for x, y, text in words:
            sheet.drawString(x, y, text)
        sheet.showPage()
    sheet.save()
    if not rotate and crop is None:
        return stream.getvalue()
    document = pdfium.PdfDocument(stream.getvalue())
    page = document[0]
    page.set_rotation(rotate)
    if crop is not None:
        page.set_cropbox(*crop)
    turned = io.BytesIO()
    document.save(turned)
    return turned.getvalue()


@cache
def picture(lines, *, size=(1190, 700), kind="PNG"):
    """A picture of printed lines."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((100, 200 + 60 * number), line, fill="black", font=ImageFont.load_default(34))
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def scan_pdf(*pages):
    """A page a picture; a text is a page with that text layer, None is a blank page."""
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen import canvas

    stream = io.BytesIO()
    sheet = canvas.Canvas(stream, pagesize=(595, 350), invariant=1)
    for page in pages:
        if isinstance(page, bytes):
            sheet.drawImage(ImageReader(io.BytesIO(page)), 0, 0, 595, 350)
        elif page:
            sheet.drawString(60, 200, page)
        sheet.showPage()
    sheet.save()
    return stream.getvalue()
