"""docs/operators.md says what the table says, and its snippets run."""

from __future__ import annotations

import re

import pytest

from conftest import ROOT
from pliant.ops import OPERATORS

TEXT = (ROOT / "docs" / "operators.md").read_text()


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_described_as_in_the_table(name):
    row = OPERATORS[name]
    assert f"| `{name}` | {row.formula} | {row.source} |" in TEXT


@pytest.mark.parametrize("number, snippet", list(enumerate(re.findall(r"```python\n(.*?)```", TEXT, re.S))))
def test_its_snippets_run(number, snippet):
    exec(snippet, {})


def test_its_pictures_exist():
    for path in re.findall(r"\]\((pictures/[^)]*)\)", TEXT):
        assert (ROOT / "docs" / path).exists(), path
