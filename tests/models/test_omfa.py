"""OMFA as a braindecode model: every head, encoder and resampling mode keeps every promise.

The promises are those of braindecode's own model tests (signal arguments, skorch, final_layer,
configuration, hub, features, TorchScript, export, compile, precision, runtime contract), and those
of omfa (channels are a set, absent means absent, any rate, any length).
"""

import inspect
import io
import json
import pickle
import re
import types
import warnings
from copy import deepcopy

import mne
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from omfa.models import HEADS, OMFA, PlaceWarning, UnitWarning, register_with_braindecode
from omfa.models.art import CPU_SLICE
from omfa.models.front_end import doubtful_unit, may_look
from omfa.models.omfa import SUMMARY

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:OMFA. no sampling rate given:UserWarning"),
]

ENCODERS = [
    {"resampling": "rate"},
    {"resampling": "rate+content"},
    {"resampling": "off"},
    {"encoder": "art_no_rotary"},
    {"encoder": "patch"},
    {"encoder": "cnn"},
]
ON_NODES = [head for head in HEADS if head != "coherency"]
COHERENCY = {"head": "coherency"}  # it reads no encoder
VARIANTS = [{"head": head, **encoder} for head in ON_NODES for encoder in ENCODERS] + [COHERENCY]
# Head and encoder are modules apart: each of both once, for what takes long.
FEW = [{"head": head, **e} for head, e in zip([*ON_NODES, "gat"], ENCODERS, strict=True)]
FEW += [COHERENCY]
rng = np.random.default_rng(12)
CHS_INFO = [{"ch_name": f"C{i}", "kind": "eeg", "loc": rng.random(12)} for i in range(1, 4)]
SIGNAL = {
    "n_outputs": 2,
    "n_chans": 3,
    "chs_info": CHS_INFO,
    "n_times": 1000,
    "input_window_seconds": 4.0,
    "sfreq": 250.0,
}


def name_of(variant):
    return "-".join(variant.values())


def every(variants=VARIANTS):
    return pytest.mark.parametrize("variant", variants, ids=name_of)


def build(variant=None, **options):
    arguments = {"n_outputs": 2, "chs_info": CHS_INFO, "n_times": 1000, "sfreq": 250.0}
    return OMFA(**{**arguments, "preset": "tiny", **(variant or {}), **options})


def signal(batch=2, n_chans=3, n_times=1000):
    return 10 * torch.randn(batch, n_chans, n_times)


def signal_combinations():
    channels = ["n_chans"], ["chs_info"], ["n_chans", "chs_info"], []
    times = (
        ["n_times", "sfreq"],
        ["input_window_seconds", "sfreq"],
        ["n_times", "input_window_seconds"],
        ["input_window_seconds"],
        ["sfreq"],
        ["n_times"],
        ["n_times", "input_window_seconds", "sfreq"],
        [],
    )
    return [["n_outputs", *c, *t] for c in channels for t in times]


# --- signal arguments ---------------------------------------------------------------------------


@every()
def test_any_signal_arguments_will_do(variant):
    for given in signal_combinations():
        model = OMFA(**{k: SIGNAL[k] for k in given}, preset="tiny", **variant)
        assert model(signal(3)).shape == (3, 2), given


def test_the_rate_is_inferred_or_its_absence_told(tones):
    x = tones(1000, 250.0, rows=3)[None]
    want = build().eval()
    for given in (
        {"n_times": 1000, "input_window_seconds": 4.0},
        {"input_window_seconds": 4.0},
        {"sfreq": 250.0},
    ):
        model = OMFA(n_outputs=2, chs_info=CHS_INFO, preset="tiny", **given).eval()
        model.load_state_dict(want.state_dict())
        torch.testing.assert_close(model(x), want(x), atol=1e-5, rtol=1e-5)
    with pytest.warns(UserWarning, match="read as 128 Hz.*module__sfreq"):
        OMFA(n_outputs=2, preset="tiny")


def test_contradictions_are_errors():
    with pytest.raises(ValueError, match="n_times"):
        OMFA(n_outputs=2, n_times=1000, sfreq=250.0, input_window_seconds=3.0)
    with pytest.raises(ValueError, match="n_chans"):
        OMFA(n_outputs=2, n_chans=5, chs_info=CHS_INFO)
    with pytest.raises(ValueError, match="chs_info not specified"):
        _ = OMFA(n_outputs=2, n_chans=3, sfreq=250.0, preset="tiny").chs_info
    with pytest.raises(ValueError, match="has 5 channels, but positions are known for 3"):
        build()(signal(n_chans=5))
    for argument in ("preset", "head", "encoder", "resampling"):
        with pytest.raises(ValueError, match="'x' is unknown; known"):
            build(**{argument: "x"})


