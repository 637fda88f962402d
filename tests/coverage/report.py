#!/usr/bin/env python3
"""report.py ROOT COVERAGE.json [--missed=FILE]...: what `run` counted, as a table and two totals.

A line counts that gcc made code of. A branch is a way out of a condition, of each part of `a && b`, or a case
of a switch. Lines of ASSERT do not count, nor do branches inside of uthash's macros, which are not ours, and
what `exclusions` lists, with a reason each: fewer than 30.
"""

import fnmatch
import json
import re
import sys

LINES_WANTED = 90.0  # of volume/
BRANCHES_WANTED = 95.0  # of the groups
EXCLUSIONS_MAX = 30

# What "recovery, log and parsers" are.
GROUPS = {
    "recovery": ["volume/recovery*.c"],
    "log": ["volume/ring.c", "volume/sco*.c", "volume/stream.c", "volume/flush.c"],
    "parsers": [
        "volume/format_*.c",
        "volume/meta_page.c",
        "common/config*.c",
        "common/units.c",
        "backend/backend_s3_xml.c",
        "backend/backend_*_url.c",
        "backend/backend_swift_json.c",
        "backend/http_text.c",
        "backend/name.c",
    ],
}

MACRO_OF_OTHERS = re.compile(r"\b(HASH(?!_TOOK)|DL|LL)_[A-Z]+")


class Source:
    """One file: its text, and which of its lines do not count."""

    def __init__(self, root, name):
        with open(f"{root}/{name}", encoding="utf-8") as f:
            self.text = [""] + f.read().split("\n")
        self.asserts = self.statements(r"\bASSERT\(")
        self.others = self.statements(MACRO_OF_OTHERS.pattern + r"\s*\(")

    def statements(self, start):
        """The lines of all calls that begin so, up to their last parenthesis."""
        found, depth = set(), 0
        for number, line in enumerate(self.text):
            match = None if depth else re.search(start, line)
            if not depth and not match:
                continue
            found.add(number)
            depth += line[match.start() if match else 0 :].count("(")
            depth -= line[match.start() if match else 0 :].count(")")
            depth = max(depth, 0)
        return found


class Exclusions:
    """FILE: TEXT OF THE LINE: REASON, for each line whose branches (or which itself) no test can take."""

    def __init__(self, path):
        self.rules, self.used = [], {}
        with open(path, encoding="utf-8") as f:
            for line in f:
                if not line.strip() or line.startswith("#"):
                    continue
                name, text, reason = (part.strip() for part in line.split(" | "))
                self.rules.append((name, text, reason))

    def holds(self, name, text):
        for rule in self.rules:
            if rule[0] == name and rule[1] in text:
                self.used[rule] = self.used.get(rule, 0) + 1
                return True
        return False


class Sum:
    def __init__(self):
        self.lines = self.lines_run = self.branches = self.branches_taken = 0

    def add(self, other):
        self.lines += other.lines
        self.lines_run += other.lines_run
        self.branches += other.branches
        self.branches_taken += other.branches_taken

    @staticmethod
    def percent(part, whole):
        return 100.0 * part / whole if whole else 100.0

    def of_lines(self):
        return self.percent(self.lines_run, self.lines)

    def of_branches(self):
        return self.percent(self.branches_taken, self.branches)

    def show(self, name):
        print(
            f"{name:36} {self.lines_run:6}/{self.lines:<6} {self.of_lines():6.2f} %"
            f" {self.branches_taken:7}/{self.branches:<6} {self.of_branches():6.2f} %"
        )


def count_file(name, lines, source, exclusions, missed):
    total = Sum()
    merged = {}
    for line in lines:  # a line of an inline function is there once for each file that uses it
        number = line["line_number"]
        if line["gcovr/noncode"]:
            continue
        count, branches = merged.setdefault(number, [0, []])
        merged[number][0] = count + line["count"]
        for i, branch in enumerate(line["branches"]):
            if i < len(branches):
                branches[i] += branch["count"]
            else:
                branches.append(branch["count"])
    for number, (count, branches) in sorted(merged.items()):
        text = source.text[number] if number < len(source.text) else ""
        if number in source.asserts:
            continue
        if (count == 0 or 0 in branches) and exclusions.holds(name, text):
            continue
        total.lines += 1
        total.lines_run += count > 0
        if number in source.others:
            branches = []
        total.branches += len(branches)
        total.branches_taken += sum(taken > 0 for taken in branches)
        if missed and (count == 0 or 0 in branches):
            ways = "".join("+" if taken else "-" for taken in branches)
            print(f"{name}:{number}: {'never run' if count == 0 else 'branches ' + ways}: {text.strip()}")
    return total


def main():
    root, counted = sys.argv[1:3]
    missed = {argument.split("=", 1)[1] for argument in sys.argv[3:]}
    exclusions = Exclusions(__file__.rsplit("/", 1)[0] + "/exclusions")
    with open(counted, encoding="utf-8") as f:
        files = {entry["file"]: entry["lines"] for entry in json.load(f)["files"]}
    sums = {
        name: count_file(name, lines, Source(root, name), exclusions, name in missed)
        for name, lines in sorted(files.items())
    }
    if missed:
        return 0

    print(f"{'':36} {'lines':>13} {'':8} {'branches':>14}")
    directories = {}
    for name, total in sums.items():
        if name.startswith("volume/"):
            total.show(name)
        directories.setdefault(name.split("/")[0] + "/", Sum()).add(total)
    print()
    for name, total in directories.items():
        total.show(name)
    print()
    all_groups = Sum()
    for group, patterns in GROUPS.items():
        group_sum = Sum()
        for name, total in sums.items():
            if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                total.show(f"  {name}")
                group_sum.add(total)
        group_sum.show(group)
        all_groups.add(group_sum)
    print()
    for rule, times in exclusions.used.items():
        print(f"excluded: {rule[0]}: {rule[1]}: {rule[2]} ({times})")
    stale = [rule for rule in exclusions.rules if rule not in exclusions.used]
    for rule in stale:
        print(f"excluded in vain: {rule[0]}: {rule[1]}")
    excluded = sum(exclusions.used.values())
    lines, branches = directories["volume/"].of_lines(), all_groups.of_branches()
    print(f"{excluded} lines excluded (fewer than {EXCLUSIONS_MAX} wanted); lines of ASSERT do not count")
    print(f"lines of volume/: {lines:.2f} % (over {LINES_WANTED:g} wanted)")
    print(f"branches of recovery, log and parsers: {branches:.2f} % (over {BRANCHES_WANTED:g} wanted)")
    return int(lines <= LINES_WANTED or branches <= BRANCHES_WANTED or excluded >= EXCLUSIONS_MAX or bool(stale))


if __name__ == "__main__":
    sys.exit(main())
