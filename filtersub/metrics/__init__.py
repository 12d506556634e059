"""How far generated images are from real ones, and how well they fit their prompts.

``distance.compare`` for sets (Fréchet and kernel distances in stated features), ``subject.subject_scores`` for prompts.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    distance=("Comparison", "FewImagesWarning", "check_enough", "compare"),
    features=("FeatureExtractor", "encoder_features", "inception_features", "module_features"),
    images=("ImageSet", "image_files", "image_folder", "image_tensor"),
    subject=("subject_scores",),
)
