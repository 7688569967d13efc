"""Content that office programs, mail programs and old encodings put where a plain reader does not look, and content
that people do not see.
"""

from __future__ import annotations

import io
import struct
import zipfile
from datetime import date

import openpyxl
import pytest

from interlock.core.errors import InvalidInput
from interlock.knowledge.loaders import loaders
from interlock.knowledge.quality import assess
from interlock.testing.loaders import check_document

from . import format_samples as samples
from .compound import compound_file
from .samples import zip_file

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


def load(name, data, file_name):
    document = loaders.get(name).load(data, file_name)
    check_document(document)
    return document


def reasons(document):
    return {reason for page in assess(document).review for reason in page.reasons}


def saved(thing):
    stream = io.BytesIO()
    thing.save(stream)
    return stream.getvalue()


def word(*pieces, notes=""):
    """A document of raw elements of its body, with footnotes by id."""
    import docx
    from docx.opc.constants import RELATIONSHIP_TYPE
    from docx.opc.packuri import PackURI
    from docx.opc.part import Part
    from docx.oxml import parse_xml

    document = docx.Document()
    for piece in pieces:
        wrapped = parse_xml(f"<w:body {W} {MC}>{piece}</w:body>")
        for element in list(wrapped):
            document.element.body.insert(len(document.element.body) - 1, element)
    if notes:
        kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
        blob = f"<w:footnotes {W}>{notes}</w:footnotes>".encode()
        part = Part(PackURI("/word/footnotes.xml"), kind, blob, document.part.package)
        document.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)
    return saved(document)


def run(text, properties=""):
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t xml:space='preserve'>{text}</w:t></w:r>"


def par(*runs):
    return f"<w:p>{''.join(runs)}</w:p>"


def lines(document):
    return [document.text[block.span.start : block.span.end] for block in document.blocks]


class TestWord:
    def test_what_people_see_is_read_wherever_it_stands(self):
        row = (
            f"<w:tr><w:tc>{par(run('Outer'))}<w:tbl><w:tr><w:tc>{par(run('Inner'))}</w:tc></w:tr></w:tbl></w:tc></w:tr>"
        )
        box = f"<w:pict><w:txbxContent>{par(run('Boxed'))}</w:txbxContent></w:pict>"
        ways = f"<mc:Choice Requires='wps'>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        alternatives = f"<mc:AlternateContent>{ways}</mc:AlternateContent>"
        data = word(
            f"<w:sdt><w:sdtContent>{par(run('In a control'))}</w:sdtContent></w:sdt>",
            par(
                run("Take "),
                f"<w:sdt><w:sdtContent>{run('two ')}</w:sdtContent></w:sdt>",
                f"<w:ins w:id='1' w:author='a'>{run('or three ')}</w:ins>",
                "<w:del w:id='2' w:author='a'><w:r><w:delText>or nine </w:delText></w:r></w:del>",
                f"<w:moveFrom w:id='3' w:author='a'>{run('or ten ')}</w:moveFrom>",
                f"<w:smartTag>{run('pumps')}</w:smartTag>",
                "<w:r><w:footnoteReference w:id='7'/></w:r>",
            ),
            par(run("Beside"), f"<w:r>{alternatives}</w:r>"),
            f"<w:tbl>{row}</w:tbl>",
            "<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val='Table of Contents'/></w:docPartObj></w:sdtPr>"
            f"<w:sdtContent>{par(run('Contents 3'))}</w:sdtContent></w:sdt>",
            notes=f"<w:footnote w:id='7'>{par(run('Only in spring.'))}</w:footnote>",
        )
        document = load("docx", data, "odd.docx")
        assert lines(document) == [
            "In a control",
            "Take two or three pumps",
            "Only in spring.",
            "Beside",
            "Boxed",
            "Outer",
            "Inner",
        ]
        assert reasons(document) == set()

    def test_text_of_a_hidden_style_is_left_out(self):
        import docx
        from docx.enum.style import WD_STYLE_TYPE

        document = docx.Document()
        style = document.styles.add_style("Notes to self", WD_STYLE_TYPE.PARAGRAPH)
        style.font.hidden = True
        below = document.styles.add_style("Below", WD_STYLE_TYPE.PARAGRAPH)
        below.base_style = style
        document.add_paragraph("Seen.")
        document.add_paragraph("Unseen one.", style="Notes to self")
        document.add_paragraph("Unseen two.", style="Below")
        assert load("docx", saved(document), "s.docx").text == "Seen."

    @pytest.mark.parametrize("properties", ["<w:color w:val='FFFFFF'/>", "<w:sz w:val='2'/>"])
    def test_text_in_the_paper_s_colour_or_of_no_size_is_told(self, properties):
        document = load("docx", word(par(run("Seen. "), run("Praise the whale.", properties))), "w.docx")
        assert reasons(document) == {"hidden_text"}
        dark = "<w:color w:val='FFFFFF'/><w:shd w:val='clear' w:fill='102040'/>"
        assert reasons(load("docx", word(par(run("White on blue.", dark))), "b.docx")) == set()


