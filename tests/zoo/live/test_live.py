"""Sessions on LSL streams over loopback, most from MNE-LSL's player."""

import contextlib
import json
import signal as signals
import threading
import uuid

import mne
import numpy as np
import pytest

from omfa.pipeline import DataError
from omfa.zoo.cli.main import main
from omfa.zoo.live.decoder import Decoder
from omfa.zoo.live.outputs import JsonLines
from omfa.zoo.live.run import Session, run
from omfa.zoo.live.settings import LiveSettings
from omfa.zoo.live.stream import Stream, StreamLost

mne_lsl = pytest.importorskip("mne_lsl.player", reason="needs the extra 'live'")

from mne_lsl.lsl import StreamInfo, StreamInlet, StreamOutlet, resolve_streams  # noqa: E402

CHANNELS = ["Fp1", "F3", "Cz", "T8", "O1", "O2"]
SFREQ = 160.0


class Heard:
    """An output that keeps everything, and calls back with each answer."""

    def __init__(self, then=None):
        self.answers, self.events, self.then = [], [], then

    def answer(self, answer, latency):
        self.answers.append(answer)
        if self.then:
            self.then(self)

    def event(self, what, **facts):
        self.events.append((what, facts))

    def close(self):
        pass


@pytest.fixture
def name():
    """A name that no other test's stream has."""
    return f"omfa-{uuid.uuid4().hex[:12]}"


def raw_of(signal, channels=CHANNELS):
    info = mne.create_info(channels, SFREQ, "eeg", verbose="ERROR")
    return mne.io.RawArray(signal * 1e-6, info, verbose="ERROR")  # MNE has volts


@pytest.fixture
def player(signal, name):
    """Replay the simulated recording, over and over."""
    made = mne_lsl.PlayerLSL(raw_of(signal), chunk_size=8, name=name, source_id=name)
    with made:
        yield made


def outlet_of(name, channels=CHANNELS, unit="microvolts", sfreq=SFREQ):
    info = StreamInfo(name, "EEG", len(channels), sfreq, "float64", name)
    info.set_channel_names(channels)
    if unit:
        info.set_channel_units(unit)
    return StreamOutlet(info, 8)


def stop_at(heard, time):
    """Interrupt once an answer is of a time."""
    if heard.answers[-1].time >= time:
        raise KeyboardInterrupt


def values(answers):
    return np.array([[*answer.probabilities.values()] for answer in answers])


class Tapped(Decoder):
    """A decoder that keeps what it was given."""

    taken: list

    def push(self, samples, times):
        self.taken.append((samples, times))
        return super().push(samples, times)


def test_live_answers_equal_those_on_the_recording(checkpoint, loaded, signal, player, monkeypatch):
    taken = []
    monkeypatch.setattr(Tapped, "taken", taken, raising=False)
    monkeypatch.setattr("omfa.zoo.live.run.Decoder", Tapped)
    heard = Heard()
    run(checkpoint, player.name, LiveSettings(stride_seconds=0.25, seconds=3.5), [heard])
    assert len(heard.answers) >= 4
    samples, times = (np.concatenate(part, axis=-1) for part in zip(*taken, strict=True))
    # What came is the recording, from some sample on, in microvolts.
    first = int(np.argmin(np.abs(signal[:, :] - samples[:, :1]).sum(axis=0)))
    twice = np.concatenate([signal, signal], axis=1)
    recorded = twice[:, first : first + samples.shape[1]]
    np.testing.assert_allclose(samples, recorded, atol=1e-6)
    model, decision = loaded
    offline = Decoder(model, decision, channels=CHANNELS, sfreq=SFREQ, stride_seconds=0.25)
    expected = offline.push(recorded, times)
    np.testing.assert_allclose(values(heard.answers), values(expected), atol=1e-5)
    assert [a.time for a in heard.answers] == [a.time for a in expected]


def test_a_stream_that_stops_comes_back_with_other_channels_in_another_order(
    checkpoint, signal, name
):
    order = [5, 2, 0, 4, 1]
    first = mne_lsl.PlayerLSL(raw_of(signal), chunk_size=8, name=name, source_id=name)
    second = mne_lsl.PlayerLSL(
        raw_of(signal[order], [CHANNELS[i] for i in order]), chunk_size=8, name=name, source_id=name
    )
    heard = Heard()

    def then(self):
        if len(self.answers) == 2:
            first.stop()
            threading.Timer(0.5, second.start).start()
        if self.answers[-1].absent:  # only the second lacks a channel
            raise KeyboardInterrupt

    heard.then = then
    first.start()
    settings = LiveSettings(stride_seconds=0.25, reconnect_seconds=20)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, name, settings, [heard])
    finally:
        with contextlib.suppress(RuntimeError):  # where it was never started
            second.stop()
    assert heard.answers[-1].absent == ("T8",)
    assert {answer.absent for answer in heard.answers[:-1]} == {()}
    words = " ".join(what for what, _ in heard.events)
    assert f"the stream {name} stopped" in words
    assert "the stream lacks T8: masked" in words


def listen_to(checkpoint, name, blocks, heard, stride_seconds):
    """Run a session on blocks (start of the samples in the signal, their last timestamp)."""
    outlet, session = outlet_of(name), Session()

    def send():
        outlet.wait_for_consumers(20)
        for samples, last in blocks:
            outlet.push_chunk(np.ascontiguousarray(samples.T), timestamp=last)

    sender = threading.Thread(target=send)
    sender.start()
    settings = LiveSettings(stride_seconds=stride_seconds)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, name, settings, [heard], session=session)
    sender.join()
    return session


