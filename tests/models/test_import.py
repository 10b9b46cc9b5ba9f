"""What importing omfa.models brings with it, each in a fresh interpreter."""

import subprocess
import sys

import pytest


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = (
    "import sys; heavy = {'dask', 'distributed', 'zarr', 'moabb', 'omfa.pipeline', 'omfa.zoo'}\n"
)
PRINT = "print(sorted(heavy & set(sys.modules)))\n"


def test_models_bring_neither_the_store_nor_the_cluster():
    code = HEAVY + "import omfa.models\nfrom omfa.models import ART, make_encoder, make_head\n"
    assert run(code + "ART(); make_encoder('cnn', 'tiny'); make_head('gat', 32)\n" + PRINT) == "[]"


def test_omfa_brings_nothing_beyond_what_braindecode_does():
    # braindecode imports moabb and zarr itself, where they are installed. OMFA's module imports
    # compat, so one interpreter tells what each brings.
    code = HEAVY + "from omfa.models import compat\n" + PRINT
    code += "from omfa.models import OMFA; OMFA(n_outputs=2, sfreq=128.0)\n" + PRINT
    compat, whole = run(code).splitlines()
    assert "dask" not in whole
    assert whole == compat


def test_configuration_goes_round_without_the_hub():
    code = "import sys, json; sys.modules['huggingface_hub'] = None\n"
    code += "from omfa.models import OMFA\n"
    code += "chs = [{'ch_name': 'Cz', 'kind': 'eeg', 'loc': [float('nan')] * 12}]\n"
    code += "model = OMFA(n_outputs=2, chs_info=chs, sfreq=200.0, preset='tiny', head='gcn')\n"
    code += "model.reset_head(4)\n"
    code += "text = json.dumps(model.get_config(), allow_nan=False)\n"
    code += "print(OMFA.from_config(json.loads(text)).get_config() == json.loads(text))"
    assert run(code) == "True"


def test_the_package_and_art_are_cheap():
    code = "import sys, omfa.models; print('torch' in sys.modules)\n"
    code += "from omfa.models import ART; ART(); print('braindecode' in sys.modules)"
    assert run(code).split() == ["False", "False"]


def test_a_torchaudio_that_cannot_load_is_no_obstacle(tmp_path):
    broken = tmp_path / "torchaudio"
    (broken / "_extension").mkdir(parents=True)
    (broken / "__init__.py").write_text("from . import _extension\nREADY = True\n")
    (broken / "_extension" / "__init__.py").write_text("raise OSError('libc10_cuda.so')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    # The stand-in has nothing but its loader, so braindecode itself is left out.
    code += "import types; sys.modules['braindecode'] = types.ModuleType('braindecode')\n"
    code += "sys.modules['braindecode.models'] = types.ModuleType('m')\n"
    code += "base = sys.modules['braindecode.models.base'] = types.ModuleType('b')\n"
    code += "base.EEGModuleMixin = object\n"
    code += "import omfa.models.compat, torchaudio\n"
    code += "assert torchaudio.__path__ == [" + repr(str(broken)) + "]\n"
    code += "print(torchaudio.READY, torchaudio._extension._IS_TORCHAUDIO_EXT_AVAILABLE)"
    assert run(code) == "True False"


def test_unknown_names_are_attribute_errors():
    import omfa.models

    assert {"OMFA", "ART"} <= set(dir(omfa.models))
    with pytest.raises(AttributeError, match="Omfa"):
        _ = omfa.models.Omfa