def sign(text):
    return f"<m:r><m:t>{text}</m:t></m:r>"


FORMULAS = [
    (f"<m:f><m:num>{sign('a+b')}</m:num><m:den>{sign('2')}</m:den></m:f>", "(a+b)/2"),
    (f"<m:sSup><m:e>{sign('x')}</m:e><m:sup>{sign('2')}</m:sup></m:sSup>", "x^2"),
    (
        f"<m:sSubSup><m:e>{sign('x')}</m:e><m:sub>{sign('i+1')}</m:sub><m:sup>{sign('2')}</m:sup></m:sSubSup>",
        "x_(i+1)^2",
    ),
    (f'<m:rad><m:radPr><m:degHide m:val="1"/></m:radPr><m:deg/><m:e>{sign("2x")}</m:e></m:rad>', "√(2x)"),
    (
        f'<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{sign("i=1")}</m:sub><m:sup>{sign("n")}</m:sup>'
        f"<m:e>{sign('i')}</m:e></m:nary>",
        "∑_(i=1)^n i",
    ),
    (f"<m:func><m:fName>{sign('sin')}</m:fName><m:e><m:d><m:e>{sign('x')}</m:e></m:d></m:e></m:func>", "sin (x)"),
    (
        f"<m:m><m:mr><m:e>{sign('1')}</m:e><m:e>{sign('0')}</m:e></m:mr>"
        f"<m:mr><m:e>{sign('0')}</m:e><m:e>{sign('1')}</m:e></m:mr></m:m>",
        "[1, 0; 0, 1]",
    ),
]


class TestFormulas:
    @pytest.mark.parametrize(("formula", "text"), FORMULAS)
    def test_of_word_stand_in_their_sentences(self, formula, text):
        inline = f"<w:r><w:t>It is </w:t></w:r><m:oMath>{formula}</m:oMath><w:r><w:t> here.</w:t></w:r>"
        alone = f"<m:oMathPara><m:oMath>{formula}</m:oMath></m:oMathPara>"
        document = load("docx", word(f"<w:p {W} {M}>{inline}</w:p>", f"<w:p {W} {M}>{alone}</w:p>"), "f.docx")
        assert lines(document) == [f"It is {text} here.", text]

    def test_of_powerpoint_too(self):
        import pptx
        from pptx.oxml import parse_xml

        deck = pptx.Presentation()
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = "Energy"
        power = f"<m:sSup><m:e>{sign('mc')}</m:e><m:sup>{sign('2')}</m:sup></m:sSup>"
        paragraph = (
            '<a:p xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
            f'xmlns:a14="http://schemas.microsoft.com/office/drawing/2010/main" {M} {MC}>'
            "<a:r><a:t>E = </a:t></a:r>"
            '<mc:AlternateContent><mc:Choice Requires="a14"><a14:m><m:oMathPara><m:oMath>'
            f"{power}</m:oMath></m:oMathPara></a14:m></mc:Choice>"
            "<mc:Fallback><a:r><a:t>picture</a:t></a:r></mc:Fallback></mc:AlternateContent></a:p>"
        )
        body = slide.placeholders[1].text_frame._txBody
        body.append(parse_xml(paragraph))
        assert lines(load("pptx", saved(deck), "f.pptx")) == ["Energy", "E = mc^2"]


