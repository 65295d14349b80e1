"""From a subnet to its graph, without torch.

An inverted residual block (MobileNetV2, Sandler et al. 2018) is expand 1x1 (absent at expansion
1), depthwise, project 1x1, and an ADD where the stride is 1 and the channels agree. Padding is
TensorFlow's SAME, activations ReLU6, batch norm folded; then a global average pool and a fully
connected layer that reads the pooled pixel as it is.
"""

from __future__ import annotations

from tinynas.graph import Activation, Graph, Op, Padding, Tensor, output_size
from tinynas.space.arch import Arch, check_arch
from tinynas.space.spec import SearchSpace

POOL, CLASSIFIER = "pool", "logits"


class GraphBuilder:
    """Collects tensors and operators; every method returns the number of the output tensor."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str = "int8",
        constant: bool = False,
        quantized: bool = True,
    ) -> int:
        """A new tensor."""
        self.tensors.append(
            Tensor(name=name, shape=shape, dtype=dtype, constant=constant, quantized=quantized)
        )
        return len(self.tensors) - 1

    def _weighted(
        self,
        name: str,
        kind: str,
        source: int,
        weights: tuple[int, ...],
        out: tuple[int, ...],
        *,
        stride: int = 1,
        kernel: int = 1,
        padding: Padding = "VALID",
        activation: Activation | None = None,
    ) -> int:
        # A convolution's biases need no scale of their own; fully connected kernels compare it.
        scaled = kind == "FULLY_CONNECTED"
        inputs = (
            source,
            self.tensor("", weights, constant=True),
            self.tensor("", (out[-1],), "int32", constant=True, quantized=scaled),
        )
        result = self.tensor(name, out)
        self.ops.append(
            Op(
                name=name,
                kind=kind,
                inputs=inputs,
                outputs=(result,),
                kernel=(kernel, kernel),
                stride=(stride, stride),
                padding=padding,
                activation=activation,
            )
        )
        return result

    def conv(
        self, name: str, x: int, cout: int, kernel: int, stride: int, activation: Activation | None
    ) -> int:
        """CONV_2D with SAME padding (VALID for 1x1, which needs none)."""
        _, height, width, cin = self.tensors[x].shape
        padding: Padding = "VALID" if kernel == 1 else "SAME"
        out = (
            1,
            output_size(height, kernel, stride, padding),
            output_size(width, kernel, stride, padding),
            cout,
        )
        return self._weighted(
            name,
            "CONV_2D",
            x,
            (cout, kernel, kernel, cin),
            out,
            stride=stride,
            kernel=kernel,
            padding=padding,
            activation=activation,
        )

    def depthwise(self, name: str, x: int, kernel: int, stride: int) -> int:
        """DEPTHWISE_CONV_2D of multiplier 1 with SAME padding and ReLU6."""
        _, height, width, cin = self.tensors[x].shape
        out = (
            1,
            output_size(height, kernel, stride, "SAME"),
            output_size(width, kernel, stride, "SAME"),
            cin,
        )
        return self._weighted(
            name,
            "DEPTHWISE_CONV_2D",
            x,
            (1, kernel, kernel, cin),
            out,
            stride=stride,
            kernel=kernel,
            padding="SAME",
            activation="RELU6",
        )

    def add(self, name: str, a: int, b: int) -> int:
        """ADD of two tensors of one shape."""
        result = self.tensor(name, self.tensors[a].shape)
        self.ops.append(Op(name=name, kind="ADD", inputs=(a, b), outputs=(result,)))
        return result

    def global_pool(self, name: str, x: int) -> int:
        """AVERAGE_POOL_2D over the whole map: cheaper on a chip than MEAN."""
        _, height, width, channels = self.tensors[x].shape
        result = self.tensor(name, (1, 1, 1, channels))
        self.ops.append(
            Op(
                name=name,
                kind="AVERAGE_POOL_2D",
                inputs=(x,),
                outputs=(result,),
                kernel=(height, width),
                stride=(height, width),
            )
        )
        return result

    def fully_connected(self, name: str, x: int, classes: int) -> int:
        """FULLY_CONNECTED over all elements of x."""
        cin = self.tensors[x].shape[-1]
        return self._weighted(name, "FULLY_CONNECTED", x, (classes, cin), (1, classes))

    def block(
        self, prefix: str, x: int, *, cout: int, kernel: int, expansion: int, stride: int
    ) -> int:
        """An inverted residual block."""
        cin = self.tensors[x].shape[-1]
        y = x
        if expansion != 1:
            y = self.conv(f"{prefix}.expand", y, cin * expansion, 1, 1, "RELU6")
        y = self.depthwise(f"{prefix}.depthwise", y, kernel, stride)
        y = self.conv(f"{prefix}.project", y, cout, 1, 1, None)
        return self.add(f"{prefix}.add", x, y) if has_skip(cin, cout, stride) else y

    def build(self, name: str, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Graph:
        """The graph collected so far."""
        return Graph(
            name=name,
            tensors=tuple(self.tensors),
            ops=tuple(self.ops),
            inputs=inputs,
            outputs=outputs,
        )


def has_skip(cin: int, cout: int, stride: int) -> bool:
    """Whether an inverted residual block adds its input to its output."""
    return stride == 1 and cin == cout


def block_prefix(stage: int, position: int) -> str:
    """Name of a block, shared by the operators of the graph and the modules of the supernet."""
    return f"s{stage}.b{position}"


def lower(space: SearchSpace, arch: Arch, *, classes: int, channels: int = 3) -> Graph:
    """The graph of a subnet with `classes` outputs for images of `channels` channels.

    Raises UsageError when `arch` is not of `space`.
    """
    check_arch(space, arch)
    stem_channels, *stage_channels = space.channels(arch.width)
    builder = GraphBuilder()
    image = builder.tensor("image", (1, arch.resolution, arch.resolution, channels))
    x = builder.conv("stem", image, stem_channels, space.stem.kernel, space.stem.stride, "RELU6")
    for number, (stage, cout) in enumerate(zip(space.stages, stage_channels, strict=True)):
        blocks = zip(arch.kernels[number], arch.expansions[number], strict=True)
        for position, (kernel, expansion) in enumerate(blocks):
            x = builder.block(
                block_prefix(number, position),
                x,
                cout=cout,
                kernel=kernel,
                expansion=expansion,
                stride=stage.stride if position == 0 else 1,
            )
    x = builder.global_pool(POOL, x)
    logits = builder.fully_connected(CLASSIFIER, x, classes)
    return builder.build(f"{space.name} subnet", (image,), (logits,))
