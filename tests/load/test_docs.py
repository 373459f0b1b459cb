"""The page of loads names every option, as those of the other commands do."""

import re
from pathlib import Path

from runmgr.cli.load import command

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "load.md"


def test_every_option_is_on_the_page():
    words = set(re.findall(r"--(\w[\w-]*)", PAGE.read_text(encoding="utf-8")))
    options = {
        option.opts[0].removeprefix("--") for option in command.params if option.param_type_name == "option"
    }
    assert options <= words, f"load.md lacks {sorted(options - words)}"