class TestExcel:
    def test_hidden_columns_and_rows_are_left_out_and_told(self):
        book = openpyxl.Workbook()
        sheet = book.active
        for row in [
            ["Name", "Salary", "City"],
            ["Ann", 61000, "Leeds"],
            ["Bob", 62000, "York"],
            ["Cid", 63000, "Bath"],
        ]:
            sheet.append(row)
        sheet.column_dimensions["B"].hidden = True
        sheet.row_dimensions[3].hidden = True
        document = load("xlsx", saved(book), "p.xlsx")
        assert lines(document) == ["Sheet", "Name | City", "Ann | Leeds", "Cid | Bath"]
        assert reasons(document) == {"hidden_text"}

    def test_what_a_filter_or_an_outline_folds_away_is_read(self):
        book = openpyxl.Workbook()
        sheet = book.active
        for row in [["Name", "City"], ["Ann", "Leeds"], ["Bob", "York"]]:
            sheet.append(row)
        sheet.auto_filter.ref = "A1:B3"
        sheet.row_dimensions[2].hidden = True
        other = book.create_sheet("Folded")
        for row in [["Name", "City"], ["Cid", "Bath"]]:
            other.append(row)
        other.row_dimensions.group(2, 2, hidden=True)
        other.column_dimensions.group("B", "B", hidden=True)
        document = load("xlsx", saved(book), "f.xlsx")
        assert "Ann | Leeds" in document.text
        assert "Cid | Bath" in document.text
        assert reasons(document) == set()

    @pytest.mark.parametrize("length", [5_000, 300_000])
    def test_entities_hide_behind_no_comment(self, length):
        comment = f"<?xml version='1.0'?><!-- {'x' * length} -->"
        bomb = f'{comment}<!DOCTYPE sst [<!ENTITY x "heron">]><sst>&x;</sst>'
        with zipfile.ZipFile(io.BytesIO(samples.xlsx_file())) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["xl/sharedStrings.xml"] = bomb.encode()
        with pytest.raises(InvalidInput) as caught:
            load("xlsx", zip_file(members), "e.xlsx")
        assert caught.value.code == "hostile_document"

    def test_entities_hide_behind_no_encoding(self):
        bomb = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE sst [<!ENTITY x "heron">]><sst>&x;</sst>'
        with zipfile.ZipFile(io.BytesIO(samples.xlsx_file())) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["xl/sharedStrings.xml"] = bomb.encode("utf-16")
        with pytest.raises(InvalidInput) as caught:
            load("xlsx", zip_file(members), "e.xlsx")
        assert caught.value.code == "hostile_document"


