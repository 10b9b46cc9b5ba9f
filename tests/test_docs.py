"""What the pages name exists: modules and attributes, files, links, flags, the drawn floors."""

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/*.md"))]
# The changelog names what is gone, too.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
NAME = re.compile(r"\bomfa\.(?:pipeline|models|zoo)(?:\.\w+)*")
FILE = re.compile(
    r"`((?:pipeline|models|zoo|tests|docs|\.ci)/[\w./-]*|[\w-]+\.(?:py|toml|md|cff))`"
)
# Files of users and of checkpoints, and those that the recipes write.
EXAMPLES = {"checkpoints.toml", "mymodels.py", "pipeline/readers/csv_files.py"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

every_page = pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)


def resolve(name):
    """Import the longest part of a dotted name that is a module; take the rest as attributes."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        module = ".".join(parts[:n])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def missing(names):
    lost = []
    for name in sorted(names):
        try:
            resolve(name)
        except (ModuleNotFoundError, AttributeError):
            lost.append(name)
    return lost


@every_page
def test_every_dotted_name_is_there(page):
    assert missing(NAME.findall(page.read_text())) == []


@every_page
def test_every_import_of_an_example_is_there(page):
    names = set()
    for kind, code in BLOCK.findall(page.read_text()):
        if kind == "python":
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("omfa."):
                    names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert missing(names) == []


@every_page
def test_every_file_is_there(page):
    names = {name for name in FILE.findall(page.read_text()) if name not in EXAMPLES}
    places = ROOT, page.parent
    assert [name for name in sorted(names) if not any((p / name).exists() for p in places)] == []


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = BLOCK.sub("", page.read_text())
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        there = (page.parent / target).resolve() if target else page
        if there.parent == ROOT / "docs" / "gallery":  # of the site's build, which checks it
            continue
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.fixture(scope="module")
def flags_of():
    """Return the flags that the help of a command lists."""
    from omfa.pipeline.cli import main as ingest
    from omfa.zoo.cli.main import main as zoo

    def find(program, verb, capsys):
        with pytest.raises(SystemExit):
            {"omfa-ingest": ingest, "omfa-zoo": zoo}[program]([verb, "--help"])
        return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out))

    return find


@every_page
def test_every_flag_of_a_command_is_there(page, flags_of, capsys):
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    blocks = "\n".join(code for kind, code in BLOCK.findall(text) if kind != "python")
    lines = [*blocks.splitlines(), *re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))]
    for command in (part.strip() for line in lines for part in line.split("&&")):
        found = re.match(r"(?:\w+=\S+ )*(omfa-ingest|omfa-zoo) ([a-z]+)( .*)?$", command)
        # csv is the reader that write-a-reader.md shows how to write.
        if found and found[2] != "csv":
            words = shlex.split(found[3] or "", comments=True)
            flags = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert flags <= flags_of(found[1], found[2], capsys), command


def test_the_floors_of_the_zoo_are_drawn_as_the_linter_holds_them():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    [floors] = [
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["omfa.zoo"]
    ]
    section = (ROOT / "docs" / "architecture.md").read_text().split("\n## The zoo\n")[1]
    drawn = [
        re.findall(r"(\w+)(?:/|\.py)", line)
        for line in BLOCK.findall(section)[0][1].splitlines()
        if re.match(r" \d ", line)
    ]
    assert drawn == [floor.split(" | ") for floor in floors]


def test_every_file_in_a_drawing_of_the_architecture_is_there():
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawings = [code for kind, code in BLOCK.findall(text) if not kind]
    assert len(drawings) == 4
    known = {
        path.name for top in ("pipeline", "models", "zoo") for path in ROOT.glob(f"{top}/**/*")
    }
    files = re.findall(r"\b\w+\.(?:py|csv)\b|\b\w+(?=/)", " ".join(drawings))
    assert [file for file in files if file not in known] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", ["index.md", "ten-minutes.md"])
def test_the_first_steps_run_as_they_stand(page, tmp_path):
    code = "\n".join(
        block
        for kind, block in BLOCK.findall((ROOT / "docs" / page).read_text())
        if kind == "python"
    )
    (tmp_path / "steps.py").write_text(code)
    run = subprocess.run([sys.executable, "steps.py"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "within-subject" in run.stdout


@pytest.mark.parametrize("page", ["models.md", "signal-path.md"])
def test_an_example_at_the_head_of_a_page_runs_as_it_stands(page):
    kind, code = BLOCK.findall((ROOT / "docs" / page).read_text())[0]
    assert kind == "python"
    names = {}
    exec(compile(code, page, "exec"), names)
    shown = {"models.md": ("logits", (8, 3)), "signal-path.md": ("clean", (62, 1280))}
    name, shape = shown[page]
    assert tuple(names[name].shape) == shape


def test_every_page_of_the_site_is_in_a_table_of_contents():
    pages = {page.stem for page in ROOT.glob("docs/*.md")} - {"index"}
    trees = re.findall(r":::+\{toctree\}(.*?):::", "".join(p.read_text() for p in PAGES), re.DOTALL)
    listed = {line.strip() for tree in trees for line in tree.splitlines()}
    assert pages - listed == set()


@pytest.mark.parametrize("program", ["omfa-ingest", "omfa-zoo"])
def test_the_pages_of_commands_have_every_command(program):
    pytest.importorskip("docutils")
    spec = importlib.util.spec_from_file_location(
        "commands", ROOT / "docs" / "_ext" / "commands.py"
    )
    commands = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(commands)
    parsers = dict(commands.PROGRAMS[program]())
    known = {"omfa-ingest": {"seed", "verify", "demo"}, "omfa-zoo": {"evaluate", "predict"}}
    assert known[program] <= set(parsers)
    for parser in parsers.values():
        flags = {flag for action in parser._actions for flag in action.option_strings}  # noqa: SLF001
        assert flags >= {"--help"}
    shown = commands._arguments(parsers["verify"], set())  # noqa: SLF001
    assert shown