def test_packets_that_are_lost(checkpoint, signal, name):
    heard = Heard(lambda self: stop_at(self, 105.9))
    starts = (*range(0, 320, 16), *range(480, 960, 16))  # 1 s is lost
    blocks = [(signal[:, at : at + 16], 100 + (at + 15) / SFREQ) for at in starts]
    session = listen_to(checkpoint, name, blocks, heard, 0.25)
    assert session.lost == pytest.approx(1.0, abs=0.01)
    assert [what for what, _ in heard.events] == ["1.000 s of samples lost"]
    labels = {round(a.time - heard.answers[0].time, 2): a.label for a in heard.answers}
    assert all(label is None for at, label in labels.items() if 1.3 <= at <= 2.9)
    assert all(label is not None for at, label in labels.items() if at <= 1.0 or at >= 3.05)


def test_a_wrong_unit_is_said_once_as_an_event(checkpoint, signal, player, recwarn):
    heard = Heard()
    settings = LiveSettings(stride_seconds=0.25, seconds=3.0, unit="uV")  # it is in volts
    run(checkpoint, player.name, settings, [heard])
    assert len(heard.answers) >= 2
    said = [(what, facts) for what, facts in heard.events if "doubt" in facts]
    assert len(said) == 1
    assert "look like volts" in said[0][0]
    assert "--unit" in said[0][0]
    assert not [each for each in recwarn if "look like volts" in str(each.message)]


def test_answers_of_an_earlier_session_are_not_written_over(checkpoint, tmp_path, capsys):
    (tmp_path / "answers.jsonl").write_text("earlier")
    (tmp_path / "file").write_text("")
    for out, found in (
        (tmp_path / "answers.jsonl", "it is there already"),
        (tmp_path / "file" / "answers.jsonl", "it cannot be made"),
        (tmp_path, "it cannot be made"),
    ):
        assert main(["live", str(checkpoint), "--stream", "any", "--out", str(out)]) == 2
        assert found in capsys.readouterr().err
    assert (tmp_path / "answers.jsonl").read_text() == "earlier"
    JsonLines(tmp_path / "new" / "none.jsonl").close()  # as where there is no such stream
    assert not (tmp_path / "new" / "none.jsonl").exists()


def test_a_rate_that_drifts_loses_nothing_and_is_said(checkpoint, loaded, signal, name):
    rate = SFREQ * 1.02
    x = np.concatenate([signal, signal], axis=1)
    heard = Heard(lambda self: stop_at(self, 100 + 2600 / rate))
    blocks = [(x[:, at : at + 16], 100 + (at + 15) / rate) for at in range(0, 3200, 16)]
    session = listen_to(checkpoint, name, blocks, heard, 1.0)
    assert session.lost == 0
    [(what, facts)] = heard.events
    assert what.startswith("the stream says 160 Hz, and its timestamps 163.")
    # LSL fills in the times within a block by the nominal rate.
    assert facts["rate"] == pytest.approx(rate, rel=1e-3)
    model, decision = loaded
    offline = Decoder(model, decision, channels=CHANNELS, sfreq=SFREQ, stride_seconds=1.0)
    expected = offline.push(x, 100 + np.arange(3200) / rate)[: len(heard.answers)]
    np.testing.assert_allclose(values(heard.answers), values(expected), atol=1e-5)
    np.testing.assert_allclose(
        [a.time for a in heard.answers], [a.time for a in expected], atol=16 / SFREQ * 0.03
    )


def test_nothing_of_that_name_lists_what_is_there(checkpoint, player, capsys):
    wanted = player.name[:-1] + "x"
    assert main(["live", str(checkpoint), "--stream", wanted, "--reconnect-seconds", "1"]) == 2
    said = capsys.readouterr().err
    assert f"Listening to the stream {wanted}: there is none of that name" in said
    assert player.name in said
    assert "Start it, or name another by --stream" in said


def test_a_pretrained_checkpoint_is_refused_before_anything_is_looked_for(checkpoint, capsys):
    folder = checkpoint.parent / "pretrained"
    assert main(["live", str(folder), "--stream", "any"]) == 2
    assert "only pre-trained" in capsys.readouterr().err


def test_streams_that_cannot_be_read(name):
    outlet = outlet_of(name, unit=None)
    with pytest.raises(DataError, match=r"unit of its samples is not known.*--unit"):
        Stream(name)
    with Stream(name, unit="mV") as stream:
        stream.check()
        outlet.push_sample(np.arange(6.0))
        samples, _ = stream.pull(2)
        np.testing.assert_allclose(samples[:, 0], 1e3 * np.arange(6))
        del outlet
        with pytest.raises(StreamLost):
            stream.check()


def test_the_command_ends_cleanly_on_interruption(checkpoint, player, tmp_path, capsys):
    out, outlet, got = tmp_path / "answers.jsonl", f"{player.name}-answers", {}

    def listen():
        try:
            inlet = StreamInlet(resolve_streams(30, name=outlet)[0])
            inlet.open_stream(10)
            got["sample"], got["at"] = inlet.pull_sample(20)
            got["names"] = inlet.get_sinfo().get_channel_names()
        finally:
            signals.raise_signal(signals.SIGINT)

    listener = threading.Thread(target=listen)
    listener.start()
    flags = ["--stream", player.name, "--stride-seconds", "0.25", "--out", str(out)]
    assert main(["live", str(checkpoint), *flags, "--outlet", outlet]) == 0
    listener.join()
    said = capsys.readouterr().err
    assert "answers" in said
    assert "Traceback" not in said
    assert got["names"] == ["calm", "sad", "happy"]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert set(lines[0]) == {"time", "class", "p", "present", "absent", "latency_ms"}
    mine = next(line for line in lines if line["time"] == got["at"])
    np.testing.assert_allclose(list(mine["p"].values()), got["sample"], atol=1e-6)
