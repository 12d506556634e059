"""Feature extractors by their own names: what a Fréchet distance is measured in. Only Inception's is called FID.

An extractor maps uint8 images (n, 3, h, w) to features (n, d), and says who it is: a name, d, and a digest of its
weights, since a distance means nothing without them. CLIP, DINO and DINOv2 come from local folders of transformers.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import FiltersubError, reason
from ..files import as_path
from .names import INCEPTION

_INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


@dataclass(frozen=True)
class FeatureExtractor:
    """Images to features.

    Attributes
    ----------
    name : as it stands before "Fréchet distance"
    width : d
    digest : of the weights
    compute : uint8 (n, 3, h, w) on ``device`` -> float (n, d)
    """

    name: str
    width: int
    digest: str
    compute: Callable[[Tensor], Tensor] = field(repr=False)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Raises FiltersubError when features are not finite or of another width."""
        features = self.compute(images.to(self.device)).float()
        if features.shape != (len(images), self.width):
            raise FiltersubError(
                f"{self.name} gave features {tuple(features.shape)}, not ({len(images)}, {self.width})"
            )
        return checked_finite(features, f"features of {self.name}").cpu()

    @property
    def distance_name(self) -> str:
        """FID where the features are the standard ones, else the extractor's own name with what is measured."""
        return "FID" if self.name == INCEPTION else f"{self.name} Fréchet distance"

    @property
    def kernel_name(self) -> str:
        return "KID" if self.name == INCEPTION else f"{self.name} kernel distance"


def inception_features(
    weights: str | os.PathLike[str] | None = None, *, device: torch.device | str = "cpu"
) -> FeatureExtractor:
    """The 2,048 pooled features of the Inception network of 2015 that FID is defined by (Heusel et al., 2017).

    Parameters
    ----------
    weights : its file of weights in torch-fidelity's form; None looks into torch's cache of downloads. Nothing is
        fetched.

    Raises FiltersubError when the file is not there, saying where it can be had, or does not hold these weights.
    """
    from torch.hub import get_dir
    from torchmetrics.image.fid import NoTrainInceptionV3

    file = Path(get_dir()) / "checkpoints" / _INCEPTION_FILE if weights is None else as_path(weights)
    if not file.is_file():
        raise FiltersubError(
            f"FID needs the Inception weights, and there is no file {file}; put {_INCEPTION_FILE} of torch-fidelity's "
            "releases there or name it, or choose features of your own, whose distance is then not called FID"
        )
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)  # torch-fidelity itself would unpickle anything
        net = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(file))
    except ModuleNotFoundError:
        raise FiltersubError("FID needs torch-fidelity: pip install 'filtersub[diffusion]'") from None
    except Exception as error:
        raise FiltersubError(f"{file} does not hold the Inception weights of FID: {reason(error, 160)}") from None
    net = net.to(device)
    return FeatureExtractor(INCEPTION, 2048, weight_digest(state), net, torch.device(device))


def encoder_features(folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> FeatureExtractor:
    """Image embeddings of a model of transformers in a local folder (CLIP, DINO, DINOv2), named after its kind."""

    encoder = ImageEncoder(folder, device=device)
    return FeatureExtractor(
        f"{encoder.kind}-{encoder.width}", encoder.width, weight_digest(encoder.model), encoder.embed, encoder.device
    )


def module_features(name: str, module: nn.Module, width: int, compute: Callable[[Tensor], Tensor]) -> FeatureExtractor:
    """Features of a module that is there already; ``compute`` maps uint8 images to (n, width) through it."""
    if name.upper() == "FID" or name == INCEPTION:
        raise FiltersubError(f"{name!r} is not a name for other features: only Inception's distance is called FID")
    device = next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))
    return FeatureExtractor(name, width, weight_digest(module), compute, device)


def checked_finite(values: Tensor, what: str) -> Tensor:
    """The values, one row an image or text. Raises FiltersubError where rows are NaN or infinite, saying which.

    A score of such numbers would look like any other one: a Fréchet distance of NaN rounds to 0, the best there is.
    """
    broken = ~torch.isfinite(values)
    bad = (broken.flatten(1).any(1) if broken.ndim > 1 else broken).nonzero().flatten()
    if len(bad):
        raise FiltersubError(
            f"{what}: {len(bad)} of {len(values)} rows are NaN or infinite, row {int(bad[0])} for one; look at the "
            "weights, their precision and the images"
        )
    return values


def weight_digest(source: nn.Module | dict[str, Tensor]) -> str:
    """16 hexadecimal digits that tell weights apart."""
    found = hashlib.sha256()
    state = source.state_dict() if isinstance(source, nn.Module) else source
    for key in sorted(state):
        value = state[key]
        found.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


class ImageEncoder:
    """Images to embeddings, by the model and the image processor saved in a folder.

    A CLIP model gives its projected image embedding, others the class token after the last layer (DINO's own choice).

    Attributes
    ----------
    kind : "clip", "vit", "dinov2", ... as the folder's configuration says
    width : of an embedding

    Raises FiltersubError when the folder lacks a configuration, weights or the processor, naming what is missing.
    """

    def __init__(self, folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModel

        self.folder, self.device = as_path(folder), torch.device(device)
        _check_folder(self.folder, ("config.json", "preprocessor_config.json"))
        self.model = _loaded(AutoModel, self.folder, use_safetensors=True).eval().to(self.device)
        self.processor = _loaded(AutoImageProcessor, self.folder)
        self.kind: str = self.model.config.model_type
        self.width: int = self.embed(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape[1]

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Embeddings (n, width) of uint8 images (n, 3, h, w)."""
        pixels = self.processor(images=list(images.cpu()), return_tensors="pt")["pixel_values"].to(self.device)
        if hasattr(self.model, "get_image_features"):
            return _tensor(self.model.get_image_features(pixel_values=pixels))
        return self.model(pixel_values=pixels).last_hidden_state[:, 0]


class TextImageEncoder(ImageEncoder):
    """A CLIP model with its tokenizer: texts and images in one space."""

    def __init__(self, folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> None:
        from transformers import AutoTokenizer

        super().__init__(folder, device=device)
        if not hasattr(self.model, "get_text_features"):
            raise FiltersubError(f"{folder} holds a {self.kind} model, which embeds no text; CLIP-T needs a CLIP model")
        self.tokenizer = _loaded(AutoTokenizer, self.folder)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (n, width); texts longer than the model takes are cut, as CLIP does."""
        limit = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        tokens = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
        return _tensor(self.model.get_text_features(**tokens))


def _tensor(found: object) -> Tensor:
    """transformers 5 wraps what version 4 returned bare."""
    return found if isinstance(found, Tensor) else found.pooler_output  # type: ignore[attr-defined]


def _check_folder(folder: Path, names: Sequence[str]) -> None:
    if not folder.is_dir():
        raise FiltersubError(f"no folder of a model at {folder}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FiltersubError(f"{folder} lacks {', '.join(missing)}; save model and processor there by save_pretrained")


def _loaded(kind: type, folder: Path, **options: object):
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # transformers raises many kinds for damage
        raise FiltersubError(f"{folder} cannot be read as a model of transformers: {reason(error)}") from None
