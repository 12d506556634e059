"""What the zoo does with one architecture, and what must come out."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from zoo_models import Entry

from filtersub import DecompositionConfig, decompose_model
from filtersub.computed_weights import current_weight
from filtersub.diagnostics import layer_table, output_table, prediction_table
from filtersub.errors import FiltersubError
from filtersub.kernels import select_layers
from filtersub.models import head_name
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

SETTINGS = {"setting 1": {"atoms": 3, "solver": "pca"}, "setting 3": {"atoms": 2, "block": 2, "solver": "pca"}}
OPERATIONS = (
    "decompose",
    "rebuild",
    "diagnose",
    "setting 1",
    "setting 3",
    "merge",
    "fuse",
    "trace",
    "export",
    "ONNX",
    "load",
)
_STEPS = 5
_UNCHANGED = 1e-5  # equal weights; another memory layout of a convolution's output changes the order of later sums
_NEAR = 1e-3  # float32, another order of sums through a deep network, relative to the largest output


class CannotBaseError(Exception):
    """The operation fails on the untuned network too: it is the library's limit."""


@dataclass
class Case:
    """One architecture on its way through the operations; each fills what later ones need."""

    entry: Entry
    folder: Path
    model: nn.Module
    inputs: tuple[Tensor, ...]
    before: list[Tensor]
    tuned: dict[str, nn.Module] = field(default_factory=dict)
    layers: int = 0

    @classmethod
    def of(cls, entry: Entry, folder: Path) -> Case:
        model, inputs = entry.make()
        return cls(entry, folder, model, inputs, outputs(model, inputs))

    @property
    def head(self) -> str | None:
        return head_name(self.model)


def outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The floating-point tensors that a model returns, in evaluation mode."""
    with torch.no_grad():
        found = [each for each in tree_leaves(model.eval()(*inputs)) if isinstance(each, Tensor)]
    return [each for each in found if each.is_floating_point()]


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest difference, relative to the largest entry of that output; infinite where shapes differ."""
    if [each.shape for each in found] != [each.shape for each in wanted]:
        return float("inf")
    gaps = [float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in zip(found, wanted, strict=True)]
    return max(gap if gap == gap else float("inf") for gap in gaps)


def check_near(found: list[Tensor], wanted: list[Tensor], what: str) -> None:
    gap = distance(found, wanted)
    assert gap < _NEAR, f"{what}: outputs differ by {gap:.1e} of the largest"


def decompose(case: Case) -> None:
    """The error that is said is that of the weights the network runs with, in float64."""
    found = decompose_model(case.model, DecompositionConfig(atoms=3, solver="pca"), exclude=_heads(case))
    case.layers = len(found.layers)
    for name, layer in found.layers.items():
        weight = current_weight(case.model.get_submodule(name)).detach().double()
        gap = float((weight - layer.weight().double()).norm() / weight.norm())
        assert abs(gap - layer.relative_error) < 1e-5, f"{name}: error {layer.relative_error:.6f}, measured {gap:.6f}"


def rebuild(case: Case) -> None:
    """As many atoms as a kernel has entries rebuild the network; one atom changes what it computes."""
    layouts = select_layers(case.model, exclude=_heads(case)).values()
    enough = max(min(layout.n_rows, layout.patch_size) for layout in layouts)
    whole = decompose_model(case.model, DecompositionConfig(atoms=enough, solver="pca"), exclude=_heads(case))
    check_near(outputs(whole.rebuild_(_copy(case.model)), case.inputs), case.before, "all atoms")
    one = decompose_model(case.model, DecompositionConfig(atoms=1, solver="pca"), exclude=_heads(case))
    assert distance(outputs(one.rebuild_(_copy(case.model)), case.inputs), case.before) > 1e-4, "one atom, same outputs"