class TestPowerPoint:
    def test_smart_art_is_read(self):
        import pptx
        from pptx.opc.package import Part
        from pptx.opc.packuri import PackURI
        from pptx.oxml import parse_xml

        deck = pptx.Presentation()
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = "Steps"
        a = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
        d = 'xmlns:dgm="http://schemas.openxmlformats.org/drawingml/2006/diagram"'
        points = "".join(
            f"<dgm:pt><dgm:t><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>" for text in ("Plan", "Build")
        )
        blob = f"<dgm:dataModel {a} {d}><dgm:ptLst>{points}</dgm:ptLst></dgm:dataModel>".encode()
        kind = "application/vnd.openxmlformats-officedocument.drawingml.diagramData+xml"
        part = Part(PackURI("/ppt/diagrams/data1.xml"), kind, slide.part.package, blob)
        rel = slide.part.relate_to(
            part, "http://schemas.openxmlformats.org/officeDocument/2006/relationships/diagramData"
        )
        slide.shapes._spTree.append(
            parse_xml(
                '<p:graphicFrame xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
                f'{a} {d} xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
                '<p:nvGraphicFramePr><p:cNvPr id="9" name="D"/><p:cNvGraphicFramePr/><p:nvPr/></p:nvGraphicFramePr>'
                '<p:xfrm><a:off x="9" y="9999999"/><a:ext cx="9" cy="9"/></p:xfrm>'
                '<a:graphic><a:graphicData uri="http://schemas.openxmlformats.org/drawingml/2006/diagram">'
                f'<dgm:relIds r:dm="{rel}"/></a:graphicData></a:graphic></p:graphicFrame>'
            )
        )
        assert lines(load("pptx", saved(deck), "s.pptx")) == ["Steps", "Plan", "Build"]


CHART = "http://schemas.openxmlformats.org/drawingml/2006/chart"
RELATIONS = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'


def slide_with(kind, data, *, title="", up="", across=""):
    """A deck of one chart, as python-pptx writes it."""
    import pptx
    from pptx.util import Inches

    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    chart = slide.shapes.add_chart(kind, Inches(1), Inches(1), Inches(6), Inches(4), data).chart
    chart.has_title = bool(title)
    if title:
        chart.chart_title.text_frame.text = title
    for axis, text in ((chart.value_axis, up), (chart.category_axis, across)) if up or across else ():
        axis.has_title = True
        axis.axis_title.text_frame.text = text
    return deck


def searched(document):
    return [block.labelled for block in document.blocks if block.labelled]


