"""The paper's statements as claims: what to measure, what must hold, what was found.

``claims.yaml`` lists the claims. A notebook gathers its measurements as :class:`Evidence`, which
the page shows as a table and the executed notebook keeps as JSON. :func:`check` prints the
verdicts.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from stochrestore.errors import InputError, require
from stochrestore.figures.numbers import typeset
from stochrestore.metrics.interval import Interval

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not tested"]
Over = Literal["trainings", "images", "samples", "one training", "exact"]
MIME_TYPE = "application/vnd.stochrestore.claims+json"

# What an interval is over, as the tables say it.
_OVER: dict[str, str] = {
    "trainings": "over trainings",
    "images": "over images, at these networks",
    "samples": "over samples",
    "one training": "of one training, without an interval",
    "exact": "exact",
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RELATION = re.compile(
    rf"(?P<op><=|>=|<|>|==)\s*(?P<bound>{_NUMBER})"
    rf"|in\s*\[\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*\]"
)
_DIFFERENCE = re.compile(rf"({_NUMBER}) − ({_NUMBER})")
Kind = Literal["proofs and exact checks", "the toy problem", "images", "this book's own"]


class Claim(BaseModel):
    """One row of ``claims.yaml``.

    ``relation`` is ``"> 0.1"`` (or ``<``, ``>=``, ``<=``, ``==``) or ``"in [low, high]"``, and
    speaks of ``quantity``. ``expected`` gives the verdict per preset, ``not tested`` where the
    preset is too small to tell; a preset not listed has no expectation. A ``fact`` holds whatever
    was trained or drawn, by the way it is measured; it is shown, but has no verdict.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    notebook: str
    statement: str
    where: str
    quantity: str
    relation: str
    paper: str
    expected: dict[str, Verdict]
    note: str = ""
    fact: bool = False

    @property
    def kind(self) -> Kind:
        """What a verdict on it rests on, or that the paper does not say it."""
        if self.where.startswith("new"):
            return "this book's own"
        if self.notebook in ("theorem_3_1", "appendix_c", "lipschitz"):
            return "proofs and exact checks"
        return "the toy problem" if self.notebook == "toy_tradeoff" else "images"

    def judge(self, measured: Interval) -> Verdict:
        """The verdict on an interval.

        Returns:
            ``reproduced`` if the whole interval satisfies the relation, ``not reproduced`` if none
            of it does, and else ``inconclusive``.
        """
        match = _RELATION.fullmatch(self.relation)
        if match is None:
            raise InputError(
                f"claims.yaml, {self.id}: relation {self.relation!r} is not understood"
            )
        op, bound = match["op"] or "in", float(match["bound"] or 0)
        first, last = (float(match[name] or bound) for name in ("low", "high"))
        satisfies = {
            ">": lambda value: value > bound,
            ">=": lambda value: value >= bound,
            "<": lambda value: value < bound,
            "<=": lambda value: value <= bound,
        }.get(op, lambda value: first <= value <= last)
        ends = [satisfies(measured.low), satisfies(measured.high)]
        if all(ends):
            return "reproduced"
        around = op in ("in", "==") and measured.low < first and last < measured.high
        return "inconclusive" if any(ends) or around else "not reproduced"


@cache
def registry() -> dict[str, Claim]:
    """All claims, by id, in the order of ``claims.yaml``."""
    text = resources.files("stochrestore.book").joinpath("claims.yaml").read_text("utf-8")
    claims = TypeAdapter(list[Claim]).validate_python(yaml.safe_load(text))
    ids = [claim.id for claim in claims]
    require(len(set(ids)) == len(ids), "claims.yaml: ids", ids, "each id once")
    return {claim.id: claim for claim in claims}


@dataclass(frozen=True)
class Evidence:
    """A notebook's claims beside what it measured, at one preset.

    ``over`` says of each measured interval what varies in it: ``trainings``; ``images`` where the
    networks are given; ``samples`` of a known distribution. What was found without an interval is
    ``exact``, or of ``one training``.
    """

    notebook: str
    preset: str
    measured: Mapping[str, Interval]
    over: Mapping[str, Over]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.measured) - {claim.id for claim in self.claims()})
        require(not unknown, f"claims of {self.notebook}", unknown, "ids listed in claims.yaml")
        silent = sorted(set(self.measured) - set(self.over))
        require(not silent, f"claims of {self.notebook}: over", silent, "a word for each claim")

    def claims(self) -> list[Claim]:
        """The notebook's claims."""
        return [claim for claim in registry().values() if claim.notebook == self.notebook]

    def verdict(self, claim: Claim) -> Verdict:
        """See :meth:`Claim.judge`; what was not measured, and a fact, is not tested."""
        measured = self.tested(claim)
        return "not tested" if measured is None or claim.fact else claim.judge(measured)

    def tested(self, claim: Claim) -> Interval | None:
        """What was measured for a claim, unless the preset is too small to tell."""
        if claim.expected.get(self.preset) == "not tested":
            return None
        return self.measured.get(claim.id)

    def rows(self) -> list[dict[str, Any]]:
        """One JSON-ready record a claim."""
        return [record(claim, self) for claim in self.claims()]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/html": html_table(self.rows()), MIME_TYPE: self.rows()}


