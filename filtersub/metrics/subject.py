"""Scores of subject-driven generation over a list of prompts: CLIP-T, CLIP-I, DINO, LPIPS (Ruiz et al., DreamBooth).

Each is optional and comes from a local folder or file; what is not asked for is not loaded.
"""

import os
import re
from collections.abc import Sequence
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from ..errors import FiltersubError, check_name, reason
from .features import ImageEncoder, TextImageEncoder, checked_finite
from .images import ImageSet

Folder = str | os.PathLike[str]


def subject_scores(
    images: ImageSet,
    prompts: Sequence[str],
    *,
    reference: ImageSet | None = None,
    clip: Folder | None = None,
    dino: Folder | None = None,
    lpips: tuple[str, Folder] | None = None,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """One row a prompt, means over its images, for the scores whose models are named.

    Parameters
    ----------
    images : generated; prompts : one for each, in the same order
    reference : real images of the subject, for clip_i and dino
    clip, dino : folders of transformers models; lpips : (network, file of weights), see perceptual_distance

    Returns
    -------
    prompt, images, then clip_t (cosine of text and image), clip_i and dino (mean cosine with every reference image),
    lpips (mean over pairs of images of the prompt, their diversity; nan for a single image).

    Raises FiltersubError when the numbers of images and prompts differ, when nothing is asked for, and when a score
    needs reference images that are not given.
    """
    if len(images) != len(prompts):
        raise FiltersubError(f"{len(images)} images and {len(prompts)} prompts; give one prompt for each image")
    if clip is None and dino is None and lpips is None:
        raise FiltersubError("no score was asked for: name a CLIP folder, a DINO folder or LPIPS weights")
    if dino is not None and reference is None:
        raise FiltersubError("DINO similarity needs reference images of the subject")
    columns: dict[str, list[float]] = {}
    if clip is not None:
        encoder = TextImageEncoder(clip, device=device)
        embedded = embed_set(encoder, images)
        texts = checked_finite(encoder.embed_texts(prompts).cpu(), "embeddings of the prompts")
        columns["clip_t"] = cosine_similarity(embedded, texts).tolist()
        if reference is not None:
            columns["clip_i"] = mean_similarity(embedded, embed_set(encoder, reference)).tolist()
    if dino is not None:
        encoder = ImageEncoder(dino, device=device)
        columns["dino"] = mean_similarity(embed_set(encoder, images), embed_set(encoder, reference)).tolist()
    table = pd.DataFrame({"prompt": list(prompts), "images": 1, **columns})
    means = table.groupby("prompt", sort=False, as_index=False).agg({"images": "sum", **dict.fromkeys(columns, "mean")})
    if lpips is not None:
        diversity = _diversity(images, prompts, PerceptualDistance(*lpips, device=device))
        means["lpips"] = means["prompt"].map(diversity)
    return means


def embed_set(encoder: ImageEncoder, images: ImageSet, batch_size: int = 50) -> Tensor:
    """Embeddings (n, width) of a set. Raises FiltersubError where they are NaN or infinite."""
    embedded = torch.cat([encoder.embed(batch).float().cpu() for batch in images.batches(batch_size)])
    return checked_finite(embedded, f"{encoder.kind} embeddings of {images.source}")


def mean_similarity(embeddings: Tensor, reference: Tensor) -> Tensor:
    """(n,): mean cosine of each embedding with every reference embedding."""
    return (normalize(embeddings, dim=1) @ normalize(reference, dim=1).T).mean(1)


class PerceptualDistance:
    """LPIPS (Zhang et al., 2018) by torchmetrics: its own linear weights over a network read from a local file.

    Parameters
    ----------
    network : "alex", "vgg" or "squeeze"; weights : torchvision's file of ImageNet weights of that network

    Raises FiltersubError on other networks, and on files that do not hold these weights.
    """

    def __init__(self, network: str, weights: Folder, *, device: torch.device | str = "cpu") -> None:
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        from ..weight_file import load_weight_file

        kinds = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
        check_name("network of LPIPS", network, kinds)
        features = {k: v for k, v in load_weight_file(weights, layout="torch").items() if k.startswith("features.")}
        self.device = torch.device(device)
        # pnet_rand: torchmetrics would else download the network's weights; they are put in below
        self.model = _NoTrainLpips(pretrained=True, net=network, pnet_rand=True)
        try:
            slices = dict(self.model.net.named_parameters())
            # its slices hold torchvision's layers under their own numbers: slice2.3.weight is features.3.weight
            own = {name: features[re.sub(r"^slice(s\.)?\d+", "features", name)] for name in slices}
            self.model.net.load_state_dict(own)
        except (KeyError, RuntimeError) as error:
            raise FiltersubError(
                f"{weights} does not hold torchvision's weights of {kinds[network]}: {reason(error)}"
            ) from None
        self.model.to(self.device)

    @torch.no_grad()
    def __call__(self, one: Tensor, two: Tensor) -> Tensor:
        """Distances (n,) of uint8 images (n, 3, h, w) in pairs."""
        first, second = (images.to(self.device).float() / 255 for images in (one, two))
        return checked_finite(self.model(first, second, normalize=True).flatten().cpu(), "LPIPS distances")


def _diversity(images: ImageSet, prompts: Sequence[str], distance: PerceptualDistance) -> dict[str, float]:
    """Mean distance over the pairs of each prompt's images."""
    every = torch.cat(list(images.batches()))
    found = {}
    for prompt in dict.fromkeys(prompts):
        own = [place for place, text in enumerate(prompts) if text == prompt]
        pairs = list(combinations(own, 2))
        values = [distance(every[[i]], every[[j]]) for i, j in pairs]
        found[prompt] = float(torch.cat(values).mean()) if pairs else float("nan")
    return found