class TestCharts:
    def test_a_chart_is_a_table_of_its_categories_and_series(self):
        from pptx.chart.data import CategoryChartData
        from pptx.enum.chart import XL_CHART_TYPE

        data = CategoryChartData()
        data.categories = ["North", "South"]
        data.add_series("2024", (0.1 + 0.2, 12))
        data.add_series("2025", (4, None))
        deck = slide_with(XL_CHART_TYPE.BAR_CLUSTERED, data, title="Sales by region", up="EUR million", across="Region")
        document = load("pptx", saved(deck), "c.pptx")
        assert lines(document) == [
            "Slide 1",
            "Sales by region",
            "Region | 2024 (EUR million) | 2025 (EUR million)",
            "North | 0.3 | 4",
            "South | 12 |",
        ]
        assert searched(document)[0] == "Region: North | 2024 (EUR million): 0.3 | 2025 (EUR million): 4"
        assert {block.page for block in document.blocks} == {1}

    def test_shares_dates_and_points_are_shown_as_people_see_them(self):
        from pptx.chart.data import BubbleChartData, CategoryChartData
        from pptx.enum.chart import XL_CHART_TYPE

        dated = CategoryChartData(number_format="0%")
        dated.categories = [date(2026, 1, 1), date(2026, 2, 1)]
        dated.add_series("Churn", (0.07, 0.055))
        document = load("pptx", saved(slide_with(XL_CHART_TYPE.LINE, dated)), "d.pptx")
        assert lines(document)[1:] == ["| Churn", "2026-01-01 | 7%", "2026-02-01 | 5.5%"]
        bubbles = BubbleChartData()
        series = bubbles.add_series("Plants")
        series.add_data_point(1.5, 20, 3)
        deck = slide_with(XL_CHART_TYPE.BUBBLE, bubbles, up="Tons", across="Hours")
        assert lines(load("pptx", saved(deck), "b.pptx"))[1:] == [
            "Hours | Plants (Tons) | Plants, size",
            "1.5 | 20 | 3",
        ]

    def test_groups_of_categories_name_each_of_them(self):
        from pptx.chart.data import CategoryChartData
        from pptx.enum.chart import XL_CHART_TYPE

        data = CategoryChartData()
        for year in ("2025", "2026"):
            outer = data.add_category(year)
            outer.add_sub_category("Q1")
            outer.add_sub_category("Q2")
        data.add_series("Seats", (1, 2, 3, 4))
        document = load("pptx", saved(slide_with(XL_CHART_TYPE.COLUMN_CLUSTERED, data)), "g.pptx")
        assert lines(document)[2:] == ["2025 › Q1 | 1", "2025 › Q2 | 2", "2026 › Q1 | 3", "2026 › Q2 | 4"]

    def test_newer_kinds_of_charts_are_read(self):
        import pptx
        from pptx.opc.package import Part
        from pptx.opc.packuri import PackURI
        from pptx.oxml import parse_xml

        cx = 'xmlns:cx="http://schemas.microsoft.com/office/drawing/2014/chartex"'
        a = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
        p = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
        names = "<cx:lvl ptCount='2'><cx:pt idx='0'>Start</cx:pt><cx:pt idx='1'>Fees</cx:pt></cx:lvl>"
        values = "<cx:lvl formatCode='General'><cx:pt idx='0'>100</cx:pt><cx:pt idx='1'>-20.5</cx:pt></cx:lvl>"
        series = "<cx:tx><cx:txData><cx:f>S!B1</cx:f><cx:v>EUR</cx:v></cx:txData></cx:tx><cx:dataId val='0'/>"
        blob = (
            f"<cx:chartSpace {cx} {a}><cx:chartData><cx:data id='0'><cx:strDim type='cat'><cx:f>S!A</cx:f>{names}"
            f"</cx:strDim><cx:numDim type='val'>{values}</cx:numDim></cx:data></cx:chartData>"
            "<cx:chart><cx:title><cx:tx><cx:rich><a:p><a:r><a:t>Bridge</a:t></a:r></a:p></cx:rich></cx:tx></cx:title>"
            f"<cx:plotArea><cx:plotAreaRegion><cx:series layoutId='waterfall'>{series}</cx:series>"
            "</cx:plotAreaRegion></cx:plotArea></cx:chart></cx:chartSpace>"
        ).encode()
        deck = pptx.Presentation()
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        part = Part(
            PackURI("/ppt/charts/chartEx1.xml"), "application/vnd.ms-office.chartex+xml", slide.part.package, blob
        )
        rel = slide.part.relate_to(part, "http://schemas.microsoft.com/office/2014/relationships/chartEx")
        named = "<p:cNvPr id='9' name='x'/>"
        frame = (
            f"<p:graphicFrame><p:nvGraphicFramePr>{named}<p:cNvGraphicFramePr/><p:nvPr/></p:nvGraphicFramePr>"
            "<p:xfrm><a:off x='9' y='9'/><a:ext cx='9' cy='9'/></p:xfrm><a:graphic><a:graphicData uri='u'>"
            f"<cx:chart {cx} r:id='{rel}'/></a:graphicData></a:graphic></p:graphicFrame>"
        )
        picture = (
            f"<p:sp><p:nvSpPr>{named}<p:cNvSpPr/><p:nvPr/></p:nvSpPr><p:spPr/>"
            "<p:txBody><a:bodyPr/><a:p><a:r><a:t>Not available</a:t></a:r></a:p></p:txBody></p:sp>"
        )
        ways = f"<mc:Choice Requires='cx1'>{frame}</mc:Choice><mc:Fallback>{picture}</mc:Fallback>"
        slide.shapes._spTree.append(
            parse_xml(f"<mc:AlternateContent {MC} {p} {a} {RELATIONS}>{ways}</mc:AlternateContent>")
        )
        document = load("pptx", saved(deck), "w.pptx")
        assert lines(document) == ["Slide 1", "Bridge", "| EUR", "Start | 100", "Fees | -20.5"]

    def test_charts_of_word_stand_after_their_paragraph(self):
        import docx
        from docx.opc.packuri import PackURI
        from docx.opc.part import Part
        from docx.oxml import parse_xml
        from pptx.chart.data import CategoryChartData
        from pptx.enum.chart import XL_CHART_TYPE

        data = CategoryChartData()
        data.categories = ["Mon", "Tue"]
        data.add_series("Tickets", (31, 28))
        deck = slide_with(XL_CHART_TYPE.COLUMN_CLUSTERED, data, title="Load")
        blob = next(iter(deck.slides[0].shapes)).chart_part.blob
        document = docx.Document()
        document.add_paragraph("Before")
        kind = "application/vnd.openxmlformats-officedocument.drawingml.chart+xml"
        part = Part(PackURI("/word/charts/chart1.xml"), kind, blob, document.part.package)
        rel = document.part.relate_to(part, "http://schemas.openxmlformats.org/officeDocument/2006/relationships/chart")
        drawing = f"<w:drawing><c:chart xmlns:c='{CHART}' {RELATIONS} r:id='{rel}'/></w:drawing>"
        paragraph = document.add_paragraph()
        paragraph._p.append(parse_xml(f"<w:r {W}>{drawing}</w:r>"))
        document.add_paragraph("After")
        said = lines(load("docx", saved(document), "c.docx"))
        assert said == ["Before", "Load", "| Tickets", "Mon | 31", "Tue | 28", "After"]

    @pytest.mark.parametrize(
        ("blob", "code"),
        [
            (b"<c:chartSpace", "damaged_document"),
            (b"", "damaged_document"),
            (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "hostile_document"),
            (f'<c:chartSpace xmlns:c="{CHART}"/>'.encode(), ""),
        ],
    )
    def test_a_damaged_chart_is_told_and_an_empty_one_left_out(self, blob, code):
        from pptx.chart.data import CategoryChartData
        from pptx.enum.chart import XL_CHART_TYPE

        data = CategoryChartData()
        data.categories = ["Mon"]
        data.add_series("Tickets", (31,))
        deck = slide_with(XL_CHART_TYPE.COLUMN_CLUSTERED, data)
        deck.slides[0].shapes.add_textbox(9, 9, 9, 9).text_frame.text = "Read me"
        with zipfile.ZipFile(io.BytesIO(saved(deck))) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members[next(name for name in members if "charts/chart" in name and name.endswith(".xml"))] = blob
        if not code:
            assert lines(load("pptx", zip_file(members), "c.pptx")) == ["Slide 1", "Read me"]
            return
        with pytest.raises(InvalidInput) as caught:
            load("pptx", zip_file(members), "c.pptx")
        assert caught.value.code == code

    def test_what_stands_beside_a_formula_is_read(self):
        import pptx
        from pptx.oxml import parse_xml

        a = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
        p = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
        deck = pptx.Presentation()
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        box = (
            "<p:sp><p:nvSpPr><p:cNvPr id='9' name='x'/><p:cNvSpPr txBox='1'/><p:nvPr/></p:nvSpPr><p:spPr/>"
            "<p:txBody><a:bodyPr/><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:txBody></p:sp>"
        )
        ways = (
            f"<mc:Choice Requires='a14'>{box.format('Energy is mass')}</mc:Choice>"
            f"<mc:Fallback>{box.format(' ')}</mc:Fallback>"
        )
        slide.shapes._spTree.append(parse_xml(f"<mc:AlternateContent {MC} {p} {a}>{ways}</mc:AlternateContent>"))
        assert lines(load("pptx", saved(deck), "f.pptx")) == ["Slide 1", "Energy is mass"]

    def test_shapes_that_are_switched_off_are_left_out(self):
        import pptx

        deck = pptx.Presentation()
        slide = deck.slides.add_slide(deck.slide_layouts[6])
        for number, text in enumerate(("Shown", "Praise the whale")):
            slide.shapes.add_textbox(9, 9 + 200_000 * number, 9, 9).text_frame.text = text
        slide.shapes[1]._element.nvSpPr.cNvPr.set("hidden", "1")
        assert lines(load("pptx", saved(deck), "h.pptx")) == ["Slide 1", "Shown"]


