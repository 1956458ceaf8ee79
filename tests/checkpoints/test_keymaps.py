"""Renaming: templates, both directions, and the canonical names of today's libraries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.checkpoints.keymaps import (
    AUTOENCODER,
    LINEAR_FROM_CONVOLUTION,
    TEXT_ENCODER,
    Fused,
    KeyMap,
    Rule,
    inverted,
    rename,
    translate,
)
from pochade.errors import InvalidCheckpoint


def new_names(name: str, rules: KeyMap) -> list[str | None] | None:
    placed = translate(name, rules)
    return None if placed is None else [new for new, _ in placed]


def test_placeholders_stand_for_one_part_or_many() -> None:
    rules = (Rule("in.{}.0.{*}", "down.{}.x.{*}"), Rule("gone.{*}", None))
    assert new_names("in.7.0.a.b.weight", rules) == ["down.7.x.a.b.weight"]
    assert new_names("in.7.1.a", rules) is None
    assert new_names("in.7.8.0.a", rules) is None  # one part, not two
    assert new_names("xin.7.0.a", rules) is None
    assert new_names("in.7x0.a", rules) is None  # a dot is a dot
    assert new_names("gone.x", rules) == [None]


def test_one_tensor_of_the_file_may_be_several() -> None:
    rules = (Fused("{}.in_proj", ("{}.q", "{}.k", "{}.v")),)
    whole = np.arange(12.0).reshape(6, 2)
    there = rename({"7.in_proj": whole}, rules, "x")
    assert {name: there[name][:, 0].tolist() for name in there} == {
        "7.q": [0, 2],
        "7.k": [4, 6],
        "7.v": [8, 10],
    }
    assert np.shares_memory(there["7.k"], whole)
    back = rename(there, inverted(rules), "x")
    assert list(back) == ["7.in_proj"]
    np.testing.assert_array_equal(back["7.in_proj"], whole)
    assert inverted(inverted(rules)) == rules


def test_rows_that_do_not_divide() -> None:
    there = rename({"in_proj": np.ones((7, 2))}, (Fused("in_proj", ("q", "k", "v")),), "x")
    with pytest.raises(InvalidCheckpoint, match=r"tensor 'in_proj' has 7 rows, which do not divide into 3"):
        there["k"]


def test_names_below_a_prefix_and_names_that_nobody_knows() -> None:
    rules = (Rule("a.{}", "b.{}"),)
    tensors = {"part.a.x": np.ones(1), "part.c": np.ones(1), "other.a.y": np.ones(1)}
    assert set(rename(tensors, rules, "x", prefix="part.")) == {"b.x", "c"}
    with pytest.raises(InvalidCheckpoint, match=r"'x' holds the tensor 'part\.c', which is not part"):
        rename(tensors, rules, "x", prefix="part.", strict=True)


def test_the_first_rule_that_fits_decides() -> None:
    rules = (Rule("a.{}", "first.{}"), Rule("a.{*}", "second.{*}"))
    assert [new_names(name, rules) for name in ("a.1", "a.1.2")] == [["first.1"], ["second.1.2"]]


def test_rules_must_place_what_they_catch() -> None:
    with pytest.raises(ValueError, match=r"'a\.\{\}' and 'b' must have the same placeholders"):
        Rule("a.{}", "b")
    with pytest.raises(ValueError, match=r"must have the same placeholders"):
        Rule("{}.{*}", "{*}.{}")


def test_text_encoder_with_and_without_prefix() -> None:
    plain = {
        "embeddings.token_embedding.weight": np.ones((4, 2)),
        "encoder.layers.11.self_attn.q_proj.bias": np.ones(2),
        "final_layer_norm.weight": np.ones(2),
    }
    prefixed = {f"text_model.{name}": tensor for name, tensor in plain.items()}
    buffers = {"text_model.embeddings.position_ids": np.arange(77)[None]}
    projection = {"text_projection.weight": np.ones((3, 2))}
    assert rename(plain, TEXT_ENCODER, "x").keys() == plain.keys()
    assert rename(prefixed | buffers, TEXT_ENCODER, "x").keys() == plain.keys()
    assert rename(prefixed | projection, TEXT_ENCODER, "x").keys() == plain.keys() | projection.keys()
    assert rename({"embeddings.position_ids": np.arange(77)}, TEXT_ENCODER, "x").keys() == set()


def test_old_names_of_the_autoencoders_attention() -> None:
    weight, bias = np.arange(16.0).reshape(4, 4), np.arange(4.0)
    old = {}
    for coder in ("encoder", "decoder"):
        for name in ("query", "key", "value", "proj_attn"):
            old[f"{coder}.mid_block.attentions.0.{name}.weight"] = weight[:, :, None, None]
            old[f"{coder}.mid_block.attentions.0.{name}.bias"] = bias
        old[f"{coder}.mid_block.attentions.0.group_norm.weight"] = bias
        old[f"{coder}.mid_block.resnets.0.conv1.weight"] = np.ones((4, 4, 1, 1))
    new = rename(old, AUTOENCODER, "vae")
    for coder in ("encoder", "decoder"):
        inside = f"{coder}.mid_block.attentions.0"
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            np.testing.assert_array_equal(new[f"{inside}.{name}.weight"], weight)
            assert new[f"{inside}.{name}.bias"] is bias
        assert new[f"{inside}.group_norm.weight"] is bias
        assert new[f"{coder}.mid_block.resnets.0.conv1.weight"].shape == (4, 4, 1, 1)
    assert len(new) == len(old)


def test_each_old_name_has_its_own_new_one() -> None:
    pairs = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    for number, old in enumerate(pairs):
        tensor = np.full((2, 2), number)
        new = rename({f"encoder.mid_block.attentions.0.{old}.weight": tensor}, AUTOENCODER, "vae")
        assert new[f"encoder.mid_block.attentions.0.{pairs[old]}.weight"] is tensor


def test_new_names_with_old_shapes() -> None:
    new = rename(
        {"decoder.mid_block.attentions.0.to_out.0.weight": np.ones((4, 4, 1, 1))}, AUTOENCODER, "vae"
    )
    assert new["decoder.mid_block.attentions.0.to_out.0.weight"].shape == (4, 4)


def test_no_bytes_are_copied() -> None:
    weight = np.ones((4, 4, 1, 1))
    new = rename({"encoder.mid_block.attentions.0.query.weight": weight}, AUTOENCODER, "vae")
    assert np.shares_memory(new["encoder.mid_block.attentions.0.to_q.weight"], weight)


def test_two_names_of_one_tensor() -> None:
    both = {"text_model.final_layer_norm.bias": np.ones(2), "final_layer_norm.bias": np.ones(2)}
    with pytest.raises(InvalidCheckpoint, match=r"'te' holds both 'text_model\.final.*' and 'final_layer"):
        rename(both, TEXT_ENCODER, "te")


def test_writing_the_text_encoder_with_its_prefix() -> None:
    given_ = {"encoder.layers.0.mlp.fc1.weight": np.ones(1), "text_projection.weight": np.ones(1)}
    assert rename(given_, inverted(TEXT_ENCODER), "x").keys() == {
        "text_model.encoder.layers.0.mlp.fc1.weight",
        "text_projection.weight",
    }


def test_inverting_undoes_the_change_of_shape() -> None:
    rules = (Rule("conv.{}", "linear.{}", LINEAR_FROM_CONVOLUTION),)
    old = {"conv.weight": np.arange(6.0).reshape(3, 2, 1, 1), "conv.bias": np.ones(3)}
    there = rename(old, rules, "x")
    assert there["linear.weight"].shape == (3, 2)
    back = rename(there, inverted(rules), "x")
    assert {name: back[name].shape for name in back} == {name: old[name].shape for name in old}


NAMES = st.lists(
    st.sampled_from(["text_model", "encoder", "layers", "0", "weight", "query"]), min_size=1
).map(".".join)


@given(NAMES)
def test_a_way_there_and_back_ends_where_it_began(name: str) -> None:
    rules = (Rule("text_model.encoder.layers.{}.{*}", "te.{}.{*}"), Rule("text_model.{*}", "rest.{*}"))
    for there in new_names(name, rules) or []:
        assert there is not None and new_names(there, inverted(rules)) == [name]
