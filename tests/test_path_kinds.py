"""What is no path, where a file or folder belongs: one line that names it, from every function that takes one."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import filtersub
from filtersub import (
    DecompositionConfig,
    ModelDecomposition,
    TuneSettings,
    decompose_model,
    load_model,
    show_explorer,
    tune,
)
from filtersub.ablation.new_project import new_project
from filtersub.ablation.notebook_contract import notebook_faults
from filtersub.ablation.notebook_html import write_html
from filtersub.ablation.planning import plan
from filtersub.ablation.run import list_runs, run_ablation
from filtersub.ablation.spec import load_spec
from filtersub.collect import collect
from filtersub.data import load_data
from filtersub.data.images import Fence
from filtersub.errors import FiltersubError
from filtersub.experiment import decompose_run
from filtersub.experiment.tuned import load_pair, load_tuned
from filtersub.explore.tuning_runs import explorers_of_run
from filtersub.files import (
    atomic_write,
    find_folder,
    make_folder,
    read_json,
    visible,
    write_csv,
    write_json,
    write_text,
)
from filtersub.folder_lock import locked, sweep
from filtersub.generation.captions import captioned_images, read_prompts, real_images
from filtersub.generation.digits_run import DigitsSettings, digits_run
from filtersub.generation.pipeline import load_pipeline
from filtersub.image_reading import image_paths, read_image
from filtersub.methods import inject
from filtersub.metrics import image_folder, inception_features
from filtersub.metrics.features import encoder_features
from filtersub.metrics.statistics import read_statistics
from filtersub.ranking import agreement
from filtersub.recipe_file import read_for_tuning, read_recipe, write_recipe
from filtersub.recipes import load_recipe
from filtersub.records import read_record, read_records, read_table
from filtersub.report import write_report
from filtersub.report.merge import merge
from filtersub.studies import (
    allotment_study,
    attribution_study,
    model_study,
    penalty_study,
    sharing_study,
    solver_study,
    span_study,
    study_tables,
)
from filtersub.studies.parameters import parameter_study
from filtersub.training import TrainingConfig, fit
from filtersub.weight_file import load_weight_file

CONFIG = DecompositionConfig(atoms=3)
NO_PATHS = (3, 1.5, b"out", ["out"], torch.tensor(3), "a\0b")


#: which take names, or results, too and tell of all
ALSO_NAMES = ("load_data", "load_data, of a folder", "load_recipe", "show_explorer")


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3))


def images():
    return torch.utils.data.TensorDataset(torch.randn(4, 3, 4, 4), torch.tensor([0, 1, 2, 0]))


def entered(context):
    with context:
        pass


FUNCTIONS = {
    "tune": lambda v: tune(TuneSettings(), v),
    "decompose_run": lambda v: decompose_run(v),
    "decompose_model": lambda v: decompose_model(network(), CONFIG, folder=v),
    "load_tuned": load_tuned,
    "load_pair": load_pair,
    "explorers_of_run": explorers_of_run,
    "show_explorer": show_explorer,
    "ModelDecomposition.load": ModelDecomposition.load,
    "ModelDecomposition.save": lambda v: decompose_model(network(), CONFIG).save(v),
    "load_model": lambda v: load_model("resnet18", weights=v),
    "load_weight_file": load_weight_file,
    "load_data": lambda v: load_data(v, size=8),
    "load_data, of a folder": lambda v: load_data(f"folder:{v}", size=8),
    "inject": lambda v: inject(network(), "filter-subspace", "2", recipe=CONFIG, keep_in=v),
    "fit": lambda v: fit(network(), images(), images(), 3, TrainingConfig(epochs=1), folder=v),
    "make_folder": make_folder,
    "find_folder": find_folder,
    "visible": lambda v: visible(v, "record.json"),
    "atomic_write": lambda v: entered(atomic_write(v)),
    "read_json": read_json,
    "write_json": lambda v: write_json(v, {}),
    "write_text": lambda v: write_text(v, ""),
    "write_csv": lambda v: write_csv(v, None),
    "locked": lambda v: entered(locked(v)),
    "sweep": sweep,
    "Fence": Fence,
    "image_paths": image_paths,
    "read_image": read_image,
    "image_folder": image_folder,
    "inception_features": inception_features,
    "encoder_features": encoder_features,
    "read_statistics": read_statistics,
    "captioned_images": captioned_images,
    "real_images": real_images,
    "read_prompts": read_prompts,
    "load_pipeline": load_pipeline,
    "digits_run": lambda v: digits_run(DigitsSettings(), v),
    "agreement": lambda v: agreement(None, [v], "resnet18"),
    "read_recipe": read_recipe,
    "read_for_tuning": read_for_tuning,
    "write_recipe": lambda v: write_recipe(v, CONFIG),
    "load_recipe": load_recipe,
    "read_record": read_record,
    "read_records": read_records,
    "read_table": read_table,
    "collect": collect,
    "merge": lambda v: merge(["runs"], v),
    "merge, a source": lambda v: merge([v], "merged"),
    "write_report": write_report,
    "load_spec": load_spec,
    "list_runs": lambda v: list_runs(load_spec("quickstart"), v),
    "plan": lambda v: plan(load_spec("quickstart"), v),
    "run_ablation": lambda v: run_ablation("quickstart", v),
    "run_ablation, of a file": lambda v: run_ablation(v, "out"),
    "new_project": lambda v: new_project(v, model="resnet18", data="digits"),
    "notebook_faults": notebook_faults,
    "write_html": lambda v: write_html(None, v, name="notebook"),
    "study_tables": study_tables,
    "allotment_study": lambda v: allotment_study(v, TuneSettings()),
    "attribution_study": lambda v: attribution_study(v, [TuneSettings()]),
    "model_study": model_study,
    "parameter_study": parameter_study,
    "penalty_study": penalty_study,
    "sharing_study": lambda v: sharing_study(v, TuneSettings()),
    "solver_study": solver_study,
    "span_study": lambda v: span_study(v, TuneSettings(method="full")),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_path_is_told_in_one_line(function, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in NO_PATHS:
        with pytest.raises(FiltersubError) as found:
            FUNCTIONS[function](value)
        said = str(found.value)
        assert len(said.splitlines()) == 1
        assert "is no path" in said or function in ALSO_NAMES
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_file_where_a_folder_belongs(place, tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(FiltersubError, match=f"the folder {tmp_path / place}: a file is in its way; choose another"):
        make_folder(tmp_path / place)


def test_paths_that_callers_give_are_looked_at():
    """Functions take them through files.as_path; Path alone ends in an error of pathlib."""
    unseen = []
    for file in Path(filtersub.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and function.name != "as_path":
                arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
                paths = {
                    a.arg for a in arguments if a.annotation is not None and "PathLike" in ast.unparse(a.annotation)
                }
                made = {f"Path({name})" for name in paths}
                calls = (ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Call))
                unseen += [(file.name, function.name, call) for call in calls if call in made]
    assert not unseen
