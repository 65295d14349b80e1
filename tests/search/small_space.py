"""A space of 1,377 subnets and its cost table, for the search tests."""

from tinynas.budget import Budget
from tinynas.cost.table import CostTable, compile_costs
from tinynas.space.spec import SearchSpace, Stage, Stem

SPACE = SearchSpace(
    name="small",
    stem=Stem(kernel=3, stride=2, channels=8),
    stages=(
        Stage(channels=8, stride=1, depth=(1,), kernel=(3,), expansion=(1,)),
        Stage(channels=16, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 3, 4)),
        Stage(channels=24, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 4)),
    ),
    width_multipliers=(1.0,),
    resolutions=(16,),
)
ROOMY = Budget(sram_bytes=10**6, flash_bytes=10**6)


def table() -> CostTable:
    return compile_costs(
        SPACE,
        width=1.0,
        resolution=16,
        classes=4,
        channels=1,
        kernels="cmsis-nn-dsp",
        latency=lambda graph, op: 1.0,
    )
