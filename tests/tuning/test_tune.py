"""From a model to a database and back to a library, with few trials; no test asks how fast anything is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphopt
from bench.network import Network
from graphopt.cli import main
from graphopt.errors import UsageError
from graphopt.targets.device import load_target
from graphopt.targets.tuning.database import Writer, read
from graphopt.targets.tuning.record import OK, WRONG
from graphopt.targets.tuning.runners import Measured, run_limited
from graphopt.tuning.candidates import Judge, sample_of
from graphopt.tuning.tasks import Task, groups_of_model, tasks_of
from tests.passes.helpers import Draft
from tests.targets.layers.integers import pointwise_residual


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = Network()
    made = net.image_model(net.classifier(net.conv_bn("input", 3, 16, 3, 2), 16, 4), "net", 12, 4)
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@dataclasses.dataclass(frozen=True)
class Told:
    """A runner that runs candidates here and says what `cost` makes of their number."""

    cost: Callable[[int], Measured]
    name: str = "local"
    unit: str = "s"

    def measure(self, folder: Path, number: int, threads: int, limit: float) -> Measured:
        ended = run_limited(["./measure", str(number), "1", "-1"], folder, limit)
        assert ended.status == OK, ended.text
        return self.cost(number)


def test_the_command_measures_and_goes_on_and_compile_uses_what_it_found(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "db"
    command = ["tune", str(model), "--database", str(db), "--trials", "4", "--threads", "1", "--json"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["trials"] == 4 and first["unit"] == "s"
    assert all(not task["faults"] for task in first["tasks"])
    assert first["tasks"][0]["default"] >= first["tasks"][0]["best"] > 0
    before = read(db).records
    assert len(before) == 4 and all(r.status == OK for r in before)
    assert main(command) == 0
    capsys.readouterr()
    after = read(db).records
    assert len(after) == 8
    assert len({(r.workload.key, r.settings) for r in after}) == 8, "nothing is measured twice"
    assert main(["compile", str(model), "--tuning-db", str(db), "-o", str(tmp_path / "b"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["tuning"]
    assert told["exact"] >= 1
    assert main(["db", "best", str(db), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len({r.place for r in after})


def test_a_faster_decision_is_built_and_gives_the_same_answers(model: Path, tmp_path: Path) -> None:
    """The default is told to be the slowest, so that another one wins."""
    runner = Told(lambda number: Measured(OK, 1.0 / (1 + number), 1.0))
    result = graphopt.tune(model, database=tmp_path / "db", trials=4, threads=1, runner=runner)
    state = result.tasks[0]
    assert state.choice is not None and str(state.choice) != str(state.task.default)
    assert state.speedup == pytest.approx(state.trials)
    plain = graphopt.compile(model, out=tmp_path / "plain")
    tuned = graphopt.compile(model, out=tmp_path / "tuned", tuning_db=tmp_path / "db")
    schedules = [layer["schedule"] for layer in tuned.report["layers"]]
    assert str(state.choice) in schedules
    assert str(state.choice) not in [layer["schedule"] for layer in plain.report["layers"]]
    assert tuned.report["tuning"]["exact"] == 1
    x = np.random.default_rng(0).normal(size=(1, 3, 12, 12)).astype(np.float32)
    for name, want in graphopt.Module(plain.path)({"input": x}).items():
        np.testing.assert_allclose(
            graphopt.Module(tuned.path)({"input": x})[name], want, rtol=1e-5, atol=1e-6
        )


def test_a_default_that_nothing_beats_stays(model: Path, tmp_path: Path) -> None:
    runner = Told(lambda number: Measured(OK, 1.0 if number == 0 else 0.99, 1.0))
    graphopt.tune(model, database=tmp_path / "db", trials=3, threads=1, runner=runner)
    plain = graphopt.compile(model, out=tmp_path / "plain")
    tuned = graphopt.compile(model, out=tmp_path / "tuned", tuning_db=tmp_path / "db")
    assert tuned.library.read_bytes() == plain.library.read_bytes(), "a gain within the noise is none"


def test_a_candidate_that_gives_other_numbers_never_wins(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclasses.dataclass(frozen=True)
    class Spoiling(Told):
        def measure(self, folder: Path, number: int, threads: int, limit: float) -> Measured:
            measured = super().measure(folder, number, threads, limit)
            if number == 1:
                results = folder / "results.1"
                spoilt = np.fromfile(results, np.float32)
                spoilt[3] += 0.01 * np.abs(spoilt).max()
                results.write_bytes(spoilt.tobytes())
            return measured

    runner = Spoiling(lambda number: Measured(OK, 1e-9 if number == 1 else 1.0, 1.0))
    result = graphopt.tune(model, database=tmp_path / "db", trials=2, threads=1, runner=runner)
    assert result.tasks[0].best == 1.0
    assert [r.status for r in read(tmp_path / "db").records].count(WRONG) == 1
    assert "of the scale" in result.tasks[0].faults[0]


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    ended = run_limited(["sh", "-c", "sleep 60 & sleep 60"], tmp_path, 0.2)
    assert ended.status == "late"


def test_tasks_are_distinct_and_count_their_layers() -> None:
    net = Network()
    x = net.conv_bn("input", 3, 16, 3, 1)
    for _ in range(3):
        x = net.conv_bn(x, 16, 16, 3, 1)
    machine = load_target("host")
    tasks = tasks_of(
        groups_of_model(net.image_model(net.classifier(x, 16, 4), "net", 12, 4), machine), machine
    )
    assert sorted(task.groups for task in tasks)[-1] == 3
    assert len({task.workload.key for task in tasks}) == len(tasks)
    repeated = max(tasks, key=lambda task: task.groups)
    assert len({template.name for template in repeated.templates}) > 1, "Winograd or direct is a decision too"


def test_the_judge_takes_the_reference_itself_and_no_single_changed_number(model: Path) -> None:
    machine = load_target("host")
    task: Task = tasks_of(groups_of_model(model, machine), machine)[0]
    sample = sample_of(task)
    from graphopt.runtime import reference

    [right] = reference.run(task.body, sample).values()
    judge = Judge(task, sample)
    assert judge.fault(right.tobytes()) == ""
    wrong = right.copy()
    wrong.reshape(-1)[0] += 0.01 * np.abs(right).max()
    assert "of the scale" in judge.fault(wrong.tobytes())
    assert judge.fault(right.tobytes()[:-4]) == "results end early"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"trials": 0}, "0 trials find nothing"),
        ({"minutes": 0.0}, "0 minutes find nothing"),
        ({"runner": "abacus"}, "there is no runner 'abacus'"),
        ({"target": "cortex-m4f"}, "cannot be tuned yet"),
        ({"target": "rpi4", "runner": "local"}, "do not run on this machine"),
        ({"runner": "qemu"}, "no emulator runs host"),
    ],
)
def test_bad_input_is_told_before_any_work(
    model: Path, tmp_path: Path, options: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        graphopt.tune(model, database=tmp_path / "db", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "db").exists()


def test_a_database_that_is_missing_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such database"):
        graphopt.compile(model, out=tmp_path / "b", tuning_db=tmp_path / "none")
    assert not (tmp_path / "b").exists()


def test_records_of_another_machine_advise_nobody(model: Path, tmp_path: Path) -> None:
    runner = Told(lambda number: Measured(OK, 1.0 / (1 + number), 1.0))
    graphopt.tune(model, database=tmp_path / "db", trials=3, threads=1, runner=runner)
    with Writer(tmp_path / "other") as writer:
        writer.append(dataclasses.replace(r, target="elsewhere") for r in read(tmp_path / "db").records)
    tuned = graphopt.compile(model, out=tmp_path / "tuned", tuning_db=tmp_path / "other")
    assert tuned.report["tuning"]["exact"] == tuned.report["tuning"]["nearest"] == 0


@pytest.mark.skipif(not load_target("host").uses_amx, reason="this machine has no AMX")
def test_candidates_may_use_amx(tmp_path: Path) -> None:
    """The measuring program asks for leave, as a library does."""
    draft = Draft()
    draft.graph.add_output(pointwise_residual(draft), "y")
    result = graphopt.tune(draft.graph, database=tmp_path / "db", trials=3, threads=1)
    records = read(tmp_path / "db").records
    amx = [record for record in records if record.template == "integer-unblocked-amx"]
    assert [record.status for record in amx if record.is_default] == [OK]
    assert result.tasks
