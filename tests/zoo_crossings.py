"""Other tools that meet a tuned network: each is right, compared with plain layers, or refused in one line.

A crossing returns nothing where the tool does what it does on plain layers, and raises otherwise. Tools that are not
installed raise pytest's skip (importorskip).
"""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.utils import prune

from filtersub.errors import FiltersubError
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

SETTINGS = {
    "setting 1": {"solver": "lasso"},
    "setting 3": {"solver": "pca", "block": 2},
    "setting 3, packed": {"solver": "lasso", "block": 4, "l1_penalty": 0.1},
    "setting 4": {"solver": "pca", "block": 2, "expansion": 2},
}
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([0, 3, 1, 2])


def build() -> nn.Module:
    torch.manual_seed(0)
    body = [
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 1),
        nn.AdaptiveAvgPool2d(1),
    ]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


def tuned(setting: str = "setting 3", net: nn.Module | None = None) -> PeftModel:
    """The small network above, its atoms and head away from their start."""
    model = get_peft_model(
        build() if net is None else net, FilterSubspaceConfig(atoms=2, modules_to_save=["8"], **SETTINGS[setting])
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def plain(model: PeftModel) -> nn.Module:
    """A copy with plain layers."""
    return copy.deepcopy(model).merge_and_unload().eval()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def loss_of(model: Callable[[Tensor], Tensor], x: Tensor = X, y: Tensor = Y) -> Tensor:
    return nn.functional.cross_entropy(model(x), y)


def dispatched(place: str, train: bool) -> None:
    """accelerate brings the tensors of tuned layers for each call, from the processor's side or from disk."""
    from accelerate import dispatch_model

    model, wanted = tuned(), tuned()(X)
    with tempfile.TemporaryDirectory() as folder:
        places = {"0": place, "1": "cpu", "3": place, "6": place, "8": "cpu"}
        places = {f"base_model.model.{name}": each for name, each in places.items()}
        moved = dispatch_model(
            model, {**places, "base_model.statistics": "cpu"}, main_device="cpu", offload_dir=folder, force_hooks=True
        )
        with torch.no_grad():
            close(moved(X), wanted)
        if not train:
            return
        loss_of(moved.train()).backward()
    again = tuned().train()
    loss_of(again).backward()
    for one, other in zip(trained(moved), trained(again), strict=True):
        close(one.grad, other.grad)


_FSDP = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from zoo_crossings import FilterSubspaceLayer, SETTINGS, X, Y, close, loss_of, trained, tuned

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)