def record(claim: Claim, evidence: Evidence | None) -> dict[str, Any]:
    """A claim with what was measured for it, ready for JSON.

    Args:
        claim: the claim.
        evidence: what its notebook measured; None where the notebook has not been executed.
    """
    measured = evidence.tested(claim) if evidence else None
    return {
        **claim.model_dump(),
        "preset": evidence.preset if evidence else None,
        "value": measured.value if measured else None,
        "interval": [measured.low, measured.high] if measured else None,
        "over": evidence.over[claim.id] if evidence and measured else None,
        "verdict": evidence.verdict(claim) if evidence else "not tested",
        "expected": claim.expected.get(evidence.preset) if evidence else None,
    }


def check(evidence: Evidence) -> None:
    """Print the id and verdict of each claim, and the expected verdict where it differs.

    No numbers are printed, so that two runs print the same; the page leaves them out, since the
    table of :class:`Evidence` stands above them. Nothing is raised where a verdict
    differs, so that a reader may change parameters; ``stochrestore claims --check`` fails then.
    """
    for row in evidence.rows():
        surprise = f" (expected: {row['expected']})" if surprising(row) else ""
        print(f"{row['id']}: {verdict_text(row)}{surprise}")


def surprising(row: Mapping[str, Any]) -> bool:
    """Whether a record's verdict differs from the one expected at its preset."""
    return row["expected"] is not None and row["verdict"] != row["expected"]


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Claims as an HTML table: statement, relation, our value, the paper's, verdict."""
    names = ("claim", "holds if", "here", "paper", "verdict")
    return rows_as_table(names, (_cells(row) for row in rows))


def rows_as_table(names: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells, already HTML, as a table whose first column holds statements and last verdicts."""
    head = "".join(f"<th>{name}</th>" for name in names)
    kinds = ["statement", *["number"] * (len(names) - 2), "verdict"]
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{c}</td>' for kind, c in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<table class="claims table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    statement = f"{html.escape(row['statement'])} <small>({html.escape(row['where'])})</small>"
    relation = f"{html.escape(row['quantity'])} {html.escape(relation_text(row['relation']))}"
    return [
        statement,
        relation,
        measured_text(row),
        html.escape(row["paper"]),
        verdict_text(row) + small_effect(row),
    ]


def small_effect(row: Mapping[str, Any]) -> str:
    """A remark on a statement that is reproduced by far less than the paper's difference.

    The differences of FID are left out, since they are of other features than the paper's.
    """
    printed = _DIFFERENCE.fullmatch(row["paper"])
    if not printed or row["verdict"] != "reproduced" or row["quantity"].startswith(("FID", "loss")):
        return ""
    share = row["value"] / (float(printed[1]) - float(printed[2]))
    return f", by {share:.0%} of the paper's difference only" if 0 <= share < 0.2 else ""


def verdict_text(row: Mapping[str, Any]) -> str:
    """The verdict of a record, or that it is a fact."""
    return "a fact, not tested" if row["fact"] else row["verdict"]


def measured_text(row: Mapping[str, Any]) -> str:
    """The value and interval of a record, to three digits, and what the interval is over.

    An interval of one point is left out, and that of an exact value where these digits do not
    show it. Where nothing was measured the text is a dash.
    """
    if row["value"] is None:
        return "–"
    value, low, high = (_number(each) for each in (row["value"], *row["interval"]))
    one = row["interval"][0] == row["interval"][1]
    hidden = one or (row["over"] == "exact" and value == low == high)
    interval = "" if hidden else f" [{low}, {high}]"
    return f"{value}{interval}, {_OVER[row['over']]}"


def relation_text(relation: str) -> str:
    """A relation as it is printed: ``≥ −10⁻¹⁵`` for ``>= -1e-15``."""
    for sign, printed in (("<=", "≤"), (">=", "≥"), ("==", "=")):
        relation = relation.replace(sign, printed)
    return re.sub(_NUMBER, lambda number: typeset(number[0]), relation)


def _number(value: float) -> str:
    return typeset(f"{value:.3g}")