class TestOpenDocument:
    def test_hidden_sheets_and_rows_are_left_out_and_footnotes_read(self):
        hidden = samples.table_xml("Secret", [["Name", "Pay"], ["Ann", "61000"]])
        hidden = hidden.replace("<table:table ", '<table:table table:style-name="ta2" ', 1)
        shown = samples.table_xml("Open", [["Name", "City"], ["Bob", "York"], ["Cid", "Bath"]])
        shown = shown.replace("<table:table-row>", '<table:table-row table:visibility="collapse">', 2).replace(
            '<table:table-row table:visibility="collapse">', "<table:table-row>", 1
        )
        styles = (
            '<office:automatic-styles><style:style xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" '
            'style:name="ta2"><style:table-properties table:display="false"/></style:style></office:automatic-styles>'
        )
        document = load("odf", samples.odf_file("spreadsheet", hidden + shown, styles=styles), "b.ods")
        assert "61000" not in document.text
        assert "Cid | Bath" in document.text
        assert "York" not in document.text
        assert reasons(document) == {"hidden_text"}
        note = "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>Only in spring.</text:p>"
        body = f"<text:p>Staff get 30 days{note}</text:note-body></text:note> a year.</text:p>"
        assert lines(load("odf", samples.odf_file("text", body), "n.odt")) == [
            "Staff get 30 days a year.",
            "Only in spring.",
        ]