def steps(model, x, y):
    optimiser = torch.optim.SGD(trained(model), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        loss_of(model, x, y).backward()
        optimiser.step()
    return model(X).detach()


for setting in SETTINGS:
    for whole in (True, False) if setting == "setting 3" else (True,):
        model = tuned(setting)
        for layer in () if whole else [m for m in model.modules() if isinstance(m, FilterSubspaceLayer)]:
            fully_shard(layer)
        fully_shard(model)
        close(steps(model, X[rank::2], Y[rank::2]), steps(tuned(setting), X, Y))
dist.destroy_process_group()
"""


def run_script(script: str, *arguments: object) -> int:
    """The exit code of ``python -c SCRIPT``; tests fork it from their warm process instead."""
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], timeout=300).returncode


def fsdp2() -> None:
    """Two processes with half of the images each, whole or layer by layer, train as one process does."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(__file__).parent)
        script = f"import sys; sys.path.insert(0, {path!r})\n{_FSDP}"
        with ThreadPoolExecutor() as pool:
            codes = [pool.submit(run_script, script, rank, folder) for rank in range(2)]
        assert [code.result() for code in codes] == [0, 0]


def sharded_before() -> None:
    """An adapter on a model that FSDP2 has sharded already, here a mesh of one process."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        try:
            tuned(net=fully_shard(build()))
        finally:
            dist.destroy_process_group()


def _torchao() -> Callable[[nn.Module], None]:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    return lambda model: quantization.quantize_(model, quantization.Int8WeightOnlyConfig())


def torchao_before() -> None:
    net = build()
    _torchao()(net)
    tuned(net=net)


def torchao_before_spatial() -> None:
    """Quantised linear layers beside tuned convolutions."""
    net = build()
    _torchao()(net)
    model = get_peft_model(net, FilterSubspaceConfig(atoms=2, solver="pca")).eval()
    assert [m.name for m in model.modules() if isinstance(m, FilterSubspaceLayer)] == ["0"]
    with torch.no_grad():
        model.base_model.model[0].filtersub_atoms["default"].normal_()
    close(plain(model)(X), model(X))


def torchao_after() -> None:
    model = tuned()
    _torchao()(model)
    model(X)


def torchao_merged() -> None:
    """Quantised after merging: as near to the tuned network as eight bits are."""
    model = plain(tuned())
    wanted = model(X)
    _torchao()(model)
    assert 0 < (model(X) - wanted).norm() < 0.05 * wanted.norm()


def dynamic_quantisation() -> None:
    torch.ao.quantization.quantize_dynamic(tuned(), {nn.Linear})(X)


def opacus(mode: str) -> None:
    library = pytest.importorskip("opacus", reason="opacus is not installed")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=4)
    model = tuned(net=_without_batch_norm()).train()
    more = {"criterion": nn.CrossEntropyLoss()} if mode == "ghost" else {}
    options = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "grad_sample_mode": mode, "poisson_sampling": False}
    private = library.PrivacyEngine().make_private(
        module=model, optimizer=torch.optim.SGD(trained(model), 0.1), data_loader=loader, **options, **more
    )
    loss_of(private[0]).backward()
    private[1].step()


def _without_batch_norm() -> nn.Module:
    net = build()
    net[1] = nn.GroupNorm(4, 32)
    return net


def per_sample_gradients() -> None:
    """vmap(grad) over functional_call, beside one backward pass for each image."""
    from torch.func import functional_call, grad, vmap

    model = tuned()
    own = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, parameters, (x[None],)), y[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0))(own, X, Y)
    for number in range(len(X)):
        model.zero_grad()
        loss_of(model, X[number : number + 1], Y[number : number + 1]).backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                close(found[name][number], parameter.grad)


def expanded_weights() -> None:
    from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

    model = tuned(net=_without_batch_norm())
    call_for_per_sample_grads(model, loss_reduction="mean")(X)


def lightning_trainer() -> None:
    """Two steps of the Trainer, its checkpoint loaded: a plain loop's steps."""
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = tuned()

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            self.model.eval()  # batch norm's statistics stay
            return loss_of(self.model, *batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(trained(self.model), 0.1)

    by_hand = tuned()
    optimiser = torch.optim.SGD(trained(by_hand), 0.1)
    for _ in range(2):
        optimiser.zero_grad()
        loss_of(by_hand).backward()
        optimiser.step()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=4)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        module = Module()
        trainer = lightning.Trainer(max_epochs=2, default_root_dir=folder, **quiet)
        trainer.fit(module, loader)
        close(module.model.eval()(X), by_hand(X))
        trainer.save_checkpoint(f"{folder}/own.ckpt")
        again = Module.load_from_checkpoint(f"{folder}/own.ckpt", weights_only=False)
        close(again.model.eval()(X), by_hand(X))


def torchvision_extractor(merged: bool) -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    model = tuned()
    wanted = plain(model)[:7](X)
    source = plain(model) if merged else model.base_model.model
    close(create_feature_extractor(source, {"6": "out"})(X)["out"], wanted)


def torchvision_getter() -> None:
    from torchvision.models._utils import IntermediateLayerGetter

    model = tuned()
    wanted = plain(model)[:4](X)
    close(IntermediateLayerGetter(model.base_model.model, {"3": "out"})(X)["out"], wanted)


def timm_features(how: str) -> None:
    """timm's three ways to features, of the tuned network before merging."""
    timm = pytest.importorskip("timm")
    from timm.models._features import FeatureGetterNet, FeatureListNet

    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 64)
    net = timm.create_model(
        "test_resnet", **({"features_only": True} if how == "features_only" else {"num_classes": 5})
    )
    model = get_peft_model(net, FilterSubspaceConfig(atoms=2, block=2, solver="pca")).eval()
    with torch.no_grad():
        for parameter in trained(model):
            parameter.normal_(std=0.1)

    def features(net: nn.Module) -> list[Tensor]:
        if how == "features_only":
            return net(images)
        if how == "forward_intermediates":
            return net.forward_intermediates(images, intermediates_only=True)
        kind = {"FeatureGetterNet": FeatureGetterNet, "FeatureListNet": FeatureListNet}[how]
        return kind(net, out_indices=(1, 2))(images)

    wanted = features(plain(model))
    for one, other in zip(features(model.base_model.model), wanted, strict=True):
        close(one, other)


def pruned(what: str) -> None:
    """torch.nn.utils.prune after the adapter was made."""
    model = tuned()
    layer = model.base_model.model[3]
    if what == "base weight":
        prune.l1_unstructured(layer.base_layer, "weight", 0.5)
    elif what == "tuned layer":
        prune.l1_unstructured(layer, "weight", 0.5)
    else:
        prune.l1_unstructured(layer.filtersub_atoms, "default", 0.5)
    model(X)


