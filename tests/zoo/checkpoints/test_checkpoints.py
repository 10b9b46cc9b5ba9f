"""Checkpoints from a real web server on loopback, from caches, and from people who mean harm."""

import json
import pickle
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import omfa.models
from omfa import zoo
from omfa.models import UnitWarning
from omfa.pipeline.recording import DataError
from omfa.zoo.checkpoints import downloads
from omfa.zoo.checkpoints.cards import FILES
from omfa.zoo.checkpoints.downloads import Entry, described, registry_text
from omfa.zoo.checkpoints.input import check_signal, input_path

NAME = "omfa-tiny-noise"
PIECE = 1 << 16  # bytes that are written at once
PACKAGED = {
    name: entry
    for name, entry in downloads.read_registry(downloads.PACKAGE / "checkpoints.toml").items()
    if "package" in entry.sources
}
CHANNELS = ["FP1", "FP2", "CZ", "O1", "O2"]
CHS_INFO = [{"ch_name": name, "kind": "eeg"} for name in CHANNELS]
CARD = zoo.Card(
    name=NAME,
    preset="tiny",
    stage="pretrained",
    ucs_version=1,
    input={
        "unit": "uV",
        "scale": 1.0,
        "sfreq": 128.0,
        "band": [0.5, 45.0],
        "reference": None,
        "channels": CHANNELS,
        "window_seconds": 4.0,
    },
    saw=[{"dataset": "noise", "subjects": ["sub-01", "sub-02"], "hours": 0.5}],
    recipe={"command": "omfa-zoo pretrain noise.zarr --out here", "seed": 0, "settings": {}},
    simulated=True,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of random weights."""
    torch.manual_seed(0)
    model = omfa.models.OMFA(
        n_outputs=2, chs_info=CHS_INFO, n_times=512, sfreq=128.0, preset="tiny"
    )
    return zoo.save_checkpoint(tmp_path_factory.mktemp("made") / "tiny", model, CARD)


class Server(ThreadingHTTPServer):
    """Serves a folder as a web server does, with chosen faults; remembers what was asked."""

    daemon_threads = True

    def __init__(self, folder):
        self.folder, self.asked = Path(folder), []
        self.ranges, self.drop_after, self.drops, self.pause = True, None, 0, 0.0
        self.instead = {}
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=partial(self.serve_forever, poll_interval=0.01)).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.lstrip("/")
        asked = self.headers.get("Range")
        server.asked.append((name, asked))
        path = server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        content = server.instead.get(path.name, path.read_bytes())
        start = int(asked.split("=")[1].rstrip("-")) if asked and server.ranges else 0
        self.send_response(206 if asked and server.ranges else 200)
        if asked and server.ranges:
            told = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", told)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        content = content[start:]
        if server.drops and len(content) > server.drop_after:
            server.drops -= 1
            self.wfile.write(content[: server.drop_after])
            self.close_connection = True
            return
        time.sleep(server.pause)
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(checkpoint, tmp_path):
    """Start servers, of the checkpoint by default."""
    started = []

    def start(folder=None):
        server = Server(folder or checkpoint.parent / "tiny")
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache, and no mirror."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("OMFA_HOME", str(folder))
    monkeypatch.delenv("OMFA_ZOO_MIRROR", raising=False)
    monkeypatch.setattr(downloads, "TIMEOUT", 5.0)
    return folder


def publish(home, folder, *sources, card=CARD):
    """Give the checkpoint its name, in the registry of the user's own."""
    files = {file: described((folder / file).read_bytes()) for file in FILES}
    text = registry_text({card.name: Entry(card, sources, files)})
    (home / "checkpoints.toml").write_text(text)


def in_cache(home, *, what="*"):
    return sorted(
        path.name
        for path in (home / "checkpoints").rglob(what)
        if path.is_file() and path.name != ".lock"
    )


def same(model, folder):
    saved = omfa.models.OMFA.from_pretrained(str(folder)).state_dict()
    return all(torch.equal(saved[name], value) for name, value in model.state_dict().items())


# ------------------------------------------------------------------------------------- folders


def test_a_folder_is_what_braindecode_reads_too_and_nothing_else(checkpoint, capsys):
    assert sorted(path.name for path in checkpoint.iterdir()) == sorted(FILES)
    model = zoo.load(checkpoint)
    assert capsys.readouterr() == ("", "")
    assert not model.training
    assert zoo.load_card(checkpoint) == CARD
    assert same(model, checkpoint)
    assert zoo.verify(checkpoint).startswith(NAME)


def test_other_classes_channels_and_rate(checkpoint):
    with pytest.warns(zoo.InputWarning, match="200 Hz are resampled"):
        model = zoo.load(checkpoint, n_outputs=3, chs_info=CHS_INFO[:3], sfreq=200.0)
    assert model(torch.randn(2, 3, 800)).shape == (2, 3)
    assert torch.equal(model.encoder.stem[0].weight, zoo.load(checkpoint).encoder.stem[0].weight)


def test_a_trained_classifier_is_not_dropped_in_silence(checkpoint, tmp_path):
    tuned = zoo.save_checkpoint(
        tmp_path / "tuned", zoo.load(checkpoint), replace(CARD, stage="finetuned")
    )
    with pytest.warns(zoo.InputWarning, match="trained for 2 classes; for 3 a new one of random"):
        assert zoo.load(tuned, n_outputs=3).final_layer.out_features == 3
    zoo.load(tuned, n_outputs=2)
    zoo.load(checkpoint, n_outputs=3)  # pre-trained: its classifier was never trained


def test_a_configuration_of_before_is_read_as_it_was_made(tmp_path):
    """What it lacks has another default now: the stem, the rotary phases, the paths."""
    made = omfa.models.OMFA(
        n_outputs=2, chs_info=CHS_INFO, n_times=512, sfreq=128.0, preset="tiny", stem_layers=2,
        rotary_period=0.5, spectral=False, bursts=False,
    ).eval()  # fmt: skip
    folder = zoo.save_checkpoint(tmp_path / "old", made, CARD)
    config = json.loads((folder / "config.json").read_text())
    for name in ("stem_layers", "rotary_period", "spectral", "bursts"):
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    x = torch.randn(2, len(CHS_INFO), 512)
    with torch.no_grad():
        assert torch.equal(zoo.load(folder)(x), made(x))


def test_odd_arguments_of_a_checkpoint_are_an_error_in_three_parts(altered):
    for odd in (
        {"n_times": 1, "sfreq": 128.0, "input_window_seconds": None},
        {"n_times": 512, "sfreq": 128.0, "input_window_seconds": 9.0},
        {"tokens_per_second": 1e-3},
        {"sfreq": 1e6},
        {"chs_info": []},
        {"chs_info": [{"ch_name": "Cz", "loc": [0.1]}]},
        {"chs_info": [{"ch_name": "Cz", "loc": "here"}]},
        {"n_chans": 7},
    ):
        folder = altered(
            "config.json", lambda told, odd=odd: json.dumps(json.loads(told) | odd).encode()
        )
        with suppress(DataError):  # and no other error
            zoo.load(folder)


def test_a_card_says_what_is_wrong_with_it():
    assert zoo.Card.from_json(CARD.to_json()) == CARD
    for change, found in (
        ({"name": "../up"}, "name"),
        ({"stage": "best"}, "stage"),
        ({"input": {"sfreq": -1}}, "sfreq"),
        ({"saw": [{"dataset": "seed"}]}, "saw"),
    ):
        with pytest.raises(DataError, match=found):
            replace(CARD, **change)
    told = json.loads(CARD.to_json())
    with pytest.raises(DataError, match="unknown fields colour"):
        zoo.Card.from_json(json.dumps(told | {"colour": "red"}))
    with pytest.raises(DataError, match="format 2"):
        zoo.Card.from_json(json.dumps(told | {"format": 2}))


# ---------------------------------------------------------------------------- people who mean harm


class Evil:
    def __reduce__(self):
        return (Path("ran").touch, ())


@pytest.fixture
def altered(checkpoint, tmp_path, monkeypatch):
    """Copy the checkpoint, and change a file of the copy."""
    monkeypatch.chdir(tmp_path)

    def change(file, content):
        folder = tmp_path / "altered"
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        if callable(content):
            content = content((folder / file).read_bytes())
        (folder / file).write_bytes(content)
        return folder

    return change


def test_a_pickle_is_never_unpickled(altered):
    folder = altered("model.safetensors", pickle.dumps(Evil()))
    with pytest.raises(DataError, match="no safetensors file"):
        zoo.load(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        zoo.load(folder)
    with pytest.raises(Exception, match="safetensors"):
        omfa.models.OMFA.from_pretrained(str(folder))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activation", "evil_module.Thing"),
        ("activation", "torch.nn.modules.linear.Linear"),
        ("activation", "torch.load"),
        ("preset", "evil_module.Thing"),
        ("head", ["gat"]),
        ("n_outputs", 10**12),
        ("n_chans", 10**12),
        ("sfreq", 1e300),
        ("drop_prob", "0.1"),
        ("drop_path_prob", -1.0),
        ("evil", 1),
        ("chs_info", [{"ch_name": {"__import__": "evil_module"}}]),
    ],
)
def test_a_hostile_configuration_is_refused_before_anything_is_imported(
    altered, tmp_path, monkeypatch, name, value
):
    (tmp_path / "evil_module.py").write_text("open('ran', 'w')\nThing = print\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = altered(
        "config.json", lambda told: json.dumps(json.loads(told) | {name: value}).encode()
    )
    with pytest.raises(DataError, match=r"config\.json"):
        zoo.load(folder)
    if name == "activation":
        with pytest.raises(ValueError, match="not imported"):
            omfa.models.OMFA.from_pretrained(str(folder))
    assert "evil_module" not in sys.modules
    assert not Path("ran").exists()


