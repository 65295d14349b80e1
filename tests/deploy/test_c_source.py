import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_models import random_constants, small_graph

from tinynas.cost.patch import patch, splits
from tinynas.deploy.c_source import c_source, resolver_calls
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.errors import UsageError

PRINTER = """
#include <cstdio>
#include "{name}.h"
alignas(16) static std::uint8_t arena[{name}_arena_bytes];
int main() {{
  if (reinterpret_cast<std::uintptr_t>({name}) % 16 != 0) return 1;
  if (sizeof(arena) != 12352) return 2;
  return std::fwrite({name}, 1, {name}_bytes, stdout) == {name}_bytes ? 0 : 3;
}}
"""


def test_the_source_holds_every_byte_and_names_the_operators() -> None:
    rng = np.random.default_rng(0)
    graph = small_graph(rng)
    content = write_tflite(random_constants(graph, rng))
    text = c_source(content, graph, name="net", arena_bytes=12352)
    values = re.findall(r"0x([0-9a-f]{2}),", text.source)
    assert bytes(int(value, 16) for value in values) == content
    calls = resolver_calls(graph)
    assert set(calls) == {
        "AddConv2D()",
        "AddDepthwiseConv2D()",
        "AddAdd()",
        "AddAveragePool2D()",
        "AddFullyConnected()",
    }
    assert all(f"//   resolver.{call};" in text.header for call in calls)
    assert "MicroMutableOpResolver<5>" in text.header
    assert max(map(len, text.source.splitlines())) <= 99


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_source_compiles_and_gives_the_model_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    graph = small_graph(rng)
    content = write_tflite(random_constants(graph, rng))
    text = c_source(content, graph, name="net", arena_bytes=12352)
    (tmp_path / "net.h").write_text(text.header, encoding="utf-8")
    (tmp_path / "net.cc").write_text(text.source, encoding="utf-8")
    (tmp_path / "main.cc").write_text(PRINTER.format(name="net"), encoding="utf-8")
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "net.cc", "main.cc", "-o", "p"]
    subprocess.run(command, cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "p"], capture_output=True, check=True)
    assert printed.stdout == content


def test_a_patched_graph_needs_three_operators_more() -> None:
    graph = small_graph(np.random.default_rng(4))
    added = {"AddStridedSlice()", "AddPad()", "AddConcatenation()"}
    patched = patch(graph, splits(graph)[0], 3, 3)
    assert set(resolver_calls(patched)) == set(resolver_calls(graph)) | added


def test_a_name_must_be_an_identifier() -> None:
    graph = small_graph(np.random.default_rng(2))
    with pytest.raises(UsageError, match="'my-net' cannot name C\\+\\+ code"):
        c_source(b"", graph, name="my-net", arena_bytes=0)


def test_an_unknown_kind_has_no_resolver_method() -> None:
    graph = small_graph(np.random.default_rng(3))
    ops = (replace(graph.ops[0], kind="SOFTMAX"),)
    with pytest.raises(ValueError, match="no resolver method is known for \\['SOFTMAX'\\]"):
        resolver_calls(replace(graph, ops=ops))