def pruned_merged() -> None:
    model = plain(tuned())
    weight = model[3].weight.detach().clone()
    prune.l1_unstructured(model[3], "weight", 0.5)
    model(X)
    kept = weight.abs() >= weight.abs().flatten().sort().values[weight.numel() // 2]
    assert torch.equal(model[3].weight, weight * kept)


def averaged() -> None:
    """swa_utils.AveragedModel averages atoms and head; the average saves, loads and merges."""
    from torch.optim.swa_utils import AveragedModel, update_bn

    model = tuned().train()
    average, seen = AveragedModel(model), []
    for shift in (0.1, -0.3, 0.4):
        with torch.no_grad():
            for parameter in trained(model):
                parameter.add_(shift)
        average.update_parameters(model)
        seen.append([p.detach().clone() for p in trained(model)])
    by_hand = tuned()
    with torch.no_grad():
        for parameter, *values in zip(trained(by_hand), *seen, strict=True):
            parameter.copy_(sum(values) / 3)
    for each in (average, by_hand):
        update_bn([X], each)
    wanted = by_hand.eval()(X)
    close(average.eval()(X), wanted)
    with tempfile.TemporaryDirectory() as folder:
        average.module.save_pretrained(folder)
        close(PeftModel.from_pretrained(build(), folder).eval()(X), wanted)
    close(plain(average.module)(X), wanted)


def moving_average() -> None:
    """timm's ModelEmaV3: half of the first and half of the second."""
    from timm.utils import ModelEmaV3

    model = tuned()
    average, by_hand = ModelEmaV3(model, decay=0.5), tuned()
    with torch.no_grad():
        for one, other in zip(trained(model), trained(by_hand), strict=True):
            one.add_(0.2)
            other.add_(0.1)
    average.update(model)
    close(average.module.eval()(X), by_hand(X))


def checked(call: Callable[[], None], is_refused: bool) -> None:
    """Runs a crossing; AssertionError where it should be refused and is not, or the other way round."""
    try:
        call()
    except FiltersubError as error:
        if is_refused and "\n" not in str(error):
            raise
        raise AssertionError(f"refused: {error}") from error
    assert not is_refused, "it should be refused, and was not"


#: (tool, situation, what is done, whether filtersub refuses it)
CROSSINGS: list[tuple[str, str, Callable[[], None], bool]] = [
    ("accelerate", "dispatch_model, tuned layers on the CPU, trained", lambda: dispatched("cpu", True), False),
    ("accelerate", "dispatch_model, tuned layers on disk", lambda: dispatched("disk", False), False),
    ("accelerate", "dispatch_model, tuned layers on disk, trained", lambda: dispatched("disk", True), True),
    ("FSDP2", "two processes (gloo), settings 1, 3 and 4, whole or by layer", fsdp2, False),
    ("FSDP2", "the base sharded before the adapter is made", sharded_before, True),
    ("torchao", "int8 base, its linear layers tuned", torchao_before, True),
    ("torchao", "int8 linear layers beside tuned convolutions", torchao_before_spatial, False),
    ("torchao", "quantised after the adapter was made", torchao_after, True),
    ("torchao", "quantised after merging", torchao_merged, False),
    ("torch.ao", "quantize_dynamic after the adapter was made", dynamic_quantisation, True),
    ("opacus", "PrivacyEngine, hooks", lambda: opacus("hooks"), True),
    ("opacus", "PrivacyEngine, functorch", lambda: opacus("functorch"), True),
    ("opacus", "PrivacyEngine, ghost clipping", lambda: opacus("ghost"), True),
    ("torch", "call_for_per_sample_grads", expanded_weights, True),
    ("torch.func", "gradients of single images: vmap(grad)", per_sample_gradients, False),
    ("lightning", "Trainer, its checkpoint loaded", lightning_trainer, False),
    ("torchvision", "create_feature_extractor before merging", lambda: torchvision_extractor(False), True),
    ("torchvision", "create_feature_extractor after merging", lambda: torchvision_extractor(True), False),
    ("torchvision", "IntermediateLayerGetter before merging", torchvision_getter, False),
    ("timm", "features_only", lambda: timm_features("features_only"), False),
    ("timm", "forward_intermediates", lambda: timm_features("forward_intermediates"), False),
    ("timm", "FeatureGetterNet", lambda: timm_features("FeatureGetterNet"), False),
    ("timm", "FeatureListNet", lambda: timm_features("FeatureListNet"), False),
    ("torch.nn.utils.prune", "the base weight after the adapter was made", lambda: pruned("base weight"), True),
    ("torch.nn.utils.prune", "the weight of a tuned layer", lambda: pruned("tuned layer"), True),
    ("torch.nn.utils.prune", "the atoms", lambda: pruned("atoms"), True),
    ("torch.nn.utils.prune", "after merging", pruned_merged, False),
    ("torch.optim.swa_utils", "AveragedModel with update_bn, saved, loaded, merged", averaged, False),
    ("timm", "ModelEmaV3", moving_average, False),
]
