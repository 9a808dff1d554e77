"""Inputs and attributes of com.microsoft's operators, without which onnxruntime calls a file invalid.

Those of the standard's operators are checked when a file is read.
"""

from ....hdl.errors import PearrayError
from .builder import MICROSOFT, OnnxNode

__all__ = ["SIGNATURES", "check_signature"]

_PAIR = "A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point?"
_FUNCTION = "X X_scale X_zero_point? Y_scale Y_zero_point?"

#: Inputs of each operator, of which those with a question mark may be absent and one with a star may come again, and
#: attributes that must be given.
SIGNATURES: dict[str, tuple[str, str]] = {
    "BiasGelu": ("A B", ""), "FastGelu": ("X bias?", ""), "Gelu": ("X", ""),
    "GroupQueryAttention": (
        "query key? value? past_key? past_value? seqlens_k total_sequence_length cos_cache? sin_cache? position_ids? "
        "attention_bias? head_sink? k_scale? v_scale? q_norm_weight? k_norm_weight? query_seqlens?",
        "num_heads kv_num_heads"),
    "MultiHeadAttention": (
        "query key? value? bias? key_padding_mask? attention_bias? past_key? past_value? past_sequence_length? "
        "cache_indirection?", "num_heads"),
    "QGemm": ("A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point?", ""),
    "QLinearAdd": (_PAIR, ""), "QLinearMul": (_PAIR, ""),
    "QLinearAveragePool": ("X x_scale x_zero_point? y_scale y_zero_point?", "kernel_shape"),
    "QLinearGlobalAveragePool": ("X x_scale x_zero_point y_scale y_zero_point", ""),
    "QLinearConcat": ("Y_scale Y_zero_point inputs*", "axis"),
    "QLinearLeakyRelu": (_FUNCTION, ""), "QLinearSigmoid": (_FUNCTION, ""),
    "QLinearSoftmax": ("X X_scale x_zero_point? y_scale y_zero_point", "opset"),
    "QLinearWhere": ("condition X x_scale x_zero_point Y y_scale y_zero_point z_scale z_zero_point", ""),
    "RotaryEmbedding": ("input position_ids cos_cache sin_cache", ""),
    "SimplifiedLayerNormalization": ("X scale", ""),
    "SkipLayerNormalization": ("input skip gamma beta? bias?", ""),
    "SkipSimplifiedLayerNormalization": ("input skip gamma bias?", ""),
}


def check_signature(node: OnnxNode) -> None:
    """Check that a node has the inputs and attributes that it must have, and no more inputs than there are.

    Raises
    ------
    PearrayError
        If one is missing, or there are too many.
    """
    if node.domain != MICROSOFT or node.op_type not in SIGNATURES:
        return
    inputs, attributes = (names.split() for names in SIGNATURES[node.op_type])
    if len(node.inputs) > len(inputs) and not inputs[-1].endswith("*"):
        raise PearrayError(f"inputs must be at most {len(inputs)}, not {len(node.inputs)}")
    for index, name in enumerate(inputs):
        if not name.endswith("?") and not node.input(index):
            raise PearrayError(f"input {name} is missing; inputs are {', '.join(inputs)}, with ? where they may be "
                               "absent")
    for name in attributes:
        if name not in node.attributes:
            raise PearrayError(f"attribute {name} is missing")
