"""Whatever is cited from the paper is in the paper: equations, sections, tables, figures."""

import re
from pathlib import Path

import pytest

from stochrestore.book import notebook

ROOT = Path(__file__).parents[2]
NUMBERS = r"(\d+(?:(?:\s*(?:–|,|and|or)\s*)\d+(?![\d.]*\s*[A-Za-z×·%]))*)"
EQUATION = re.compile(rf"\bEqs?\.\s*{NUMBERS}|\bEquations?\s+{NUMBERS}")
PLACES = {
    "appendix": (
        re.compile(r"\bApp(?:\.|endix|endices)\s+([A-Z](?:\.\d+)*)\b"),
        {
            "A",
            "B",
            "B.1",
            "B.2",
            "C",
            "D",
            "E",
            "E.1",
            "E.2",
            "E.2.1",
            "E.2.2",
            "E.2.3",
            "E.2.4",
            "E.2.5",
            "F",
            "G",
        },
    ),
    "section": (
        re.compile(r"\bSec(?:\.|tion)\s+(\d+(?:\.\d+)*)"),
        {
            "1",
            "2",
            "2.1",
            "2.2",
            "3",
            "4",
            "4.1",
            "4.2",
            "5",
            "6",
            "6.1",
            "6.1.1",
            "6.1.2",
            "6.2",
            "7",
        },
    ),
    "table": (re.compile(r"\bTable\s+(\d+)"), set("1234")),
    "figure": (re.compile(r"\bFig(?:\.|ure)\s+(\d+)"), set("12345678")),
    "theorem": (re.compile(r"\b(?:Thm|Theorem)\s+(\d+(?:\.\d+)*)"), {"3.1"}),
}
THEORY = [
    "problems/finite.py",
    "problems/gaussian.py",
    "problems/square.py",
    "estimators/polytope.py",
    "estimators/linear_gaussian.py",
    "estimators/zigzag.py",
    "metrics/wasserstein.py",
    "experiments/theorem_3_1.py",
    "experiments/appendix_c.py",
]


def equations(text):
    """All equation numbers a text cites, ranges and lists spelled out."""
    found = [next(filter(None, match.groups())) for match in EQUATION.finditer(text)]
    return [int(number) for group in found for number in re.findall(r"\d+", group)]


def unknown(text):
    """Whatever a text cites that the paper does not have."""
    wrong = [f"Eq. {n}" for n in equations(text) if not 1 <= n <= 25]
    for kind, (pattern, known) in PLACES.items():
        wrong += [f"{kind} {name}" for name in pattern.findall(text) if name not in known]
    return wrong


def texts():
    """Everything written here that may cite the paper: path → text."""
    for folder, pattern in (("src", "*.py"), ("src", "*.yaml"), ("book", "*.md")):
        for path in (ROOT / folder).rglob(pattern):
            if "executed" not in path.parts:
                yield path, path.read_text("utf-8")
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        yield path, notebook.text(path)


SOURCES = {str(path.relative_to(ROOT)): text for path, text in texts()}


@pytest.mark.parametrize("name", SOURCES)
def test_citations_exist(name):
    assert unknown(SOURCES[name]) == []


@pytest.mark.parametrize("name", THEORY)
def test_theory_names_its_place_in_the_paper(name):
    text = SOURCES[f"src/stochrestore/{name}"]
    assert equations(text) or any(pattern.search(text) for pattern, _ in PLACES.values())


def test_theory_is_about_every_equation_of_appendices_c_and_d():
    chapters = [SOURCES[f"notebooks/{n}.ipynb"] for n in ("theorem_3_1", "appendix_c")]
    claims = SOURCES["src/stochrestore/book/claims.yaml"]
    cited = set(equations("\n".join([*chapters, claims])))
    ends = {int(n) for pair in re.findall(r"Eq\. \D*(\d+)–(\d+)", claims) for n in pair}
    assert {1, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 25} <= cited | ends


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Eq. 10–19, Eq. 3 and Eq. 25", []),
        ("Eq. 10, 26", ["Eq. 26"]),
        ("Eqs. 15 and 36", ["Eq. 36"]),
        ("Equation 0", ["Eq. 0"]),
        ("Eq. 6, 50 seeds", []),
        ("App. E.2.3, Appendix H", ["appendix H"]),
        ("Sec. 2.3", ["section 2.3"]),
        ("Table 5 and Figure 9", ["table 5", "figure 9"]),
        ("Theorem 3.2", ["theorem 3.2"]),
    ],
)
def test_the_check_itself(text, wrong):
    assert unknown(text) == wrong
