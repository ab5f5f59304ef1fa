"""Writes Parquet and XLSX files of all common kinds into a folder, and beside them `expected.json` with each cell as
people see it: files.py FOLDER"""

import datetime as dt
import decimal
import json
import os
import sys
import uuid
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl.worksheet.formula import ArrayFormula

folder = sys.argv[1]
expected = []


def path(name):
    return os.path.join(folder, name)


def expect(name, header, rows, types=None, sheets=None, sheet=None):
    expected.append(
        {"file": name, "header": header, "rows": rows, "types": types, "sheets": sheets, "sheet": sheet}
    )


# Parquet: a column for each type, with nulls.
utc = dt.timezone.utc
instant = dt.datetime(2024, 2, 29, 13, 45, 10, 123456)
columns = {
    "bool": (pa.bool_(), [True, False, None], ["true", "false", ""], "boolean"),
    "int8": (pa.int8(), [-128, 127, None], ["-128", "127", ""], "number"),
    "uint64": (pa.uint64(), [2**64 - 1, 0, None], ["18446744073709551615", "0", ""], "number"),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1, None], ["-9223372036854775808", "9223372036854775807", ""], "number"),
    "uint32": (pa.uint32(), [2**32 - 1, 7, None], ["4294967295", "7", ""], "number"),
    "float": (pa.float32(), [0.1, -2.5, None], ["0.1", "-2.5", ""], "number"),
    "double": (pa.float64(), [0.1, 1e15, float("nan")], ["0.1", "1000000000000000", "NaN"], "number"),
    "half": (pa.float16(), [1.5, -2.0, None], ["1.5", "-2", ""], "number"),
    "string": (pa.string(), ["a,b", 'say "x"\nnext', None], ["a,b", 'say "x"\nnext', ""], "text"),
    "large": (pa.large_string(), ["", "Zoë", "007"], ["", "Zoë", "007"], "text"),
    "binary": (pa.binary(), [b"plain", b"\x00\xff", None], ["plain", "00ff", ""], "text"),
    "fixed": (pa.binary(3), [b"abc", b"xyz", None], ["abc", "xyz", ""], "text"),
    "date": (pa.date32(), [dt.date(1, 1, 1), dt.date(2024, 2, 29), None], ["0001-01-01", "2024-02-29", ""], "date"),
    "time_ms": (
        pa.time32("ms"),
        [dt.time(13, 5, 0), dt.time(23, 59, 59, 999000), None],
        ["13:05:00", "23:59:59.999", ""],
        "date",
    ),
    "time_us": (pa.time64("us"), [dt.time(0, 0, 0, 1), dt.time(1, 2, 3), None], ["00:00:00.000001", "01:02:03", ""], "date"),
    "stamp_ms": (
        pa.timestamp("ms"),
        [dt.datetime(1969, 12, 31, 23, 59, 59, 500000), dt.datetime(2024, 1, 1), None],
        ["1969-12-31 23:59:59.500", "2024-01-01 00:00:00", ""],
        "date",
    ),
    "stamp_us": (pa.timestamp("us"), [instant, None, None], ["2024-02-29 13:45:10.123456", "", ""], "date"),
    "stamp_ns": (pa.timestamp("ns"), [1, 10**18, None], ["1970-01-01 00:00:00.000000001", "2001-09-09 01:46:40", ""], "date"),
    "stamp_utc": (
        pa.timestamp("us", tz="UTC"),
        [instant.replace(tzinfo=utc), None, None],
        ["2024-02-29 13:45:10.123456Z", "", ""],
        "date",
    ),
    "decimal": (
        pa.decimal128(12, 2),
        [decimal.Decimal("-0.05"), decimal.Decimal("1234567890.10"), None],
        ["-0.05", "1234567890.10", ""],
        "number",
    ),
    "decimal256": (
        pa.decimal256(60, 10),
        [decimal.Decimal("-12345678901234567890123456789.0123456789"), decimal.Decimal(0), None],
        ["-12345678901234567890123456789.0123456789", "0.0000000000", ""],
        "number",
    ),
    "list": (pa.list_(pa.int32()), [[1, None, 3], [], None], ["[1,null,3]", "[]", ""], "text"),
    "struct": (
        pa.struct([("x", pa.int64()), ("when", pa.timestamp("ns"))]),
        [{"x": 1, "when": 10**18}, {"x": None, "when": None}, None],
        ['{"x":1,"when":"2001-09-09 01:46:40"}', '{"x":null,"when":null}', ""],
        "text",
    ),
    "structs": (
        pa.list_(pa.struct([("x", pa.string()), ("y", pa.list_(pa.float64()))])),
        [[{"x": 'q"', "y": [0.5]}, None], [], None],
        ['[{"x":"q\\"","y":[0.5]},null]', "[]", ""],
        "text",
    ),
    "map": (
        pa.map_(pa.string(), pa.date32()),
        [[("a", dt.date(2024, 1, 2))], [], None],
        ['{"a":"2024-01-02"}', "{}", ""],
        "text",
    ),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["red", "red", None], ["red", "red", ""], "text"),
    "null": (pa.null(), [None, None, None], ["", "", ""], None),
}
arrays = []
for kind, values, _, _ in columns.values():
    if pa.types.is_dictionary(kind):
        arrays.append(pa.array(values, pa.string()).dictionary_encode())
    elif kind == pa.float16():
        import struct

        halves = b"".join(struct.pack("<e", value or 0.0) for value in values)
        valid = bytes([sum(1 << i for i, value in enumerate(values) if value is not None)])
        arrays.append(pa.Array.from_buffers(kind, len(values), [pa.py_buffer(valid), pa.py_buffer(halves)]))
    else:
        arrays.append(pa.array(values, kind))
