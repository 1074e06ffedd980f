"""Runs the DuckDB statements of docs/evidence-format.md on an archive, and compares with the rows.

check.py DOCUMENT ROWS: in the folder that holds `archive`. ROWS is what `shikiri evidence cat --json`
printed of the same lanes. What the answers must be is computed here from the rows alone.
"""

import collections
import datetime
import json
import re
import sys

import duckdb

document, rows = sys.argv[1:]
text = open(document, encoding="utf-8").read()
part = text.split("\n#### DuckDB\n", 1)[1].split("\n#### ", 1)[0]
statements = re.findall(r"```sql\n(.*?)```", part, re.S)

begun, serves, links = {}, [], []
for line in open(rows, encoding="utf-8"):
    row = json.loads(line)
    if row["row"] == "begin":
        # One run of one node: a lane and a number name a response.
        begun[row["lane"], row["sequence"]] = row
        row["ended"] = row["bytes"] = None
        serves.append(row)
    elif row["row"] == "end":
        of = begun[row["lane"], row["begin"]]
        of["ended"], of["bytes"] = row["ended"], row["bytes"]
    elif row["row"] == "link":
        links.append(row)


def up(tag):
    return tag and tag.upper()


def common(key):
    """The value that most responses have."""
    return collections.Counter(row[key] for row in serves if row[key]).most_common(1)[0][0]


def instant(words):
    return datetime.datetime.fromisoformat(words).timestamp() * 1000


def counted(keys, rows):
    """The rows by their keys, with how many there are of each."""
    return sorted_(key + (times,) for key, times in collections.Counter(map(keys, rows)).items())


def sorted_(rows):
    """As SQL sorts them: what is not there comes last."""
    return sorted(rows, key=lambda row: [(value is None, value) for value in row])


target, viewer = common("target"), common("viewer")
# An owner whose data was shared: there is one, or the sample has no leak to find.
shared = [row for row in serves if row["owner"] and row["fill"]]
owner = collections.Counter(row["owner"] for row in shared).most_common(1)[0][0]
fills = {row["fill"] for row in shared if row["owner"] == owner}
fill = sorted(fills)[0]

window = [instant("2020-03-16T12:24:00+09:00"), instant("2020-03-16T12:25:00+09:00")]
of_target = collections.defaultdict(list)
for row in serves:
    if row["target"] == target and window[0] <= row["began_ms"] <= window[1]:
        of_target[up(row["viewer"]), up(row["viewer_member"])].append(row["bytes"])
seen = collections.defaultdict(list)
for row in serves:
    if row["fill"] in fills:
        seen[up(row["viewer"]), up(row["fill"])].append(row["bytes"])


def whole(lengths):
    known = [length for length in lengths if length is not None]
    return sum(known) if known else None


expected = [
    sorted_(key + (len(lengths), whole(lengths)) for key, lengths in of_target.items()),
    counted(
        lambda row: (up(row["target"]), up(row["owner"]), row["outcome"], row["status"]),
        [row for row in serves if row["viewer"] == viewer],
    ),
    sorted_(
        key + (len(lengths), max(-1 if length is None else length for length in lengths))
        for key, lengths in seen.items()
    ),
    sorted_(
        (up(row["viewer"]), up(row["address"]), row["ended"], row["bytes"])
        for row in serves
        if row["fill"] == fill
    ),
    counted(
        lambda row: (
            datetime.datetime.fromtimestamp(row["began_ms"] / 1000, datetime.timezone.utc).strftime(
                "%Y-%m-%d"
            ),
            "edge-1",
            row["outcome"],
            row["class"],
        ),
        serves,
    ),
    counted(lambda row: (up(row["viewer"]), up(row["member"]), row["event"]), links),
]

if len(statements) != len(expected):
    sys.exit(f"the document has {len(statements)} statements, and {len(expected)} are known here")
connection = duckdb.connect()
for statement, due in zip(statements, expected):
    for word, tag in (("TARGET", target), ("VIEWER", viewer), ("OWNER", owner), ("FILL", fill)):
        statement = statement.replace(f"'{word}'", f"'{tag}'")
    found = connection.execute(statement).fetchall()
    if not due:
        sys.exit(f"nothing is to be found: this shows nothing\n{statement}")
    if found != due:
        sys.exit(f"{statement}\nsaid {found[:5]} ({len(found)}), and the rows say {due[:5]} ({len(due)})")
others = {row["viewer"] for row in serves if row["fill"] in fills}
if len(others) < 2:
    sys.exit("nobody was shown another's data: the sample has no leak to find")
print(f"{len(statements)} statements say what {len(serves)} responses say")
