"""Recipes: every mistake is answered by name, and no text makes a recipe run code."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.errors import LimbeckError, RecipeError
from limbeck.recipe.reading import read_text
from limbeck.recipe.recipe import Recipe, json_schema, packaged
from limbeck.recipe.schema import RecipeSpec

TEACHER, STUDENT = {"model": "limbeck/conv_mnist"}, {"model": "limbeck/cnn5"}
GOOD = "teacher: {model: limbeck/conv_mnist}\nstudent: {model: limbeck/cnn5}\n"
SECONDS = 10.0  # for one hostile recipe on a busy machine; each takes milliseconds when alone


def good(**changes: Any) -> dict[str, Any]:
    return {"teacher": TEACHER, "student": STUDENT, **changes}


def refusal(mapping: Any, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(mapping, **options)
    return str(caught.value)


# ---------------------------------------------------------------- what is right


def test_the_shortest_recipe_gets_defaults() -> None:
    recipe = Recipe.parse(good())
    assert (recipe.spec.seeds, recipe.spec.data.source, recipe.spec.controls.hard_labels) == (3, "digits", "auto")
    assert recipe.to_dict()["objective"] == {"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4.0}}


def test_a_recipe_and_what_it_writes_are_the_same() -> None:
    for name in packaged():
        recipe = Recipe.load(name)
        written = json.loads(json.dumps(recipe.to_dict()))
        assert Recipe.parse(written) == recipe
        assert Recipe.parse(yaml.safe_load(yaml.safe_dump(written))) == recipe


def test_the_architectures_example_is_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "task: classification\ndata: {source: mnist, root: data}\n"
        "teacher: {model: limbeck/conv_mnist, epochs: 12, views: {shift: 2}}\n"
        "student: {model: limbeck/mlp_784, epochs: 12}\n"
        "objective: {supervised: 0.1, kl: {weight: 0.9, temperature: 4}}\nseeds: 3\nexport: [onnx]\n"
    )
    recipe = Recipe.load(file)
    assert (recipe.name, recipe.student.epochs, recipe.teachers[0].views.shift) == ("mine", 12, 2)


def test_short_forms() -> None:
    recipe = Recipe.parse(good(student={**STUDENT, "optimizer": "sgd", "schedule": "constant"}, objective={"kl": 1}))
    assert (recipe.student.optimizer.name, recipe.student.schedule.name) == ("sgd", "constant")
    assert [term.weight for term in recipe.objective.terms] == [1.0]


def test_several_teachers() -> None:
    recipe = Recipe.parse(good(teacher=[TEACHER, {**TEACHER, "epochs": 4}]))
    assert [one.epochs for one in recipe.teachers] == [30, 4]


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("1E5", 1e5), ("2.5e-4", 2.5e-4), ("-1e2", -100.0)])
def test_numbers_with_exponents_are_numbers(text: str, value: float) -> None:
    assert read_text(f"a: {text}").data == {"a": value}  # YAML 1.1 takes 1e-3 for text


def test_an_alias_is_a_copy() -> None:
    text = "teacher: &m {model: limbeck/cnn5, optimizer: {lr: 0.1}}\nstudent: *m\n"
    recipe = Recipe.parse(read_text(text).data, overrides=["teacher.optimizer.lr=0.5"])
    assert (recipe.teachers[0].optimizer.lr, recipe.student.optimizer.lr) == (0.5, 0.1)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("student.epochs=7", ("student", "epochs"), 7),
        ("student.optimizer.lr=1e-2", ("student", "optimizer", "lr"), 0.01),
        ("student.optimizer=sgd", ("student", "optimizer", "name"), "sgd"),
        ("student.views.flip=true", ("student", "views", "flip"), True),
        ("student.schedule={name: step, milestones: [3, 5]}", ("student", "schedule", "milestones"), [3, 5]),
        ("student.labels=null", ("student", "labels"), None),
        ("objective.kl.temperature=2", ("objective", "kl"), {"weight": 0.9, "temperature": 2}),
        ("export=[]", ("export",), []),
    ],
)
def test_settings(setting: str, path: tuple[str, ...], value: Any) -> None:
    found: Any = Recipe.parse(good(), overrides=[setting]).to_dict()
    for part in path:
        found = found[part]
    assert found == value


def test_what_models_are_compared_by() -> None:
    plain = Recipe.parse(good())
    assert (plain.spec.metric, plain.spec.positive, plain.spec.specificity) == ("accuracy", None, None)
    assert plain.student.select is None  # the recipe's metric, unless it is set
    asked = Recipe.parse(good(positive="yes"), overrides=["metric=auc", "specificity=0.9", "student.select=loss"])
    assert (asked.spec.metric, asked.spec.positive, asked.spec.specificity) == ("auc", "yes", 0.9)
    assert asked.student.select == "loss"
    assert "did you mean 'auc'" in refusal(good(metric="auk"))
    assert "balanced_accuracy" in refusal(good(student={**STUDENT, "select": "acc"}))
    assert "specificity" in refusal(good(specificity=1.0))
    assert "positive" in refusal(good(positive=1))


def test_a_setting_grows_short_forms() -> None:
    mapping = good(student={**STUDENT, "optimizer": "sgd"}, objective={"kl": 0.7})
    recipe = Recipe.parse(mapping, overrides=["student.optimizer.lr=0.3", "objective.kl.temperature=8"])
    assert (recipe.student.optimizer.name, recipe.student.optimizer.lr) == ("sgd", 0.3)
    assert recipe.spec.objective == {"kl": {"weight": 0.7, "temperature": 8}}


def test_a_setting_reaches_one_teacher_of_several() -> None:
    recipe = Recipe.parse(good(teacher=[TEACHER, TEACHER]), overrides=["teacher.1.epochs=5"])
    assert [one.epochs for one in recipe.teachers] == [30, 5]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("student.epoch=7", "--set student.epoch: unknown key; did you mean 'epochs'?"),
        ("studnt.epochs=7", "studnt: unknown key; did you mean 'student'?"),
        ("objective.kl.temprature=2", "did you mean 'temperature'?"),
        ("student.epochs=many", "expected a whole number, found the text 'many'"),
        ("student.epochs", "expected key.path=value"),
        ("=3", "expected a key"),
        ("student.epochs.deep=3", "student.epochs: expected a whole number, found a mapping"),
        ("teacher.3.epochs=3", "teacher"),
        ("student.__class__=3", "unknown key"),
        ("student.epochs=!!python/name:os.system", "tag"),
    ],
)
def test_a_wrong_setting(setting: str, says: str) -> None:
    assert says in refusal(good(), overrides=[setting])


def test_a_changed_recipe_is_another_one() -> None:
    recipe = Recipe.parse(good())
    assert recipe.changed({"objective.kl.temperature": 9}).spec.objective["kl"]["temperature"] == 9
    assert recipe.spec.objective["kl"]["temperature"] == 4.0
    with pytest.raises(RecipeError, match="did you mean 'temperature'"):
        recipe.changed({"objective.kl.temperatur": 9})


def test_quick() -> None:
    schedule = {"name": "step", "milestones": [10, 20], "warmup": 3}
    recipe = Recipe.parse(good(name="mine", seeds=5, student={**STUDENT, "epochs": 30, "schedule": schedule}))
    quick = recipe.quick()
    assert (quick.name, quick.spec.seeds, quick.student.epochs, quick.teachers[0].epochs) == ("mine-quick", 1, 2, 2)
    assert quick.student.schedule.warmup < 2
    assert quick.quick().name == "mine-quick"


# ---------------------------------------------------------------- what is wrong, and how it is told


def test_all_mistakes_are_listed_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("teacher:\n  model: limbeck/cnn5\n  epoch: 3\nstudent: {model: limbeck/cnn5}\nseeds: 0\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: 2 mistakes")
    assert "line 3: teacher.epoch: unknown key; did you mean 'epochs'?" in text
    assert "line 5: seeds: expected at least 1, found 0" in text


def known_keys(schema: dict[str, Any], here: dict[str, Any], above: str = "") -> Iterator[str]:
    """Every dotted key of the schema, read from its JSON form."""
    for name, part in here.get("properties", {}).items():
        yield f"{above}{name}"
        for option in [part, *part.get("anyOf", []), *part.get("oneOf", [])]:
            for reference in [option.get("$ref"), *(one.get("$ref") for one in option.get("anyOf", []))]:
                if reference:
                    yield from known_keys(schema, schema["$defs"][reference.rpartition("/")[2]], f"{above}{name}.")


def test_every_key_with_a_letter_missing_finds_the_right_one() -> None:
    schema = RecipeSpec.model_json_schema()
    keys = sorted(set(known_keys(schema, schema)))
    assert len(keys) > 60
    assert "teacher.optimizer.weight_decay" in keys
    for key in keys:
        above, _, last = key.rpartition(".")
        if len(last) < 4:
            continue
        broken = last[:-2] + last[-1]
        if f"{above}.{broken}".lstrip(".") in keys:  # patch without its c is path
            continue
        setting = f"{above}.{broken}=1" if above else f"{broken}=1"
        text = refusal(good(), overrides=[setting])
        assert f"{broken}: unknown key; did you mean '{last}'?" in text, text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 3}, "epochs: unknown key; did you mean 'teacher.epochs' or 'student.epochs'?"),
        ({"seeds": True}, "seeds: expected a whole number, found true"),
        ({"seeds": "3"}, "seeds: expected a whole number, found the text '3'"),
        ({"seeds": 2.5}, "seeds: expected a whole number, found 2.5"),
        ({"precision": "fp23"}, "found the text 'fp23'; did you mean 'fp32'?"),
        ({"device": "gpu"}, "expected 'auto', 'cpu', 'cuda' or 'mps'"),
        ({"data": {"source": "mnst"}}, "did you mean 'mnist'?"),
        ({"data": {"source": "mnist"}}, "needs the key 'root'"),
        ({"data": {"source": "arrays"}}, "needs the key 'path'"),
        ({"data": {"validation": 1.5}}, "expected a fraction between 0 and 1, or a count"),
        ({"data": {"validation": True}}, "expected a fraction between 0 and 1, or a count"),
        ({"data": {"normalization": {"mean": [0.1, 0.2], "std": [1.0]}}}, "as many means as deviations"),
        ({"data": {"normalization": {"mean": [0.1], "std": [0]}}}, "data.normalization.std.0: expected more than 0"),
        ({"teacher": {"model": "limbeck/conv_mnst"}}, "did you mean 'conv_mnist'?"),
        ({"teacher": {"model": "limbek/conv_mnist"}}, "did you mean 'limbeck'?"),
        ({"teacher": []}, "teacher: "),
        ({"teacher": {**TEACHER, "pretrained": True}}, "has no published weights"),
        ({"teacher": {**TEACHER, "weights": "t.pkl"}}, "ends in .safetensors, .pth, .pt or .onnx"),
        ({"teacher": {"epochs": 3}}, "teacher: the key 'model' is needed, unless 'weights' is an .onnx file"),
        ({"teacher": {"weights": "t.onnx", "transfer": {}}}, "an .onnx file is taken as it is: remove 'transfer'"),
        ({"teacher": {**TEACHER, "probabilities": True}}, "'probabilities' is for an .onnx file"),
        ({"teacher": {**TEACHER, "class_order": ["b", "a"]}}, "one trained here has the data's order"),
        ({"teacher": {"weights": "t.onnx", "class_order": [True, False]}}, "class_order.0: expected text"),
        ({"student": {**STUDENT, "weights": "s.onnx"}}, "ends in .safetensors, .pth or .pt"),
        ({"student": {**STUDENT, "weights": "s.pth"}}, "not trained"),
        ({"student": {**STUDENT, "optimizer": "adm"}}, "student.optimizer.name: expected 'sgd', 'adam' or 'adamw'"),
        ({"student": {**STUDENT, "schedule": "step"}}, "needs 'milestones'"),
        ({"student": {**STUDENT, "epochs": 3, "schedule": {"warmup": 3.0}}}, "schedule.warmup below epochs"),
        ({"student": {**STUDENT, "batch_size": 0}}, "student.batch_size: expected at least"),
        ({"student": {**STUDENT, "ema": 1}}, "student.ema: expected less than 1"),
        ({"student": {**STUDENT, "views": {"flip": 1}}}, "student.views.flip: "),
        ({"student": "limbeck/cnn5"}, "student: expected a mapping"),
        ({"objective": {}}, "objective: "),
        ({"objective": {"kll": 1}}, "objective.kll: unknown term; did you mean 'kl'?"),
        ({"objective": {"kl": {"temperature": 0}}}, "temperature"),
        ({"objective": {"kl": -1}}, "expected a weight of 0 or more"),
        ({"objective": {"kl": {"weight": float("nan")}}}, "objective.kl.weight: expected a"),
        ({"objective": {"supervised": 1}}, "compares with the teacher"),
        ({"controls": {"hard_labels": 1}}, "expected auto, true or false"),
        ({"export": ["onx"]}, "did you mean 'onnx'?"),
        ({"name": "../up"}, "expected a name for the run's folder"),
    ],
)
def test_a_mistake_is_answered_by_name(changes: dict[str, Any], says: str) -> None:
    text = refusal(good(**changes))
    assert says in text
    assert "pydantic" not in text
    assert "Input should" not in text


def test_what_is_needed_is_said() -> None:
    assert "teacher: this key is needed" in refusal({})
    assert "student: this key is needed" in refusal({})


def test_many_mistakes_are_not_a_flood() -> None:
    text = refusal(good(**{f"key{number}": 1 for number in range(500)}))
    assert "500 mistakes" in text
    assert len(text.splitlines()) < 30


@pytest.mark.parametrize("where", ["nowhere.yaml", "digit", ".", "", "a\0b", "x" * 5000])
def test_a_recipe_that_is_not_there(where: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.load(where)


def test_the_nearest_packaged_recipe_is_named() -> None:
    with pytest.raises(RecipeError, match="did you mean 'digits'"):
        Recipe.load("digit")


# ---------------------------------------------------------------- hostile recipes

CANARY = "limbeck-canary"


def python_tags() -> Iterator[str]:
    call = f'["touch {CANARY}"]'
    for tag in (
        "object/apply:os.system", "object/new:os.system", "object/apply:subprocess.check_output",
        "object/apply:builtins.eval", "object/apply:builtins.exec", "object/new:subprocess.Popen",
        "object:subprocess.Popen", "name:os.system", "module:os", "tuple", "bytes", "complex", "long", "unicode",
    ):  # fmt: skip
        yield f"!!python/{tag} {call}"
        yield GOOD + f"name: !!python/{tag} {call}"
        yield f"teacher: {{model: !!python/{tag} {call}}}\nstudent: {{model: limbeck/cnn5}}"
    yield f"%TAG !p! tag:yaml.org,2002:python/\n---\nteacher: !p!object/apply:os.system {call}"
    yield f"!<tag:yaml.org,2002:python/object/apply:os.system> {call}"
    yield GOOD + "name: !!binary aGVsbG8="
    yield GOOD + "data: !!set {digits}"
    yield GOOD + "seeds: !!int '3'"


def model_names() -> Iterator[str]:
    for name in (
        "os.system", "os/system", "builtins/eval", "limbeck/../../etc/passwd", "limbeck/os.system", "user/os.system",
        "user/__import__('os')", "torchvision/../hub", "torchvision/os.system", "timm/hf-hub:evil/model",
        "timm/hf_hub:evil/model", "timm/local-dir:/tmp", "timm/../x", "user/a b", "user/;ls", "/etc/passwd",
        "limbeck/", "/", "limbeck", "user/__class__", "user/", "limbeck/conv_mnist\0", "torchvision/$(touch x)",
        "https://evil/model", "file:///etc/passwd", "limbeck/conv_mnist; import os", "timm/a.b.c", "user/a.b",
    ):  # fmt: skip
        yield json.dumps({"teacher": {"model": name}, "student": STUDENT})


def bombs() -> Iterator[str]:
    yield "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{after}: &{after} [{','.join([f'*{before}'] * 10)}]\n"
        for before, after in zip("abcdefgh", "bcdefghi", strict=True)
    )
    yield "a: &a {x: 1}\n" + "".join(
        f"{after}: &{after} {{<<: *{before}, p: *{before}, q: *{before}}}\n"
        for before, after in zip("abcdefghijklmno", "bcdefghijklmnop", strict=True)
    )
    yield "a: &a [*a]"
    yield "a: &a {b: *a}"
    yield "teacher: &t\n  model: *t\n"
    yield "[" * 100_000
    yield "[" * 400_000 + "]" * 400_000
    yield "{a: " * 50_000
    yield "- " * 200_000
    yield "\n".join(" " * depth + "a:" for depth in range(1000))
    yield "? " * 10_000
    yield "a: 1\n" * 100_000
    yield "\n".join(f"k{number}: 1" for number in range(60_000))
    yield "[" + "a," * 300_000 + "]"
    yield "x" * 2_000_000
    yield "'" * 500_001
    yield "&" * 100_000
    yield "!" * 100_000
    yield "#" * 900_000
    yield GOOD + "name: " + "A" * 500_000
    yield GOOD + "seeds: " + "9" * 20_000
    yield GOOD + "seeds: 0x" + "f" * 100_000
    yield GOOD + "seeds: 1" + ":59" * 5_000


def wrong_values() -> Iterator[str]:
    huge = "9" * 400
    for key in ("seeds", "seed", "threads", "checkpoint_seconds"):
        for value in (".nan", ".inf", "-.inf", "-1", huge, "-" + huge, "1e999", "[1]", "{a: 1}", "'1'", "2024-01-01"):
            yield GOOD + f"{key}: {value}"
    for key in ("epochs", "batch_size", "accumulate", "labels", "workers", "clip", "ema"):
        for value in (".nan", ".inf", "-1", huge, "[]", "{}", "true", "'x'"):
            yield f"teacher: {{model: limbeck/cnn5}}\nstudent: {{model: limbeck/cnn5, {key}: {value}}}"
    for value in (".nan", ".inf", "-1", "'x'", "[]", huge, "1e30", "null", "true"):
        yield GOOD + f"objective: {{kl: {value}}}"
        yield GOOD + f"objective: {{kl: {{temperature: {value}}}}}".replace("null", "[null]")
    for value in (".nan", "-0.1", "0", "1.0", "true", "[0.1]", huge):
        yield GOOD + f"data: {{validation: {value}}}"
    for name in ("__class__", "__init__", "os.system", "forward", "''", "lambda", "model_config", "model_fields"):
        yield GOOD + f"{name}: 1"
        yield GOOD + f"objective: {{{name}: 1}}"
        yield f"teacher: {{model: limbeck/cnn5}}\nstudent: {{model: limbeck/cnn5, {name}: 1}}"
    for option in ("__class__: 1", "checkpoint_path: /etc/passwd", "pretrained_cfg: {url: 'http://x'}", "a: .nan",
                   "weights: DEFAULT", "cache_dir: /tmp", "'a b': 1", "1: 2", f"a: {huge}", "a: {b: 1}"):  # fmt: skip
        yield f"teacher: {{model: limbeck/cnn5, options: {{{option}}}}}\nstudent: {{model: limbeck/cnn5}}"
    for path in ("'http://evil/x.pth'", "''", "'x.pkl'", "'x.py'", '"a\\0.pth"', "[a.pth]", "'s3://b/x.pth'"):
        yield f"teacher: {{model: limbeck/cnn5, weights: {path}}}\nstudent: {{model: limbeck/cnn5}}"
    for name in ("../../x", "/abs", "a/b", "''", ".", "..", "-rf", "~", "'a b'", "null", "1", '"x\\n"'):
        yield GOOD + f"name: {name}"


def broken_texts() -> Iterator[str]:
    yield from ("", " ", "# only a comment", "null", "42", "text", "[]", "- a", "true", "---\n---\n", "a: 1\n---\nb: 2")
    yield from ("a: [", "a: {", "a: b: c", "\t- x", "a: 'x", "%", "@x", "`x`", "a: *nowhere", "&a", "<<: 1", "? [a]: 1")
    yield from (
        "teacher: 1\nteacher: 2",
        "{1: 2}",
        "{null: 1}",
        "{true: 1}",
        "{[a]: 1}",
        "{{a: b}: c}",
        "2024-01-01: 1",
    )
    yield from ("\x00", "a: \x07", "\ufffe", "a: \ud83d", GOOD + GOOD, GOOD + "x: &a 1\ny: *a", GOOD + "seeds: 0b102")
    for line in ("name: 2024-99-99", "name: 2024-01-01T99:99:99", "task: regression"):
        yield GOOD + line


HOSTILE = [*python_tags(), *model_names(), *bombs(), *wrong_values(), *broken_texts()]

WATCHED = {"os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn", "os.startfile",
           "subprocess.Popen", "socket.connect", "socket.getaddrinfo", "urllib.Request", "os.remove", "os.rename",
           "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree", "ctypes.dlopen", "import", "exec", "compile",
           "pickle.find_class", "code.__new__"}  # fmt: skip
_seen: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    wrote = event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if event in WATCHED or wrote:
        _seen.append(f"{event} {arguments[:1]}"[:200])


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """What Python itself reports of code run, processes started, files written and modules imported."""
    global _watching
    if not getattr(sys, "_limbeck_hook", False):  # a hook can not be taken away again
        sys.addaudithook(_hook)
        sys._limbeck_hook = True  # type: ignore[attr-defined]
    for text in (GOOD, GOOD + "seedz: 1", GOOD + "data: {validation: x}", GOOD + "objective: {kl: x}", "a: [", "42"):
        with contextlib.suppress(LimbeckError):  # what is imported on first use is imported now
            Recipe.parse(read_text(text).data)
    _seen.clear()
    _watching = True
    try:
        yield _seen
    finally:
        _watching = False


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    with watched() as seen:
        os.system("true")
        exec("planted = 1")  # noqa: S102
        subprocess.run(["true"], check=True)
        (tmp_path / "planted").touch()
    assert {"os.system", "exec", "subprocess.Popen", "open"} <= {event.partition(" ")[0] for event in seen}


def test_there_are_enough_hostile_recipes() -> None:
    assert len(set(HOSTILE)) >= 250


def test_a_hostile_recipe_is_refused_quickly_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answers = []
    with watched() as seen:
        for text in HOSTILE:
            start = time.monotonic()
            answers.append((text, hostile_answer(text), time.monotonic() - start))
    assert seen == []
    assert list(tmp_path.iterdir()) == []
    assert [text[:200] for text, answer, _ in answers if not answer] == []
    assert [text[:200] for text, answer, _ in answers if len(answer) > 5000 or "Traceback" in answer] == []
    assert [text[:200] for text, _, seconds in answers if seconds > SECONDS] == []


def hostile_answer(text: str) -> str:
    """The refusal; empty if the recipe is taken. Anything but RecipeError fails the test."""
    try:
        data = read_text(text, where="hostile.yaml").data
        Recipe.parse(data, where="hostile.yaml")
    except RecipeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"\x80abc", b"name: \xc3\x28", b"x" * 1_100_000, b"", b"\xef\xbb\xbf"]
)
def test_a_hostile_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_bytes(content)
    with pytest.raises(RecipeError, match=r"hostile\.yaml"):
        Recipe.load(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_device_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    for file in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(RecipeError):
            Recipe.load(file)


class Touch:
    """Would leave a trace if anything of a mapping were called or asked for its items."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, *given: Any, **named: Any) -> int:
        self.file.touch()
        return 1

    __int__ = __float__ = __index__ = __str__ = __call__


def test_objects_are_not_called(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for mapping in (
        good(seeds=Touch(canary)),
        good(teacher=Touch(canary)),
        good(student={"model": Touch(canary)}),
        good(objective={"kl": Touch(canary)}),
        {Touch(canary): 1},
        Touch(canary),
        good(teacher=lambda: canary.touch()),
    ):
        refusal(mapping)
    loop: dict[str, Any] = good()
    loop["data"] = loop
    refusal(loop)
    assert not canary.exists()


# ---------------------------------------------------------------- the schema for editors


def test_the_json_schema_takes_the_packaged_recipes_and_knows_every_key() -> None:
    schema = json_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {*Recipe.parse(good()).to_dict(), "stages"}  # left out where there are none
    word, terms = schema["properties"]["objective"]["anyOf"]
    assert word == {"const": "auto"}
    assert "kl" in terms["properties"]
    jsonschema = pytest.importorskip("jsonschema")
    for name in packaged():
        file = Path(__file__).parents[2] / "src" / "limbeck" / "recipes" / f"{name}.yaml"
        jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good(epochs=3), schema)
