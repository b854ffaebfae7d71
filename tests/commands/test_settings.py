from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spie_robo.cli import _parse
from spie_robo.commands.convert import ConvertCommand
from spie_robo.commands.demo import DemoCommand
from spie_robo.commands.record import RecordCommand
from spie_robo.commands.registry import COMMANDS
from spie_robo.commands.report import ReportCommand
from spie_robo.commands.train import TrainCommand
from spie_robo.editing.request import EditRequest
from spie_robo.errors import ConfigError
from spie_robo.evaluation.config import EvaluateConfig
from spie_robo.policies.config import PolicyEvaluateConfig, PolicyTrainConfig
from spie_robo.settings.yaml_files import load_config, read_values

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "learning_rate: 1e-4\n")
    assert read_values(PolicyTrainConfig, file) == {"learning_rate": 1e-4}
    write(file, "learning_rate: fast\n")
    with pytest.raises(ConfigError, match="learning_rate: expected float, got text 'fast'"):
        read_values(PolicyTrainConfig, file)


def test_reads_nested_values_with_their_types(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml",
        "env: A-v0\nepisodes: 3\nout: o.zarr\nzarr_format: 2\nmax_steps: null\n"
        "edit:\n  editor: embedded\n  references: photos\n  protect: [cube, disc]\n  steps: 4\n",
    )
    assert load_config(RecordCommand, file) == RecordCommand(
        env="A-v0",
        episodes=3,
        out=Path("o.zarr"),
        zarr_format=2,
        edit=EditRequest(
            editor="embedded", references=Path("photos"), protect=("cube", "disc"), steps=4
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("episods: 3", "Did you mean 'episodes'"),
        ("qqqq: 3", "Known: env, episodes"),
        ("episodes: three", "episodes: expected int, got text 'three'"),
        ("episodes: true", "episodes: expected int, got bool"),
        ("zarr_format: 4", "expected one of 2, 3, got 4"),
        ("max_steps: 1.5", "expected int or null, got float"),
        ("edit: {sead: 1}", "Did you mean 'seed'"),
        ("edit: {guard: 1}", "guard: expected bool, got int 1"),
        ("edit: {protect: cube}", "protect: expected a list"),
        ("edit: {seed: -1}", "seed: expected 0 or more, got -1"),
        ("- a\n- b", "expected 'setting: value' lines"),
        ("a: [", "cannot be read as YAML"),
        ("episodes: 3\nepisodes: 4", "'episodes' is there twice"),
        ("edit: {seed: 1}\nenv: A\nedit: {steps: 2}", "'edit' is there twice"),
        ("edit: {seed: 1, seed: 2}", "'seed' is there twice"),
    ],
)
def test_names_what_is_wrong_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        read_values(RecordCommand, file)
    assert str(file) in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(("settings", "name"), [(ConvertCommand, "convert"), (DemoCommand, "demo")])
def test_shipped_files_say_the_defaults(settings: type, name: str) -> None:
    said = read_values(settings, CONFIGS / f"{name}.yaml")
    places = {"source": Path("a"), "out": Path("b")} if name == "convert" else {"out": Path("b")}
    assert settings(**places, **said) == settings(**places)


def test_missing_settings_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'episodes', 'out'"):
        load_config(RecordCommand, write(tmp_path / "c.yaml", "env: A-v0"))
    with pytest.raises(ConfigError, match="no such file"):
        load_config(RecordCommand, tmp_path / "none.yaml")
    assert read_values(RecordCommand, write(tmp_path / "empty.yaml", "# nothing")) == {}


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (RecordCommand, {"env": "A", "episodes": 0, "out": Path("o")}, "episodes: expected 1"),
        (RecordCommand, {"env": " ", "episodes": 1, "out": Path("o")}, "env: expected a name"),
        (
            RecordCommand,
            {"env": "A", "episodes": 1, "out": Path("o"), "policy": "best"},
            "policy: expected 'expert', 'random' or a policy's folder, got 'best'",
        ),
        (
            RecordCommand,
            {"env": "A", "episodes": 1, "out": Path("o"), "image_size": 8},
            "image_size: expected 16",
        ),
        (DemoCommand, {"out": Path("o"), "max_steps": 0}, "max_steps: expected 1"),
        (EditRequest, {"steps": 0}, "steps: expected 1"),
        (EditRequest, {"frames_per_pass": 0}, "frames_per_pass: expected 1"),
        (EditRequest, {"retries": -1}, "retries: expected 0"),
        (EditRequest, {"editor": ""}, "editor: expected a name"),
        (ReportCommand, {"store": Path("s"), "out": Path("o"), "frames": 1}, "frames: expected 2"),
        (ConvertCommand, {"source": Path("s"), "out": Path("./s")}, "another path than the source"),
        (
            ConvertCommand,
            {"source": Path("s"), "out": Path("o"), "batch_size": 0},
            "batch_size: expected 1",
        ),
    ],
)
def test_records_check_themselves(settings: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**values)