def diagnose(case: Case) -> None:
    """The output error that is said for the last layer that runs is the one that is measured there."""
    found = decompose_model(case.model, DecompositionConfig(atoms=2, solver="pca"), exclude=_heads(case))
    assert len(layer_table(found)) == len(found.layers)
    single = len(case.inputs) == 1
    if not single:
        return  # both tables take batches of one tensor
    said = output_table(case.model, found, [case.inputs[0]]).dropna(subset="output_error")
    if not len(said):
        return
    row = said.iloc[-1]
    assert abs(row.output_error - _measured(case, row["name"], found.layers[row["name"]].weight())) < 1e-3, row["name"]
    if len(case.before) == 1 and case.before[0].ndim == 2:
        assert len(prediction_table(case.model, found, [case.inputs[0]])) == len(case.before[0])


def _measured(case: Case, name: str, weight: Tensor) -> float:
    """``||layer(x, F) - layer(x, F_hat)|| / ||layer(x, F) - bias||`` by a hook on the running network."""
    layer, sums = case.model.get_submodule(name), [0.0, 0.0]
    again, silent = _copy(layer).eval(), _copy(layer).eval()
    found = decompose_model(nn.ModuleDict({"it": _copy(layer)}), DecompositionConfig(atoms=2, solver="pca", block=1))
    holder = nn.ModuleDict({"it": again})
    found.rebuild_(holder)  # the same atoms: the layer alone decomposes as it does in its network
    assert torch.equal(again.weight.detach(), weight)
    if getattr(silent, "bias", None) is not None:
        silent.bias = nn.Parameter(torch.zeros_like(silent.bias))

    def see(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        sums[0] += float((again(*given) - out).double().square().sum())
        sums[1] += float(silent(*given).double().square().sum())

    handle = layer.register_forward_hook(see)
    outputs(case.model, case.inputs)
    handle.remove()
    return (sums[0] / sums[1]) ** 0.5


def tune(case: Case, setting: str) -> None:
    """Starts unchanged; five steps move every atom that a gradient reaches, nothing frozen, and lower the loss."""
    model, head = _copy(case.model), case.head
    saved = [head] if head else None
    tuned = get_peft_model(model, FilterSubspaceConfig(modules_to_save=saved, **SETTINGS[setting]))
    found = outputs(tuned, case.inputs)
    assert distance(found, case.before) < _UNCHANGED, "the start is not the base model"
    names = [m.name for m in tuned.modules() if isinstance(m, FilterSubspaceLayer)]
    if setting == "setting 3" or not case.layers:
        case.layers = len(names)
    trained = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
    frozen = {name: p.detach().clone() for name, p in tuned.named_parameters() if not p.requires_grad}
    began = {name: p.detach().clone() for name, p in trained.items()}
    torch.manual_seed(1)
    goal = [each + 0.3 * each.std().nan_to_num(1.0) * torch.randn_like(each) for each in case.before]
    optimiser = torch.optim.Adam(trained.values(), lr=case.entry.rate)
    losses = []
    for _ in range(_STEPS + 1):
        optimiser.zero_grad()
        losses.append(loss := _loss(tuned, case.inputs, goal))
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0], f"the loss rose from {losses[0]:.4g} to {losses[-1]:.4g}"
    unreached = [name for name, p in trained.items() if p.grad is None]
    dead = [n for n, p in trained.items() if n not in unreached and torch.equal(p, began[n])]
    assert not dead, f"{len(dead)} trained tensors did not move, {dead[0]}"
    never = _without_gradient(case, goal) if unreached else set()
    silent = [n for n in unreached if f"{_layer_of(n)}.weight" not in never]
    assert not silent, f"{len(silent)} trained tensors have no gradient, {silent[0]}"
    parameters = dict(tuned.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in frozen.items()), "a frozen weight moved"
    with torch.no_grad():  # far enough that an update left out would show
        for p in trained.values():
            p.add_(0.02 * torch.randn_like(p))
    case.tuned[setting] = tuned.eval()
    wanted = outputs(tuned, case.inputs)
    assert distance(wanted, case.before) > 1e-4, "the tuned network computes what the base does"
    check_near(outputs(_by_hand(tuned, case, setting), case.inputs), wanted, "F + alpha x dD by hand")


