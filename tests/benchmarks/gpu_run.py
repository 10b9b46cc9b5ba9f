"""One prepared run on a machine with CUDA and without a network: checks, measures, trains.

Here, where wheels and the open datasets are at hand, make the folder that travels:

``python tests/benchmarks/gpu_run.py prepare FOLDER --eegmmidb DIR --ssvep DIR --eegmat DIR``

There, with torch for CUDA, lightning, scikit-learn, pandas, matplotlib, h5py and safetensors:

``python3 FOLDER/tests/benchmarks/gpu_run.py run FOLDER OUT --time-limit 470``

``OUT/gpu.md`` is written as the run goes, so that one that is cut off leaves what it found. Each of
the three parts has its share of the time. ``run --device cpu --rehearse`` does all of it in tiny
sizes, with what is installed, on any two stores.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import email
import importlib.metadata
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

LACKING = [
    # Readers and stores, and what they import.
    *("mne", "mne-bids", "zarr", "numcodecs", "donfig", "google-crc32c", "dask", "distributed"),
    *(
        "msgspec",
        "partd",
        "locket",
        "tblib",
        "zict",
        "tornado",
        "cloudpickle",
        "importlib-metadata",
        "pooch",
    ),
    *("platformdirs", "lazy-loader", "decorator", "isal", "tomli-w", "pymatreader", "xmltodict"),
    "edfio",
    # Networks, and what they import.
    *("braindecode", "skorch", "torchinfo", "docstring-inheritance", "wfdb", "soundfile", "cffi"),
    *("pycparser", "pyriemann", "pydantic", "pydantic-core", "annotated-types"),
    *("typing-inspection", "linear-attention-transformer", "axial-positional-embedding"),
    *("linformer", "local-attention", "product-key-memory", "hyper-connections"),
    *("torch-einops-utils", "colt5-attention"),
]
"""What a machine with torch, lightning and scikit-learn lacks to run omfa."""

SPARE = [
    *("pytest", "pytest-timeout", "pluggy", "iniconfig", "pygments", "hypothesis"),
    *("tensorboardX", "protobuf"),
    *("psutil", "toolz", "click", "sortedcontainers", "msgpack", "zipp", "tabulate", "einops"),
    *("requests", "urllib3", "certifi", "idna", "charset-normalizer", "array-api-compat"),
    *(
        "array-api-extra",
        "lazy-importer",
        "attrs",
        "torchaudio",
        "tqdm",
        "filelock",
        "fsspec",
        "joblib",
    ),
]
"""What it may have; a wheel of these is used only where it has none."""

THERE = ("torch", "lightning", "scikit-learn", "pandas", "matplotlib", "h5py", "safetensors")
"""What the machine has, and with each what it needs."""

UNUSED = ("cryptography", "aiohttp")
"""Of a local cluster and of downloads by wfdb, neither of which is started there."""

PLATFORMS = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
TRAVEL = (
    "pyproject.toml",
    "tests/conftest.py",
    "tests/zoo/conftest.py",
    "tests/zoo/gpu",
    *(f"tests/benchmarks/{name}.py" for name in ("gpu_run", "bench_gpu", "bench_models")),
    "tests/benchmarks/bench_reproduce.py",
)
"""What is run there, as it lies in the tree."""

STORES = "stores.tar.gz"

PART = 15_000_000
"""Bytes of a piece of the checkpoint: files of more are often not let out of such machines."""

SHARES = {"checks": 0.26, "measure": 0.42}
"""Of the time; what is left is for training."""

BATCH, MOST_STEPS = 1024, 3000
"""Of the training, our choice: three million pairs, twenty times those of the small checkpoint."""


# ---- prepare --------------------------------------------------------------------------------


def fetch(names: Sequence[str], into: Path, python: str) -> None:
    """Download the wheels of some packages for a Python on Linux."""
    into.mkdir(parents=True, exist_ok=True)
    platforms = [f"--platform=manylinux_{p}_x86_64" for p in PLATFORMS]
    platforms += ["--platform=manylinux2014_x86_64", "--platform=manylinux1_x86_64"]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:",
            "--python-version", python, "--implementation", "cp", *platforms, "-d", str(into),
            *names,
        ],
        check=True,
    )  # fmt: skip


def own_wheel(into: Path) -> None:
    """Build omfa's wheel, from a copy, so that nothing is left in the tree."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        for name in ("pipeline", "models", "zoo"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, Path(folder, name), ignore=ignore)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(into), folder]
        subprocess.run(command, check=True)


