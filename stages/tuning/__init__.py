"""LoRA tuning on torchtune's modules: architectures, data, losses, the loop, and the formats of adapters."""

import logging

# torchao warns when it is imported that its optional C++ kernels were built for another torch; nothing here uses them. torchtune imports it, so stages
# import neither, but take both through this package.
logging.getLogger("torchao").setLevel(logging.ERROR)
