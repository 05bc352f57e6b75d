"""The page "Use it in your own work": its blocks run, one after the other."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "book" / "own_work.md"


def test_every_block_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf8"), re.M | re.S)
    names: dict = {"__name__": "own_work"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        assert max(map(len, block.splitlines())) <= 78
    assert len(blocks) >= 10
    shown = capsys.readouterr().out
    for expected in ("(4, 2, 2)", "('0', '1', '2')", "Halves", "torch.float32"):
        assert expected in shown