def unmet(wheels: Sequence[Path]) -> list[str]:
    """Say what wheels need that is neither among them nor where ``THERE`` is.

    What a new release needs would otherwise be found out on the machine. What ``THERE`` needs is
    read from the packages that are installed here.
    """
    metadata = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as file:
            name = next(name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
            metadata.append(email.message_from_bytes(file.read(name)))
    known, new = {canonicalize_name(str(one["Name"])) for one in metadata}, list(THERE)
    known.update(UNUSED)
    while new:
        if (name := canonicalize_name(new.pop())) not in known:
            known.add(name)
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                new += [need.name for need in needs(importlib.metadata.requires(name))]
    return [
        f"{one['Name']} needs {need}"
        for one in metadata
        for need in needs(one.get_all("Requires-Dist"))
        if canonicalize_name(need.name) not in known
    ]


def needs(lines: Sequence[str] | None) -> list[Requirement]:
    """Parse requirements; those of extras are left out."""
    found = map(Requirement, lines or ())
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def prepare(args: argparse.Namespace) -> int:
    """Make the folder that travels."""
    from gpu_stores import FOLDERS, make_small

    given = {name: folder for name in FOLDERS if (folder := getattr(args, name)) is not None}
    if not given:
        print(f"Name the folder of a dataset: {', '.join(f'--{name}' for name in FOLDERS)}")
        return 2
    folder: Path = args.folder
    # An older wheel of omfa's would be installed as well.
    for name in ("wheels", "spare"):
        shutil.rmtree(folder / name, ignore_errors=True)
    fetch(LACKING, folder / "wheels", args.python)
    fetch(SPARE, folder / "spare", args.python)
    own_wheel(folder / "wheels")
    if lacking := unmet(sorted(folder.glob("*/*.whl"))):
        print(f"Not in the folder: {'; '.join(lacking)}. Add it to LACKING in {__file__}.")
        return 1
    for name in TRAVEL:
        there = folder / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, there, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        else:
            shutil.copy(ROOT / name, there)
    with tempfile.TemporaryDirectory() as made:
        for name, raw in given.items():
            make_small(name, raw, Path(made, f"{name}.zarr"), people=args.people)
        # As one file, since stores are thousands; compressed, for what tar puts around each.
        with tarfile.open(folder / STORES, "w:gz", compresslevel=1) as archive:
            for name in given:
                archive.add(Path(made, f"{name}.zarr"), f"{name}.zarr")
    sizes = {
        part.name: sum(f.stat().st_size for f in [part, *part.rglob("*")] if f.is_file())
        for part in sorted(folder.iterdir())
    }
    for name, size in sizes.items():
        print(f"{size / 2**20:6.1f} MiB  {name}")
    print(f"{sum(sizes.values()) / 2**20:6.1f} MiB  together in {folder}")
    return 0


# ---- run ------------------------------------------------------------------------------------


class Log:
    """The page of the run, written as it goes.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path, self.began = path, time.monotonic()

    def say(self, line: str) -> None:
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")

    @property
    def spent(self) -> float:
        return time.monotonic() - self.began


def install(folder: Path, site: Path) -> None:
    """Unpack the wheels that are needed; nothing of the machine is changed."""
    wheels = sorted(map(str, (folder / "wheels").glob("*.whl")))
    for wheel in sorted((folder / "spare").glob("*.whl")):
        try:
            importlib.metadata.version(wheel.name.split("-")[0])
        except importlib.metadata.PackageNotFoundError:
            wheels.append(str(wheel))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command += ["--no-compile", "--target", str(site), *wheels]
    subprocess.run(command, check=True)


def within(
    limit: float, commands: Sequence[Sequence[str]], logs: Sequence[Path], **env: str
) -> bool:
    """Run commands side by side; end those that are not done in time, and say whether all were."""
    running: list[subprocess.Popen[bytes]] = []
    until = time.monotonic() + limit
    try:
        for command, log in zip(commands, logs, strict=True):
            with log.open("ab") as file:
                running.append(
                    subprocess.Popen(
                        command,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env={**os.environ, **env},
                        start_new_session=True,  # so that its own processes end with it
                    )
                )
        for process in running:
            process.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    finally:  # also where this run itself is ended
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return True


def checks(log: Log, tests: Path, out: Path, limit: float, env: dict[str, str], tiny: bool) -> None:
    """Run the tests of the device: what compiles, what is killed, and all else, side by side."""
    parts = {
        "others": "not compiled and not kill",
        "encoder": "test_compiled and encoder",
        "model": "test_compiled and model",
        "stage-1": "stage_1_compiled",
        "kill": "kill",
    }
    chosen = ["-m", "gpu"]
    if tiny:
        parts, chosen = {"others": "mixed_precision or features_of_a_frozen"}, ["-m", "not gpu"]
    base = [sys.executable, "-m", "pytest", "-v", "-W", "default", "--color=no", "--tb=short",
            "-p", "no:cacheprovider", "--durations=5", *chosen, "-c",
            str(tests / "pyproject.toml"), "--rootdir", str(tests),
            str(tests / "tests" / "zoo" / "gpu" / "test_device.py")]  # fmt: skip
    logs = [out / f"checks-{name}.txt" for name in parts]
    done = within(limit, [[*base, "-k", k] for k in parts.values()], logs, **env)
    found = "".join(path.read_text(errors="replace") for path in logs)
    (out / "checks.txt").write_text(found)
    for path in logs:
        path.unlink()
    outcomes = re.findall(r"::(\S+) (PASSED|FAILED|ERROR|SKIPPED)", found)
    # A test is named again in the summary: once counts.
    last = dict(outcomes)
    counts = {how: list(last.values()).count(how) for how in ("PASSED", "FAILED", "ERROR")}
    said = ", ".join(f"{n} {how.lower()}" for how, n in counts.items())
    log.say(f"\n## Checks\n\n{said}{'' if done else '; cut off: out of time'}.")
    if done and not outcomes:
        log.say("No test ran, and checks.txt says why.")
    for name, how in last.items():
        if how in ("FAILED", "ERROR"):
            log.say(f"- {how.lower()}: `{name}`")
    if (out / "curves.csv").exists():
        curve = list(csv.DictReader((out / "curves.csv").open()))
        log.say(f"\nLoss of the first {len(curve)} steps (curves.csv), {', '.join(curve[0])}:")
        for row in (curve[0], curve[len(curve) // 2], curve[-1]):
            log.say(f"- {', '.join(row.values())}")


def pace_of(page: str) -> float:
    """Read base's pairs a second at the batch of the training out of the table; else be careful."""
    found = re.findall(
        rf"^\| stage 1, base, pairs \| eager, bf16 \| {BATCH} \| ([\d,.]+) \|", page, re.MULTILINE
    )
    return float(found[-1].replace(",", "")) if found else 15_000.0


def in_pieces(content: bytes, out: Path, name: str) -> None:
    """Write a file in pieces that are let out: NAME.00, NAME.01, ..."""
    for number, start in enumerate(range(0, len(content), PART)):
        (out / f"{name}.{number:02d}").write_bytes(content[start : start + PART])


def train(
    log: Log,
    stores: list[str],
    out: Path,
    scratch: Path,
    limit: float,
    env: dict[str, str],
    tiny: bool,
) -> None:
    """Pre-train base in the time that is left, and pack its checkpoint."""
    # Some is kept in hand: what is logged takes time as well, and half a minute goes for imports,
    # reading and the checkpoint.
    steps = int(0.7 * pace_of(log.path.read_text()) * max(0.0, limit - 30) / BATCH)
    steps = 4 if tiny else min(MOST_STEPS, steps // 100 * 100)
    log.say("\n## Training\n")
    if steps < 1:
        log.say(f"Not begun: {limit:.0f} s are left.")
        return
    run = scratch / "omfa-base-openeeg"
    command = [sys.executable, "-m", "omfa.zoo.cli", "pretrain", *stores, "--hold-out", "benchmark"]
    command += ["--preset", "tiny" if tiny else "base", "--steps", str(steps), "--batch-size"]
    command += [str(16 if tiny else BATCH), "--channels-per-window", "4", "--seed", "0"]
    # Often, so that a training that is cut off leaves nearly all that it learned.
    command += ["--checkpoint-every", "100"]
    command += ["--out", str(run), *(["--accelerator", "cpu"] if tiny else [])]
    log.say(f"`omfa-zoo {' '.join(command[3:])}`\n")
    began = time.monotonic()
    done = within(limit, [command], [out / "run.log"], **env)
    log.say(f"{'Done' if done else 'Cut off'} after {time.monotonic() - began:.0f} s.\n")
    for number, path in enumerate(sorted(run.glob("logs/version_*/metrics.csv"))):
        shutil.copy(path, out / f"metrics{number or ''}.csv")
        rows = list(csv.DictReader(path.open()))
        shown = (
            "step",
            "loss",
            "accuracy",
            "pairs_per_second",
            "data_wait_share",
            "effective_rank",
        )
        log.say(f"| {' | '.join(shown)} |\n|{'---|' * len(shown)}")
        for at in sorted({0, len(rows) // 4, len(rows) // 2, 3 * len(rows) // 4, len(rows) - 1}):
            log.say(f"| {' | '.join(rows[at].get(name) or '' for name in shown)} |")
    packed = io.BytesIO()
    if (run / "checkpoint" / "card.json").exists():
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(run / "checkpoint", "omfa-base-openeeg")
        in_pieces(packed.getvalue(), out, "checkpoint.tar")
        size = len(packed.getvalue()) / 1e6
        log.say(f"\nCheckpoint: `cat checkpoint.tar.* | tar -x`, {size:.1f} MB.")
        return
    log.say("\nThere is no checkpoint: see run.log.")
    if kept := sorted(run.glob("checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime):
        import torch  # not before it is known to be needed: it takes seconds

        # Without the optimizer's state, which is twice as large.
        state = torch.load(kept[-1], map_location="cpu", weights_only=False)["state_dict"]
        torch.save(state, packed)
        in_pieces(packed.getvalue(), out, "weights.pt")
        log.say(f"The weights after {kept[-1].stem}: `cat weights.pt.* > weights.pt`.")


def run(args: argparse.Namespace) -> int:
    """Check, measure and train, each in its share of the time."""
    folder, out, tiny = args.folder.resolve(), args.out.resolve(), args.rehearse
    out.mkdir(parents=True, exist_ok=True)
    log = Log(out / "gpu.md")
    log.say("# A run on a GPU\n")
    if tiny:
        log.say("A rehearsal in tiny sizes: its figures mean nothing.\n")
    with tempfile.TemporaryDirectory(prefix="omfa-gpu-") as folder_name:
        scratch = Path(folder_name)
        env = {"OMFA_TABLES": str(out)}
        tests = folder if (folder / "tests").is_dir() else ROOT
        if (folder / "wheels").is_dir():
            install(folder, scratch / "site")
            env["PYTHONPATH"] = os.pathsep.join(
                [str(scratch / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
            )
        if (folder / STORES).exists():
            with tarfile.open(folder / STORES) as archive:
                archive.extractall(scratch / "stores", filter="data")
            stores = sorted(map(str, (scratch / "stores").glob("*.zarr")))
        else:
            stores = sorted(map(str, folder.glob("*.zarr")))
        if not stores:
            log.say(f"There are no stores in {folder}: make it by `gpu_run.py prepare`.")
            return 2
        log.say(f"Installed and unpacked in {log.spent:.0f} s.")
        if "checks" in args.parts:
            checks(log, tests, out, SHARES["checks"] * args.time_limit, env, tiny)
        if "measure" in args.parts:
            log.say("\n## Measured\n")
            limit = SHARES["measure"] * args.time_limit
            command = [
                sys.executable,
                str(tests / "tests" / "benchmarks" / "bench_gpu.py"),
                *stores,
            ]
            command += ["--device", args.device, "--out", str(out), "--time-limit", str(limit)]
            command += ["--rehearse"] if tiny else []
            # Its table goes to the same page. It stops by itself, or else a little later.
            if not within(limit + 15, [command], [out / "run.log"], **env):
                log.say("\nCut off: out of time.")
        if "train" in args.parts:
            train(log, stores, out, scratch, args.time_limit - log.spent - 5, env, tiny)
        log.say(f"\nAll of it took {log.spent:.0f} s.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    made = commands.add_parser("prepare", help="make the folder that travels")
    made.add_argument("folder", type=Path)
    made.add_argument("--python", default="3.12", help="version there (default: 3.12)")
    made.add_argument("--people", type=int, help="only the first so many of each dataset")
    for name in ("eegmmidb", "ssvep", "eegmat"):
        made.add_argument(f"--{name}", type=Path, metavar="DIR", help="its EDF files")
    made.set_defaults(do=prepare)
    there = commands.add_parser("run", help="check, measure and train")
    there.add_argument("folder", type=Path, help="made by prepare; or any folder of stores")
    there.add_argument("out", type=Path, help="folder of what is found")
    there.add_argument("--time-limit", type=float, default=470.0, metavar="SECONDS")
    there.add_argument("--device", default="cuda")
    there.add_argument("--rehearse", action="store_true", help="tiny sizes; figures mean nothing")
    parts = ("checks", "measure", "train")
    there.add_argument("--parts", nargs="+", choices=parts, default=parts, help="default: all")
    there.set_defaults(do=run)
    args = parser.parse_args()
    # As an exception, so that what was started ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return int(args.do(args))


if __name__ == "__main__":
    sys.exit(main())
