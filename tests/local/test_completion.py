"""Completion as a shell asks for it: verbs, verbs inside groups, and options."""

import re

import pytest
from tests.local.front_door import Door


def asked(door: Door, shell: str, line: str) -> list[str]:
    """Ask as the script does that ``--install-completion`` writes; give the words offered."""
    words = line.split(" ")
    env = {**door.env, "_MLSTEAD_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        env |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    else:
        env |= {"_TYPER_COMPLETE_ARGS": line}
    result = Door(door.home, env).process()
    assert result.code == 0, result
    assert result.err == ""
    if shell == "bash":
        return result.out.split()
    return re.findall(r'"([^"]+)":"', result.out)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_is_offered_verbs_and_options(door: Door, shell: str) -> None:
    assert asked(door, shell, "mlstead s") == ["show", "stop", "secret", "site", "schema"]
    assert "run" in asked(door, shell, "mlstead ")
    assert "drive" not in asked(door, shell, "mlstead ")
    assert asked(door, shell, "mlstead data ver") == ["verify"]
    assert asked(door, shell, "mlstead run --de") == ["--detach"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_for_a_shell_is_printed(door: Door, shell: str) -> None:
    env = {
        **door.env,
        "SHELL": f"/bin/{shell}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    result = Door(door.home, env).process("--show-completion", shell)
    assert result.code == 0, result
    assert "_MLSTEAD_COMPLETE" in result.out
