"""`graphopt optimize`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from graphopt.ir.compare import first_difference
from graphopt.ir.parse import parse
from graphopt.ir.text import to_text
from graphopt.onnx_io.read import read_model
from tests.cli.conftest import Cli


def test_the_written_model_is_valid_smaller_and_the_same(cli: Cli, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    done = cli("optimize", model, "-o", out)
    assert (done.code, done.err) == (0, "")
    assert str(out) in done.out
    onnx.checker.check_model(out, full_check=True)
    types = [node.op_type for node in onnx.load(out).graph.node]
    assert "BatchNormalization" not in types and len(types) < 6
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)}
    [want], [got] = (ReferenceEvaluator(str(path)).run(None, x) for path in (model, out))
    np.testing.assert_allclose(got, want, rtol=0, atol=64 * np.finfo(np.float32).eps * np.abs(want).max())
    assert list(tmp_path.iterdir()) == [out]


def test_numbers_for_a_program(cli: Cli, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    data = cli("optimize", model, "-o", out, "--json", "--explain", "fold-batchnorm").data
    assert data["out"] == str(out)
    assert data["nodes"] == {"before": 6, "after": len(onnx.load(out).graph.node)}
    assert data["MACs"]["before"] == data["MACs"]["after"]
    fold = next(step for step in data["passes"] if step["pass"] == "fold-batchnorm")
    assert fold["fired"] == {"fold-batchnorm-into-producer": 1}
    assert fold["nodes_before"] - fold["nodes_after"] == 1
    assert data["explain"]["fold-batchnorm-into-producer"]["fired"] == [
        {"pass": "fold-batchnorm", "node": "norm", "operator": "BatchNormalization", "sources": ["norm"]}
    ]


def test_without_a_file_nothing_is_written(cli: Cli, model: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    assert "-o OUT.onnx" in cli("optimize", model).out
    assert list(tmp_path.iterdir()) == []


def test_text_reads_back(cli: Cli, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "net.txt"
    assert cli("optimize", model, "--text", text, "--pipeline", "").code == 0
    assert first_difference(parse(text.read_text()), read_model(model), origins=True) == ""


def test_a_pipeline_of_ones_own(cli: Cli, model: Path) -> None:
    data = cli("optimize", model, "--pipeline", "eliminate-dead-code,fold-batchnorm", "--json").data
    assert [step["pass"] for step in data["passes"]] == ["eliminate-dead-code", "fold-batchnorm"]


def test_print_after_one_pass_and_after_all(cli: Cli, model: Path) -> None:
    spec = "fold-batchnorm,fuse-activations"
    one = cli("optimize", model, "--pipeline", spec, "--print-after", "fold-batchnorm").out
    assert one.count("# after ") == 1 and "by fold-batchnorm-into-producer" in one
    both = cli("optimize", model, "--pipeline", spec, "--print-after", "all").out
    assert both.count("# after ") == 2 and "graphopt.kernel::Fused" in both


def test_what_is_printed_is_the_graph(cli: Cli, model: Path) -> None:
    shown = cli("optimize", model, "--pipeline", "eliminate-dead-code", "--print-after", "all").out
    assert to_text(read_model(model), weights="digest") in shown


def test_print_changes(cli: Cli, model: Path) -> None:
    shown = cli(
        "optimize", model, "--pipeline", "fold-constants,fold-batchnorm", "--print-changes", "all"
    ).out
    assert "# fold-constants: no change" in shown
    assert "# fold-batchnorm: graph net: 6 -> 5 nodes" in shown
    assert "- %c: float32[1, 4, 8, 8] = Conv(%x, %w)" in shown


def test_time_passes(cli: Cli, model: Path) -> None:
    shown = cli("optimize", model, "--time-passes", "--pipeline", "fold-batchnorm,fuse-activations").out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.split()}
    assert "fold-batchnorm-into-producer" in lines["fold-batchnorm"]
    assert lines["total"].split()[-3:] == ["2", "in", "all"]


def test_explain_tells_where_and_why_not_the_closest_first(cli: Cli, model: Path) -> None:
    data = cli(
        "optimize", model, "--json", "--explain", "fold-scale-into-consumer", "--explain", "fuse-activations"
    ).data
    declined = data["explain"]["fold-scale-into-consumer"]["declined"]
    assert {entry["node"] for entry in declined} >= {"dense"}
    assert all(entry["reason"] for entry in declined)
    assert [entry["operator"] for entry in data["explain"]["fuse-activations"]["fired"]] == ["Relu"]
    shown = cli("optimize", model, "--explain", "fold-batchnorm").out
    assert "fold-batchnorm-into-producer fired once" in shown


def test_closest_first() -> None:
    from graphopt.pipeline import PassRecord, PipelineRecord
    from graphopt.report.passes import attempts_of
    from graphopt.rewrite import Statistics
    from graphopt.rewrite.driver import Attempt
    from graphopt.rewrite.match import WHOLE_MATCH

    tried = [
        Attempt("r", "far", "Add", "no Conv", 1),
        Attempt("r", "late", "Add", "no Conv", 1),
        Attempt("r", "declined", "Add", "too wide", WHOLE_MATCH),
        Attempt("r", "near", "Add", "not a constant", 2),
        Attempt("r", "late", "Add"),
        Attempt("other", "far", "Add", "nothing"),
    ]
    record = PipelineRecord([PassRecord("p", 0.0, 4, 4, Statistics(attempts=tried))])
    fired, declined = attempts_of(record, "r")
    assert [(step, attempt.node) for step, attempt in fired] == [("p", "late")]
    assert [attempt.node for attempt in declined] == ["declined", "near", "far"]


def test_nodes_built_anew_are_listed_by_the_names_that_the_user_knows(cli: Cli, model: Path) -> None:
    """`conv` becomes a Conv made of it and `norm`; `flatten` becomes a Reshape."""
    explain = ("--explain", "fold-batchnorm-into-consumer", "--explain", "reshape-forms")
    explained = cli("optimize", model, "--json", *explain).data["explain"]
    declined = {tuple(sorted(e["sources"])): e for e in explained["fold-batchnorm-into-consumer"]["declined"]}
    assert declined.keys() == {("conv", "norm"), ("dense",)}
    assert declined["conv", "norm"]["node"] == "norm + conv"
    assert "made by Reshape 'flatten'" in declined["dense",]["reason"]
    forms = explained["reshape-forms"]
    assert [entry["node"] for entry in forms["fired"]] == ["flatten"]
    assert forms["declined"] == []


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--explain", "fold-batchnrm"], ["fold-batchnrm", "did you mean fold-batchnorm"]),
        (["--explain", "xyzzy"], ["xyzzy", "--list-passes"]),
        (["--print-after", "canonicalise"], ["canonicalise", "did you mean canonicalize"]),
        (["--print-changes", "nothing-like-it"], ["nothing-like-it"]),
        (["--print-after", "all", "--json"], ["--print-after", "--json"]),
        (["--pipeline", "no-such-pass"], ["no-such-pass", "there are assign-layout"]),
        (["--pipeline", "fold-constants{max_bytes=many}"], ["many", "max_bytes", "int"]),
    ],
)
def test_a_wrong_option_is_told_and_nothing_written(
    cli: Cli, model: Path, tmp_path: Path, arguments: list[str], texts: list[str]
) -> None:
    failed = cli("optimize", model, "-o", tmp_path / "out.onnx", *arguments)
    assert failed.code == 2
    assert all(text in failed.error for text in texts)
    assert list(tmp_path.iterdir()) == []


def test_list_passes_needs_no_model(cli: Cli) -> None:
    shown = cli("optimize", "--list-passes")
    assert shown.code == 0
    for text in ("fold-batchnorm", "batchnorm-to-affine", "max_bytes=", "the default"):
        assert text in shown.out
    data = cli("optimize", "--list-passes", "--json").data
    assert data == cli("optimize", "--json", "--list-passes").data
    listed = {step["name"]: step for step in data["passes"]}
    assert set(data["default"].split(",")) <= {name for step in listed for name in (step, f"{step}{{")}
    assert "max_bytes" in listed["fold-constants"]["options"]
    assert "batchnorm-to-affine" in [rule for step in data["passes"] for rule in step["rules"]]


def test_a_model_is_needed_else(cli: Cli) -> None:
    failed = cli("optimize", "--json")
    assert failed.code == 2 and "there is no MODEL" in failed.error


def test_numeric_verification_is_respected(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that changes the meaning is caught with it, and is not without."""
    from graphopt.passes.fold_constants import FoldConstants

    def spoil(self, graph, statistics) -> None:  # type: ignore[no-untyped-def]
        value = graph.value("b")
        value.constant = value.constant + 1

    monkeypatch.setattr(FoldConstants, "run", spoil)
    assert cli("optimize", model, "--pipeline", "fold-constants").code == 0
    monkeypatch.setenv("GRAPHOPT_VERIFY", "numeric")
    failed = cli("optimize", model, "--pipeline", "fold-constants")
    assert failed.code == 6
    assert "pass 'fold-constants'" in failed.error and "'y'" in failed.error
    monkeypatch.setenv("GRAPHOPT_VERIFY", "sometimes")
    assert cli("optimize", model).code == 2


def test_a_place_that_cannot_be_written(cli: Cli, model: Path, tmp_path: Path) -> None:
    for option in ("--out", "--text"):
        failed = cli("optimize", model, option, tmp_path / "missing" / "file")
        assert failed.code == 2
        assert str(tmp_path / "missing" / "file") in failed.error and "No such file" in failed.error


def test_no_file_of_the_user_is_overwritten(cli: Cli, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    out = tmp_path / "out"
    for arguments in (("-o", model), ("--text", model), ("-o", out, "--text", out)):
        done = cli("optimize", model, *arguments)
        assert done.code == 2
        assert "would be lost" in done.error and "choose another name" in done.error
    assert model.read_bytes() == before
    assert not out.exists()


def test_a_folder_is_no_place_for_a_file(cli: Cli, model: Path, tmp_path: Path) -> None:
    for place, told in ((tmp_path, "is a folder"), ("", "is a folder"), (model / "x", "is a file")):
        failed = cli("optimize", model, "-o", place)
        assert failed.code == 2 and told in failed.error
