"""How far generated images are from real ones, and how well they fit their prompts.

``distance.compare`` for sets (Fréchet and kernel distances in stated features), ``subject.subject_scores`` for prompts.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    distance=("Comparison", "FewImagesWarning", "compare"),
    features=("FeatureExtractor", "encoder_features", "inception_features", "module_features"),
    images=("ImageSet", "image_files", "image_folder", "image_tensor"),
    statistics=("check_enough",),
    subject=("subject_scores",),
)
