"""SGE-Net: semantic-aware image inpainting for mixed scenes (ECCV 2020) as a Hugging Face package.

    >>> import sgenet_hf
    >>> filled = sgenet_hf.inpaint("photo.jpg", "mask.png")  # white = hole

Importing this package makes SGE-Net known to `AutoConfig`, `AutoModel`, `AutoModelForImageToImage`,
`AutoImageProcessor` and `transformers.pipeline("image-inpainting")`, and the systems that the paper compares with
(GatedConv, EdgeConnect, SPG-Net) to the Auto classes.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageToImage

from .baseline_edgeconnect import EdgeConnectConfig, EdgeConnectModel
from .baseline_gatedconv import GatedConvConfig, GatedConvModel
from .baseline_spgnet import SPGNetConfig, SPGNetModel
from .configuration_sgenet import SGENetConfig
from .hub import push_to_hub
from .image_processing_sgenet import SGENetImageProcessor
from .modeling_sgenet import SGENetModel, SGENetOutput
from .pipeline import (
    BUNDLED,
    CheckpointError,
    ImageInpaintingPipeline,
    Inpainter,
    InpaintingResult,
    inpaint,
    load_model,
)


__version__ = "0.1.0"

for _config, _model in (
    (SGENetConfig, SGENetModel),
    (GatedConvConfig, GatedConvModel),
    (EdgeConnectConfig, EdgeConnectModel),
    (SPGNetConfig, SPGNetModel),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _model)
    AutoModelForImageToImage.register(_config, _model)
    AutoImageProcessor.register(_config, image_processor_classes={"pil": SGENetImageProcessor})
    # `save_pretrained` and `push_to_hub` then send the code along, for `trust_remote_code=True`.
    _config.register_for_auto_class()
    _model.register_for_auto_class("AutoModel")
SGENetImageProcessor.register_for_auto_class()
# `model.push_to_hub("owner/name")` publishes our card, the processor and the terms of the weights with the weights.
SGENetModel.push_to_hub = push_to_hub

__all__ = [
    "BUNDLED",
    "CheckpointError",
    "EdgeConnectConfig",
    "EdgeConnectModel",
    "GatedConvConfig",
    "GatedConvModel",
    "ImageInpaintingPipeline",
    "Inpainter",
    "InpaintingResult",
    "SGENetConfig",
    "SGENetImageProcessor",
    "SGENetModel",
    "SGENetOutput",
    "SPGNetConfig",
    "SPGNetModel",
    "inpaint",
    "load_model",
    "push_to_hub",
]