def mail(*parts, kind="mixed"):
    pieces = "".join(f"--b\r\nContent-Type: text/{sub}; charset=utf-8\r\n\r\n{text}\r\n" for sub, text in parts)
    head = "From: a@example.com\r\nSubject: S\r\nMIME-Version: 1.0\r\n"
    return f'{head}Content-Type: multipart/{kind}; boundary="b"\r\n\r\n{pieces}--b--\r\n'.encode()


class TestMail:
    def test_a_footer_in_plain_text_does_not_stand_for_the_letter(self):
        letter = "<html><body><p>The pump arrives on Monday.</p></body></html>"
        document = load("eml", mail(("html", letter), ("plain", "List footer.")), "l.eml")
        assert lines(document)[-2:] == ["The pump arrives on Monday.", "List footer."]

    def test_of_two_forms_of_a_letter_one_is_read(self):
        both = mail(("plain", "The pump arrives."), ("html", "<p>The pump arrives.</p>"), kind="alternative")
        assert load("eml", both, "b.eml").text.count("The pump arrives.") == 1
        empty = mail(("plain", " "), ("html", "<p>The pump arrives.</p>"), kind="alternative")
        assert "The pump arrives." in load("eml", empty, "e.eml").text

    @pytest.mark.parametrize("tag", ["10130102", "1000001E"])
    def test_an_outlook_message_says_its_code_page(self, tag):
        text = "Насос приходит в понедельник"
        body = f"<p>{text}</p>" if tag.startswith("1013") else text
        pages = struct.pack("<HHIQ", 0x0003, 0x3FDE, 6, 1251) + struct.pack("<HHIQ", 0x0003, 0x3FFD, 6, 1251)
        streams = {
            "__properties_version1.0": bytes(32) + pages,
            "__substg1.0_0037001E": "Заказ".encode("cp1251"),
            f"__substg1.0_{tag}": body.encode("cp1251"),
        }
        document = load("msg", compound_file(streams), "m.msg")
        assert (document.title, text in document.text) == ("Заказ", True)

    def test_html_of_an_outlook_message_without_a_code_page_keeps_its_letters(self):
        streams = {
            "__substg1.0_0037001F": "S".encode("utf-16-le"),
            "__substg1.0_10130102": "<p>Café</p>".encode("cp1252"),
        }
        assert "Café" in load("msg", compound_file(streams), "m.msg").text


