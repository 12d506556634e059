"""Encoders of images and texts from local folders of transformers: CLIP, DINO, DINOv2. Nothing is fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FiltersubError


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

        self.folder, self.device = Path(folder), torch.device(device)
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
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FiltersubError(f"{folder} cannot be read as a model of transformers: {reason[:200]}") from None
