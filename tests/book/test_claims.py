import json
import operator
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stochrestore import config
from stochrestore.book import claims, claims_page
from stochrestore.book.claims import Claim, Evidence
from stochrestore.errors import InputError
from stochrestore.experiments.registry import CHAPTERS
from stochrestore.figures.numbers import typeset
from stochrestore.metrics.interval import Interval

OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
TRAINED = {"coin.a": "trainings"}
numbers = st.integers(-5, 5)
intervals = st.tuples(numbers, numbers, numbers).map(sorted)


def claim(identity="coin.a", relation="> 0.1", **changes):
    fields = {
        "id": identity,
        "notebook": "coin",
        "statement": "It is <fair>",
        "where": "Sec. 1",
        "quantity": "mean",
        "relation": relation,
        "paper": "0.5",
        "expected": {"smoke": "not tested", "laptop": "reproduced"},
    }
    return Claim(**fields | changes)


@pytest.fixture
def registry(monkeypatch):
    known = [claim(), claim("coin.b", "< 0.1"), claim("dice.a", notebook="dice")]
    monkeypatch.setattr(claims, "registry", lambda: {c.id: c for c in known})


def verdict(satisfies, interval):
    """The verdict by its definition, on a grid that holds each end and what lies between."""
    low, _, high = interval
    inside = [satisfies(k / 2) for k in range(2 * low, 2 * high + 1)]
    return "reproduced" if all(inside) else "inconclusive" if any(inside) else "not reproduced"


@given(intervals, st.sampled_from(sorted(OPERATORS)), numbers)
def test_a_verdict_is_about_the_whole_interval(interval, op, bound):
    low, value, high = interval
    found = claim(relation=f"{op} {bound}").judge(Interval(value, low, high))
    assert found == verdict(lambda point: OPERATORS[op](point, bound), interval)


@given(intervals, intervals)
def test_in_is_judged_by_how_the_intervals_lie(interval, allowed):
    low, value, high = interval
    relation = f"in [{allowed[0]}, {allowed[2]}]"
    found = claim(relation=relation).judge(Interval(value, low, high))
    assert found == verdict(lambda point: allowed[0] <= point <= allowed[2], interval)


@given(intervals, numbers)
def test_equality_needs_an_exact_value(interval, bound):
    low, value, high = interval
    found = claim(relation=f"== {bound}").judge(Interval(value, low, high))
    assert found == verdict(lambda point: point == bound, interval)


@pytest.mark.parametrize("relation", ["about 3", "> ", "in [1]", "> 1 or < 0", ""])
def test_a_relation_not_understood_is_named(relation):
    with pytest.raises(InputError, match=re.escape(f"coin.a: relation {relation!r}")):
        claim(relation=relation).judge(Interval.exact(1))


@pytest.mark.usefixtures("registry")
def test_evidence_gives_verdicts_and_records():
    evidence = Evidence("coin", "laptop", {"coin.a": Interval(0.5, 0.4, 0.6)}, TRAINED)
    first, second = json.loads(json.dumps(evidence.rows()))
    assert (first["verdict"], first["value"], first["interval"]) == ("reproduced", 0.5, [0.4, 0.6])
    assert (second["verdict"], second["value"], second["interval"]) == ("not tested", None, None)
    too_small = Evidence("coin", "smoke", {"coin.a": Interval.exact(0.5)}, TRAINED)
    assert too_small.rows()[0]["verdict"] == "not tested"


@pytest.mark.usefixtures("registry")
def test_evidence_for_an_unlisted_claim_is_refused():
    with pytest.raises(InputError, match=r"claims of coin: got \['dice.a'\]"):
        Evidence("coin", "laptop", {"dice.a": Interval.exact(1)}, {"dice.a": "exact"})


@pytest.mark.usefixtures("registry")
def test_each_claim_says_what_its_interval_is_over():
    measured = {"coin.a": Interval(0.5, 0.4, 0.6)}
    with pytest.raises(InputError, match=r"claims of coin: over: got \['coin.a'\]"):
        Evidence("coin", "laptop", measured, {})
    for over, words in claims._OVER.items():
        row = Evidence("coin", "laptop", measured, {"coin.a": over}).rows()[0]
        assert claims.measured_text(row) == f"0.5 [0.4, 0.6], {words}"
    near = {"coin.a": Interval(-1, -1 - 1e-9, -1 + 1e-9)}
    for over, said in (("exact", "−1, exact"), ("samples", "−1 [−1, −1], over samples")):
        row = Evidence("coin", "laptop", near, {"coin.a": over}).rows()[0]
        assert claims.measured_text(row) == said
    point = Evidence("coin", "laptop", {"coin.a": Interval.exact(0.5)}, {"coin.a": "images"})
    assert claims.measured_text(point.rows()[0]).startswith("0.5, over images")


