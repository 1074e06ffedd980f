"""Asks `shikiri who` and DuckDB the same of the same Parquet files, by turns, and compares the answers.

who.py FOLDER SHIKIRI RUNS: FOLDER holds `archive` and `asked.json`. Prints what was measured as JSON. An answer that is
not DuckDB's ends it: then there is nothing to measure.

who.py --once FOLDER QUESTION: what it starts for one question of DuckDB as a process of its own.

DuckDB has two threads, keeps the files' metadata (`parquet_metadata_cache`), and is given the thousand objects as a table,
which is faster than to name them in the statement. Both write their answers to files, as CSV.
"""

import csv
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import duckdb

COLUMNS = [
    "node", "began", "viewer", "viewer_member", "owner", "object", "fill", "class", "page", "method", "outcome", "status",
    "bytes", "ended", "address", "boot", "lane", "sequence",
]
TAGS = {"viewer", "viewer_member", "owner", "fill", "address", "boot"}


def selected(name):
    if name == "object":
        return "lower(hex(target)) AS object"
    if name == "began":
        return "epoch_ms(began) AS began"
    return f"lower(hex({name})) AS {name}" if name in TAGS else name


ROWS = ", ".join(map(selected, COLUMNS))


class Questions:
    """What is asked, in both languages."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = json.load(open(f"{folder}/asked.json", encoding="utf-8"))
        self.objects = f"{folder}/objects.txt"
        with open(self.objects, "w", encoding="utf-8") as out:
            out.writelines(f"{tag}\n" for tag in self.asked["objects"])
        first, last = (self.instant(self.asked[key]) for key in ("from_ms", "to_ms"))
        self.window = f"{first}..{last}"
        of_objects = (
            "target IN (SELECT target FROM objects)"
            f" AND day BETWEEN '{first[:10]}' AND '{last[:10]}'"
            f" AND began BETWEEN TIMESTAMPTZ '{first}' AND TIMESTAMPTZ '{last}'"
        )
        files = f"read_parquet('{folder}/archive/serves/*/*/*.parquet', hive_partitioning = true)"
        viewers = f"SELECT DISTINCT lower(hex(viewer)) AS viewer FROM {files} WHERE viewer IS NOT NULL AND"
        rows = f"SELECT {ROWS} FROM {files} WHERE"
        one, viewer = self.asked["object"], self.asked["viewer"]
        many = ["saw", "--objects-file", self.objects, "--window", self.window]
        self.all = {
            "viewers of 1,000 objects in a window": (
                [*many, "--viewers", "--csv"],
                f"{viewers} {of_objects}",
            ),
            "responses of 1,000 objects in a window": (
                [*many, "--csv", "--tags"],
                f"{rows} {of_objects}",
            ),
            "viewers of one object": (
                ["saw", "--object", one, "--viewers", "--csv"],
                f"{viewers} target = unhex('{one}')",
            ),
            "all that one viewer was served": (
                ["seen-by", "--viewer", viewer, "--csv", "--tags"],
                f"{rows} viewer = unhex('{viewer}')",
            ),
        }

    @staticmethod
    def instant(ms):
        at = datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
        return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03}Z"

    def connect(self):
        connection = duckdb.connect(config={"threads": 2})
        connection.execute("SET parquet_metadata_cache = true")
        # It would stand among what this prints.
        connection.execute("SET enable_progress_bar = false")
        connection.execute("CREATE TEMP TABLE objects (target BLOB)")
        connection.execute(
            "INSERT INTO objects SELECT unhex(column0)"
            f" FROM read_csv('{self.objects}', header = false, columns = {{'column0': 'VARCHAR'}})"
        )
        return connection

    def write(self, connection, question, path):
        connection.execute(f"COPY ({self.all[question][1]}) TO '{path}' (FORMAT csv, HEADER)")


def computed():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# A process's memory is counted from that of the one that started it: so it is started by one that has next to none.
STARTER = """
import json, os, sys, time
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
begun = time.monotonic()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out, 1)])
_, status, used = os.wait4(child, 0)
seconds, cpu = time.monotonic() - begun, used.ru_utime + used.ru_stime
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "cpu": cpu, "kib": used.ru_maxrss}))
"""


def process(arguments, path):
    """Runs a program to its end: how long, how long it computed, and how much memory it had at most."""
    starting = [sys.executable, "-S", "-c", STARTER, path, *arguments]
    started = subprocess.run(starting, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if started.returncode != 0:
        sys.exit(f"{arguments} could not be started: {started.stderr}")
    ran = json.loads(started.stdout)
    if ran["code"] != 0:
        sys.exit(f"{arguments} ended with {ran['code']}: {started.stderr}")
    return ran


def answer(path):
    """An answer's rows, whatever their order, as the columns that both have."""
    with open(path, encoding="utf-8", newline="") as text:
        table = csv.reader(text)
        head = next(table)
        wanted = ["viewer"] if head == ["viewer"] else COLUMNS
        places = [head.index(name) for name in wanted]
        began = places[1] if len(places) > 1 else None
        rows = []
        for row in table:
            if began is not None and not row[began].isdigit():
                at = datetime.datetime.fromisoformat(row[began].replace("Z", "+00:00"))
                row[began] = str(round(at.timestamp() * 1000))
            rows.append(tuple(row[place] for place in places))
    return sorted(rows)


