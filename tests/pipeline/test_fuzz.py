"""Damaged files give a ``DataError`` or a right result, never a hang, a crash or a wrong one.

Files with a checksum (compressed .mat) must decode to what they held or fail. The others (.dat,
.bdf, .cnt, .json, uncompressed .mat) cannot tell a changed sample from a true one, so there a
result may differ in values, and in nothing else: not in shapes, channels or trials.
"""

import copy
import json
import resource
import shutil
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.io

from omfa.pipeline import DataError, encoding, ingest, open_store, simulate
from omfa.pipeline.readers import get_reader
from omfa.pipeline.readers.biosemi import open_bdf
from omfa.pipeline.recording import TRIAL_COLUMNS
from omfa.pipeline.simulation.formats import (
    BdfChannel,
    mat_doubles,
    mat_numbers,
    mat_stack,
    write_bdf,
    write_cnt,
    write_mat,
    write_mat73,
    write_python2_pickle,
    write_python3_pickle,
)

CASES = 200
MEMORY = 500e6  # bytes more than before, at the worst


def mutations(data, *, seed, n=CASES):
    """Yield damaged copies: most of the damage is where the structure is, at both ends."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        size = len(data)
        near = rng.random()
        at = int(rng.integers(min(size, 1200) if near < 0.5 else size))
        if near > 0.85:
            at = size - 1 - int(rng.integers(min(size, 300)))
        length = int(rng.integers(1, 17))
        copy = bytearray(data)
        match rng.integers(6):
            case 0 | 1:
                for place in (at, *rng.integers(size, size=rng.integers(3))):
                    copy[place] ^= 1 << int(rng.integers(8))
            case 2:
                del copy[at:]
            case 3:
                copy[at:at] = rng.bytes(length)
            case 4:
                del copy[at : at + length]
            case 5:
                copy[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f"]) * length
        if copy != data:
            yield bytes(copy)


def seed_mat(root):
    rng = np.random.default_rng(0)
    trials = [10 * rng.standard_normal((62, 41)) for _ in range(2)]
    path = root / "1_20131027.mat"
    write_mat(
        path,
        [mat_doubles((62, 41), lambda t=t: t, f"djc_eeg{i}") for i, t in enumerate(trials, 1)],
    )
    write_mat(root / "label.mat", [mat_numbers([[1, -1]], "label")])
    return path, "seed", {}


def seed_mat_uncompressed(root):
    path, *rest = seed_mat(root)
    values = {k: v for k, v in scipy.io.loadmat(path).items() if k[0] != "_"}
    scipy.io.savemat(path, values)
    return path, *rest


def seed_label(root):
    seed_mat(root)
    return root / "label.mat", "seed", {}


def seed_cnt(root):
    from omfa.pipeline.readers.corpora.seed import CHANNELS

    rng = np.random.default_rng(0)
    path = root / "1_1.cnt"
    write_cnt(
        path,
        dict.fromkeys([*CHANNELS, "M1", "M2", "VEO", "HEO"], (0.0, 0.0)),
        [rng.integers(-900, 900, (66, 300), dtype=np.int32)],
        sfreq=1000,
        events=[(20, 1), (200, 2)],
    )
    (root / "time.txt").write_text("start_point_list=[10,150]\nend_point_list=[140,300]")
    write_mat(root / "label.mat", [mat_numbers([[1, -1]], "label")])
    return path, "seed", {"variant": "raw"}


def seed_iv_mat(root):
    rng = np.random.default_rng(0)
    path = root / "1_1.mat"
    trials = [10 * rng.standard_normal((62, 9)) for _ in range(24)]
    write_mat(
        path, [mat_doubles((62, 9), lambda t=t: t, f"cz_eeg{i}") for i, t in enumerate(trials, 1)]
    )
    return path, "seed-iv", {}


def seed_v_cnt(root):
    from omfa.pipeline.readers.corpora.seed_family import CHANNELS

    path = root / "1_1_20180804.cnt"
    write_cnt(
        path,
        dict.fromkeys([*CHANNELS, "M1", "M2", "VEO", "HEO"], (0.0, 0.0)),
        [np.random.default_rng(0).integers(-900, 900, (66, 300), dtype=np.int32)],
        sfreq=1000,
        events=[(20, 1), (200, 2)],
    )
    points = np.arange(30).reshape(15, 2) / 100
    (root / "trial_start_end_timestamp.txt").write_text(
        f"Session 1:\nstart_second: {points[:, 0].tolist()}\nend_second: {points[:, 1].tolist()}"
    )
    return path, "seed-v", {}


def seed_vii_mat(root):
    """Write the first session only; reading stops behind it."""
    path = root / "EEG_preprocessed/1.mat"
    path.parent.mkdir()
    write_mat(path, [mat_doubles((62, 9), lambda: np.ones((62, 9)), f"{i}") for i in range(1, 21)])
    write_mat(
        root / "continuous_labels/1.mat",
        [mat_doubles((1, 1), lambda i=i: np.array([[i / 7]]), f"{i}") for i in range(1, 21)],
    )
    return path, "seed-vii", {}


def seed_vii_mat_uncompressed(root):
    path, *rest = seed_vii_mat(root)
    values = {k: v for k, v in scipy.io.loadmat(path).items() if k[0] != "_"}
    scipy.io.savemat(path, values)
    return path, *rest


def seed_vii_continuous(root):
    seed_vii_mat(root)
    return root / "continuous_labels/1.mat", "seed-vii", {}


def seed_vii_cnt(root):
    from omfa.pipeline.readers.corpora.seed_family import CHANNELS

    path = root / "9_20221111_3.cnt"
    write_cnt(
        path,
        dict.fromkeys([*CHANNELS, "M1", "M2", "VEO", "HEO", "ECG"], (0.0, 0.0)),
        [np.random.default_rng(0).integers(-900, 900, (67, 300), dtype=np.int32)],
        sfreq=1000,
        events=[(20, 1), (200, 2)],
    )
    (root / "9_20221111_3_trigger_info.csv").write_text(
        "".join(f"{1 + i % 2},2022-11-11 14:01:27.{1 + 7 * i:03d}000\n" for i in range(40))
    )
    return path, "seed-vii", {"variant": "raw"}


def deap_dat(root):
    rng = np.random.default_rng(0)
    path = root / "s01.dat"
    write_python2_pickle(
        path,
        {
            "labels": ((40, 4), [rng.uniform(1, 9, (40, 4))]),
            "data": ((40, 40, 386), [10 * rng.standard_normal((40, 40, 386))]),
        },
    )
    return path, "deap", {}


def dreamer_mat(root):
    simulate("dreamer", root, subjects=1, seconds=2)
    return root / "DREAMER.mat", "dreamer", {}


def dreamer_json(root):
    simulate("dreamer", root, variant="json", subjects=1, seconds=2)
    return root / "DREAMER_Data.json", "dreamer", {"variant": "json"}


def faced_pickle(root):
    simulate("faced", root, subjects=1, seconds=2)
    path = root / "Processed_data/sub000.pkl"
    signal = 10 * np.random.default_rng(0).standard_normal((28, 32, 160))
    write_python3_pickle(path, signal.shape, [signal])  # short, and long enough to stay in the file
    return path, "faced", {}


def faced_ratings(root):
    simulate("faced", root, subjects=1, seconds=2)
    return root / "Data/sub000/After_remarks.mat", "faced", {}


def mahnob_bdf(root):
    simulate("mahnob-hci", root, subjects=1, seconds=2, bad_channels=0)
    for folder in (root / "Sessions").iterdir():
        if folder.name != "8":  # the fourth clip
            shutil.rmtree(folder)
    return root / "Sessions/8/Part_1_S_Trial4_emotion.bdf", "mahnob-hci", {}


def amigos_mat(root):
    simulate("amigos", root, subjects=[4], seconds=2, bad_channels=0)
    return next(root.rglob("*.mat")), "amigos", {"auxiliary": False}


def eav_mat(root):
    rng = np.random.default_rng(0)
    path = root / "subject1_eeg.mat"
    trials = 10 * rng.standard_normal((10, 30, 200))
    write_mat(path, [mat_stack(trials.shape, lambda: [trials], "seg1")])
    one_hot = np.arange(10)[:, None] == np.arange(200) % 10
    write_mat(root / "subject1_eeg_label.mat", [mat_numbers(one_hot.astype(int), "label")])
    return path, "eav", {}


def eav_label(root):
    path, *rest = eav_mat(root)
    return path.with_name("subject1_eeg_label.mat"), *rest


def thu_ep_mat(root):
    simulate("thu-ep", root, subjects=1, seconds=2)
    path = root / "EEG data" / "sub_1.mat"
    values = np.random.default_rng(0).normal(0, 10, (6, 32, 28, 6))
    write_mat73(path, "data", values)
    return path, "thu-ep", {}


def thu_ep_ratings(root):
    thu_ep_mat(root)
    return root / "Ratings" / "ratings.mat", "thu-ep", {}


FORMATS = {
    # name: (writer, whether a checksum covers signal and labels, how many labels may change)
    "seed-mat": (seed_mat, True, 0),
    "seed-mat-uncompressed": (seed_mat_uncompressed, False, 0),
    "seed-label": (seed_label, True, 0),
    "seed-cnt": (seed_cnt, False, 0),
    "seed-iv-mat": (seed_iv_mat, True, 0),
    "seed-v-cnt": (seed_v_cnt, False, 0),
    "seed-vii-mat": (seed_vii_mat, True, 0),
    "seed-vii-mat-uncompressed": (seed_vii_mat_uncompressed, False, 0),
    "seed-vii-continuous": (seed_vii_continuous, True, 0),
    "seed-vii-cnt": (seed_vii_cnt, False, 0),
    "deap-dat": (deap_dat, False, 160),
    "dreamer-mat": (dreamer_mat, True, 0),
    "dreamer-json": (dreamer_json, False, 3),
    "faced-pickle": (faced_pickle, False, 0),
    "faced-ratings": (faced_ratings, True, 0),
    "mahnob-bdf": (mahnob_bdf, False, 0),
    "amigos-mat": (amigos_mat, True, 0),
    "eav-mat": (eav_mat, True, 0),
    "eav-label": (eav_label, True, 0),
    "thu-ep-mat": (thu_ep_mat, False, 0),
    "thu-ep-ratings": (thu_ep_ratings, False, 0),
}


def read(reader, root):
    return reader.read(reader.discover(root)[0])


def same_frame(a, b):
    """Whether two results differ in values at the most."""
    return (
        a.channels == b.channels
        and a.sfreq == b.sfreq
        and [s.shape for s in a.segments] == [s.shape for s in b.segments]
        and a.trials[list(TRIAL_COLUMNS)].equals(b.trials[list(TRIAL_COLUMNS)])
        and a.labels == b.labels
    )


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_file_is_an_error_or_right(tmp_path, name):
    write, checksum, changeable = FORMATS[name]
    root = tmp_path / name
    root.mkdir()
    path, source, options = write(root)
    reader = get_reader(source, **options)
    whole, clean = path.read_bytes(), read(reader, root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    errors = 0
    n = 30 if name == "dreamer-json" else CASES  # text takes long to parse
    for i, data in enumerate(mutations(whole, seed=7, n=n)):
        path.write_bytes(data)
        try:
            found = read(reader, root)
        except DataError:
            errors += 1
            continue
        assert same_frame(found, clean), i
        if checksum:
            assert found.trials.equals(clean.trials), i
            for a, b in zip(found.segments, clean.segments, strict=True):
                np.testing.assert_array_equal(a, b)
        if clean.labels:
            changed = (found.trials[clean.labels] != clean.trials[clean.labels]).to_numpy().sum()
            assert changed <= changeable, i
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MEMORY
    assert errors > n / 4  # the damage was of a kind that can be noticed


def test_a_mutated_session_xml_is_an_error_or_a_recording_with_labels_on_their_scale(tmp_path):
    bdf, source, _ = mahnob_bdf(tmp_path)
    reader = get_reader(source, auxiliary=False)
    path = bdf.with_name("session.xml")
    whole, clean = path.read_bytes(), read(reader, tmp_path)
    (key,) = reader.discover(tmp_path)
    errors = 0
    for data in mutations(whole, seed=11):
        path.write_bytes(data)
        try:
            found = reader.read(key)
        except DataError:
            errors += 1
            continue
        for column in ("onset", "length", "baseline_onset", "baseline_length"):
            assert found.trials[column].tolist() == clean.trials[column].tolist()
        np.testing.assert_array_equal(found.segments[0], clean.segments[0])
        for name in ("valence", "arousal", "dominance", "predictability"):
            rating = found.trials[name].iloc[0]
            assert rating in range(1, 10) or np.isnan(rating)
    assert errors > CASES / 4


SEALED = 40
STRANGE = (None, -1, 10**12, 1e308, "x", "../../etc", [], [[[[]]]], {}, {"a": [0]}, True)


def places(value, path=()):
    """List where a document holds something, down to single values."""
    found = [path] if path else []
    if isinstance(value, dict):
        found += [p for name, inner in value.items() for p in places(inner, (*path, name))]
    elif isinstance(value, list):
        found += [p for i, inner in enumerate(value[:3]) for p in places(inner, (*path, i))]
    return found


def changed(document, rng):
    """Put something strange in a random place of a document, or leave the place out."""
    document = copy.deepcopy(document)
    paths = [path for path in places(document) if "checksums" not in path[:-1]]
    *way, last = paths[rng.integers(len(paths))]
    holder = document
    for step in way:
        holder = holder[step]
    if rng.random() < 0.2:
        del holder[last]
    else:
        holder[last] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
    attributes = document.get("attributes")
    if isinstance(attributes, dict):
        attributes.pop("digest", None)
        attributes["digest"] = encoding.digest(document)
    return document


def read_all(store):
    """Ask a store for all that it has; return how much that was."""
    of_store = (store.recordings, store.channels, store.common_channels, store.nbytes, store.ucs)
    of_each = [(r.signal(), r.trials, r.bad_channels, r.simulated) for r in store]
    return len(of_store), len(of_each), len(list(store.verify()))


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("of", ["root", "recording"])
def test_metadata_that_were_changed_and_sealed_again_are_an_error_or_read(
    tree, reader, tmp_path, of
):
    store = tmp_path / "s.zarr"
    ingest(reader, tree, store, serial=True, subjects=[1])
    path = store / ("zarr.json" if of == "root" else "sub-01_ses-1_run-1/zarr.json")
    whole = json.loads(path.read_text())
    rng = np.random.default_rng(5)
    errors = 0
    tracemalloc.start()
    for _ in range(SEALED):
        path.write_bytes(encoding.to_json(changed(whole, rng)))
        try:
            read_all(open_store(store))
        except DataError:
            errors += 1
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()
    assert errors > SEALED / 10


@pytest.fixture(scope="module")
def small_bdf(tmp_path_factory):
    path = tmp_path_factory.mktemp("bdf") / "a.bdf"
    digits = np.random.default_rng(0).integers(-900, 900, (4, 96), dtype=np.int32)
    digits[3] = 0x18FF00 + 4
    channels = [BdfChannel(name) for name in ("Fp1", "AF3", "F3")] + [BdfChannel("", status=True)]
    write_bdf(path, channels, [digits], n_records=3, sfreq=32)
    return path


def test_mutated_bdf_is_an_error_or_has_its_shape(small_bdf, tmp_path):
    whole = small_bdf.read_bytes()
    path = tmp_path / "a.bdf"
    errors = 0
    for data in mutations(whole, seed=3, n=300):
        path.write_bytes(data)
        try:
            file = open_bdf(path, doing="Fuzzing")
            signal, codes = file.read([0, 1, 2], status=3)
        except DataError:
            errors += 1
            continue
        assert (signal.shape, codes.shape) == ((3, 96), (96,))
    assert errors > 75


def test_mutated_header_of_a_deap_bdf_is_an_error_or_right(tmp_path):
    from omfa.pipeline.readers.corpora.deap import CHANNELS, RAW_AUXILIARY

    root = tmp_path / "data_original"
    path = root / "s24.bdf"
    channels = [BdfChannel(name) for name in [*CHANNELS, *RAW_AUXILIARY]]
    status = np.full(512, 0x18FF00, np.int32)
    status[100:110] += 4
    status[300:310] += 5
    block = np.random.default_rng(0).integers(-900, 900, (48, 512), dtype=np.int32)
    silent = block.copy()
    block[-1], silent[-1] = status, 0x18FF00
    write_bdf(
        path,
        [*channels, BdfChannel("", status=True)],
        [silent] * 4 + [block] * 40,
        n_records=44,
        sfreq=512,
    )
    table = {"Participant_id": 24, "Trial": range(1, 41), "Experiment_id": range(1, 41)}
    table |= dict.fromkeys(("Valence", "Arousal", "Dominance", "Liking"), 5.0)
    pd.DataFrame(table).to_csv(root / "participant_ratings.csv", index=False)
    reader = get_reader("deap", variant="raw", auxiliary=False)
    clean = read(reader, root)
    whole = path.read_bytes()
    head = 256 * 49
    rng = np.random.default_rng(1)
    errors = 0
    with path.open("r+b") as file:  # in place: the file is large and its head is small
        for i in range(100):
            at = int(rng.integers(184, 256 if i % 3 else head))
            value = whole[at] ^ (1 << int(rng.integers(8)))
            file.seek(at)
            file.write(bytes([value]))
            file.flush()
            try:
                found = read(reader, root)
                assert same_frame(found, clean)
                np.testing.assert_array_equal(found.segments[0], clean.segments[0])
            except DataError:
                errors += 1
            file.seek(at)
            file.write(whole[at : at + 1])
    assert errors > 20
