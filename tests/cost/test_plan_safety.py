"""Which tensors of a plan share memory, and with which kernels that is safe, by hand."""

from dataclasses import replace

from tinynas.cost.plan_safety import plan_safety, safety_lines, safety_warning
from tinynas.graph import Graph, Op, Tensor

# A depthwise convolution (distance 8 * 8 + 8 = 72, aligned 80), a 1x1 convolution, a sum.
TENSORS = (
    Tensor(name="image", shape=(1, 8, 8, 8)),  # 512 bytes, operator 0
    Tensor(name="middle", shape=(1, 8, 8, 8)),  # 512, operators 0 to 2
    Tensor(name="narrow", shape=(1, 8, 8, 8)),  # 512, operators 1 to 2
    Tensor(name="sum", shape=(1, 8, 8, 8)),  # 512, operator 2
    Tensor(name="depthwise", shape=(1, 3, 3, 8), constant=True),
    Tensor(name="pointwise", shape=(8, 1, 1, 8), constant=True),
)
OPS = (
    Op(
        name="first",
        kind="DEPTHWISE_CONV_2D",
        inputs=(0, 4),
        outputs=(1,),
        kernel=(3, 3),
        padding="SAME",
    ),
    Op(name="second", kind="CONV_2D", inputs=(1, 5), outputs=(2,)),
    Op(name="third", kind="ADD", inputs=(1, 2), outputs=(3,)),
)
GRAPH = Graph(name="small", tensors=TENSORS, ops=OPS, inputs=(0,), outputs=(3,))
APART = {0: 512, 1: 0, 2: 512, 3: 1024}


def test_a_plan_in_which_nothing_is_shared_is_safe_with_any_kernels() -> None:
    safety = plan_safety(GRAPH, APART)
    assert (safety.pairs, safety.safe_for) == ((), ("any",))
    assert all(safety.holds_on(kernels) for kernels in ("reference", "cmsis-nn-mve", "host"))
    assert "safe with any kernels" in safety_lines(safety)[0]
    assert safety_warning(safety, "cmsis-nn-mve", "tflm-cmsis-nn") is None


def test_a_note_names_the_kernels_that_a_plan_was_made_for_only_where_tensors_overlap() -> None:
    assert plan_safety(GRAPH, APART).to_note("cmsis-nn") == "any"
    assert plan_safety(GRAPH, {**APART, 3: 0}).to_note("cmsis-nn") == "cmsis-nn"


def test_tensors_without_an_offset_share_nothing() -> None:
    assert plan_safety(GRAPH, {1: 0}).safe_for == ("any",)


def test_a_sum_may_lie_over_what_it_adds_with_all_kernels_known() -> None:
    for offset in (0, 512):
        safety = plan_safety(GRAPH, {**APART, 3: offset})
        assert len(safety.pairs) == 1
        assert safety.safe_for == ("reference", "cmsis-nn", "cmsis-nn-mve")


def test_a_sum_above_what_it_adds_is_safe_with_none() -> None:
    safety = plan_safety(GRAPH, {**APART, 3: 528})
    assert safety.safe_for == ()
    assert "not known to be safe with any kernels" in safety_lines(safety)[0]


def test_a_depthwise_convolution_needs_its_distance() -> None:
    above = {1: 0, 2: 1024, 3: 2048}
    enough = plan_safety(GRAPH, {**above, 0: 80})
    assert enough.pairs == ((0, 1),)
    assert enough.safe_for == ("reference", "cmsis-nn")
    assert enough.holds_on("cmsis-nn-c") and not enough.holds_on("cmsis-nn-mve")
    assert plan_safety(GRAPH, {**above, 0: 64}).safe_for == ()


def test_a_tensor_that_is_needed_later_may_not_be_written_over() -> None:
    # The 1x1 convolution reads what the sum reads again.
    safety = plan_safety(GRAPH, {0: 2048, 1: 768, 2: 512, 3: 4096})
    assert (safety.pairs, safety.safe_for) == (((1, 2),), ())


def test_bytes_of_padding_are_nobodys() -> None:
    odd = replace(TENSORS[1], shape=(1, 7, 7, 7))  # 343 bytes
    graph = replace(GRAPH, tensors=(TENSORS[0], odd, *TENSORS[2:]))
    assert plan_safety(graph, {1: 0, 2: 343}).pairs == ()
    assert plan_safety(graph, {1: 0, 2: 342}).pairs == ((1, 2),)


def test_a_note_that_says_too_much_is_contradicted() -> None:
    shared = {**APART, 0: 80, 2: 1024, 3: 2048}
    assert plan_safety(GRAPH, shared, "cmsis-nn").is_contradicted is False
    for noted in ("any", "cmsis-nn-mve"):
        safety = plan_safety(GRAPH, shared, noted)  # type: ignore[arg-type]
        assert safety.is_contradicted
        assert "do not bear out" in safety_lines(safety)[-1]
    assert not plan_safety(GRAPH, APART, "reference").is_contradicted


def test_a_warning_names_the_runtime_and_its_kernels() -> None:
    safety = plan_safety(GRAPH, {**APART, 0: 80, 2: 1024, 3: 2048})
    assert safety_warning(safety, "cmsis-nn-dsp", "tflm-cmsis-nn") is None
    warning = safety_warning(safety, "cmsis-nn-mve", "tflm-cmsis-nn")
    assert warning and "NOT known to be safe with tflm-cmsis-nn" in warning
    assert "Helium" in warning and "silently wrong" in warning
    assert safety.to_json("cmsis-nn-mve")["safe"] is False
    assert safety.to_json("reference")["safe"] is True