table = pa.table(arrays, names=list(columns))
header = list(columns)
rows = [list(row) for row in zip(*(texts for _, _, texts, _ in columns.values()))]
types = {str(i): name for i, (_, _, _, name) in enumerate(columns.values()) if name}
for options in [
    {},
    {"version": "1.0", "data_page_version": "2.0"},
    {"use_dictionary": False, "compression": "NONE"},
    {"compression": "GZIP"},
    {"compression": "ZSTD", "data_page_version": "2.0"},
    {"compression": "LZ4"},
    {"row_group_size": 1},
    {"use_deprecated_int96_timestamps": True},
]:
    name = f"types{len(expected)}.parquet"
    source = table
    if options.get("version") == "1.0":
        # Nanoseconds and unsigned 32-bit integers are other types in version 1.
        keep = [name for name in header if "ns" not in name and name not in ("struct",)]
        source = table.select(keep)
    if "use_deprecated_int96_timestamps" in options:
        source = table.select(["stamp_ms", "stamp_utc"])
    pq.write_table(source, path(name), **options)
    order = [header.index(column) for column in source.column_names]
    cells = [[row[i] for i in order] for row in rows]
    if "use_deprecated_int96_timestamps" in options:
        # Milliseconds are what this type is read with; it has no zone.
        cells = [[row[0], row[1].replace("456Z", "").replace("Z", "")] for row in cells]
    kinds = {str(i): types[str(at)] for i, at in enumerate(order) if str(at) in types}
    expect(name, source.column_names, cells, types=kinds)

# Encodings of the second version of the format.
count = 5_000
numbers = list(range(-count, count, 2))
texts = [f"value {number % 7}" * (number % 3) for number in numbers]
doubles = [number / 8 for number in numbers]
encoded = pa.table({"n": numbers, "t": texts, "d": doubles})
pq.write_table(
    encoded,
    path("encodings.parquet"),
    use_dictionary=False,
    column_encoding={"n": "DELTA_BINARY_PACKED", "t": "DELTA_LENGTH_BYTE_ARRAY", "d": "BYTE_STREAM_SPLIT"},
    row_group_size=1_234,
    data_page_size=1_000,
)


def number(value):
    return str(int(value)) if value == int(value) else str(value)


expect(
    "encodings.parquet",
    ["n", "t", "d"],
    [[str(n), t, number(d)] for n, t, d in zip(numbers, texts, doubles)],
)

# Lists that continue over pages, and their rows.
lists = [list(range(n % 50)) for n in range(2_000)]
pq.write_table(pa.table({"l": lists, "i": range(2_000)}), path("lists.parquet"), data_page_size=500, row_group_size=700)
expect(
    "lists.parquet",
    ["l", "i"],
    [["[" + ",".join(map(str, value)) + "]", str(i)] for i, value in enumerate(lists)],
)

# Columns without rows, and one column of empty cells.
pq.write_table(pa.table({"a": pa.array([], pa.int32()), "b": pa.array([], pa.string())}), path("empty.parquet"))
expect("empty.parquet", ["a", "b"], [])
pq.write_table(pa.table({"a": pa.array([None, "", "x"])}), path("one.parquet"))
expect("one.parquet", ["a"], [[""], [""], ["x"]])
identifiers = [uuid.UUID(int=n).bytes for n in (1, 2**127)]
pq.write_table(pa.table({"id": pa.array(identifiers, pa.uuid())}), path("uuid.parquet"))
expect("uuid.parquet", ["id"], [[str(uuid.UUID(bytes=value))] for value in identifiers])

# XLSX: the kinds of cells.
book = openpyxl.Workbook()
sheet = book.active
sheet.title = "First"
sheet.append(["name", "number", "when", "flag", "share", "formula", "error"])
sheet.append(["Ann", 1.5, dt.datetime(2024, 2, 29, 13, 45, 10), True, 0.07, "=B2*2", "#DIV/0!"])
sheet.append(['say "x", y', 0.1 + 0.2, dt.date(1900, 1, 1), False, 1, "=B3*2", None])
sheet.append(["two\nlines", 12345678901234, dt.time(18, 30), None, -0.5, None, "#N/A"])
sheet.append([None, None, dt.timedelta(hours=36), None, None, None, None])
sheet.append(["  spaces <&> Zoë ", -3, dt.date(1900, 2, 28), None, None, None, None])
for row in range(2, 7):
    sheet.cell(row, 5).number_format = "0.0%"
