"""What `exportkit init` writes, and the steps of the GitHub action, as a runner would execute them."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = [ROOT / "action.yml", ROOT / ".github" / "workflows" / "exportkit.yml", ROOT / "exportkit" / "templates" / "workflow.yml.txt"]


def scripts(file):
    """Finds the shell scripts of steps: {name: script}."""
    found = re.findall(r"- name: (.+)\n(?:(?!\s*- ).*\n)*?( +)run: (?:\|\n((?:\2 +.*\n|\n)+)|(.+)\n)", file.read_text())
    return {name: textwrap.dedent(block) or line for name, _, block, line in found}


def run(script, folder, **values):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "GITHUB_STEP_SUMMARY": str(folder / "summary.md"), **values}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)


def test_a_project_begins_with_one_command_and_the_action_proves_and_compares_it(exportkit, tmp_path):
    done = exportkit("init")
    assert done.returncode == 0, done.stderr
    assert "exportkit export net.py" in done.stdout
    steps = scripts(ROOT / "action.yml")
    inputs = {"NETWORKS": "  ne*.py\n", "FORMATS": "torchscript", "TO": "made", "REPORTS": "told", "BASELINES": "baselines"}
    made = run(steps["Export and prove"], tmp_path, **inputs)
    assert made.returncode == 0, made.stdout + made.stderr
    assert exportkit("baseline", tmp_path / "made" / "net").returncode == 0
    compared = run(steps["Compare with the baselines"], tmp_path, **inputs)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert run(steps["Job summary"], tmp_path, **inputs).returncode == 0
    assert (tmp_path / "summary.md").read_text().count("### ") == 2
    assert sorted(one.name for one in (tmp_path / "told").iterdir()) == [
        f"{name}.{kind}" for name in ("check", "export") for kind in ("html", "md", "xml")
    ]


def test_a_pattern_that_matches_nothing_fails_and_an_input_is_no_script(tmp_path):
    steps = scripts(ROOT / "action.yml")
    done = run(steps["Export and prove"], tmp_path, NETWORKS="nets/*.py", FORMATS="onnx", TO="made", REPORTS="told")
    assert done.returncode == 2
    assert "no network file matches 'nets/*.py'" in done.stdout
    done = run(steps["Export and prove"], tmp_path, NETWORKS="$(touch,run) `touch`", FORMATS="$(touch run)", TO="made", REPORTS="told")
    assert done.returncode == 2
    assert not (tmp_path / "run").exists()


def test_what_is_there_is_left_alone(exportkit, tmp_path):
    (tmp_path / "net.py").write_text("mine = 1\n")
    done = exportkit("init", "--install", "git+https://example.org/x; touch run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "net.py").read_text() == "mine = 1\n"
    assert "net.py stays as it is" in done.stdout
    written = (tmp_path / ".github" / "workflows" / "exportkit.yml").read_text()
    assert "pip install 'git+https://example.org/x; touch run'" in written


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_expression_stands_in_a_script(file):
    """https://docs.github.com/en/actions/concepts/security/script-injections"""
    assert not [name for name, script in scripts(file).items() if "${{" in script]


def test_the_options_that_workflows_use_are_real(exportkit):
    used = "\n".join(script for file in WORKFLOWS for script in scripts(file).values())
    for command in ("export", "check"):
        flags = {flag for line in re.findall(rf"exportkit {command} (.*(?:\\\n.*)*)", used) for flag in re.findall(r"--[a-z]+", line)}
        known = exportkit(command, "--help").stdout
        assert flags
        assert all(flag in known for flag in flags), flags
