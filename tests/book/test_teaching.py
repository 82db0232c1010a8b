"""The plan of the page on teaching fits its own minutes."""

import re
from itertools import pairwise
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "book" / "teaching.md").read_text("utf-8")
MINUTES = {
    found[1]: int(found[2])
    for found in re.finditer(r"^\|[^|]*\| (\d\.\d) [^|]*\| (\d+) \|", PAGE, re.M)
}
PLAN = re.findall(r"^\| (\d+)–(\d+) \| (.*) \|$", PAGE, re.M)


def test_every_exercise_of_the_plan_is_given_its_minutes():
    """6.1 and 6.2, which take 25 minutes, stood in a quarter of an hour."""
    assert len(MINUTES) == 21
    given = set()
    for first, last, what in PLAN:
        for half in what.split("the other half"):
            done = re.findall(r"\*\*(\d\.\d)\*\*", half)
            assert sum(MINUTES[exercise] for exercise in done) <= int(last) - int(first), what
            given |= set(done)
    assert given >= {"2.1", "6.1", "6.2"}


def test_the_plan_has_no_gap():
    ends = [(int(first), int(last)) for first, last, _ in PLAN]
    assert ends[0][0] == 0
    assert all(last == first for (_, last), (first, _) in pairwise(ends))
    assert ends[-1][1] == 120
