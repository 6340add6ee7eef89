import subprocess
import sys

import pytest

from stock import OutOfStock, Stock


@pytest.fixture
def stock():
    stock = Stock()
    stock.put("bolt", 10)
    return stock


@pytest.mark.parametrize("count", range(1, 11))
def test_take(stock, count):
    assert stock.take("bolt", count) == 10 - count


def test_too_many(stock):
    with pytest.raises(OutOfStock, match="11 bolt wanted, 10 there"):
        stock.take("bolt", 11)


def test_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").write_text("1")
    print(*[p.name for p in tmp_path.iterdir()])
    assert capsys.readouterr().out == "one\n"


def test_child(tmp_path):
    done = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "42\n"


def test_that_fails(stock):
    assert stock.put("nut") == 2, "on purpose"
