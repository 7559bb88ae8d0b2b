from __future__ import annotations

from pathlib import Path

from rayfit.report.rows import sweep_rows

from rayfit.records.storage import Storage
from rayfit.report.markdown import render_markdown
from tests.unit.plan.examples import plan_of
from tests.unit.report.examples import write_all


def test_a_section_has_the_question_the_command_the_table_and_the_matrix(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    plan = plan_of(storage)
    write_all(storage, plan)
    record = {
        "sweep_kind": "tried",
        "question": "Which?",
        "source": "a test",
        "options": {"contexts": 10},
        "rows": sweep_rows(plan, storage, {}),
        "figures": [{"kind": "agreement"}],
        "launches": [
            {"command": "python sweeps/x.py --storage '/my runs' --seeds 0,1 --tracking-uri http://x"}
        ],
        "agreement": {"labels": ["a", "b"], "matrix": [[1.0, 0.25], [0.25, 1.0]], "num_positions": 1234},
    }
    text = render_markdown(record)
    assert text.startswith("## tried\n\nWhich? (a test)\n")
    assert "$ python sweeps/x.py --seeds 0,1\n" in text
    assert "| hyperfitted |" in text and "10 contexts per row" in text
    several = [{**row, "seed": seed} for row in record["rows"] for seed in (0, 1)]
    assert "| hyperfitted | 2 |" in render_markdown({**record, "rows": several})
    assert "over 1,234 positions" in text and "| b | 0.250 | 1.000 |" in text
    assert "positions" not in render_markdown({**record, "figures": []})
