"""The peak rate of this machine, measured twice: in registers only, and as reached by the engine."""

import subprocess
import tempfile
from pathlib import Path
from shutil import which

SOURCE = Path(__file__).with_name("ceiling.c")


def register_ceilings(cores: int) -> dict[str, float]:
    """Precision -> operations per second of all cores together; empty without a C compiler."""
    compiler = which("cc") or which("gcc") or which("clang")
    if compiler is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "ceiling")
        command = [compiler, "-O3", "-march=native", str(SOURCE), "-o", str(program)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return {}
        both = [subprocess.Popen([program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                for _ in range(cores)]  # fmt: skip
        said = [process.communicate()[0] for process in both]
    totals: dict[str, float] = {}
    for line in "".join(said).splitlines():
        name, _, value = line.partition(" ")
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def engine_ceiling(precision: str) -> float | None:
    """Operations per second that Pochade's engine reaches; None if it does not support the precision."""
    from pochade.errors import PochadeError
    from pochade.loading.engine_choice import choose, make_engine
    from pochade.tools.benchmark import ceiling

    try:
        return ceiling(make_engine(choose("cpu", precision, "openvino")))
    except PochadeError:
        return None
