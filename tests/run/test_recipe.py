# SPDX-License-Identifier: Apache-2.0
"""Recipes: what is accepted, what is refused and how it is said, overrides, identity, and all of it without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import ValidationError

from ornstein.base.errors import DataError, RecipeError, UsageError
from ornstein.run.recipe import Recipe, Train, changed, find, shipped
from ornstein.run.yaml_strict import read
from ornstein.train.settings import TrainSettings

TEXT = """\
name: tiny
data: {kind: digits, size: 16}
schedule: {kind: cosine}
prediction: {kind: v}
network: {kind: unet, channels: [32, 64]}
objective:
  kind: matching
  condition_drop: 0.1
train:
  steps: 1000
  learning_rate: 1e-3
sample: {guidance: 2.0}
"""
POINTS = """\
name: plane
data: {kind: points}
schedule: {kind: flow}
prediction: {kind: velocity}
network: {kind: mlp}
"""


LEARNED = ["schedule={kind: learned}", "objective.weighting.kind=elbo"]


def recipe(text: str = TEXT, *words: str) -> Recipe:
    return Recipe.parse(read(text.encode()), words)


def faults(text: str = TEXT, *words: str) -> dict[str, tuple[int | None, str]]:
    """Path -> (line, message) of everything wrong with a recipe."""
    with pytest.raises(RecipeError) as caught:
        recipe(text, *words)
    return {problem.path: (problem.line, problem.message) for problem in caught.value.problems}


def test_values_and_defaults_are_attributes() -> None:
    made = recipe()
    assert (made.format, made.name, made.train.steps, made.train.learning_rate) == (1, "tiny", 1000, 1e-3)
    assert (made.network.kind, made.network.channels, made.network.blocks) == ("unet", (32, 64), 2)
    assert (made.objective.times.kind, made.objective.times.start) == ("stratified", 1e-5)
    assert (made.sample.solver.kind, made.sample.plan.kind, made.evaluate.steps) == ("dpm++2m", "uniform", 50)
    assert isinstance(recipe(TEXT, "train.weight_decay=0").train.weight_decay, float)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        recipe().train.steps = 5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        recipe().schedule.end = 0.5


def test_the_train_section_is_the_trainers_settings() -> None:
    said = {key: field.default for key, field in Train.model_fields.items()}
    assert said == {field.name: field.default for field in fields(TrainSettings)}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_recipes_are_sound_and_explain_themselves(name: str) -> None:
    assert Recipe.load(name).name == "-".join(reversed(name.split("/")))
    heading = shipped()[name].read_text().partition("\nformat:")[0]
    assert len(heading) > 60
    assert all(line.startswith("#") for line in heading.splitlines())


def test_the_shipped_recipes_are_the_promised_ones() -> None:
    assert set(shipped()) >= {"digits", "mnist", "cifar10", "folder", "points", "quick/mnist", "quick/cifar10", "quick/folder"}


def test_yaml_round_trip_and_identity() -> None:
    made = recipe()
    again = recipe(made.to_yaml())
    assert again == made
    assert again.hash == made.hash
    assert len(made.hash) == 16
    assert recipe(TEXT, "train.seed=1").hash != made.hash
    for name in shipped():
        assert recipe(Recipe.load(name).to_yaml()) == Recipe.load(name)


def test_identity_ignores_how_it_is_written() -> None:
    other = TEXT.replace("1e-3", "0.001").replace("guidance: 2.0", "guidance: 2").replace("size: 16", "size: 0x10")
    assert recipe(other).hash == recipe().hash


def test_all_problems_come_at_once_with_paths_lines_and_nearest_names() -> None:
    text = """\
name: "no good"
nmae: 1
data: {kind: digit}
schedule: {kind: cosine, ofset: 1}
prediction: v
network: {kind: unet, channels: [32, 1.5], atention: []}
train:
  steps: "1000"
  warmup: -1
  steps: 7
  decay: lin
  stps: 1