class TestText:
    def test_the_first_special_letter_may_stand_late(self):
        data = (b"plain words on a line\n" * 5000) + "Das Café öffnet früh am Morgen, die Tür ist grün.\n".encode(
            "cp1252"
        )
        assert "Café öffnet früh" in load("text", data, "late.txt").text

    def test_a_page_says_its_encoding(self):
        page = '<html><head><meta charset="koi8-r"></head><body><p>Привет</p></body></html>'.encode("koi8-r")
        assert "Привет" in load("html", page, "p.html").text
        wrong = '<html><head><meta charset="no-such"></head><body><p>Grüße</p></body></html>'.encode()
        assert "Grüße" in load("html", wrong, "w.html").text

    def test_facts_hold_beside_a_date_that_is_none(self):
        text = b"---\ntitle: Plans\nsubject: ann@example.com\ndate: 2026-13-45\n---\nThe heron.\n"
        document = load("markdown", text, "p.md")
        assert (document.title, document.text) == ("Plans", "The heron.")
        assert document.metadata == {"title": "Plans", "subject": "ann@example.com", "date": "2026-13-45"}


class TestPdf:
    def sheet(self, draw):
        from reportlab.pdfgen import canvas

        stream = io.BytesIO()
        page = canvas.Canvas(stream, pagesize=(400, 400), invariant=1)
        page.setFont("Helvetica", 12)
        page.drawString(40, 350, "The heron stands by the river and waits.")
        draw(page)
        page.showPage()
        page.save()
        return load("pdf", stream.getvalue(), "p.pdf")

    def white(self, page):
        page.setFillColorRGB(1, 1, 1)
        page.drawString(40, 300, "Praise the whale.")

    def tiny(self, page):
        page.setFont("Helvetica", 0.5)
        page.drawString(40, 300, "Praise the whale.")

    def invisible(self, page):
        text = page.beginText(40, 300)
        text.setTextRenderMode(3)
        text.textOut("Praise the whale.")
        page.drawText(text)

    def outside(self, page):
        page.drawString(900, 300, "Praise the whale.")

    def covered(self, page):
        page.drawString(40, 300, "Praise the whale.")
        page.rect(30, 290, 200, 30, fill=1, stroke=0)

    def clear(self, page):
        page.setFillAlpha(0)
        page.drawString(40, 300, "Praise the whale.")

    @pytest.mark.parametrize("kind", ["white", "tiny", "invisible", "outside", "covered", "clear"])
    def test_text_that_nobody_sees_is_left_out_and_told(self, kind):
        document = self.sheet(getattr(self, kind))
        assert document.text == "The heron stands by the river and waits."
        assert reasons(document) == {"hidden_text"}

    def test_what_only_looks_hidden_stays(self):
        def draw(page):
            page.setFillColorRGB(0.1, 0.2, 0.5)
            page.rect(30, 290, 300, 30, fill=1, stroke=0)
            page.setFillColorRGB(1, 1, 1)
            page.drawString(40, 300, "White on blue.")
            page.setFillColorRGB(0.9, 0.9, 0.9)
            page.rect(30, 190, 300, 30, fill=1, stroke=0)
            page.setFillColorRGB(0, 0, 0)
            page.drawString(40, 200, "Black on grey. Mr. Fox - i, 1.")

        document = self.sheet(draw)
        assert "White on blue." in document.text
        assert "Black on grey. Mr. Fox - i, 1." in document.text
        assert reasons(document) == set()

    def test_the_letters_behind_a_scan_stay(self):
        from PIL import Image, ImageDraw
        from reportlab.lib.utils import ImageReader

        picture = Image.new("RGB", (400, 60), "white")
        ImageDraw.Draw(picture).text((5, 20), "The owl sleeps all day long.", fill="black")

        def draw(page):
            page.drawImage(ImageReader(picture), 40, 200, 300, 45)
            text = page.beginText(44, 222)
            text.setTextRenderMode(3)
            text.textOut("The owl sleeps all day long.")
            page.drawText(text)

        document = self.sheet(draw)
        assert "The owl sleeps" in document.text
        assert reasons(document) == set()
