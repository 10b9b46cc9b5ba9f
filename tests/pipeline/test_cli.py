"""The command line as its users meet it."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from omfa.pipeline import open_store
from omfa.pipeline.cli import main


@pytest.fixture
def store(seed_tree, tmp_path):
    assert main(["seed", str(seed_tree), str(tmp_path / "s.zarr"), "--serial"]) == 0
    return str(tmp_path / "s.zarr")


def test_help_teaches_without_importing_anything_heavy():
    code = (
        "import sys; from omfa.pipeline.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'mne', 'dask', 'distributed', 'zarr', 'pandas', 'matplotlib'}\n"
        "heavy |= {'jinja2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for word in ("seed", "deap", "dreamer", "bids", "files", "moabb", "simulate", "examples:"):
        assert word in run.stdout


def test_a_sources_help_imports_neither_a_cluster_nor_a_reader_of_formats():
    code = (
        "import sys; from omfa.pipeline.cli import main\n"
        "try: main(['deap', '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'mne', 'dask', 'distributed', 'matplotlib', 'scipy.signal'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_ingest_does_not_import_torch(seed_tree, tmp_path):
    code = (
        "import sys; from omfa.pipeline.cli import main\n"
        f"main(['seed', {str(seed_tree)!r}, {str(tmp_path / 's.zarr')!r}, '--serial'])\n"
        "assert not {'torch', 'mne', 'dask', 'matplotlib', 'jinja2'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("source", ["seed", "deap", "dreamer", "bids", "files", "moabb"])
def test_every_source_explains_its_options(source, capsys):
    with pytest.raises(SystemExit) as stop:
        main([source, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    flags = "sfreq band notch reference dtype subjects workers scheduler serial dry-run rewrite"
    for flag in flags.split():
        assert f"--{flag}" in text


def test_options_reach_the_store(seed_tree, tmp_path):
    store = tmp_path / "s.zarr"
    args = "--serial --sfreq 100 --band 1 none --notch 30 --reference average --dtype float32"
    args += " --interpolate --exclude CB* --subjects 1 --transition 5 --filter-within trials"
    main(["seed", str(seed_tree), str(store), *args.split()])
    settings = open_store(store).settings
    assert settings["preprocessing"] == {
        "sfreq": 100.0,
        "band": [1.0, None],
        "notch": [30.0],
        "reference": "average",
        "interpolate": True,
        "transition": 5.0,
        "filter_within": "trials",
    }
    assert settings["channels"]["exclude"] == ["CB*"]
    assert len(open_store(store).channels) == 60
    assert set(open_store(store).recordings["subject"]) == {"01"}


def test_auxiliary_channels_are_kept_when_asked_for(tmp_path):
    from omfa.pipeline import simulate

    simulate("dreamer", tmp_path / "D", subjects=1, seconds=4, progress=False)
    args = [
        "dreamer",
        str(tmp_path / "D"),
        str(tmp_path / "s.zarr"),
        "--serial",
        "--keep-auxiliary",
    ]
    assert main(args) == 0
    recording = open_store(tmp_path / "s.zarr")["sub-01_ses-1_run-1"]
    assert [name.split(" [")[0] for name in recording.array("auxiliary_channel")] == [
        "ECG1",
        "ECG2",
    ]
    assert recording.array("auxiliary").shape[1] == recording.signal().shape[1]


def test_exit_codes_tell_whole_partial_and_wrong(seed_tree, tmp_path, capsys):
    import shutil

    raw = tmp_path / "SEED"
    shutil.copytree(seed_tree, raw)
    broken = next(raw.rglob("2_2014*.mat"))
    broken.write_bytes(broken.read_bytes()[:2000])
    assert main(["seed", str(raw), str(tmp_path / "s.zarr"), "--serial"]) == 1
    out, err = capsys.readouterr()
    assert "5 stored, 0 kept, 1 failed" in out
    assert broken.name in err
    assert main(["seed", str(tmp_path / "nowhere"), str(tmp_path / "t.zarr")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["seed", str(raw), str(tmp_path / "t.zarr"), "--sfreq", "fast"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["sed", str(raw), str(tmp_path / "t.zarr")])
    assert stop.value.code == 2
    assert "there is no source or verb 'sed' (nearest: seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "near"),
    [
        ("inspct a.zarr", "'inspct' (nearest: inspect)"),
        ("simulate deep x", "'deep' (nearest: deap)"),
        ("deap a b --variant rav", "'rav' (nearest: raw)"),
        ("deap a b --bnd=1 2", "--bnd=1 (nearest: --band) 2"),
        ("files a b --zzzzz", "unrecognized arguments: --zzzzz\n"),
    ],
)
def test_words_that_are_nearly_right_are_suggested(line, near, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2
    assert near in capsys.readouterr().err


def test_a_reference_that_is_none_is_told_the_words_and_the_channels(capsys):
    assert main(["deap", "a", "b", "--reference", "averag"]) == 2
    told = capsys.readouterr().err
    assert "no channel of the schema (nearest: average). Give source, average, or channels" in told
    assert "--alias" not in told


def test_inspect_and_verify(store, capsys):
    assert main(["inspect", store]) == 0
    out = capsys.readouterr().out
    assert "sub-02_ses-3_run-1" in out
    settings = out[out.index("{") : out.rindex("}") + 1]
    assert json.loads(settings)["source"] == "seed"
    assert main(["verify", store]) == 0
    assert "6 recordings are as they were written" in capsys.readouterr().out
    signal = f"{store}/sub-02_ses-3_run-1/signal/c/0/0"
    with Path(signal).open("r+b") as file:
        file.write(b"damage")
    assert main(["verify", store]) == 1
    assert "damaged: sub-02_ses-3_run-1: signal/c/0/0" in capsys.readouterr().err
    assert main(["verify", f"{store}-not"]) == 2
    # A report reads what it shows of every recording, and the signals of two alone.
    quality = Path(store, "sub-02_ses-3_run-1", "quality_variance_z", "c", "0")
    quality.write_bytes(b"?" * quality.stat().st_size)
    assert main(["report", store]) == 1
    told = capsys.readouterr()
    assert told.out.strip() == f"{store}.html"
    assert "damaged: sub-02_ses-3_run-1: quality_variance_z/c/0 does not match" in told.err
    assert main(["report", store, "--recordings", "sub-01*"]) == 0
    assert "damaged" not in capsys.readouterr().err


def test_dry_run_tells_how_much_and_writes_nothing(seed_tree, tmp_path, capsys):
    assert main(["seed", str(seed_tree), str(tmp_path / "s.zarr"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "6 recordings are missing and would be made" in out
    assert "MB would be read and about" in out
    assert not (tmp_path / "s.zarr").exists()


def test_dry_run_tells_why_nothing_could_be_tried(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / f"{name}.edf").write_bytes(b"garbage")
    line = ["files", str(tmp_path), str(tmp_path / "s.zarr"), "--name", "n", "--dry-run"]
    assert main(line) == 1
    told = capsys.readouterr()
    assert "No recording could be processed to estimate size and time from:" in told.out
    for name in ("a", "b"):
        assert f"failed: files reader: {name}.edf: its header is not" in told.err


def test_help_says_what_is_typed(capsys):
    told = {}
    for source in ("files", "bids", "simulate", "demo"):
        with pytest.raises(SystemExit):
            main([source, "--help"])
        told[source] = " ".join(capsys.readouterr().out.split())
    assert "(default: files)" not in told["files"]
    assert "(default: bids)" not in told["bids"]
    for source in ("files", "bids"):
        assert '{"' not in told[source]
        assert "align heeds" not in told[source]
    assert "T1=left T2=right" in told["files"]
    assert "faced processed ratings_apart volts" in told["simulate"]
    assert "(default: demo)" in told["demo"]
    assert "Simulate three small corpora" in told["demo"]


def test_progress_shows_on_a_terminal_only(seed_tree, tmp_path):
    def command(store):
        return [
            sys.executable,
            "-m",
            "omfa.pipeline.cli",
            "seed",
            str(seed_tree),
            store,
            "--serial",
        ]

    piped = subprocess.run(command(str(tmp_path / "a.zarr")), capture_output=True, text=True)
    assert piped.stderr == ""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))
    process = subprocess.Popen(command(str(tmp_path / "b.zarr")), stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "6/6" in text
    assert "MB/s" in text


@pytest.mark.slow
def test_the_demo_goes_through(tmp_path, capsys, monkeypatch):
    from omfa.pipeline import cli

    small = {
        "seed": {"subjects": 1, "sessions": 1, "seconds": 4},
        "deap": {"subjects": 1, "seconds": 10},
    }
    monkeypatch.setattr(cli, "DEMO", small)
    assert main(["demo", str(tmp_path / "demo"), "--workers", "2"]) == 0
    out = capsys.readouterr().out
    assert "Every checksum holds." in out
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
    assert main(["demo", str(tmp_path / "demo"), "--workers", "2"]) == 0
    assert "0 stored, 1 kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, "Unable to locate credentials"),
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"},
            "Could not connect to the endpoint URL",
        ),
    ],
    ids=["credentials", "endpoint"],
)
def test_an_object_store_that_cannot_be_asked_is_an_error_in_words(environment, found, tmp_path):
    pytest.importorskip("s3fs")
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    # Nobody listens at port 9; without a home there are no credentials in files.
    own |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    own |= {"AWS_EC2_METADATA_DISABLED": "true"}
    ran = subprocess.run(
        [sys.executable, "-m", "omfa.pipeline.cli", "inspect", "s3://bucket/x.zarr"],
        capture_output=True,
        text=True,
        env=own | environment,
    )
    assert ran.returncode == 2
    assert f"Asking the object store: {found}" in ran.stderr
    assert "AWS_ACCESS_KEY_ID" in ran.stderr
    assert "Traceback" not in ran.stderr
