"""Coverage of `make test-slow` includes subprocesses, however they end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

STARTS = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "pochade", "--version"], check=True)
stopped = "import os, signal, pochade.prompts.comments; os.kill(os.getpid(), signal.SIGTERM)"
assert subprocess.run([sys.executable, "-c", stopped]).returncode == -15
left = "import os, pochade.prompts.dynamic; os._exit(9)"
assert subprocess.run([sys.executable, "-c", left]).returncode == 9
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGTERM")
def test_what_is_started_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("coverage")
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    outside = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}

    def coverage(*words: object) -> None:
        command = [sys.executable, "-m", "coverage", *map(str, words)]
        subprocess.run(command, cwd=tmp_path, env={**outside, "PYTHONPATH": str(ROOT)}, check=True)

    settings = f"--rcfile={ROOT / 'pyproject.toml'}"
    coverage("run", settings, script)
    coverage("combine", settings, "--quiet")
    coverage("json", settings, "--quiet", "-o", tmp_path / "all.json")
    files = json.loads((tmp_path / "all.json").read_text())["files"]
    run = {name for name, file in files.items() if file["summary"]["covered_lines"]}
    for module in ("cli/main", "prompts/comments", "prompts/dynamic"):
        assert any(name.endswith(f"pochade/{module}.py") for name in run), module
    assert not any(name.endswith("pochade/generation/generate.py") for name in run)
    assert len(files) > len(run)  # what nothing ran is counted too
