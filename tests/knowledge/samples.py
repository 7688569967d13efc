"""Small files of every format, made when a test asks for them."""

from __future__ import annotations

import io
import zipfile
from functools import cache


@cache
def docx_file():
    import docx

    document = docx.Document()
    document.add_heading("Travel policy", 0)
    document.add_paragraph("Trips are booked by the office. See section 3.2.1 first.")
    document.add_heading("Hotels", 1)
    document.add_paragraph("Up to 120 EUR a night", style="List Bullet")
    table = document.add_table(rows=3, cols=2)
    for row, cells in zip(table.rows, [("City", "Limit"), ("Paris", "180"), ("Leeds", "120")], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_paragraph("Closing words.")
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


@cache
def pdf_file(pages=3, password=None, blank=False):
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen import canvas

    stream = io.BytesIO()
    encryption = StandardEncryption(password) if password else None
    sheet = canvas.Canvas(stream, pagesize=A4, encrypt=encryption, invariant=1)
    for number in range(1, pages + 1):
        if not blank:
            sheet.setFont("Helvetica", 9)
            sheet.drawString(60, 800, "Northgate Manual")
            sheet.drawString(60, 30, f"Page {number} of {pages}")
            sheet.setFont("Helvetica-Bold", 18)
            sheet.drawString(60, 760, f"Chapter {number}")
            sheet.setFont("Helvetica", 11)
            for line, text in enumerate(
                ["The gateway needs a good connec-", "tion to the network. Chapter text", f"number {number} ends here."]
            ):
                sheet.drawString(60, 730 - 14 * line, text)
            for line, cells in enumerate([("Part", "Weight"), ("Case", "640 g"), ("Cable", "88 g")]):
                sheet.drawString(60, 660 - 14 * line, cells[0])
                sheet.drawString(300, 660 - 14 * line, cells[1])
        sheet.showPage()
    sheet.save()
    return stream.getvalue()


def zip_file(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


MARKDOWN = b"""---
title: Support plans
status: current
effective: 2026-01-27
tags: [a, b]
nested: {x: 1}
---
# Plans

We have **two** [plans](https://example.com) and `code`.<br>A
second line.

## Prices

| Plan | Price |
|------|------:|
| Team | 29 |
| Starter | 9 |

1. First step
2. Second step
   - Nested point

```sh
restart --now
```

> A quoted rule. ![diagram](x.png)
"""

HTML = b"""<!doctype html><html><head><title>Alerts</title><style>p{}</style>
<meta name="author" content="Ops"></head><body>
<nav><a href="/">Home</a></nav><header>Site header</header>
<main><h1>Alerting guide</h1><p>Alerts are sent <b>within</b> 60&nbsp;seconds.</p>
<h2>Channels</h2><table><thead><tr><th>Channel</th><th>Limit</th></tr></thead>
<tbody><tr><td>SMS</td><td>500</td></tr><tr><td>Voice</td><td>40</td></tr></tbody></table>
<ol><li>Open the console</li><li>Pick <code>Alerts</code></li></ol>
<pre>line one
  line two</pre><p hidden>Invisible</p><script>evil()</script></main>
<footer>Imprint</footer></body></html>"""
