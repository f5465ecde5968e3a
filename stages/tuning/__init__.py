"""LoRA tuning on torchtune's modules: architectures, data, losses, the loop, and the formats of adapters."""

import logging

# torchao warns at every import that its optional C++ kernels were built for another torch; nothing here uses them.
logging.getLogger("torchao").setLevel(logging.ERROR)