def test_weights_must_be_exactly_those_of_the_model(altered):
    from safetensors.torch import load, save

    def without(content):
        weights = load(content)
        del weights["encoder.stem.0.bias"]
        return save(weights)

    def more(content):
        return save(load(content) | {"extra": torch.zeros(1)})

    def reshaped(content):
        weights = load(content)
        return save(weights | {"encoder.stem.0.bias": weights["encoder.stem.0.bias"][:-1].clone()})

    def not_finite(content):
        weights = load(content)
        weights["encoder.stem.0.bias"][0] = torch.nan
        return save(weights)

    for change, found in (
        (without, "stem.0.bias is missing"),
        (more, "extra is not of this model"),
        (reshaped, "another shape"),
        (not_finite, "not finite"),
        (lambda content: content[: len(content) // 2], "not whole"),
    ):
        folder = altered("model.safetensors", change)
        with pytest.raises(DataError, match=found):
            zoo.load(folder)
        shutil.rmtree(folder)


# -------------------------------------------------------------------------------------- the input


def test_signals_are_refused_or_adapted(checkpoint):
    quiet = zoo.load(checkpoint, sfreq=128.0, chs_info=CHS_INFO, unit="uV", band=(0.5, 45))
    for arguments, found in (
        ({"unit": "furlong"}, "unit 'furlong' is not known"),
        ({"band": (30, 45)}, "30 to 45 Hz"),
        ({"band": (45, 30)}, "two edges"),
        ({"sfreq": 0.0}, "sfreq"),
        ({"chs_info": [*CHS_INFO, CHS_INFO[0]]}, "twice"),
    ):
        with pytest.raises(DataError, match=found):
            zoo.load(checkpoint, **arguments)
    for arguments, found in (
        ({"band": (4, 45)}, "4 to 45 Hz"),
        ({"sfreq": 64.0}, "nothing of its band above 32 Hz"),
        ({"chs_info": [*CHS_INFO, {"ch_name": "Elsewhere"}]}, "the place of Elsewhere"),
        ({"chs_info": [*CHS_INFO, {"ch_name": "Pz"}]}, "did not learn from the channels Pz"),
        ({"chs_info": [{"ch_name": "A"}, {"ch_name": "B"}]}, "the place of A, B"),
    ):
        with pytest.warns(zoo.InputWarning, match=found):
            zoo.load(checkpoint, **arguments)
    with pytest.warns(zoo.InputWarning, match="multiplied by 1e\\+06"):
        volts = zoo.load(checkpoint, unit="V")
    x = torch.randn(2, 5, 512) * 20
    torch.testing.assert_close(volts(x * 1e-6), quiet(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(volts(x=x * 1e-6), quiet(x), rtol=1e-3, atol=1e-4)
    with pytest.warns(UnitWarning, match="looks like volts.*times 1e6"):
        quiet(x * 1e-6)


def test_a_dataset_is_compared_with_a_card(lay_store, tmp_path):
    path = lay_store(tmp_path / "tiny.zarr")
    data = zoo.open_dataset(path, 2.0)
    fitting = CARD.input | {"sfreq": 100.0, "channels": data.channels, "band": None}
    zoo.check_input(replace(CARD, input=fitting), data)
    with pytest.warns(zoo.InputWarning, match="100 Hz are resampled"):
        zoo.check_input(replace(CARD, input=fitting | {"sfreq": 128.0}), data)
    with pytest.raises(DataError, match="version 7"):
        zoo.check_input(replace(CARD, ucs_version=7), data)
    fixed = CARD.recipe | {"settings": {"resampling": "off"}}
    with pytest.raises(DataError, match="without resampling"):
        zoo.check_input(replace(CARD, input=fitting | {"sfreq": 128.0}, recipe=fixed), data)
    deap = lay_store(
        tmp_path / "deap.zarr", source="deap", history={"band": [4.0, 45.0], "reference": "average"}
    )
    from_deap = zoo.open_dataset(deap, 2.0)
    whole = fitting | {"band": [0.5, 45.0]}
    with pytest.warns(zoo.InputWarning, match=r"4 to 45 Hz, .*0.5 to 45 Hz, .*no delta \(1-4 Hz\)"):
        zoo.check_input(replace(CARD, input=whole), from_deap)
    with pytest.warns(zoo.InputWarning, match=r"fall as MNE's does.*fell within 4 Hz"):
        zoo.check_input(replace(CARD, input=whole | {"transition": 4.0}), data)
    zoo.check_input(replace(CARD, input=whole | {"band": [4.0, 45.0]}), from_deap)
    assert input_path(data.paths) == {"band": [0.5, 45.0]}
    both = input_path([*data.paths, *from_deap.paths])
    assert both == {"band": [4.0, 45.0], "bands": [[0.5, 45.0], [4.0, 45.0]]}
    of_both = replace(CARD, input=fitting | both)
    for one in (data, from_deap):
        zoo.check_input(of_both, one)  # neither is new to it
    with pytest.warns(zoo.InputWarning, match="1 to 45 Hz, .* from 0.5 to 45 Hz and from 4 to 45"):
        check_signal(of_both, band=(1.0, 45.0))
    with pytest.raises(DataError, match=r"from 0.5 to 45 Hz and from 4 to 45 Hz\. Filter"):
        check_signal(of_both, band=(30.0, 45.0))
    falls = fitting | {"band": [0.5, 45.0], "transitions": [None, 4.0]}
    zoo.check_input(replace(CARD, input=falls), data)
    for wrong in ({"bands": [None]}, {"bands": [[1.0]]}, {"transitions": [-1.0]}):
        with pytest.raises(DataError, match=r"input\.(band|transitions)"):
            replace(CARD, input=fitting | wrong)
    own = zoo.ArrayDataset(
        *data.take([0])[:1], data.metadata[:1], sfreq=100.0, channels=list("ABCDEF")
    )
    with pytest.warns(zoo.InputWarning, match="the place of A, B, C, D and 2 more"):
        zoo.check_input(replace(CARD, input=fitting), own)


# ------------------------------------------------------------------------------------ the network


def test_a_name_is_downloaded_once_and_then_needs_no_network(home, serve, checkpoint):
    server = serve()
    publish(home, checkpoint, server.url)
    assert zoo.list_checkpoints()[NAME] == zoo.load_card(NAME) == CARD
    assert server.asked == []
    with pytest.raises(DataError, match="not on this machine"):
        zoo.verify(NAME)
    assert same(zoo.load(NAME), checkpoint)
    assert [name for name, _ in server.asked] == list(FILES)
    server.shutdown()
    assert same(zoo.load(NAME), checkpoint)
    folder = zoo.download(NAME)
    assert same(omfa.models.OMFA.from_pretrained(str(folder)), checkpoint)
    assert "those published" in zoo.verify(NAME)
    assert in_cache(home) == sorted(FILES)
    assert len(server.asked) == len(FILES)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_dropped_connection_goes_on_where_it_broke(home, serve, checkpoint, ranges):
    server = serve()
    server.ranges, server.drop_after, server.drops = ranges, 3 * PIECE, 1
    publish(home, checkpoint, server.url)
    assert same(zoo.load(NAME), checkpoint)
    asked = [range_ for name, range_ in server.asked if name == "model.safetensors"]
    assert asked == [None, f"bytes={3 * PIECE}-"]


def test_what_an_earlier_run_left_is_used_by_another_source(home, serve, checkpoint):
    first, second = serve(), serve()
    first.drop_after, first.drops, first.ranges = PIECE, 99, False
    publish(home, checkpoint, first.url)
    with pytest.raises(DataError, match="the connection broke"):
        zoo.download(NAME)
    assert in_cache(home, what="model*") == ["model.safetensors.part"]
    publish(home, checkpoint, (home / "nothing").as_uri(), second.url)
    zoo.download(NAME)
    assert ("model.safetensors", f"bytes={PIECE}-") in second.asked
    assert same(zoo.load(NAME), checkpoint)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_wrong_file_is_never_kept(home, serve, checkpoint, file):
    right = (checkpoint / file).read_bytes()
    server = serve()
    publish(home, checkpoint, server.url)
    for wrong in (right[:-1] + b"!", right + b"more", right[:-1], pickle.dumps(Evil()), b""):
        server.instead = {file: wrong}
        with pytest.raises(DataError, match=r"wrong digest|larger|cut off"):
            zoo.load(NAME)
        assert file not in in_cache(home)
    server.instead = {}
    assert same(zoo.load(NAME), checkpoint)


def test_a_cache_that_was_changed_is_not_read(home, serve, checkpoint):
    server = serve()
    publish(home, checkpoint, server.url)
    folder = zoo.download(NAME)
    config = folder / "config.json"
    right = config.read_bytes()
    config.write_bytes(right.replace(b"tiny", b"base"))
    with pytest.raises(DataError, match="is not the published file"):
        zoo.verify(NAME)
    assert same(zoo.load(NAME), checkpoint)
    assert config.read_bytes() == right
    config.write_bytes(b"{}")
    server.folder = home
    with pytest.raises(DataError, match="404"):
        zoo.load(NAME)
    assert not config.exists()


def test_a_mirror_is_asked_first_and_falls_back(home, serve, checkpoint, tmp_path, monkeypatch):
    mirror, server = serve(tmp_path / "mirror"), serve()
    publish(home, checkpoint, server.url)
    monkeypatch.setenv("OMFA_ZOO_MIRROR", mirror.url)
    zoo.download(NAME)
    assert mirror.asked == [(f"{NAME}/config.json", None)]
    assert len(server.asked) == len(FILES)
    shutil.rmtree(home / "checkpoints")
    shutil.copytree(checkpoint, tmp_path / "mirror" / NAME)
    zoo.download(NAME)
    assert len(server.asked) == len(FILES)
    shutil.rmtree(home / "checkpoints")
    monkeypatch.setenv("OMFA_ZOO_MIRROR", str(tmp_path / "mirror"))  # a folder will do
    zoo.download(NAME)
    assert len(server.asked) == len(FILES)


def test_without_network_the_error_tells_what_was_tried(home, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    publish(
        home,
        checkpoint,
        "package",
        "http://user:secret@127.0.0.1:9/tiny",
        (tmp_path / "nowhere").as_uri(),
    )
    with pytest.raises(DataError) as raised:
        zoo.load(NAME)
    told = str(raised.value)
    assert "http://127.0.0.1:9/tiny: no connection" in told
    assert "nowhere" in told
    assert "OMFA_ZOO_MIRROR" in told
    assert "secret" not in told
    with pytest.raises(DataError, match=NAME):
        zoo.load("omfa-unheard-of")


@pytest.mark.parametrize("host", ["", "[::1", "127.0.0.1:port", ".example"])
def test_no_password_is_in_the_error_of_an_address_that_cannot_be(home, checkpoint, host):
    publish(home, checkpoint, f"http://user:secret@{host}/tiny")
    with pytest.raises(DataError, match="Downloading") as raised:
        zoo.download(NAME)
    assert f"http://{host}/tiny: " in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_file_of_another_size_is_not_copied(home, checkpoint, tmp_path):
    (tmp_path / "large").mkdir()
    with (tmp_path / "large" / "config.json").open("wb") as sparse:
        sparse.truncate(1 << 30)
    publish(home, checkpoint, (tmp_path / "large").as_uri())
    with pytest.raises(DataError, match=r"the file there has 1073741824 bytes"):
        zoo.download(NAME)
    assert in_cache(home) == []


def test_a_hub_that_cannot_be_reached_is_passed_over(home, serve, checkpoint, monkeypatch):
    import huggingface_hub

    asked = []

    def unreachable(repo, file, *, revision):
        asked.append((repo, file, revision))
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    publish(home, checkpoint, "hf://someone/omfa-tiny@v1", serve().url)
    assert same(zoo.load(NAME), checkpoint)
    # Once: the hub's library waits long for an answer.
    assert asked == [("someone/omfa-tiny", "config.json", "v1")]
    shutil.rmtree(home / "checkpoints")
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repo, file, revision: str(checkpoint / file)
    )
    publish(home, checkpoint, "hf://someone/omfa-tiny@v1")
    assert same(zoo.load(NAME), checkpoint)


def test_a_silent_server_is_given_up(home, serve, checkpoint, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    silent, server = serve(), serve()
    silent.pause = 2.0
    publish(home, checkpoint, silent.url)
    with pytest.raises(DataError, match="no answer within"):
        zoo.download(NAME)
    publish(home, checkpoint, silent.url, server.url)
    assert same(zoo.load(NAME), checkpoint)


def test_processes_that_race_all_get_it(home, serve, checkpoint):
    server = serve()
    server.pause = 0.3
    publish(home, checkpoint, server.url)
    code = f"from omfa.zoo.checkpoints.downloads import download; print(download({NAME!r}))"
    racing = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    told = {process.communicate(timeout=60)[0].strip() for process in racing}
    assert [process.returncode for process in racing] == [0, 0, 0]
    assert len(told) == 1
    assert len(server.asked) == len(FILES)
    assert in_cache(home) == sorted(FILES)
    assert same(zoo.load(NAME), checkpoint)


def test_a_registry_that_is_damaged_says_so(home, checkpoint):
    publish(home, checkpoint, "gopher://hole")
    with pytest.raises(DataError, match="gopher"):
        zoo.list_checkpoints()
    (home / "checkpoints.toml").write_text("[omfa-x]\nsources = []\n")
    with pytest.raises(DataError, match="omfa-x has no 'card'"):
        zoo.list_checkpoints()
    (home / "checkpoints.toml").write_text("omfa = [")
    with pytest.raises(DataError, match=r"checkpoints\.toml"):
        zoo.list_checkpoints()


# ------------------------------------------------------------------------------------- the package


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_packaged_checkpoints_are_whole(home, name):
    assert "those published" in zoo.verify(name)
    folder = downloads.PACKAGE / "weights" / name
    assert zoo.Card.from_json((folder / "card.json").read_text()) == PACKAGED[name].card
    zoo.load(name)
    assert not (home / "checkpoints").exists()