def _loss(model: nn.Module, inputs: tuple[Tensor, ...], goal: list[Tensor]) -> Tensor:
    """Mean squared distance, in training mode, with the same random numbers each time."""
    torch.manual_seed(2)
    found = [each for each in tree_leaves(model.train()(*inputs)) if isinstance(each, Tensor)]
    found = [each for each in found if each.is_floating_point()]
    pairs = [(each, wanted) for each in found for wanted in goal if each.shape == wanted.shape]
    return sum((each - wanted).square().mean() for each, wanted in pairs) / max(len(pairs), 1)


def _layer_of(parameter: str) -> str:
    return parameter.removeprefix("base_model.model.").split(".filtersub_")[0].split(".modules_to_save")[0]


def _without_gradient(case: Case, goal: list[Tensor]) -> set[str]:
    """Parameters that get no gradient when all of the untuned network is trained (auxiliary heads, rounded latents)."""
    base = _copy(case.model).requires_grad_(True)
    _loss(base, case.inputs, goal).backward()
    return {name for name, p in base.named_parameters(remove_duplicate=False) if p.grad is None}


def _by_hand(tuned: PeftModel, case: Case, setting: str) -> nn.Module:
    """A copy with plain layers: alpha decomposed anew by the public call, the product written out in float64."""
    plain = copy.deepcopy(tuned)
    recipe = DecompositionConfig(**SETTINGS[setting])
    names = {m.name for m in plain.modules() if isinstance(m, FilterSubspaceLayer)}
    others = [name for name in select_layers(case.model, block=1) if name not in names]
    found = decompose_model(case.model, recipe, exclude=others).layers
    for parent in list(plain.modules()):
        for layer in list(parent.children()):
            if not isinstance(layer, FilterSubspaceLayer):
                continue
            base, alone = layer.get_base_layer(), found[layer.name]
            rows = alone.coefficients.double() @ layer.filtersub_atoms["default"].detach().double()
            base.weight = nn.Parameter(base.weight.detach() + alone.layout.to_weight(rows).to(base.weight))
            for other in plain.modules():  # wherever the module lies
                for key, each in list(other._modules.items()):
                    if each is layer:
                        other._modules[key] = base
    return plain.eval()


def merge(case: Case) -> None:
    for setting, tuned in case.tuned.items():
        wanted = outputs(tuned, case.inputs)
        merged = copy.deepcopy(tuned).merge_and_unload()
        assert not any(isinstance(m, FilterSubspaceLayer) for m in merged.modules())
        check_near(outputs(merged, case.inputs), wanted, setting)
        check_near(outputs(tuned, case.inputs), wanted, f"{setting}, the model that was copied")


def fuse(case: Case) -> None:
    """What the library folds, on the tuned network before and after merging."""
    assert case.entry.fuse is not None
    tuned = _tuned(case)
    wanted = outputs(tuned, case.inputs)
    merged = copy.deepcopy(tuned).merge_and_unload()
    check_near(outputs(case.entry.fuse(merged), case.inputs), wanted, "merged")
    try:
        folded = case.entry.fuse(copy.deepcopy(tuned))
    except Exception as error:  # loudly, which is as good as a refusal
        raise FiltersubError(f"right after merging; before it the library says {one_line(error)!r}") from error
    check_near(outputs(folded, case.inputs), wanted, "not merged")


def trace(case: Case) -> None:
    tuned = _tuned(case)

    def traced(model: nn.Module) -> list[Tensor]:
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.trace(model, case.inputs, strict=False, check_trace=False), buffer)
        buffer.seek(0)
        return outputs(torch.jit.load(buffer), case.inputs)

    check_near(_or_base(traced, tuned, case), outputs(tuned, case.inputs), "traced")


def export(case: Case) -> None:
    tuned = _tuned(case)

    def exported(model: nn.Module) -> list[Tensor]:
        with torch.no_grad():
            case.tuned["program"] = torch.export.export(model, case.inputs, strict=False)
        return [t for t in tree_leaves(case.tuned["program"].module()(*case.inputs)) if t.is_floating_point()]

    with torch.no_grad():
        check_near(_or_base(exported, tuned, case), outputs(tuned, case.inputs), "exported")