objective: {kind: matching, weighting: {kind: minsnr}}
"""
    found = faults(text)
    assert {path: line for path, (line, _) in found.items()} == {
        "name": 1,
        "nmae": 2,
        "data.kind": 3,
        "schedule.ofset": 4,
        "prediction": 5,
        "network.channels.1": 6,
        "network.atention": 6,
        "train.steps": 10,
        "train.warmup": 9,
        "train.decay": 11,
        "train.stps": 12,
        "objective.weighting.kind": 13,
    }
    for path, word in {"nmae": "name", "data.kind": "digits", "schedule.ofset": "offset", "network.atention": "attention"}.items():
        assert f"nearest is '{word}'" in found[path][1]
    assert "nearest is 'min-snr'" in found["objective.weighting.kind"][1]
    assert "nearest is 'steps'" in found["train.stps"][1]


def test_a_key_in_the_wrong_place_is_sent_to_the_right_one() -> None:
    assert "'train.steps'" in faults(TEXT, "steps=5")["steps"][1]
    assert "'train.learning_rate'" in faults(TEXT, "lr=5")["lr"][1]
    assert "'objective.condition_drop'" in faults(TEXT, "train.condition_drop=0")["train.condition_drop"][1]


def test_missing_sections_point_at_the_top_and_missing_keys_at_their_section() -> None:
    assert set(faults("name: a\n")) == {"data", "schedule", "prediction", "network"}
    assert faults(TEXT, "data={kind: idx}")["data.path"] == (None, "is missing")
    assert faults(TEXT.replace("kind: digits, size: 16", "kind: folder"))["data.path"] == (2, "is missing")
    assert "needs a kind" in faults(TEXT.replace("{kind: cosine}", "{end: 0.5}"))["schedule"][1]


@pytest.mark.parametrize(
    ("words", "path", "said"),
    [
        (["prediction.kind=eps"], "prediction.kind", "pure noise"),
        (["prediction.kind=score"], "prediction.kind", "pure noise"),
        (["prediction.kind=eps", "schedule.kind=flow"], "prediction.kind", "pure noise"),
        (["train.micro_batch=48"], "train.batch_size", "no multiple"),
        (["train.micro_batch=128"], "train.batch_size", "no multiple"),
        (["train.precision=fp16", "train.device=cpu"], "train.precision", "CUDA"),
        (["train.precision=fp16", "train.device=mps"], "train.precision", "CUDA"),
        (["data.kind=points"], "network.kind", "mlp"),
        (["network.kind=mlp"], "network.kind", "unet"),
        (["network.channels=[32, 32, 32, 32, 32, 32]"], "data.size", "halved"),
        (["network.channels=[32, 32, 32, 32]", "network.patch=4"], "data.size", "patches of 4"),
        (["network.channels=[32, 48]"], "network.channels", "heads"),
        (["network.channels=[32, 48]", "network.attention=[0]"], "network.channels", "level 1 attends"),
        (["network.channels=[33, 64]"], "network.channels", "even"),
        (["network.attention=[0, 2]"], "network.attention", "does not exist"),
        (["train.warmup=1001"], "train.warmup", "more than train.steps"),
        (["sample.guidance_interval=[0.8, 0.2]"], "sample.guidance_interval", "above"),
        (["sample.plan.kind=trailing", "sample.plan.table=5"], "sample.plan.table", "10 steps"),
        (["evaluate.plan.kind=trailing", "evaluate.plan.table=20"], "evaluate.plan.table", "50 steps"),
        (["objective.condition_drop=0"], "sample.guidance", "dropped conditions"),
        (["objective.condition_drop=0", "sample.guidance=1", "evaluate.guidance=0"], "evaluate.guidance", "dropped conditions"),
        (["sample.plan.kind=karras", "sample.plan.sigma_min=90"], "sample.plan.sigma_min", "not below"),
        (["schedule={kind: edm, sigma_max: 2}", "sample.plan={kind: log-snr, sigma_min: 3}"], "sample.plan.sigma_min", "schedule"),
        (["schedule.kind=linear-beta", "schedule.beta_max=0.05"], "schedule.beta_max", "below beta_min"),
        (["schedule.kind=ddpm", "schedule.beta_end=0.5"], "schedule.beta_end", "1e-13"),
        (["schedule={kind: shifted, base: {kind: ddpm, beta_end: 0.5}}"], "schedule.base.beta_end", "1e-13"),
        (["schedule={kind: truncated, base: {kind: sub-vp, beta_max: 0.05}}"], "schedule.base.beta_max", "below beta_min"),
        (["schedule={kind: sigmoid, start: 2, end: 1}"], "schedule.end", "not above start"),
        (["schedule={kind: sigmoid, start: -20, tau: 0.5}"], "schedule.tau", "a step"),
        (["schedule={kind: geometric, sigma_min: 2, sigma_max: 1}"], "schedule.sigma_max", "not above sigma_min"),
        (["schedule={kind: learned}"], "objective.weighting.kind", "leaving hard levels out"),
        ([*LEARNED, "objective.times.kind=logit-normal"], "objective.times.kind", "a pace of its own"),
        ([*LEARNED, "objective.coupling.kind=optimal-transport"], "objective.coupling.kind", "independent noise"),
        ([*LEARNED, "schedule.base={kind: scaled-linear}"], "schedule.base", "kinks"),
        (["objective.weighting.kind=elbo", "schedule={kind: shifted, base: {kind: learned}}"],
         "schedule", "outermost, not at schedule.base"),
        ([*LEARNED, "objective.kind=hybrid"], "objective.kind", "what can: matching"),
        (["objective.kind=sliced-score", "schedule.end=0.9"], "objective.kind", "second derivatives"),
        (["objective.coupling.kind=optimal-transport", "sample.solver.kind=ddpm"], "sample.solver", "fresh noise"),
        (["objective.coupling.kind=optimal-transport", "evaluate.solver={kind: ddim, eta: 1}"], "evaluate.solver", "fresh noise"),
        (["schedule={kind: truncated, lowest: 3, highest: 1}"], "schedule.highest", "not above lowest"),
        (["schedule={kind: zero-terminal-snr, base: {kind: flow}}"], "schedule.base.kind", "not variance-preserving"),
        (["prediction.kind=eps", "schedule={kind: shifted}"], "prediction.kind", "pure noise"),
        (["prediction.kind=score", "schedule={kind: zero-terminal-snr}"], "prediction.kind", "pure noise"),
        (["schedule={kind: truncated, lowest: 1}", "sample.plan={kind: karras, sigma_min: 0.7}"], "sample.plan.sigma_min", "starts at"),
        (
            ["schedule={kind: shifted, factor: 0.01, base: {kind: edm}}", "sample.plan={kind: log-snr, sigma_min: 1}"],
            "sample.plan.sigma_min",
            "0.8",
        ),
    ],
)
def test_contradictions_are_refused(words: list[str], path: str, said: str) -> None:
    found = faults(TEXT, *words)
    assert set(found) == {path}
    assert said in found[path][1]


@pytest.mark.parametrize(
    "words",
    [
        ["prediction.kind=eps", "schedule.end=0.995"],
        ["prediction.kind=eps", "schedule.kind=ddpm"],
        LEARNED,
        [*LEARNED, "objective.times.kind=uniform", "schedule.base={kind: shifted, base: {kind: flow}}"],
        ["objective.kind=hybrid", "sample.solver.kind=ddpm"],
        ["objective.coupling.kind=optimal-transport", "sample.solver={kind: ddim}"],
        ["prediction.kind=eps", "schedule={kind: truncated, base: {kind: flow}}"],
        ["schedule={kind: zero-terminal-snr, base: {kind: truncated, base: {kind: cosine}}}"],
        ["train.micro_batch=32"],
        ["train.precision=fp16"],
        ["train.warmup=1000"],
        ["network.channels=[48, 64]"],
        ["network.channels=[32, 32, 32, 32, 32]"],
        ["sample.plan.kind=trailing", "sample.plan.table=10"],
        ["objective.condition_drop=0", "sample.guidance=1"],
        ["train.gradient_checkpointing=true"],
        ["sample.guidance_interval=[0.5, 0.5]"],
    ],
)
def test_what_only_looks_like_a_contradiction_is_accepted(words: list[str]) -> None:
    recipe(TEXT, *words)


def test_parts_within_parts_are_typed_overridden_and_refused_beyond_their_depth() -> None:
    deep = "schedule={kind: truncated, base: {kind: shifted, factor: 3, base: {kind: zero-terminal-snr, base: {kind: cosine, end: 0.9}}}}"
    made = recipe(TEXT, deep)
    assert made.schedule.base.base.base.end == 0.9
    assert recipe(made.to_yaml()) == made
    assert made.override(["schedule.base.factor=4.5"]).schedule.base.factor == 4.5
    again = made.override(["schedule.base.base.base.kind=ddpm", "schedule.base.base.base.steps=50"])
    assert again.schedule.base.base.base.model_dump() == {"kind": "ddpm", "steps": 50, "beta_start": 1e-4, "beta_end": 0.02}
    beyond = "schedule.base.base.base={kind: shifted}"
    assert "must be one of linear-beta" in faults(TEXT, deep, beyond)["schedule.base.base.base.kind"][1]
    assert "nearest is 'factor'" in faults(TEXT, "schedule={kind: shifted, fctor: 2}")["schedule.fctor"][1]


def test_checkpointing_needs_a_network_that_can() -> None:
    assert set(faults(POINTS, "train.gradient_checkpointing=true")) == {"train.gradient_checkpointing"}
    assert recipe(POINTS).network.kind == "mlp"


def test_loss_aware_times_need_an_objective_with_a_memory() -> None:
    words = ["network.kind=point-encoder", "objective={kind: classification, times: {kind: loss-aware}}"]
    assert "remembers" in faults(POINTS, *words)["objective.times.kind"][1]
    recipe(POINTS, "objective.times.kind=loss-aware")


def test_sliced_score_matching_needs_signal() -> None:
    assert "pure noise" in faults(POINTS, "objective.kind=sliced-score")["objective.kind"][1]
    recipe(POINTS, "objective.kind=sliced-score", "schedule={kind: truncated, base: {kind: flow}}")


def test_ranks_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    recipe(TEXT, "train.micro_batch=16")
    recipe(TEXT, "train.micro_batch=8")
    assert "4 x 32" in faults(TEXT, "train.micro_batch=32")["train.batch_size"][1]
    assert "train.batch_size" in faults(TEXT, "train.batch_size=63")
    assert "train.batch_size" in faults(TEXT, "train.batch_size=3")
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE"):
        recipe()


def test_contradictions_are_reported_beside_other_problems_unless_they_depend_on_them() -> None:
    assert set(faults(TEXT, "train.warmup=2000", "sample.steps=0")) == {"train.warmup", "sample.steps"}
    assert set(faults(TEXT, "train.warmup=2000", "train.steps=x")) == {"train.steps"}
    assert set(faults(TEXT, "network.channels=[32, x]", "network.attention=[5]")) == {"network.channels.1"}


# -- overrides ---------------------------------------------------------------------------------------------------------


def test_overrides_are_typed_like_the_file() -> None:
    made = recipe(TEXT, "train.steps=700", "train.learning_rate=1e-4", "network.channels=[32, 64, 64]", "train.max_minutes=2")
    assert (made.train.steps, made.train.learning_rate, made.train.max_minutes) == (700, 1e-4, 2.0)
    assert made.network.channels == (32, 64, 64)
    assert recipe(TEXT, "train.max_minutes=null").train.max_minutes is None
    assert recipe(TEXT, "train.tensorboard=true").train.tensorboard is True
    assert "the text 'no'" in faults(TEXT, "train.tensorboard=no")["train.tensorboard"][1]
    assert "the number 1000.0" in faults(TEXT, "train.steps=1e3")["train.steps"][1]


def test_a_new_kind_drops_what_the_old_one_had_and_keeps_what_both_have() -> None:
    text = TEXT.replace("{kind: cosine}", "{kind: cosine, offset: 0.1, end: 0.9}")
    assert recipe(text, "schedule.kind=flow").schedule.model_dump() == {"kind": "flow"}
    karras = "plan: {kind: karras, sigma_min: 0.01, rho: 3.0}"
    kept = recipe(TEXT.replace("{guidance: 2.0}", f"{{guidance: 2.0, {karras}}}"), "sample.plan.kind=log-snr")
    assert kept.sample.plan.model_dump() == {"kind": "log-snr", "sigma_min": 0.01, "sigma_max": 80.0}


def test_what_the_same_line_sets_beside_a_new_kind_is_checked() -> None:
    assert set(faults(TEXT, "schedule.offset=0.1", "schedule.kind=flow")) == {"schedule.offset"}
    assert recipe(TEXT, "schedule.sigma_max=9", "schedule.kind=edm").schedule.sigma_max == 9.0


def test_a_section_that_the_file_leaves_out_starts_from_its_default_kind() -> None:
    assert recipe(TEXT, "objective.times.start=0.01").objective.times.model_dump() == {"kind": "stratified", "start": 0.01}
    assert recipe(POINTS, "objective.weighting.kind=min-snr").objective.weighting.gamma == 5.0
    assert recipe(TEXT, "sample.solver={kind: ddim, eta: 1}").sample.solver.eta == 1.0


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("train.steps", "'train.steps'"),
        ("=5", "'=5'"),
        ("train..steps=5", "'train..steps=5'"),
        ("train.steps.more=5", "train.steps.more"),
        ("train.steps=[1", "train.steps"),
        ("trian.steps=5", "trian"),
        ("train=5", "train"),
        ("schedule=flow", "schedule"),
    ],
)
def test_bad_words_are_named(word: str, path: str) -> None:
    assert path in faults(TEXT, word)


def test_a_key_set_twice_is_refused_and_lines_are_not_blamed_for_overrides() -> None:
    assert "twice" in faults(TEXT, "train.steps=5", "train.steps=6")["train.steps"][1]
    assert faults(TEXT, "train.learning_rate=-1")["train.learning_rate"][0] is None
    assert faults(TEXT.replace("1e-3", "-1"))["train.learning_rate"][0] == 11


def test_changed_lists_dotted_keys() -> None:
    one = recipe()
    assert changed(one, one) == []
    two = recipe(TEXT, "train.steps=2000", "schedule.kind=flow", "network.channels=[32, 32]")
    assert set(changed(one, two)) == {"train.steps", "schedule.kind", "schedule.offset", "schedule.end", "network.channels"}
    assert set(changed(two, one)) == set(changed(one, two))


def test_overriding_leaves_the_document_alone() -> None:
    document = read(TEXT.encode())
    Recipe.parse(document, ["train.steps=500", "schedule.kind=flow", "evaluate.steps=5"])
    assert document == read(TEXT.encode())


def test_a_value_that_cannot_be_read_is_one_problem() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(TEXT.replace("1000", "9" * 100))
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [("train.steps", 10)]


def test_override_of_a_recipe() -> None:
    made = recipe().override(["sample.solver.kind=heun", "sample.steps=3"])
    assert (made.sample.solver.kind, made.sample.solver.variable, made.sample.steps) == ("heun", "sigma", 3)
    assert recipe().override([]) == recipe()
    with pytest.raises(RecipeError):
        recipe().override(["sample.steps=0"])


# -- finding -----------------------------------------------------------------------------------------------------------


def test_recipes_are_found_by_name_file_and_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("digits") == shipped()["digits"]
    (tmp_path / "digits").mkdir()
    assert find("digits") == shipped()["digits"]
    (tmp_path / "digits" / "recipe.yaml").write_text(TEXT)
    assert find("digits") == Path("digits/recipe.yaml")
    (tmp_path / "mine.yaml").write_text(POINTS)
    assert Recipe.load(tmp_path / "mine.yaml").name == "plane"
    with pytest.raises(UsageError, match="nearest that is shipped is 'digits'"):
        find("digtis")
    with pytest.raises(UsageError, match="no recipe"):
        find(tmp_path / "nothing.yaml")


def test_the_source_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("name: [")
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        Recipe.load(path)


def test_an_unreadable_file_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "closed.yaml"
    path.write_text(TEXT)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        Recipe.load(path)


def test_checking_a_recipe_never_imports_torch(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TEXT)
    code = """
import sys
from ornstein.base.errors import RecipeError
from ornstein.run.recipe import Recipe, changed, shipped
good = Recipe.load(sys.argv[1])
Recipe.load(sys.argv[1], ["train.steps=500", "schedule.kind=edm"]).to_yaml()
for word in ("prediction.kind=eps", "train.steps=.nan", "x=1"):
    try:
        Recipe.load(sys.argv[1], [word])
    except RecipeError:
        continue
    sys.exit(3)
changed(good, Recipe.load("digits")), good.hash, shipped()
sys.exit("torch" in sys.modules or "numpy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.yaml")], check=False)
    assert done.returncode == 0