@pytest.mark.parametrize(
    ("settings", "file"),
    [(DemoCommand, "demo.yaml"), (RecordCommand, "record.yaml"), (ConvertCommand, "convert.yaml")],
)
def test_shipped_files_fit_their_records(settings: type, file: str) -> None:
    values = read_values(settings, CONFIGS / file)
    needed = {"out": Path("o"), "source": Path("s")}
    fields = {item.name for item in dataclasses.fields(settings)}
    made = settings(**{k: v for k, v in needed.items() if k in fields}, **values)
    assert all(getattr(made, key) == value for key, value in values.items()) and values


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("pretrain/*.yaml")), ids=lambda f: f.name)
def test_shipped_pretraining_files_are_valid(file: Path) -> None:
    from spie_robo.pretraining.config import PretrainConfig
    from spie_robo.pretraining.geometry_training import GeometryTrainingConfig
    from spie_robo.pretraining.mixed_pairs import MixedPairsConfig

    records: dict[str, type[object]] = {
        "embedded": PretrainConfig,
        "geometry_editor": GeometryTrainingConfig,
        "mixed_pairs": MixedPairsConfig,
    }
    assert load_config(records[file.stem], file)


AWAY, HERE = Path("s3://lab/data/x.zarr"), Path("here")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("out", lambda: RecordCommand(env="A-v0", episodes=1, out=AWAY)),
        ("out", lambda: DemoCommand(out=AWAY)),
        ("references", lambda: EditRequest(references=AWAY)),
        ("frames", lambda: TrainCommand(references=HERE, frames=AWAY, out=HERE)),
        ("references", lambda: TrainCommand(references=AWAY, frames=HERE, out=HERE)),
        ("frames", lambda: EvaluateConfig(frames=AWAY, references=HERE, editors=("embedded",))),
        ("out", lambda: ReportCommand(store=AWAY, out=AWAY)),
        ("stores", lambda: PolicyTrainConfig(stores=(HERE, AWAY), out=HERE)),
        ("policy", lambda: PolicyEvaluateConfig(policy=AWAY, env="A-v0", episodes=1)),
    ],
)
def test_object_storage_is_refused_where_a_path_is_needed(name, make) -> None:
    says = f"^{name}: expected a path of this machine, got s3://lab/data/x.zarr.*convert"
    with pytest.raises(ConfigError, match=says):
        make()
    ReportCommand(store=AWAY, out=HERE)


