"""A model that was exported to ONNX (export.py); ONNX Runtime computes it on the CPU.

    Annotator("outputs/onnx", backend="onnx")

onnxruntime is an extra: pip install -c constraints.txt -e '.[onnx]'.
"""

from pathlib import Path
from types import ModuleType

import torch
from transformers import AutoConfig
from transformers.modeling_outputs import TokenClassifierOutput

from ner_recipe.launch import UsageError

MODEL = "model.onnx"
OUTPUT = "logits"


class OnnxModel(torch.nn.Module):
    """Gives logits when it is called as the model it was exported from.

    Args:
        folder: holds model.onnx, perhaps its weights in model.onnx.data, and config.json.

    Raises:
        UsageError: the folder holds no model.onnx that can be loaded, or onnxruntime is not installed.
    """

    device = torch.device("cpu")

    def __init__(self, folder: str | Path):
        super().__init__()
        self.session = open_session(Path(folder))
        self.names = {one.name for one in self.session.get_inputs()}
        self.config = AutoConfig.from_pretrained(folder, trust_remote_code=False)

    def forward(self, **inputs: torch.Tensor) -> TokenClassifierOutput:
        arrays = {name: value.numpy() for name, value in inputs.items() if name in self.names}
        (logits,) = self.session.run([OUTPUT], arrays)  # (batch, tokens, labels)
        return TokenClassifierOutput(logits=torch.from_numpy(logits))


def require_file(folder: Path, name: str) -> None:
    """Refuse a model that was not exported. `name` is what the user calls it."""
    if not (folder / MODEL).is_file():
        raise UsageError(
            f"--backend onnx: found no {MODEL} in {name}; make one with python -m "
            f"ner_recipe.annotation.export {name} --output_dir FOLDER, and name that folder"
        )


def open_session(folder: Path):
    """The runtime with the model of a folder, and as many threads as torch has."""
    require_file(folder, str(folder))
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no class in common
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"--backend onnx: {folder / MODEL} can't be loaded ({reason}); export the model again"
        ) from error


def runtime() -> ModuleType:
    """ONNX Runtime, which several packages provide, such as onnxruntime-gpu."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"--backend onnx: needs onnxruntime ({error}); pip install -c constraints.txt -e '.[onnx]'"
        ) from None
    return onnxruntime
