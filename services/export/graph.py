"""What every exported graph has in common, whatever its task."""

from torch import nn

RAW_PREFIX = "raw_"


class ExportedGraph(nn.Module):
    """images uint8 [N, H, W, 3] RGB -> one tensor for each name in `outputs`, then the raw ones.

    Raw outputs are the network's own as float32, called RAW_PREFIX and a number; they are for the gate, and
    hidden in the file that is shipped.
    """

    outputs: tuple[str, ...]