def test_records_are_frozen() -> None:
    records = [EditRequest, *(command.settings for command in COMMANDS.values())]
    assert all(dataclasses.is_dataclass(record) for record in records)
    assert all(record.__dataclass_params__.frozen for record in records)


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "aliases (*a0) are not read"),
        ("edit: &e {seed: 1}\nother: *e", "aliases (*e) are not read"),
        ("base: &b [1, *b]", "aliases (*b) are not read"),
        ("edit: {<<: {seed: 1}}", "merge keys (<<) are not read"),
        ("edit: " + "[" * 100_000, "nesting of at most 16"),
        ("a: " + "{a: " * 20 + "1" + "}" * 20, "nesting of at most 16"),
        ("env: 2020-13-45", "cannot be read as YAML"),
        ("episodes: " + "9" * 5000, "cannot be read as YAML"),
        ("episodes: 0x" + "f" * 50_000, "episodes: expected a number of at most 63 bits"),
        ("? [a, b]\n: 1", "cannot be read as YAML"),
        ("1: 2", "unknown setting 1"),
        ("env: !!python/object/apply:os.system [ls]", "cannot be read as YAML"),
        ("env: [" + "abcdefgh, " * 50_000 + "]", "env: expected text"),
        ("e" * 900 + ": 1", "unknown setting"),
        ("zarr_format: " + "z" * 50_000, "expected one of 2, 3"),
        ("# " + "x" * 2**21, "at most"),
        ("a: 1\n---\nb: 2", "cannot be read as YAML"),
    ],
)
def test_documents_made_to_do_harm_are_refused_in_a_line(tmp_path, text, message):
    file = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        read_values(RecordCommand, file)
    assert str(file) in str(caught.value) and message in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_folder_or_a_pipe_is_no_settings_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="expected a file"):
            read_values(RecordCommand, path)


NESTED = [
    ("editor", "embedded-labs"),
    ("base", "embedded"),
    ("references", "photos"),
    ("instruction", "a lab"),
    ("seed", "3"),
    ("steps", "4"),
    ("frames_per_pass", "2"),
    ("guard", "false"),
    ("retries", "0"),
    ("protect", "[cube]"),
]
COMMAND_LINES = {
    "record": ["--env", "A-v0", "--episodes", "1", "--out", "o.zarr"],
    "policy evaluate": [".", "--env", "A-v0", "--episodes", "1"],
    "convert": ["in.zarr", "out.zarr"],
    "demo": ["--out", "o"],
}


@pytest.mark.parametrize("name", COMMAND_LINES)
@pytest.mark.parametrize(("setting", "value"), NESTED)
def test_a_file_and_a_flag_mean_the_same(tmp_path, name, setting, value):
    """A file that changes one nested setting leaves the others as the command has them."""
    file = write(tmp_path / "c.yaml", f"edit: {{{setting}: {value}}}\n")
    words = [*name.split(), *COMMAND_LINES[name]]
    flag = f"--{setting.replace('_', '-')}"
    flags = ["--no-guard"] if setting == "guard" else [flag, value.strip("[]")]
    assert _parse([*words, "--config", str(file)]) == _parse([*words, *flags])


def test_every_command_that_edits_is_compared():
    editing = {
        name
        for name, command in COMMANDS.items()
        if any(field.name == "edit" for field in dataclasses.fields(command.settings))
    }
    assert editing == set(COMMAND_LINES)
    settings = {field.name for field in dataclasses.fields(EditRequest)}
    assert settings == {setting for setting, _ in NESTED}


def test_what_unset_means_is_what_the_help_says() -> None:
    """Words of the help and the settings that ship, where no file is given."""
    from spie_robo.pretraining.config import PretrainConfig
    from spie_robo.training.config import default_config

    shipped = default_config()
    assert (shipped.editor, shipped.epochs, shipped.objective, shipped.seed) == (
        "embedded", 10, "draft", 0,
    )  # fmt: skip
    assert load_config(PretrainConfig, CONFIGS / "pretrain" / "embedded.yaml") == PretrainConfig()
    assert (PretrainConfig().out, PretrainConfig().stage) == ("runs/embedded", "all")


def test_help_does_not_read_as_if_the_guard_were_off(capsys) -> None:
    for name in ("record", "convert", "demo"):
        with pytest.raises(SystemExit):
            _parse([name, "--help"])
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "--no-guard Accept every edit, without a guard that judges it." in text
        assert "(unset: a guard judges)" in text and "default: True" not in text
        assert "unset: the editor's. (default" not in text


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (EditRequest(editor=None), "frames are raw: no editor was asked for"),
        (EditRequest(), "frames are edited by embedded, judged by the guard"),
        (EditRequest(editor="a/b", guard=False), "frames are edited by a/b, not judged"),
    ],
)
def test_the_last_line_says_which_editor_ran(request_: EditRequest, said: str) -> None:
    assert str(request_) == said
