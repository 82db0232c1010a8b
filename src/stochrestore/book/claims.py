"""The paper's statements as claims: what to measure, what must hold, what was found.

``claims.yaml`` lists the claims. A notebook gathers its measurements as :class:`Evidence`, which
the page shows as a table and the executed notebook keeps as JSON. :func:`check` prints the
verdicts.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from stochrestore.errors import InputError, require
from stochrestore.metrics.intervals import Interval

Verdict = Literal["reproduced", "not reproduced", "not tested"]
MIME_TYPE = "application/vnd.stochrestore.claims+json"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RELATION = re.compile(
    rf"(?P<op><=|>=|<|>|==)\s*(?P<bound>{_NUMBER})"
    rf"|in\s*\[\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*\]"
)


class Claim(BaseModel):
    """One row of ``claims.yaml``.

    ``relation`` is ``"> 0.1"`` (or ``<``, ``>=``, ``<=``, ``==``) or ``"in [low, high]"``, and
    speaks of ``quantity``. ``expected`` gives the verdict per preset, ``not tested`` where the
    preset is too small to tell; a preset not listed has no expectation.
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

    def holds(self, measured: Interval) -> bool:
        """Whether the whole interval satisfies the relation."""
        match = _RELATION.fullmatch(self.relation)
        if match is None:
            raise InputError(
                f"claims.yaml, {self.id}: relation {self.relation!r} is not understood"
            )
        low, high = measured.low, measured.high
        if match["op"] is None:
            return float(match["low"]) <= low and high <= float(match["high"])
        bound = float(match["bound"])
        return {
            ">": low > bound,
            ">=": low >= bound,
            "<": high < bound,
            "<=": high <= bound,
            "==": low == high == bound,
        }[match["op"]]


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
    """A notebook's claims beside what it measured, at one preset."""

    notebook: str
    preset: str
    measured: Mapping[str, Interval]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.measured) - {claim.id for claim in self.claims()})
        require(not unknown, f"claims of {self.notebook}", unknown, "ids listed in claims.yaml")

    def claims(self) -> list[Claim]:
        """The notebook's claims."""
        return [claim for claim in registry().values() if claim.notebook == self.notebook]

    def verdict(self, claim: Claim) -> Verdict:
        """Reproduced if the whole interval satisfies the relation; not tested if not measured."""
        measured = self.tested(claim)
        if measured is None:
            return "not tested"
        return "reproduced" if claim.holds(measured) else "not reproduced"

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
        "id": claim.id,
        "notebook": claim.notebook,
        "preset": evidence.preset if evidence else None,
        "statement": claim.statement,
        "where": claim.where,
        "quantity": claim.quantity,
        "relation": claim.relation,
        "value": measured.value if measured else None,
        "interval": [measured.low, measured.high] if measured else None,
        "paper": claim.paper,
        "verdict": evidence.verdict(claim) if evidence else "not tested",
        "expected": claim.expected.get(evidence.preset) if evidence else None,
        "note": claim.note,
    }


def check(evidence: Evidence) -> None:
    """Print the id and verdict of each claim, and the expected verdict where it differs.

    No numbers are printed, so that two runs print the same. Nothing is raised where a verdict
    differs, so that a reader may change parameters; ``stochrestore claims --check`` fails then.
    """
    for row in evidence.rows():
        surprise = f" (expected: {row['expected']})" if surprising(row) else ""
        print(f"{row['id']}: {row['verdict']}{surprise}")


def surprising(row: Mapping[str, Any]) -> bool:
    """Whether a record's verdict differs from the one expected at its preset."""
    return row["expected"] is not None and row["verdict"] != row["expected"]


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Claims as an HTML table: statement, relation, our value, the paper's, verdict."""
    head = "".join(f"<th>{name}</th>" for name in ("claim", "holds if", "here", "paper", "verdict"))
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return (
        f'<table class="claims table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _cells(row: Mapping[str, Any]) -> str:
    statement = f"{html.escape(row['statement'])} <small>({html.escape(row['where'])})</small>"
    relation = f"{html.escape(row['quantity'])} {html.escape(row['relation'])}"
    cells = [statement, relation, measured_text(row), html.escape(row["paper"]), row["verdict"]]
    return "".join(f"<td>{cell}</td>" for cell in cells)


def measured_text(row: Mapping[str, Any]) -> str:
    """The value and interval of a record, to three digits; a dash where nothing was measured."""
    if row["value"] is None:
        return "–"
    low, high = row["interval"]
    value = f"{row['value']:.3g}"
    return value if low == high else f"{value} [{low:.3g}, {high:.3g}]"
