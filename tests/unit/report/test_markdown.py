from __future__ import annotations

import msgspec

from rayfit.records.storage import Storage
from rayfit.records.sweep import Agreement
from rayfit.report.markdown import render_markdown
from tests.finished import finished
from tests.unit.plan.examples import plan_of


def test_a_section_has_the_question_the_command_the_table_and_the_matrix(storage: Storage) -> None:
    record = finished(storage, plan_of(storage))
    command = "python sweeps/x.py --storage '/my runs' --seeds 0,1 --tracking-uri http://x"
    agreement = Agreement(
        model="m",
        labels=("a", "b"),
        trials=(None, "t"),
        matrix=((1.0, 0.25), (0.25, 1.0)),
        num_positions=1234,
    )
    record = msgspec.structs.replace(
        record,
        sweep_kind="tried",
        question="Which?",
        source="a test",
        figures=({"kind": "agreement"},),
        launches=(msgspec.structs.replace(record.launches[0], command=command),),
        agreement=agreement,
    )
    text = render_markdown(record)
    assert text.startswith("## tried\n\nWhich? (a test)\n")
    assert "$ python sweeps/x.py --seeds 0,1\n" in text
    assert "| hyperfitted |" in text and "10 contexts per row" in text
    several = tuple(msgspec.structs.replace(row, seed=seed) for row in record.rows for seed in (0, 1))
    assert "| hyperfitted | 2 |" in render_markdown(msgspec.structs.replace(record, rows=several))
    assert "over 1,234 positions" in text and "| b | 0.250 | 1.000 |" in text
    assert "positions" not in render_markdown(msgspec.structs.replace(record, figures=()))