def measure(folder, shikiri, runs):
    # Both have two cores, also on a machine with more: `shikiri who` takes as many threads as there are.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    questions = Questions(folder)
    warm = questions.connect()
    ours, theirs = f"{folder}/ours.csv", f"{folder}/theirs.csv"
    here = [sys.executable, "-c", SOURCE, "--once", folder]
    told = []
    for question, (arguments, _) in questions.all.items():
        found = {"ours": [], "warm": [], "whole": []}
        due = None
        # The first round makes all of them warm, and is not counted.
        for turn in range(runs + 1):
            ran = process([shikiri, "who", *arguments[:1], "--from", f"{folder}/archive", *arguments[1:]], ours)
            begun, computing = time.monotonic(), computed()
            questions.write(warm, question, theirs)
            asked = {"seconds": time.monotonic() - begun, "cpu": computed() - computing}
            rows = answer(theirs)
            if not rows:
                sys.exit(f"{question}: nothing is to be found, and this shows nothing")
            if rows != answer(ours) or due not in (None, rows):
                sys.exit(f"{question}: the answers are not the same: {ours}, {theirs}")
            due = rows
            whole = process([*here, question], theirs + ".out")
            if answer(theirs) != due:
                sys.exit(f"{question}: DuckDB does not say the same twice")
            if turn > 0:
                for name, one in (("ours", ran), ("warm", asked), ("whole", whole)):
                    found[name].append(one)
        told.append({"question": question, "rows": len(due), **{name: summed(all) for name, all in found.items()}})
    nothing = [process([sys.executable, "-c", "import duckdb"], theirs + ".out") for _ in range(runs)]
    count = f"SELECT count(*) FROM read_parquet('{folder}/archive/serves/*/*/*.parquet')"
    if warm.execute(count).fetchone()[0] != questions.asked["responses"]:
        sys.exit("the archive has not the rows that were to be made")
    return {"duckdb": duckdb.__version__, "questions": told, "starting": summed(nothing), "asked": questions.asked}


def summed(runs):
    seconds = [run["seconds"] for run in runs]
    return {
        "best": min(seconds),
        "median": statistics.median(seconds),
        "cpu": statistics.median(run["cpu"] for run in runs),
        "kib": max(run.get("kib", 0) for run in runs),
    }


if sys.argv[1] == "--once":
    once = Questions(sys.argv[2])
    once.write(once.connect(), sys.argv[3], f"{sys.argv[2]}/theirs.csv")
else:
    SOURCE = sys.orig_argv[2]
    result = measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    del result["asked"]["objects"]
    print(json.dumps(result))
