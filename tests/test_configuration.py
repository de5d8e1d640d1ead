"""SGENetConfig: typed, validated, and the same after a round trip through JSON."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassError

from sgenet_hf import SGENetConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": (16, 32)}, "one a level"),
        ({"widths": "wide"}, "widths"),
        ({"guidance_widths": (8, 8)}, "guidance_widths"),
        ({"tau_proportions": (0.5, 0.5, 0.5, 0.5, 1.5)}, "in \\[0, 1\\]"),
        ({"tau_reading": "median"}, "hole_quantile"),
        ({"first_reliability": 4}, "first_reliability"),
        ({"context_kernel_size": 4}, "odd"),
        ({"context_dilations": (1, 0)}, "positive"),
        ({"reliability_channels": 0}, "positive"),
        ({"reliability_smoothing": 4}, "odd"),
        ({"noise_channels": -1}, "not be negative"),
        ({"pasted_share": 1.5, "contextual_attention": True}, "from 0 to 1"),
        ({"redrawn_share": -0.5}, "`redrawn_share` must be a number from 0 to 1"),
        ({"pasted_share": 0.5}, "needs `contextual_attention=True`"),
        ({"guidance_scale": 5}, "must be a number from 0 to 4"),
        ({"noise_strength": -0.5}, "must be a number from 0 to 2"),
        ({"noise_strength": float("inf")}, "must be a number from 0 to 2"),
        ({"semantic_guidance": False}, "without SGIM there is nothing to correct"),
        ({"num_labels": 1}, "at least 2 classes"),
        ({"ignore_index": 3}, "outside"),
        ({"num_labels": 4, "label_colors": [[0, 0, 0]]}, "1 colours for 4 classes"),
        ({"image_size": 256.0}, "image_size"),
    ],
)
def test_bad_values_are_refused_with_a_reason(values, message):
    with pytest.raises(StrictDataclassError, match=message):
        SGENetConfig(**values)


def test_values_are_checked_on_assignment_too():
    config = SGENetConfig()
    with pytest.raises(StrictDataclassError):
        config.image_size = "large"


def test_class_names_give_the_number_of_classes_and_survive_json(tmp_path):
    config = SGENetConfig(id2label={0: "sky", 1: "road", 2: "car"}, label_colors=[[0, 0, 9], [9, 9, 9], [9, 0, 0]])
    config.save_pretrained(tmp_path)
    loaded = SGENetConfig.from_pretrained(tmp_path)
    assert loaded.num_labels == 3
    assert loaded.id2label == {0: "sky", 1: "road", 2: "car"}
    assert loaded.label2id == {"sky": 0, "road": 1, "car": 2}
    assert loaded.to_dict() == config.to_dict()


def test_default_is_the_papers_first_data_set_and_presets_differ():
    assert SGENetConfig().num_labels == 8
    assert SGENetConfig.small(num_labels=5).num_labels == 5
    assert sum(SGENetConfig.full().widths) > sum(SGENetConfig.small().widths)
    assert SGENetConfig.full(widths=(8, 8, 8, 8, 8)).widths == (8, 8, 8, 8, 8)


def test_a_slip_in_a_name_is_refused():
    with pytest.raises(ValueError, match="did you mean `tau_proportions`"):
        SGENetConfig(tau_propotions=(0.1,) * 5)
    assert SGENetConfig(my_note="kept as transformers keeps it").my_note


def test_a_checkpoint_without_the_key_keeps_its_hard_reliability(tmp_path):
    """Checkpoints from before `reliability_smoothing` were trained on the paper's M."""
    SGENetConfig(reliability_smoothing=5).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values.pop("reliability_smoothing") == 5
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert SGENetConfig.from_pretrained(tmp_path).reliability_smoothing == 1