def onnx(case: Case) -> None:
    """The program of export as ONNX, run by onnxruntime."""
    import onnxruntime

    tuned, path = _tuned(case), case.folder / "network.onnx"

    def converted(model: nn.Module) -> list[Tensor]:
        program = case.tuned["program"] if model is tuned and "program" in case.tuned else model
        arguments = () if program is not model else case.inputs
        torch.onnx.export(program, arguments, str(path), dynamo=True, verbose=False, external_data=False)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        given = {each.name: x.numpy() for each, x in zip(session.get_inputs(), case.inputs, strict=True)}
        found = [torch.from_numpy(each) for each in session.run(None, given)]
        return [each for each in found if each.is_floating_point()]

    try:
        check_near(_or_base(converted, tuned, case), outputs(tuned, case.inputs), "onnxruntime")
    finally:
        path.unlink(missing_ok=True)


def save(case: Case) -> None:
    """Files for ``loads_again``, which another process calls."""
    for setting, tuned in case.tuned.items():
        if setting in SETTINGS:
            tuned.save_pretrained(case.folder / setting)
            torch.save(outputs(tuned, case.inputs), case.folder / f"{setting}.pt")


def loads_again(entry: Entry, folder: Path) -> None:
    """In a new process: the adapter of each setting on the base network made anew gives the outputs of before."""
    for setting in SETTINGS:
        if not (folder / setting).exists():
            continue
        model, inputs = entry.make()
        try:
            model.load_state_dict(dict(model.state_dict()))  # as files hold it: tensors and names alone
        except ValueError as error:
            raise CannotBaseError(one_line(error)) from error
        loaded = PeftModel.from_pretrained(model, folder / setting)
        check_near(outputs(loaded, inputs), torch.load(folder / f"{setting}.pt"), setting)


def _tuned(case: Case) -> nn.Module:
    for setting in reversed(SETTINGS):
        if setting in case.tuned:
            return case.tuned[setting]
    raise FiltersubError("no setting can tune it, so there is no tuned network")


def _or_base(operation: Callable[[nn.Module], list[Tensor]], tuned: nn.Module, case: Case) -> list[Tensor]:
    """The operation on the tuned network; where it raises, on the untuned one, to see whose limit that is."""
    try:
        return operation(tuned)
    except FiltersubError:
        raise
    except Exception as error:
        try:
            check_near(operation(_copy(case.model).requires_grad_(False)), case.before, "the untuned network")
        except Exception as own:
            raise CannotBaseError(one_line(own)) from error
        raise


def _heads(case: Case) -> tuple[str, ...]:
    return (case.head,) if case.head else ()


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def one_line(error: BaseException) -> str:
    text = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {text[0] if text else ''}"[:240]


_CALLS: dict[str, Callable[[Case], None]] = {
    "decompose": decompose,
    "rebuild": rebuild,
    "diagnose": diagnose,
    "setting 1": lambda case: tune(case, "setting 1"),
    "setting 3": lambda case: tune(case, "setting 3"),
    "merge": merge,
    "fuse": fuse,
    "trace": trace,
    "export": export,
    "ONNX": onnx,
    "load": save,
}


def verdict(call: Callable[[], None]) -> str:
    """ "right", "refused: why", "library: why" or "WRONG: what"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except FiltersubError as error:
            return f"refused: {error}" if "\n" not in str(error) else f"WRONG: several lines: {error!r}"
        except CannotBaseError as error:
            return f"library: {error}"
        except pytest.skip.Exception as error:
            return f"not run: {error}"
        except Exception as error:
            return f"WRONG: {one_line(error)}"
    return "right"


def run(entry: Entry, folder: Path, operations: tuple[str, ...] = OPERATIONS) -> dict[str, str]:
    """The verdict of each operation in this process; "load" is that of saving, until loads_again has been called."""
    case = Case.of(entry, folder)
    found = {}
    for name in operations:
        needs_tuned = name in ("merge", "fuse", "trace", "export", "ONNX", "load")
        if (needs_tuned and not case.tuned) or (name == "fuse" and entry.fuse is None):
            continue
        found[name] = verdict(lambda name=name: _CALLS[name](case))
    return {**found, "layers": str(case.layers)}
