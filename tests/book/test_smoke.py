"""Every notebook at the preset `smoke`: all networks trained from scratch, claims as expected."""

import pytest

from stochrestore.book import claims_page, execute, provenance


@pytest.mark.parametrize("name", provenance.notebooks())
def test_notebook_runs_at_smoke(name, tmp_path):
    page = execute.execute(name, "smoke", {"seed": 1}, tmp_path / f"{name}.ipynb")
    rows = [row for row in claims_page.records(tmp_path) if row["notebook"] == name]
    assert rows
    assert {row["preset"] for row in rows} == {"smoke"}
    assert claims_page.surprises(rows) == []
    assert '"name": "stderr"' not in page.read_text()
