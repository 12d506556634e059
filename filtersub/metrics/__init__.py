"""How far generated images are from real ones, and how well they fit their prompts.

``distance.compare`` for sets (Fréchet and kernel distances in stated features), ``subject.subject_scores`` for prompts.
"""

from .distance import Comparison, FewImagesWarning, compare
from .features import FeatureExtractor, encoder_features, inception_features, module_features
from .images import ImageSet, image_files, image_folder, image_tensor
from .statistics import check_enough
from .subject import subject_scores

__all__ = [
    "Comparison",
    "FeatureExtractor",
    "FewImagesWarning",
    "ImageSet",
    "check_enough",
    "compare",
    "encoder_features",
    "image_files",
    "image_folder",
    "image_tensor",
    "inception_features",
    "module_features",
    "subject_scores",
]