def test_a_fact_is_shown_and_has_no_verdict(monkeypatch, capsys):
    known = claim(fact=True, expected={})
    monkeypatch.setattr(claims, "registry", lambda: {known.id: known})
    evidence = Evidence("coin", "smoke", {known.id: Interval.exact(0.05)}, {known.id: "exact"})
    claims.check(evidence)
    assert capsys.readouterr().out == "coin.a: a fact, not tested\n"
    (row,) = evidence.rows()
    assert row["value"] == 0.05
    assert claims_page.summary([row]).startswith("0 reproduced, 0 not reproduced")


@pytest.mark.usefixtures("registry")
def test_check_prints_verdicts_and_surprises_without_floats(capsys):
    claims.check(Evidence("coin", "laptop", {"coin.a": Interval.exact(0.05)}, TRAINED))
    printed = capsys.readouterr().out
    assert printed.splitlines() == [
        "coin.a: not reproduced (expected: reproduced)",
        "coin.b: not tested (expected: reproduced)",
    ]


@pytest.mark.usefixtures("registry")
def test_the_table_escapes_and_shows_three_digits():
    table = claims.html_table(
        Evidence("coin", "laptop", {"coin.a": Interval(1 / 3, 0.3, 0.4)}, TRAINED).rows()
    )
    assert "It is &lt;fair&gt;" in table
    assert "0.333 [0.3, 0.4]" in table
    assert "mean &gt; 0.1" in table


def test_every_claim_of_the_book_is_well_formed():
    for listed in claims.registry().values():
        listed.judge(Interval.exact(0))
        assert listed.fact == (listed.expected == {})
        assert listed.notebook in CHAPTERS, listed.id
        assert set(listed.expected) <= set(config.PRESETS), listed.id
        assert listed.statement.endswith("."), listed.id


NEGATIONS = re.compile(
    r"\b(no|not|never|nothing|nobody|without|cannot|neither|fails?|hardly|lacks?|other)\b", re.I
)


def test_a_verdict_is_not_the_opposite_of_its_ids_words():
    """``printed-weight-has-no-effect: not reproduced`` said that it has one."""
    for identity, listed in claims.registry().items():
        words = identity.partition(".")[2].replace("-", " ")
        if NEGATIONS.search(words):
            assert NEGATIONS.search(listed.statement), identity


PRINTED = re.compile(r"(-?[\d.]+) ([−/]) ([\d.]+)(?: = [\d.]+)?")


def test_what_the_paper_prints_satisfies_the_relation():
    """So thresholds are between the paper's number and what would contradict it."""
    judged = {}
    for identity, listed in claims.registry().items():
        if found := PRINTED.fullmatch(listed.paper):
            a, b = float(found[1]), float(found[3])
            value = a - b if found[2] == "−" else a / b
            judged[identity] = listed.judge(Interval.exact(value))
    assert len(judged) > 20
    others = {identity for identity, verdict in judged.items() if verdict != "reproduced"}
    assert others == {"toy.table-3-higher-is-better"}  # its heading contradicts its numbers


def test_verdicts_are_counted_by_what_they_rest_on():
    rows = [claims.record(listed, None) for listed in claims.registry().values()]
    table = claims_page.by_kind(rows)
    kinds = ("proofs and exact checks", "the toy problem", "images", "this book's own")
    counts = [re.search(rf"\| {kind} \|.* (\d+) \|$", table, re.M)[1] for kind in kinds]
    assert min(map(int, counts)) > 0
    assert sum(map(int, counts)) == sum(not row["fact"] for row in rows)
    own = [listed for listed in claims.registry().values() if listed.kind == "this book's own"]
    assert {listed.id for listed in own} > {"srflow.heat-zero", "appendix-c.sensitivity"}


def test_a_drop_much_smaller_than_the_papers_says_so():
    row = {"paper": ".382 − .022", "verdict": "reproduced", "quantity": "recall", "value": 0.009}
    assert claims.small_effect(row) == ", by 2% of the paper's difference only"
    for other in (
        {"value": 0.3},
        {"verdict": "not reproduced"},
        {"quantity": "FID of a − FID of b"},
        {"paper": "0.95"},
    ):
        assert claims.small_effect(row | other) == ""


@pytest.mark.parametrize(
    ("relation", "printed"),
    [(">= -1e-15", "≥ −10⁻¹⁵"), ("== 0", "= 0"), ("in [-0.1, 0.1]", "in [−0.1, 0.1]")],
)
def test_relations_and_numbers_are_printed_as_a_reader_writes_them(relation, printed):
    assert claims.relation_text(relation) == printed
    assert typeset("-2.93e-05") == "−2.93·10⁻⁵"
    assert typeset("1e+03") == "10³"
