"""The wheel, installed elsewhere, has the code and the same data as the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_carries_all_data_and_works_outside_the_checkout(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=280,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind in ("search_spaces", "latency_models"):
        files = {path for path in (ROOT / kind).rglob("*") if path.is_file()}
        shipped = {path.name for path in files if path.parent.name != "evidence"}
        assert shipped == {
            Path(name).name for name in names if name.startswith(f"tinynas/{kind}/")
        }
    assert "tinynas/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "experiments/"))]
    installed = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(installed)
    answer = subprocess.run(
        [sys.executable, "-c", "import tinynas.cli; tinynas.cli.main()", "spaces"],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0 and "mcunet-small" in answer.stdout
    where = subprocess.run(
        [sys.executable, "-c", "import tinynas.paths as p; print(p.data_dir('search_spaces'))"],
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert Path(where.stdout.strip()) == installed / "tinynas" / "search_spaces"
