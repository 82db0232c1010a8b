"""Kernels that do not start."""

import papermill
import pytest

from stochrestore.book import execute

DIED = RuntimeError("Kernel died before replying to kernel_info")  # as jupyter_client says it


@pytest.mark.parametrize("failures", [0, execute.STARTS - 1])
def test_a_kernel_whose_port_was_taken_is_started_again(failures, monkeypatch, tmp_path):
    answers = [DIED] * failures + [{"cells": []}]

    def run(*_, **__):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(papermill, "execute_notebook", run)
    assert execute._run(tmp_path / "coin.ipynb", tmp_path / "out.ipynb", {}) == {"cells": []}
    assert not answers


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (DIED, execute.ExecutionError, "coin: its kernel ended 3 times before it answered"),
        (RuntimeError("something else"), RuntimeError, "^something else$"),
    ],
)
def test_one_that_never_starts_is_named(error, expected, message, monkeypatch, tmp_path):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(papermill, "execute_notebook", run)
    with pytest.raises(expected, match=message):
        execute._run(tmp_path / "coin.ipynb", tmp_path / "out.ipynb", {})