sheet.merge_cells("A8:B9")
sheet["A8"] = "merged"
sheet["G9"] = "beside"
second = book.create_sheet("Zweites & <Blatt>")
second.append(["Report of the year"])
second.append([])
second.append(["city", "people"])
for i in range(500):
    second.append([f"city {i}", i * 1000])
book.create_chartsheet("Chart")
hidden = book.create_sheet("Hidden", 0)
hidden.sheet_state = "hidden"
hidden.append(["x"])
hidden.append([1])
book.active = 1
book.save(path("kinds.xlsx"))
sheets = ["Hidden", "First", "Zweites & <Blatt>"]
first = [
    ["name", "number", "when", "flag", "share", "formula", "error"],
    [
        ["Ann", "1.5", "2024-02-29 13:45:10", "TRUE", "7%", "=B2*2", "#DIV/0!"],
        ['say "x", y', "0.3", "1900-01-01", "FALSE", "100%", "=B3*2", ""],
        ["two\nlines", "12345678901234", "18:30:00", "", "-50%", "", "#N/A"],
        ["", "", "36:00:00", "", "", "", ""],
        ["  spaces <&> Zoë ", "-3", "1900-02-28", "", "", "", ""],
        ["merged", "", "", "", "", "", ""],
        ["", "", "", "", "", "", "beside"],
    ],
]
expect("kinds.xlsx", *first, sheets=sheets, sheet="First")
expect(
    "kinds.xlsx",
    ["city", "people"],
    [[f"city {i}", str(i * 1000)] for i in range(500)],
    sheets=sheets,
    sheet="Zweites & <Blatt>",
)
expect("kinds.xlsx", ["x"], [["1"]], sheets=sheets, sheet="Hidden")

# Days since 1904.
book = openpyxl.Workbook()
book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
book.active.append(["day", "n"])
book.active.append([dt.date(1904, 1, 2), 1])
book.active.append([dt.datetime(2024, 2, 29, 6), 2])
book.save(path("mac.xlsx"))
expect("mac.xlsx", ["day", "n"], [["1904-01-02", "1"], ["2024-02-29 06:00:00", "2"]], sheets=["Sheet"], sheet="Sheet")


def xlsx(name, sheet_xml, strings_xml=None):
    """A workbook with forms that openpyxl does not write: stored results, inline and rich strings."""
    types = '<Default Extension="xml" ContentType="application/xml"/>'
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    package = 'xmlns="http://schemas.openxmlformats.org/package/2006/relationships"'
    with zipfile.ZipFile(path(name), "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">{types}</Types>',
        )
        out.writestr(
            "_rels/.rels",
            f'<Relationships {package}><Relationship Id="r" Type="{relation}/officeDocument" Target="/xl/workbook.xml"/></Relationships>',
        )
        out.writestr(
            "xl/workbook.xml",
            f'<x:workbook xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="{relation}">'
            '<x:sheets><x:sheet name="S" sheetId="1" r:id="a"/></x:sheets></x:workbook>',
        )
        out.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships {package}><Relationship Id="a" Type="{relation}/worksheet" Target="worksheets/../worksheets/s.xml"/>'
            f'<Relationship Id="b" Type="{relation}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
        )
        out.writestr("xl/worksheets/s.xml", f"<worksheet {main}><sheetData>{sheet_xml}</sheetData></worksheet>")
        if strings_xml:
            out.writestr("xl/sharedStrings.xml", f"<sst {main}>{strings_xml}</sst>")


xlsx(
    "forms.xlsx",
    '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>in&#108;ine</t></is></c><c r="C1" t="str"><f>T(1)</f><v>C &amp; D</v></c></row>'
    '<row r="7"><c><f>A1+1</f><v>2.5E-3</v></c><c t="b"><v>1</v></c><c t="e"><v>#REF!</v></c></row>'
    '<row r="9"><c r="B9" t="d"><v>2024-02-29</v></c></row><row r="10"><c r="A10" s="5"/></row>'
    '<row r="11"><c r="C11" t="inlineStr"><is><r><t>rich </t></r><r><t xml:space="preserve">text_x000A_!</t></r></is></c></row>',
    "<si><r><t>na</t></r><r><t>me</t></r><rPh sb='0' eb='1'><t>x</t></rPh></si>",
)
expect(
    "forms.xlsx",
    ["name", "inline", "C & D"],
    [["0.0025", "TRUE", "#REF!"], ["", "2024-02-29", ""], ["", "", "rich text\n!"]],
    sheets=["S"],
    sheet="S",
)

with open(path("expected.json"), "w") as out:
    json.dump(expected, out)
