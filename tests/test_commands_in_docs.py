"""Every command that the docs, the docstrings of commands and the configs show can be given so."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from mlp_mixer.cli import main
from mlp_mixer.data import vtab
from scripts import build_site

from .conftest import ROOT, load_config

PROGRAMS = r"(?:mlp-mixer|python -m mlp_mixer|python train\.py)"


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, str]:
    """The pages of the site with what they insert, the README, configs and benchmarks."""
    pages = tmp_path_factory.mktemp("site") / "pages"
    build_site.write_pages(pages)
    found = {str(path.relative_to(pages)): path.read_text() for path in pages.rglob("*.md")}
    for path in [ROOT / "README.md", *ROOT.glob("configs/*.py"), *ROOT.glob("benchmarks/*.py")]:
        found[str(path.relative_to(ROOT))] = path.read_text()
    return found


def shown(text: str, program: str) -> list[str]:
    """The commands that begin with a pattern, in blocks of code and in lines."""
    whole = re.sub(r"\\{1,2}\n", " ", text)  # in a docstring a backslash is written twice
    in_blocks = re.findall(rf"^ +(?:\$ )?((?:[A-Z_]+=\S+ +)*{program}(?= |$).*)", whole, re.M)
    return in_blocks + re.findall(rf"`({program} [^`\n]+ [^`\n]+)`", whole)


def words(command: str, text: str) -> list[str]:
    """The arguments of a command, with a value for each variable of a loop and open choice."""
    for name, values in re.findall(r"for (\w+) in (.+?); do", text):
        first = next(iter(vtab.TASKS)) if values.startswith("$(") else values.split()[0]
        command = command.replace(f"${name}", first)
    found = []
    for word in shlex.split(re.split(r" (?:\||&&|;|>) ", command)[0], comments=True):
        value = word.replace("H[xW]", "224").replace("...", "")
        found.append(value.removeprefix("[").removesuffix("]").split("|")[0])
    return list(filter(None, found))


def test_every_command_can_be_parsed(texts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    a_config = load_config("digits").to_json()
    count, wrong = 0, []
    for name, text in texts.items():
        for command in shown(text, PROGRAMS):
            argv = words(re.sub(PROGRAMS, "", command, count=1), text)
            if "train.py" in command:
                argv = ["train", *argv]
            for run in re.findall(r"--config=(\S+)/config\.json", command):
                Path(run).mkdir(parents=True, exist_ok=True)
                Path(run, "config.json").write_text(a_config)
            if argv[0] == "COMMAND":
                continue
            count += 1
            try:
                main._parse(argv)
            except SystemExit as ended:
                if ended.code:
                    wrong.append(f"{name}: {command}\n{capsys.readouterr().err}")
    assert not wrong, "\n".join(wrong)
    assert count > 100


def test_every_script_of_a_command_takes_its_flags(texts):
    count = 0
    for name, text in texts.items():
        for command in shown(text, r"python -m benchmarks\.\w+"):
            module, *arguments = words(command.partition("-m ")[2], text)
            source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
            for flag in (word.partition("=")[0] for word in arguments if word.startswith("--")):
                if flag == "--":  # what follows is for train
                    break
                assert f'"{flag}"' in source, f"{name}: {command}"
            count += 1
        for script in re.findall(r"^ +.*?((?:scripts|benchmarks)/\w+\.(?:sh|yaml|py))", text, re.M):
            assert (ROOT / script).exists(), f"{name}: {script}"
    assert count > 30


def test_every_target_and_extra_of_a_command_exists(texts):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name, text in texts.items():
        for target in re.findall(r"(?:^ {4}|`)make (\w+)", text, re.M):
            assert target in targets, f"{name}: make {target}"
        for found in re.findall(r"(?:mlp-mixer|[\"'`]\.|^- \.)\[([\w,]+)\]", text):
            assert not set(found.split(",")) - set(extras), f"{name}: [{found}]"