def test_constructor_follows_braindecodes_conventions():
    parameters = inspect.signature(OMFA.__init__).parameters
    assert set(list(parameters)[1:7]) == set(SIGNAL)
    assert all(parameters[name].default is None for name in SIGNAL)
    activations = [p for name, p in parameters.items() if "activation" in name]
    assert activations
    assert all(issubclass(p.default, nn.Module) for p in activations)
    assert any("drop_prob" in name for name in parameters)
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())


def test_the_caller_keeps_its_infos():
    infos = [{"ch_name": "Cz", "kind": "eeg", "loc": [0.0] * 12}]
    model = OMFA(n_outputs=2, n_times=100, sfreq=100.0, chs_info=infos, preset="tiny")
    assert isinstance(model.chs_info[0]["loc"], np.ndarray)
    assert isinstance(infos[0]["loc"], list)


# --- runtime contract ---------------------------------------------------------------------------


@every()
def test_samples_are_apart_and_nothing_is_changed(variant):
    model, x = build(variant).eval(), signal()
    before, state = x.clone(), deepcopy(model.state_dict())
    with torch.no_grad():
        out = model(x)
        assert torch.equal(x, before)
        assert out.isfinite().all()
        torch.testing.assert_close(model(x.flip(0)), out.flip(0))
        other = x.clone()
        other[1] = -3 * other[1] + 1
        torch.testing.assert_close(model(other)[0], out[0])
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])


@every()
def test_a_batch_of_one_trains(variant):
    model = build(variant).train()
    loss = model(signal(1)).square().sum()
    loss.backward()
    assert all(module.training for module in model.modules())


@every()
def test_a_gradient_reaches_every_parameter(variant):
    model = build(variant, n_chans=None, drop_path_prob=0.0)
    nn.functional.cross_entropy(model(signal(4)), torch.tensor([0, 1, 0, 1])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert parameter.grad.isfinite().all(), name


@every()
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_precisions(variant, dtype):
    model = build(variant).eval()
    x = signal()
    want = model(x)
    with torch.set_grad_enabled(dtype == torch.float64):
        got = model.to(dtype)(x.to(dtype))
        assert got.dtype == dtype
        tolerance = 1e-4 if dtype == torch.float64 else 0.15
        torch.testing.assert_close(got.float(), want.float(), atol=tolerance, rtol=0.0)
    if dtype == torch.float64:
        got.square().mean().backward()
        assert all(p.grad.dtype == dtype for p in model.parameters() if p.grad is not None)


def test_double_precision_is_double_throughout():
    from torch.utils._python_dispatch import TorchDispatchMode

    single = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            outs = out if isinstance(out, (tuple, list)) else [out]
            for t in outs:
                if isinstance(t, torch.Tensor) and t.dtype == torch.float32 and t.dim():
                    single.add(str(func))
            return out

    for resampling in ("rate", "rate+content"):
        model, x = build(resampling=resampling).double().eval(), signal().double()
        with Watch():
            model(x)
    assert not single


@every()
def test_autocast(variant):
    model, x = build(variant), signal() + 4000  # an offset that bfloat16 would round the signal to
    model.eval()
    want = model(x)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).float().square().mean()
    loss.backward()
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(x).float(), want, atol=0.15, rtol=0.0)


# --- head, features, configuration --------------------------------------------------------------


@every()
def test_features_and_head(variant):
    model = build(variant).eval()
    assert "final_layer" in [name for name, _ in model.named_children()][-2:]
    x = signal()
    out = model(x, return_features=True)
    assert out["cls_token"] is None
    torch.testing.assert_close(model.final_layer(out["features"]), model(x))
    kept = {k: v for k, v in deepcopy(model.state_dict()).items() if "final_layer" not in k}
    model.reset_head(10)
    assert model(x).shape == (2, 10)
    assert model.n_outputs == model.get_config()["n_outputs"] == 10
    assert all(torch.equal(model.state_dict()[k], v) for k, v in kept.items())
    with pytest.raises(ValueError, match="positive"):
        model.reset_head(0)


