"""What commands and long work tell: on a terminal, in a log, in a file."""

import logging
import subprocess
import sys

import pytest

from omfa.pipeline import progress, simulate
from omfa.pipeline.cli import main
from omfa.pipeline.progress import LOG, bar, logged


def test_a_bar_is_a_line_of_the_log_a_minute_where_there_is_no_terminal(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    with caplog.at_level(logging.INFO, "omfa"), bar(total=300, what="work", unit="rec") as counted:
        for _ in range(300):
            now[0] += 1.0
            counted.update()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    assert all(line.startswith("work:") for line in lines)
    assert "60/300" in lines[0]
    assert "300/300" in lines[-1]


def test_a_bar_that_is_not_to_be_shown_tells_nothing(caplog, capsys):
    with caplog.at_level(logging.DEBUG, "omfa"):
        assert list(bar(range(3), shown=False)) == [0, 1, 2]
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_what_takes_less_than_a_minute_is_told_to_the_patient_only(caplog):
    with caplog.at_level(logging.DEBUG, "omfa"):
        assert list(bar(iter("abc"), total=3, what="letters")) == ["a", "b", "c"]
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage().startswith("letters: 100% 3/3")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw") / "seed"
    simulate("seed", root, subjects=1, sessions=1, seconds=2, progress=False)
    return root


def test_quiet_leaves_results_and_errors(raw, tmp_path, capsys):
    store = str(tmp_path / "a.zarr")
    assert main(["seed", str(raw), store, "--serial", "--quiet"]) == 0
    told = capsys.readouterr()
    assert "1 stored" in told.out
    assert told.err == ""
    assert main(["seed", str(raw / "nowhere"), store, "--quiet"]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_verbose_tells_of_each_recording(raw, tmp_path, capsys):
    assert main(["seed", str(raw), str(tmp_path / "a.zarr"), "--serial", "--verbose"]) == 0
    assert "sub-01_ses-1_run-1: stored" in capsys.readouterr().err


def test_a_log_file_has_all_of_it_with_times_and_grows(raw, tmp_path, capsys):
    store, log = str(tmp_path / "a.zarr"), tmp_path / "logs" / "a.log"
    assert main(["seed", str(raw), store, "--serial", "--quiet", "--log-file", str(log)]) == 0
    assert capsys.readouterr().err == ""
    first = log.read_text()
    assert "DEBUG seed: 100% 1/1" in first
    assert main(["seed", str(raw / "no"), store, "--log-file", str(log)]) == 2
    both = log.read_text()
    assert both.startswith(first)
    assert "ERROR omfa-ingest: SEED reader: looking in" in both
    assert not LOG.handlers


def test_a_log_that_cannot_be_written_ends_the_command_before_it_begins(raw, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    log = tmp_path / "file" / "a.log"
    assert main(["seed", str(raw), str(tmp_path / "a.zarr"), "--log-file", str(log)]) == 2
    assert "Keeping the log in" in capsys.readouterr().err
    assert not (tmp_path / "a.zarr").exists()


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        main(["verify", "a.zarr", "--quiet", "--verbose"])
    assert "not allowed with" in capsys.readouterr().err


def test_bars_give_way_to_lines_where_a_terminal_is_to_be_quiet(monkeypatch, caplog):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with logged(logging.WARNING):
        assert isinstance(bar(total=1), progress._Lines)  # noqa: SLF001 - which of two it is
    assert not isinstance(bar(total=1), progress._Lines)  # noqa: SLF001


def test_a_command_within_a_command_tells_once(capsys):
    with logged(), logged():
        LOG.info("a line")
    assert capsys.readouterr().err == "a line\n"
    assert not LOG.handlers


def test_a_script_hears_omfa_by_pythons_own_logging(raw, tmp_path):
    script = (
        "import logging; logging.basicConfig(level=logging.DEBUG)\n"
        "from omfa.pipeline import ingest\n"
        f"ingest('seed', {str(raw)!r}, {str(tmp_path / 'b.zarr')!r}, serial=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "DEBUG:omfa:seed: 100% 1/1" in done.stderr