@every()
def test_configuration_is_json_and_complete(variant, montage_info):
    infos = montage_info(["Fz", "Cz", "Pz"])["chs"]
    model = build(variant, chs_info=infos, activation=nn.SiLU, drop_prob=0.3).eval()
    text = json.dumps(model.get_config(), allow_nan=False)
    again = OMFA.from_config(json.loads(text)).eval()
    again.load_state_dict(model.state_dict(), strict=True)
    x = signal()
    torch.testing.assert_close(again(x), model(x))
    assert again.get_config() == model.get_config()
    assert set(inspect.signature(OMFA.__init__).parameters) - {"self"} <= set(json.loads(text))


def test_numbers_from_numpy_stay_in_the_configuration():
    model = OMFA(
        n_outputs=np.int64(3),
        n_chans=np.int64(4),
        n_times=np.int64(500),
        sfreq=np.float64(250),
        preset="tiny",
    )
    config = json.loads(json.dumps(model.get_config()))
    assert [config[k] for k in ("n_outputs", "n_chans", "n_times", "sfreq")] == [3, 4, 500, 250.0]


@every()
def test_a_saved_folder_comes_back(variant, tmp_path, montage_info):
    model = build(variant, chs_info=montage_info(["Fz", "Cz", "Pz"])["chs"]).eval()
    model.reset_head(5)
    model.save_pretrained(tmp_path)
    config = json.loads(
        (tmp_path / "config.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    assert {*SIGNAL, "preset", "head", "encoder", "resampling"} <= set(config)
    x = signal()
    torch.testing.assert_close(OMFA.from_pretrained(tmp_path).eval()(x), model(x))
    other = OMFA.from_pretrained(tmp_path, n_outputs=7)
    assert other(x).shape == (2, 7)
    assert other.get_config()["n_outputs"] == 7


def test_loading_is_strict(tmp_path):
    from safetensors.torch import load_file, save_file

    build().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"encoder\.norm\.weight"):
        OMFA.from_pretrained(tmp_path)


@every(FEW)
@pytest.mark.filterwarnings("ignore:TypedDict class 'ChsInfoType' is closed")
def test_pydantic_configuration(variant):
    from braindecode.models.config import make_model_config

    register_with_braindecode()
    config = make_model_config(OMFA, ["n_outputs"])
    signals = [s for s in signal_combinations() if "chs_info" not in s]
    for given in signals:
        made = config(**{k: SIGNAL[k] for k in given}, preset="tiny", **variant)
        dumped = made.model_dump(mode="json")
        assert dumped["activation"] == "torch.nn.modules.activation.GELU"
        assert config.model_validate(dumped).model_dump() == made.model_dump()
    assert isinstance(made.create_instance(), OMFA)
    made = config(**SIGNAL, preset="tiny", **variant)
    assert made.create_instance()(signal()).shape == (2, 2)


def test_pickle_and_copy():
    model, x = build().eval(), signal()
    for again in (pickle.loads(pickle.dumps(model)), deepcopy(model)):
        torch.testing.assert_close(again(x), model(x))
    assert not any(hasattr(m, "parametrizations") for m in model.modules())


def test_it_prints():
    assert "GATHead" in str(build())
    assert build().get_output_shape() == (1, 2)


def test_docstring_carries_badges_and_rubrics():
    badges = {
        "Convolution": ":bdg-success:`Convolution`",
        "Attention/Transformer": ":bdg-info:`Attention/Transformer`",
        "Foundation Model": ":bdg-danger:`Foundation Model`",
        "Channel": ":bdg-dark-line:`Channel`",
        "Graph Neural Network": ":bdg-light:`Graph Neural Network`",
    }
    found = set(re.findall(r":bdg-[\w-]+:`[^`]+`", OMFA.__doc__))
    assert found == {badges[name] for name in SUMMARY["Categorization"].split(",")}
    for rubric in ("Architectural Overview", "Macro Components", "Usage and Configuration"):
        assert f".. rubric:: {rubric}" in OMFA.__doc__
    assert "from omfa.models import OMFA" in OMFA.__doc__
    assert "braindecode.models import OMFA" not in OMFA.__doc__


# --- TorchScript, export, compile ---------------------------------------------------------------


def plain_copy(model):
    """A module with the model's children, attributes and public methods, but not its class."""
    plain = nn.Module()
    for name, module in model.named_children():
        plain.add_module(name, module)
    for name, value in vars(model).items():
        if name != "_modules":
            short = name.removeprefix("_") if f"_{name.removeprefix('_')}" in MIXIN else name
            setattr(plain, short, value)
    for name, function in inspect.getmembers(type(model), inspect.isfunction):
        if not name.startswith("_"):
            setattr(plain, name, types.MethodType(function, plain))
    return plain.eval()


MIXIN = {"_n_times", "_sfreq", "_chs_info", "_n_outputs", "_n_chans"}


@every()
def test_torchscript(variant):
    model, x = build(variant).eval(), signal()
    with torch.no_grad():
        want = model(x)
        for scripted in (torch.jit.script(model), torch.jit.script(plain_copy(model))):
            file = io.BytesIO()
            torch.jit.save(scripted, file)
            file.seek(0)
            again = torch.jit.load(file)
            torch.testing.assert_close(scripted(x), want)
            torch.testing.assert_close(again(x), want)
        torch.testing.assert_close(
            scripted(x, return_features=True), model(x, return_features=True)["features"]
        )


@every()
def test_export(variant):
    """For a batch of any size, be it larger than what a CPU takes in one pass."""
    model, x = build(variant).eval(), signal(3)
    batch = {"x": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(model, (x,), dynamic_shapes=batch, strict=False)
    for n in (1, CPU_SLICE // x[0].numel() + 1):
        x = signal(n)
        torch.testing.assert_close(program.module()(x), model(x), atol=1e-5, rtol=1e-5)


@every(FEW)
def test_a_compilers_graph_is_whole(variant):
    model, x = build(variant).eval(), signal(1)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-5)


@pytest.mark.slow
# A graph for a CPU warns that it has no use for CUDA graphs, among other things of the compiler's.
@pytest.mark.filterwarnings("ignore")
def test_compile():
    from torch._inductor import config

    model, x = build().eval(), signal(1)
    torch.compiler.reset()
    compiled = torch.compile(model, mode="reduce-overhead", dynamic=False)
    # More would be processes that import torch, beside those that run other tests.
    with config.patch(compile_threads=1):
        torch.testing.assert_close(compiled(x), model(x), atol=1e-4, rtol=1e-5)


# --- skorch -------------------------------------------------------------------------------------


@every(FEW)
def test_eegclassifier_by_name_learns_its_signal(variant, montage_info):
    from braindecode import EEGClassifier

    register_with_braindecode()
    register_with_braindecode()
    info = montage_info(["Fz", "Cz", "Pz"])
    epochs = mne.EpochsArray(1e-5 * rng.standard_normal((10, 3, 500)), info, verbose="error")
    classifier = EEGClassifier(
        "OMFA",
        module__preset="tiny",
        **{f"module__{k}": v for k, v in variant.items()},
        batch_size=2,
        max_epochs=1,
        classes=[0, 1],
        train_split=None,
        verbose=0,
    )
    classifier.fit(epochs, np.arange(10) % 2)
    assert classifier.module_.sfreq == 250.0
    assert classifier.module_.positions.isfinite().all()
    assert "final_layer" in [name for name, _ in classifier.module_.named_children()][-2:]
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(again.predict_proba(epochs), classifier.predict_proba(epochs))


def test_registration_keeps_braindecodes_own_models():
    from braindecode.models.util import _summary_table, models_dict, models_mandatory_parameters

    register_with_braindecode()
    assert "EEGNet" in models_dict
    assert [name for name, *_ in models_mandatory_parameters].count("OMFA") == 1
    assert _summary_table.loc["OMFA", "Modality"] == "EEG"


def test_it_learns():
    """Two classes that differ in where the rhythm is: unseen windows are told apart."""
    time = torch.arange(512) / 128

    def windows(n):
        x, labels = 10 * torch.randn(n, 4, 512), torch.arange(n) % 2
        for row, label in zip(x, labels, strict=True):
            row[2 * label] += 15 * torch.sin(2 * torch.pi * 10 * time + 6 * torch.rand(1))
        return x, labels

    names = [{"ch_name": n} for n in ("F3", "F4", "P3", "P4")]
    model = OMFA(n_outputs=2, chs_info=names, n_times=512, sfreq=128.0, preset="tiny")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    # Others in every step: of 32 alone it would learn the noise, by chance more or less of it.
    for _ in range(45):
        x, labels = windows(32)
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, labels = windows(64)
    assert (model.eval()(x).argmax(1) == labels).float().mean() > 0.9


# --- channels are a set -------------------------------------------------------------------------

NAMES = ["Fp1", "F7", "F3", "Cz", "T7", "P8", "O2", "CB1"]  # the last is in no MNE montage


@every()
def test_channels_may_come_in_any_order_with_their_infos(variant):
    infos = [{"ch_name": name} for name in NAMES]
    order = list(rng.permutation(len(NAMES)))
    model = build(variant, chs_info=infos).eval()
    moved = build(variant, chs_info=[infos[i] for i in order]).eval()
    moved.load_state_dict(model.state_dict())
    x = signal(2, len(NAMES))
    torch.testing.assert_close(moved(x[:, order]), model(x), atol=1e-5, rtol=1e-5)


@every()
def test_masked_zero_filled_and_left_out_are_the_same(variant):
    infos = [{"ch_name": name} for name in NAMES]
    model = build(variant, chs_info=infos).eval()
    fewer = build(variant, chs_info=infos[:5]).eval()
    fewer.load_state_dict(model.state_dict())
    x = signal(2, len(NAMES))
    mask = torch.ones(2, len(NAMES), dtype=torch.bool)
    mask[:, 5:] = False
    want = fewer(x[:, :5])
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(model(x, mask=mask), want, **close)
    for bad in (0.0, float("nan"), 7.0):
        broken = x.clone()
        broken[:, 5:] = bad
        torch.testing.assert_close(model(broken), want, **close)
    single = x.clone()
    single[:, 5:, 17] = float("inf")
    torch.testing.assert_close(model(single), want, **close)
    # Positions given with the call stand for another montage.
    torch.testing.assert_close(model(x[:, :5], positions=model.positions[:5]), want, **close)


@every()
def test_nothing_present_is_a_finite_answer(variant):
    model = build(variant)
    for x in (torch.zeros(2, 3, 1000), torch.full((2, 3, 1000), float("nan"))):
        assert model.eval()(x).isfinite().all()
        loss = model.train()(x).square().mean()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("head", HEADS)
def test_channels_outside_every_montage_work_by_position(head):
    place = np.zeros(12)
    place[:3] = 0.02, 0.05, 0.08
    known = [{"ch_name": "Cz"}, {"ch_name": "E123", "loc": place}]
    unknown = [{"ch_name": "Cz"}, {"ch_name": "E123"}]
    model = build(chs_info=known, head=head).eval()
    with pytest.warns(PlaceWarning, match="the place of E123 is not known"):
        blind = build(chs_info=unknown, head=head).eval()
    blind.load_state_dict(model.state_dict())
    x = signal(2, 2)
    assert model(x).isfinite().all()
    assert (model(x) - blind(x)).abs().max() > 1e-5


@pytest.mark.parametrize("variant", [v for v in FEW if v.get("resampling") != "off"], ids=name_of)
def test_one_set_of_weights_for_any_rate(variant, tones):
    model = build(variant, sfreq=128.0, n_times=512).eval()
    want = model(tones(512, 128.0, rows=3)[None], return_features=True)["features"]
    for sfreq in (200.0, 250.0, 500.0, 1000.0):
        x = tones(round(4 * sfreq), sfreq, rows=3)[None]
        called = model(x, return_features=True, sfreq=sfreq)["features"]
        assert torch.cosine_similarity(called, want).min() > 0.999
        built = build(variant, sfreq=sfreq, n_times=x.shape[-1]).eval()
        built.load_state_dict(model.state_dict())
        torch.testing.assert_close(
            built(x, return_features=True)["features"], called, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("seconds", [0.5, 3.7, 60.0])
@pytest.mark.parametrize("variant", ENCODERS, ids=name_of)
def test_any_length(variant, seconds):
    model = OMFA(n_outputs=2, n_chans=2, sfreq=200.0, preset="tiny", **variant).eval()
    assert model(signal(1, 2, round(200 * seconds))).isfinite().all()


@pytest.mark.parametrize(
    ("factor", "unit"), [(1e-6, "volts"), (1e-3, "millivolts"), (1e3, "nanovolts"), (1, "")]
)
def test_another_unit_is_said_once_per_model(factor, unit):
    model = OMFA(n_outputs=2, n_chans=4, n_times=256, sfreq=128.0, preset="tiny").eval()
    microvolts = 20 * torch.randn(2, 4, 256, generator=torch.Generator().manual_seed(0))
    microvolts[:, 3] = 0  # an absent channel does not count
    if not unit:
        for amplitude in (0.02, 1, 20):  # standardised, scaled to 1, with drift
            model(microvolts * amplitude)
        return
    model(microvolts)
    with pytest.warns(UnitWarning, match=f"looks like {unit}: a channel has"):
        model(microvolts * factor)
    model(microvolts * factor)


def standardised(x, *, over):
    return (x - x.mean(over, keepdim=True)) / x.std(over, keepdim=True)


def test_nothing_recorded_is_in_no_unit_and_nothing_is_warned_of():
    assert doubtful_unit(torch.zeros(2, 3, 64)) == ""


def test_windows_that_were_standardised_are_said_and_what_is_only_small_is_not():
    spread = 5 + 20 * torch.rand(6, 4, 1, generator=torch.Generator().manual_seed(1))
    microvolts = spread * torch.randn(6, 4, 256, generator=torch.Generator().manual_seed(0))
    microvolts[:, 3] = 0  # absent

    def model():
        return OMFA(n_outputs=2, n_chans=4, n_times=256, sfreq=128.0, preset="tiny").eval()

    for kind in (torch.float32, torch.float16):
        z = standardised(microvolts, over=-1).to(kind).nan_to_num().float()
        with pytest.warns(UnitWarning, match="standardised.*Give the microvolts from before"):
            model()(z)
    # by the statistics of a whole recording: nothing tells it from a weak one
    model()(standardised(microvolts[:, :3], over=(0, 2)), positions=torch.full((3, 3), torch.nan))
    # equal, as tones are, and not 1; and of 1, but two channels only
    model()(z[:1] * 3)
    model()(torch.where(torch.arange(4)[:, None] < 2, z, 0))


class Ops(TorchDispatchMode):
    """Keeps the names of what runs, as a device would be asked for it."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func).split(".")[1])
        return func(*args, **(kwargs or {}))


# For these the host waits: it asks for a value, or how many there are.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero"}


@pytest.mark.parametrize("variant", [*FEW, {"connectivity": False}], ids=str)
def test_training_asks_for_no_value_but_the_unit(variant):
    model = OMFA(n_outputs=2, chs_info=CHS_INFO, sfreq=128.0, preset="tiny", **variant).train()
    volts = 2e-5 * torch.randn(2, 3, 256)
    with Ops() as first, pytest.warns(UnitWarning, match="looks like volts"):
        model(volts)
    with Ops() as then:  # said once: nothing is looked at any more
        model(volts).sum().backward()
    assert first.names & WAITING
    assert not then.names & WAITING


def test_on_an_accelerator_the_unit_is_looked_at_once_and_in_training_never():
    assert may_look("cpu", training=True, looked=True)
    for device in ("cuda", "mps", "xpu"):
        assert may_look(device, training=False, looked=False)
        assert not may_look(device, training=False, looked=True)
        assert not may_look(device, training=True, looked=False)
    assert not may_look("meta", training=False, looked=False)


@pytest.mark.parametrize(
    ("kind", "factor", "unit"),
    # braindecode gives microvolts of the volts that MNE has, and arrays as they are
    [("epochs", 1, ""), ("epochs", 1e-3, "millivolts"), ("array", 1, "volts")],
)
def test_the_unit_of_what_a_classifier_of_braindecode_is_given_is_looked_at(kind, factor, unit):
    from braindecode import EEGClassifier

    X = factor * 2e-5 * np.random.default_rng(0).normal(size=(8, 4, 256))
    if kind == "epochs":
        info = mne.create_info(["Fp1", "Cz", "Pz", "O1"], 128.0, "eeg")
        X = mne.EpochsArray(X, info, verbose="error")
    classifier = EEGClassifier(
        OMFA,
        module__preset="tiny",
        module__sfreq=128.0,
        train_split=None,
        batch_size=4,
        max_epochs=1,
        classes=[0, 1],
        verbose=0,
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        classifier.fit(X, y=np.arange(8) % 2)
    found = [str(w.message) for w in said if issubclass(w.category, UnitWarning)]
    assert [re.search(r"looks like (\w+)", text)[1] for text in found] == [unit] * bool(unit)


def test_a_look_at_the_unit_stays_out_of_what_is_compiled():
    model = OMFA(n_outputs=2, n_chans=4, n_times=256, sfreq=128.0, preset="tiny").eval()
    volts = 2e-5 * torch.randn(2, 4, 256)
    scripted = torch.jit.script(model)
    scripted(volts)  # no warning, which would be an error here
    exported = torch.export.export(model, (volts,))
    torch.testing.assert_close(exported.module()(volts), scripted(volts))


def test_channel_names_alone_are_no_descriptions_of_channels():
    with pytest.raises(ValueError, match=r"chs_info holds 'Fz'.*ch_name"):
        OMFA(n_outputs=2, chs_info=["Fz", "Cz"], n_times=512, sfreq=128.0, preset="tiny")
