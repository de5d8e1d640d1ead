"""The network: the contract of its outputs, the meaning of its parts, and its life with transformers."""

from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel, AutoModelForImageToImage

from sgenet_hf import SGENetConfig, SGENetModel, modeling_sgenet
from sgenet_hf.modeling_sgenet import (
    SGENetGuidance,
    instance_norm,
    lattice_noise,
    masked_quantile,
    pad_by_repeating,
    self_match,
    smooth,
)
from sgenet_hf.patch_synthesis import redraw


TINY = {"widths": (4, 8, 8, 16, 16), "num_labels": 4}


def tiny(**options) -> SGENetModel:
    """A small network whose bias nets and segmentations do something, unlike at the start of training."""
    torch.manual_seed(0)
    model = SGENetModel(SGENetConfig(**{**TINY, **options})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias_net.2.weight" in name or "segmentation.weight" in name or "conv2.weight" in name:
                parameter.normal_(std=0.2)
    return model


def attentive(**options) -> SGENetModel:
    return tiny(contextual_attention=True, **options)


def photo_and_hole(height=64, width=64, batch_size=2):
    photo = torch.rand(batch_size, 3, height, width) * 2 - 1
    hole = torch.zeros(batch_size, 1, height, width)
    hole[..., height // 4 : height // 2, width // 4 : (3 * width) // 4] = 1
    return photo, hole


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (7, 13), (1, 1), (257, 130)])
@torch.no_grad()
def test_any_size_comes_back_at_every_scale(size):
    photo, hole = photo_and_hole(*size)
    output = tiny()(photo, hole)
    assert output.loss is None
    assert output.composite.shape == photo.shape
    for scale in range(5):
        view = output.at_scale(scale)
        sides = [-(-side // 2**scale) for side in size]
        assert list(view.image.shape) == [2, 3, *sides]
        assert list(view.logits.shape) == [2, 4, *sides]
        assert list(view.confidence.shape) == list(view.reliability_mask.shape) == [2, 1, *sides]
        assert 0.25 <= view.confidence.min() and view.confidence.max() <= 1
        assert set(view.reliability_mask.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(output.at_scale(4).image, output.images[0])


@torch.no_grad()
def test_known_pixels_are_kept_and_hole_pixels_never_read():
    model, (photo, hole) = tiny(), photo_and_hole()
    output = model(photo, hole)
    known = (hole == 0).expand_as(photo)
    assert torch.equal(output.composite[known], photo[known])
    assert not torch.equal(output.composite, photo)
    poisoned = photo.masked_fill(~known, torch.nan)
    assert torch.equal(model(poisoned, hole).composite, output.composite)


@torch.no_grad()
def test_photos_of_several_sizes_in_a_batch_are_filled_as_if_alone():
    model, (photo, hole) = tiny(), photo_and_hole(80, 100)
    sizes = [(80, 100), (50, 33)]
    padded_photo, padded_hole = torch.full_like(photo, 7.0), torch.ones_like(hole)
    pixel_mask = torch.zeros(2, 80, 100, dtype=torch.long)
    prompt = torch.full((2, 80, 100), 2)
    for index, (height, width) in enumerate(sizes):
        padded_photo[index, :, :height, :width] = photo[index, :, :height, :width]
        padded_hole[index, :, :height, :width] = hole[index, :, :height, :width]
        pixel_mask[index, :height, :width] = 1
    together = model(padded_photo, padded_hole, prompt, pixel_mask=pixel_mask)
    for index, (height, width) in enumerate(sizes):
        window = (slice(index, index + 1), slice(None), slice(height), slice(width))
        alone = model(photo[window], hole[window], prompt[index : index + 1, :height, :width])
        torch.testing.assert_close(together.composite[window], alone.composite, rtol=0, atol=1e-5)
        for scale in range(5):
            rows, columns = alone.at_scale(scale).logits.shape[-2:]
            ours = together.at_scale(scale).logits[index : index + 1, :, :rows, :columns]
            torch.testing.assert_close(ours, alone.at_scale(scale).logits, rtol=1e-4, atol=1e-5)
    assert together.composite[1, :, 50:].abs().max() == 0


@torch.no_grad()
def test_content_of_the_padding_never_matters():
    """Statistics are those of the photo alone."""
    hidden = torch.rand(1, 2, 8, 8)
    normalised = instance_norm(hidden, (5, 8))
    assert normalised[..., :5, :].mean().abs() < 1e-5
    hidden[..., 5:, :] = 1000
    torch.testing.assert_close(instance_norm(hidden, (5, 8))[..., :5, :], normalised[..., :5, :])


@torch.no_grad()
def test_four_times_the_padding_hardly_changes_the_photo(monkeypatch):
    """What remains comes through convolutions at the edge; statistics over the padding too would change a half."""
    model, (photo, hole) = tiny(context_kernel_size=1, context_dilations=(1,)), photo_and_hole(128, 128)
    photo = torch.nn.functional.avg_pool2d(photo, 9, stride=1, padding=4)
    before = model(photo, hole)

    def pad_more(planes):
        return torch.nn.functional.pad(planes, (0, 128, 0, 128), mode="replicate")

    monkeypatch.setattr(modeling_sgenet, "pad_by_repeating", pad_more)
    after = model(photo, hole)
    for name in ("images", "logits", "reliability_masks"):
        for ours, theirs in zip(getattr(before, name), getattr(after, name), strict=True):
            rows, columns = ours.shape[-2] // 2, ours.shape[-1] // 2  # away from the edge
            difference = (ours - theirs)[..., :rows, :columns].abs().mean()
            assert difference < 0.25 * ours.std(), name


def test_bad_inputs_name_the_shape_that_fits():
    model, (photo, hole) = tiny(), photo_and_hole()
    with pytest.raises(ValueError, match=r"`mask` must have shape \(2, 1, 64, 64\)"):
        model(photo, hole[:, 0])
    with pytest.raises(ValueError, match="pixel_values"):
        model(photo[:, :1], hole)
    with pytest.raises(ValueError, match="semantic_prompt"):
        model(photo, hole, torch.zeros(2, 8, 8, dtype=torch.long))
    with pytest.raises(ValueError, match="integers"):
        model(photo, hole, torch.zeros(2, 64, 64))
    for wrong in (-2, 4, 255):
        with pytest.raises(ValueError, match=f"holds {wrong}; ids run from 0 to 3"):
            model(photo, hole, torch.full((2, 64, 64), wrong))
    scattered = torch.zeros(2, 64, 64, dtype=torch.long)
    scattered[:, 10:20] = 1
    with pytest.raises(ValueError, match="top left"):
        model(photo, hole, pixel_mask=scattered)
    with pytest.raises(ValueError, match="Scales run from 4"):
        model(photo, hole).at_scale(5)


# The three networks of the paper ------------------------------------------------------------------------------------


@torch.no_grad()
def test_switches_turn_sge_net_into_sg_net_and_base_net():
    photo, hole = photo_and_hole()
    base = tiny(semantic_guidance=False, confidence_evaluation=False)
    guided = tiny(confidence_evaluation=False)
    full = tiny()
    assert base(photo, hole).reliability_masks is None and guided(photo, hole).reliability_masks is None
    assert len(base(photo, hole).logits) == 5
    sizes = [sum(p.numel() for p in model.parameters()) for model in (base, guided, full)]
    assert sizes[0] < sizes[1] < sizes[2]


@torch.no_grad()
def test_sge_net_starts_as_sg_net():
    """The last convolution of F_bi starts at zero (Eq. 6)."""
    torch.manual_seed(0)
    model = SGENetModel(SGENetConfig(**TINY)).eval()
    photo, hole = photo_and_hole()
    output = model(photo, hole)
    for step in model.steps:
        assert step.bias_net[-1].weight.abs().max() == 0
        step.bias_net = None
    torch.testing.assert_close(model(photo, hole).composite, output.composite)


def test_taps_that_no_training_crop_reaches_add_nothing_at_larger_sizes():
    """64 pixels are 4x4 cells at the coarsest level: of the 31x31 kernel only offsets up to 3 ever learn."""
    torch.manual_seed(0)
    model = SGENetModel(SGENetConfig(**TINY))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        model(*photo_and_hole()).images[-1].abs().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    kernel = model.context_inference.spread.weight.detach().abs().amax(dim=(0, 1))
    reached = torch.zeros(31, 31, dtype=torch.bool)
    reached[12:19, 12:19] = True
    assert kernel[reached].max() > 0 and kernel[~reached].max() == 0


@torch.no_grad()
def test_guidance_steers_the_fill_and_base_net_has_none():
    photo, hole = photo_and_hole()
    prompts = [torch.full((2, 64, 64), label) for label in (0, 3)]
    guided, base = tiny(), tiny(semantic_guidance=False, confidence_evaluation=False)
    first, second = (guided(photo, hole, prompt).images[-1] for prompt in prompts)
    assert (first - second).abs().max() > 1e-3
    first, second = (base(photo, hole, prompt).images[-1] for prompt in prompts)
    assert torch.equal(first, second)


@torch.no_grad()
def test_guidance_goes_beyond_a_prompt_as_far_as_its_scale_says():
    torch.manual_seed(0)
    guidance = SGENetGuidance(SGENetConfig(**TINY), level=2)
    guidance.gamma_beta.weight.normal_()
    own, asked = torch.rand(2, 1, 4, 8, 8).softmax(dim=2)
    features = torch.rand(1, 8, 16, 16)

    def answer(scale, unprompted=own):
        return guidance(features, asked, unprompted, scale, (16, 16))

    there, not_asked = answer(3, unprompted=None), guidance(features, own, None, 3, (16, 16))
    torch.testing.assert_close(answer(1), there)
    torch.testing.assert_close(answer(0), not_asked)
    torch.testing.assert_close(answer(1.5), not_asked + 1.5 * (there - not_asked), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_guidance_scale_is_for_prompts_and_not_for_training():
    photo, hole = photo_and_hole()
    plain, far = tiny(), tiny(guidance_scale=2)
    prompt = torch.where(hole[:, 0] > 0, 3, -1)
    for name, asked, changed in (("eval", None, False), ("eval", prompt, True), ("train", prompt, False)):
        images = [getattr(model, name)()(photo, hole, asked).images for model in (plain, far)]
        assert torch.equal(images[0][1], images[1][1]) != changed
        assert torch.equal(images[0][0], images[1][0]), "the coarsest image comes before any prompt"


@torch.no_grad()
def test_each_photo_may_have_its_own_guidance_scale():
    model = tiny(guidance_scale=2)
    photo, hole = photo_and_hole(batch_size=1)
    prompt = torch.where(hole[:, 0] > 0, 3, -1)
    two = {"pixel_values": photo.repeat(2, 1, 1, 1), "mask": hole.repeat(2, 1, 1, 1)}
    two["semantic_prompt"] = prompt.repeat(2, 1, 1)
    alone = [model(photo, hole, prompt, guidance_scale=scale).composite[0] for scale in (0, 2)]
    assert not torch.equal(*alone) and torch.equal(alone[1], model(photo, hole, prompt).composite[0])
    for extra in ({}, {"pixel_mask": torch.ones(2, 64, 64, dtype=torch.long)}):
        both = model(**two, guidance_scale=torch.tensor([0, 2]), **extra).composite
        torch.testing.assert_close(both, torch.stack(alone))
    half = {name: value if name == "semantic_prompt" else value.bfloat16() for name, value in two.items()}
    filled = model.to(torch.bfloat16)(**half, guidance_scale=torch.tensor([0, 2.0])).composite
    assert filled.dtype == torch.bfloat16 and (filled.float() - torch.stack(alone)).abs().mean() < 0.05
    for wrong in (5, -1, float("nan"), torch.tensor([1.0])):
        with pytest.raises(ValueError, match="guidance_scale"):
            model(**two, guidance_scale=wrong)


@torch.no_grad()
def test_reliability_corrects_only_through_the_bias_net():
    photo, hole = photo_and_hole()
    model = tiny()
    model.evaluation.reliability_source = "ones"
    ones = model(photo, hole)
    model.evaluation.reliability_source = "known"
    known = model(photo, hole)
    assert (ones.images[-1] - known.images[-1]).abs().max() > 1e-3
    assert all(mask.min() == 1 for mask in ones.reliability_masks)
    for scale, mask in zip((4, 3, 2, 1, 0), known.reliability_masks, strict=True):
        torch.testing.assert_close(mask, 1 - torch.nn.functional.max_pool2d(hole, 2**scale))


@torch.no_grad()
def test_the_outline_of_a_reliability_mask_is_no_edge():
    """A hard M is a step between neighbouring cells; what F(M) sees rises over several, and keeps flat areas flat."""
    step = torch.zeros(1, 1, 24, 24)
    step[..., 12:] = 1
    assert torch.equal(smooth(step, 1), step)
    seen = smooth(step, 5)[0, 0]
    assert 0 < seen.diff(dim=1).max() <= 0.2 + 1e-6 and seen.diff(n=2, dim=1).abs().max() <= 0.04 + 1e-6
    assert seen[:, :8].max() == 0 and seen[:, 16:].min() == 1
    photo, hole = photo_and_hole()
    hard, soft = tiny(reliability_smoothing=1), tiny(reliability_smoothing=5)
    soft.load_state_dict(hard.state_dict())
    assert (hard(photo, hole).images[-1] - soft(photo, hole).images[-1]).abs().max() > 1e-3


@torch.no_grad()
def test_readings_of_tau():
    """Eq. 4 on a confidence map whose answer is known by hand."""
    confidence = torch.tensor([[0.2, 0.4, 0.6, 0.8, 1.0, 0.9]]).view(1, 1, 1, 6)
    hole = torch.tensor([[1, 1, 1, 1, 0, 0.0]]).view(1, 1, 1, 6)
    valid = torch.tensor([[1, 1, 1, 1, 1, 0.0]]).view(1, 1, 1, 6)

    def evaluated(reading, proportion, scale=3, **options):
        model = tiny(tau_reading=reading, tau_proportions=(proportion,) * 5, **options)
        return model.evaluation(confidence, hole, valid, scale).flatten().tolist()

    assert evaluated("max", 0.5) == [0, 0, 1, 1, 1, 1]  # tau = 0.5 x 1.0
    assert evaluated("quantile", 0.5) == [0, 0, 0, 1, 1, 1]  # the median of the five valid cells is 0.6
    assert evaluated("hole_quantile", 0.34) == [0, 0, 1, 1, 1, 1]  # second of the hole's four cells
    assert evaluated("max", 0.5, scale=4) == (1 - hole).flatten().tolist()  # Fig. 7: M^4 is the input mask
    assert evaluated("max", 0.5, scale=4, first_reliability="evaluated") == [0, 0, 1, 1, 1, 1]


def test_quantile_of_nothing_lets_everything_count_as_above():
    values = torch.rand(2, 1, 3, 3)
    considered = torch.zeros(2, 1, 3, 3)
    considered[1] = 1
    quantile = masked_quantile(values, considered, 0.5).flatten()
    assert quantile[0] == -1
    assert quantile[1] == values[1].flatten().sort().values[4]


@torch.no_grad()
def test_a_prompt_guides_but_does_not_pretend_to_be_sure():
    model, (photo, hole) = tiny(), photo_and_hole()
    prompt = torch.full((2, 64, 64), -1)
    free = model(photo, hole, prompt)
    torch.testing.assert_close(free.images[-1], model(photo, hole).images[-1])
    prompt[:, 16:32, 16:48] = 3
    prompted = model(photo, hole, prompt)
    inside = prompted.confidences[0][0, 0, 1, 1:3]  # coarsest scale: one cell is 16 pixels
    torch.testing.assert_close(inside, prompted.logits[0].softmax(dim=1)[0, 3, 1, 1:3])
    torch.testing.assert_close(prompted.confidences[0][0, 0, 3], free.confidences[0][0, 0, 3])
    assert not torch.equal(prompted.images[-1], free.images[-1])


def test_no_gradient_passes_through_segmentations_of_unlabelled_photos():
    model, (photo, hole) = tiny(), photo_and_hole()
    gradients = []
    for labelled in (True, False):
        model.zero_grad()
        model(photo, hole, labelled=torch.tensor([labelled] * 2)).images[-1].abs().mean().backward()
        gradients.append(model.heads[0].segmentation.weight.grad)
    assert gradients[0].abs().max() > 0
    assert gradients[1] is None or gradients[1].abs().max() == 0


# Size ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "limit"), [(SGENetConfig.small, 16), (SGENetConfig.full, 64)])
@torch.no_grad()
def test_presets_keep_their_promise(preset, limit):
    with torch.device("meta"):
        model = SGENetModel(preset(num_labels=20)).eval()
        photo, hole = torch.empty(1, 3, 256, 256), torch.empty(1, 1, 256, 256)
        with FlopCounterMode(display=False) as counter:
            model(photo, hole)
    gigaflops = counter.get_total_flops() / 1e9
    assert limit / 2 < gigaflops <= limit


# Life with transformers ----------------------------------------------------------------------------------------------


def test_parameters_survive_save_and_load_bit_for_bit(tmp_path):
    model, (photo, hole) = tiny(noise_channels=2, contextual_attention=True), photo_and_hole()
    model.to(memory_format=torch.channels_last).save_pretrained(tmp_path)
    for auto in (AutoModel, AutoModelForImageToImage, SGENetModel):
        loaded = auto.from_pretrained(tmp_path)
        assert not loaded.training
        assert loaded.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == loaded.config.to_dict()
    with torch.no_grad():
        torch.testing.assert_close(loaded(photo, hole).composite, model(photo, hole).composite)


def test_float16_on_disk_loads_as_float32(tmp_path):
    model = tiny()
    model.half().save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text().replace('"dtype": "float16"', '"dtype": "float32"')
    (tmp_path / "config.json").write_text(config)
    loaded = SGENetModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_another_number_of_classes_keeps_the_rest(tmp_path):
    model = tiny(label_colors=[[index, 0, 0] for index in range(tiny().config.num_labels)])
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError):
        SGENetModel.from_pretrained(tmp_path, num_labels=7)
    tuned, report = SGENetModel.from_pretrained(
        tmp_path, num_labels=7, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert all("segmentation" in name or "guidance.shared" in name for name, *_ in report["mismatched_keys"])
    assert torch.equal(tuned.encoder.stem.weight, model.encoder.stem.weight)
    assert tuned(*photo_and_hole()).logits[-1].shape[1] == 7
    assert tuned.config.label_colors is None, "they were the colours of other classes"
    names = {0: "sky", 1: "road"}
    renamed = SGENetModel.from_pretrained(tmp_path, id2label=names, ignore_mismatched_sizes=True)
    assert renamed.config.label_colors is None and renamed.config.id2label == names


@torch.no_grad()
def test_bfloat16_and_channels_last_agree_with_float32():
    model, (photo, hole) = attentive(), photo_and_hole()
    expected = model(photo, hole)
    channels_last = model.to(memory_format=torch.channels_last)(photo.to(memory_format=torch.channels_last), hole)
    torch.testing.assert_close(channels_last.images[-1], expected.images[-1], rtol=1e-3, atol=1e-4)
    half = model.to(torch.bfloat16)(photo.bfloat16(), hole.bfloat16())
    assert half.composite.dtype == torch.bfloat16
    for ours, theirs in ((half.images[0], expected.images[0]), (half.pasted, expected.pasted)):
        assert (ours.float() - theirs).abs().mean() < 0.05 * theirs.abs().mean()


def test_activation_checkpointing_changes_no_gradient():
    model, (photo, hole) = attentive(noise_channels=2, error_estimation=True).train(), photo_and_hole()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(0)  # the noise of training
        model(photo, hole).images[-1].abs().mean().backward()
        gradients.append(model.encoder.stem.weight.grad.clone())
    assert model.is_activation_checkpointing
    torch.testing.assert_close(gradients[0], gradients[1])


@torch.no_grad()
def test_compile_traces_the_whole_network_but_for_attention_and_redrawing():
    model, (photo, hole) = tiny(noise_channels=2, error_estimation=True), photo_and_hole()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(photo, hole).composite, model(photo, hole).composite)
    model = attentive()  # the number of cells depends on the mask: that part runs as it is
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(photo, hole).composite, model(photo, hole).composite)
    model = tiny(redrawn_share=1)  # so does the number of patches
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(photo, hole).composite, model(photo, hole).composite)
    drawn = torch.compile(model, backend="eager", fullgraph=True)(photo, hole, redrawn_share=0).composite
    torch.testing.assert_close(drawn, model(photo, hole, redrawn_share=0).composite)


@pytest.mark.slow
@torch.no_grad()
def test_compile_with_the_default_backend():
    model, (photo, hole) = tiny(), photo_and_hole()
    compiled = torch.compile(model)
    torch.testing.assert_close(compiled(photo, hole).composite, model(photo, hole).composite, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_tuple_output_has_the_same_content():
    model, (photo, hole) = tiny(), photo_and_hole()
    composite, images, *_ = model(photo, hole, return_dict=False)
    assert composite.shape == photo.shape and len(images) == 5


def test_the_expected_error_reads_the_features_and_never_shapes_them():
    model, (photo, hole) = tiny(error_estimation=True), photo_and_hole(50, 70)
    output = model(photo, hole)
    assert output.expected_error.shape == (2, 1, 13, 18)
    assert (output.expected_error >= 0).all()
    output.expected_error.sum().backward()
    touched = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched == {"error_head"}
    plain = tiny()
    plain.load_state_dict(model.state_dict(), strict=False)
    assert plain(photo, hole).expected_error is None
    assert torch.equal(plain(photo, hole).composite, output.composite)


@torch.no_grad()
def test_expected_errors_of_photos_of_several_sizes_are_those_of_each_alone():
    model, (photo, hole) = tiny(error_estimation=True), photo_and_hole(80, 100)
    pixel_mask = torch.zeros(2, 80, 100, dtype=torch.long)
    pixel_mask[0], pixel_mask[1, :50, :33] = 1, 1
    together = model(photo, hole, pixel_mask=pixel_mask).expected_error
    alone = model(photo[1:, :, :50, :33], hole[1:, :, :50, :33]).expected_error
    assert together.shape == (2, 1, 20, 25)
    assert torch.equal(together[1:, :, :13, :9], alone) and not together[1, :, 13:].any()


def test_lattice_noise_is_white_and_the_same_everywhere():
    noise = lattice_noise(range(3), (256, 256), torch.device("cpu"))
    assert noise.mean().abs() < 0.01 and abs(noise.var() - 1) < 0.01
    for shift in ((0, 1), (1, 0), (1, 1), (0, 16), (16, 0)):
        assert (noise * noise.roll(shift, dims=(2, 3))).mean().abs() < 0.01
    assert (noise[:, 0] * noise[:, 1]).mean().abs() < 0.02
    assert torch.equal(lattice_noise(range(1, 3), (40, 60), torch.device("cpu")), noise[:, 1:, :40, :60])
    moved = lattice_noise(range(3), (200, 200), torch.device("cpu"), torch.tensor([5, 9]))
    assert torch.equal(moved, noise[:, :, 5:205, 9:209])


@torch.no_grad()
def test_each_photo_may_have_its_own_noise_strength():
    model, (photo, hole) = tiny(noise_channels=2), (planes[:1] for planes in photo_and_hole())
    with torch.no_grad():
        for step in model.steps:
            step.noise.weight.fill_(0.5)
    two = {"pixel_values": photo.repeat(2, 1, 1, 1), "mask": hole.repeat(2, 1, 1, 1)}
    inside = torch.ones_like(two["mask"][:, 0], dtype=torch.int64)
    with torch.no_grad():
        alone = [model(photo, hole, noise_strength=strength).composite[0] for strength in (0, 1.5)]
        for extra in ({}, {"pixel_mask": inside}):
            both = model(**two, noise_strength=torch.tensor([0, 1.5]), **extra).composite
            torch.testing.assert_close(both, torch.stack(alone), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(alone[0], alone[1])
        assert torch.equal(model(photo, hole).composite, model(photo, hole, noise_strength=1.0).composite)
    for wrong in (-1.0, float("nan"), 2.5, torch.tensor(1.0), torch.ones(3)):
        with pytest.raises(ValueError, match="noise_strength"):
            model(**two, noise_strength=wrong)


def test_a_configuration_set_past_its_own_checks_is_refused():
    config = tiny(noise_channels=2).config
    config.noise_strength = -3
    with pytest.raises(StrictDataclassError, match="must be a number from 0 to 2"):
        SGENetModel(config)


def test_noise_gives_a_smooth_hole_texture_and_nothing_else():
    noisy = tiny(noise_channels=2)
    plain = tiny()
    plain.load_state_dict(noisy.state_dict(), strict=False)
    hole = torch.zeros(1, 1, 128, 128)
    hole[..., 32:96, 32:96] = 1
    photo = torch.zeros(1, 3, 128, 128)
    first = noisy(photo, hole)
    assert torch.equal(first.composite, noisy(photo, hole).composite), "always filled alike"
    rough, flat = (
        image[..., 52:76, 52:76].diff().std() for image in (first.images[-1], plain(photo, hole).images[-1])
    )
    assert rough > 1.3 * flat
    alone, together = (
        noisy(photo, hole).images[-1],
        noisy(photo.repeat(2, 1, 1, 1), hole.repeat(2, 1, 1, 1)).images[-1],
    )
    torch.testing.assert_close(together[1:], alone)
    whole = torch.zeros_like(hole)
    assert torch.equal(noisy(photo, whole).images[-1], plain(photo, whole).images[-1]), "no hole, no noise"
    noisy.config.noise_strength = 0
    assert torch.equal(noisy(photo, hole).images[-1], plain(photo, hole).images[-1])
    noisy.config.noise_strength = 1
    noisy.train()
    assert not torch.equal(noisy(photo, hole).composite, noisy(photo, hole).composite), "training sees ever new noise"


# Contextual attention ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_self_match_is_the_mean_product_over_every_shift():
    vectors = torch.nn.functional.normalize(torch.randn(1, 3, 5, 6), dim=1)
    where = (torch.rand(1, 1, 5, 6) > 0.3).float()
    match = self_match(vectors, where, least=0.1)
    for down in range(-4, 5):
        for right in range(-5, 6):
            pairs = [
                (vectors[0, :, row, column] @ vectors[0, :, row + down, column + right]).item()
                for row in range(5)
                for column in range(6)
                if 0 <= row + down < 5 and 0 <= column + right < 6
                if where[0, 0, row, column] and where[0, 0, row + down, column + right]
            ]
            expected = sum(pairs) / len(pairs) if len(pairs) >= 3 else -1
            assert match[0, down, right].item() == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_repetition_continues_a_pattern_in_step():
    columns = torch.arange(128)
    stripes = torch.where(columns % 24 < 12, 0.8, -0.8).expand(1, 3, 128, 128).clone()
    hole = torch.zeros(1, 1, 128, 128)
    hole[..., 40:88, 40:88] = 1
    attention = attentive().contextual_attention
    attention.sharpness.copy_(torch.tensor([0.0, 1.0]))
    level_2 = stripes[:, :1, ::4, ::4].repeat(1, 8, 1, 1)
    level_3 = torch.zeros(1, 16, 16, 16)
    pasted, has_source = attention(stripes.masked_fill(hole > 0, 0), hole, level_3, level_2, (128, 128))
    assert torch.equal(pasted[hole.expand_as(pasted) == 0], stripes[hole.expand_as(pasted) == 0])
    assert (pasted - stripes).abs().max() < 0.05 and has_source.all()


@torch.no_grad()
def test_similarity_pastes_what_scale_3_inferred():
    photo, hole = torch.full((1, 3, 128, 128), -0.5), torch.zeros(1, 1, 128, 128)
    photo[:, 0, :, 64:] = 0.5  # two materials; the hole lies on their border
    hole[..., 40:88, 40:88] = 1
    attention = attentive().contextual_attention
    attention.sharpness.copy_(torch.tensor([1.0, 0.0]))
    inferred = torch.ones(1, 16, 16, 16)
    inferred[:, ::2, :, 8:] = -1
    swapped = inferred.clone()
    swapped[:, :, 5:11, 5:11] *= torch.where(torch.arange(16) % 2 == 0, -1.0, 1.0)[None, :, None, None]
    for level_3, left, right in ((inferred, -0.5, 0.5), (swapped, 0.5, -0.5)):
        pasted, _ = attention(photo.masked_fill(hole > 0, 0), hole, level_3, torch.randn(1, 8, 32, 32), (128, 128))
        assert pasted[0, 0, 60:70, 46:54].mean() == pytest.approx(left, abs=0.1)
        assert pasted[0, 0, 60:70, 74:82].mean() == pytest.approx(right, abs=0.1)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (7, 13), (257, 130)])
@torch.no_grad()
def test_contextual_attention_keeps_the_contract(size, monkeypatch):
    model, (photo, hole) = attentive(), photo_and_hole(*size)
    output = model(photo, hole)
    known = (hole == 0).expand_as(photo)
    assert output.pasted.shape == photo.shape and output.pasted.isfinite().all()
    assert torch.equal(output.pasted[known], photo[known]) and torch.equal(output.composite[known], photo[known])
    poisoned = photo.masked_fill(~known, torch.nan)
    assert torch.equal(model(poisoned, hole).composite, output.composite)
    alone = model(photo[1:], hole[1:])
    torch.testing.assert_close(alone.composite, output.composite[1:], atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(modeling_sgenet, "PAIRS_AT_ONCE", 100)
    torch.testing.assert_close(model(photo, hole).pasted, output.pasted)
    monkeypatch.setattr(modeling_sgenet, "MAX_SOURCES", 20)
    thinned = model(photo, hole).pasted
    assert thinned.isfinite().all() and torch.equal(thinned[known], photo[known])


@torch.no_grad()
def test_only_patches_that_lie_in_the_photo_are_pasted():
    photo, hole = torch.rand(1, 3, 70, 90), torch.zeros(1, 1, 70, 90)
    hole[..., 8:66, 8:86] = 1  # in the frame that is left no whole patch fits, unless padding below and right counts
    pasted = attentive()(photo, hole).pasted
    assert not pasted[hole.expand_as(photo) > 0].any()


@torch.no_grad()
def test_photos_of_several_sizes_are_pasted_as_if_alone():
    model, (photo, hole) = attentive(), photo_and_hole(80, 100)
    pixel_mask = torch.zeros(2, 80, 100, dtype=torch.long)
    pixel_mask[0], pixel_mask[1, :50, :33] = 1, 1
    together = model(photo, hole, pixel_mask=pixel_mask).pasted
    alone = model(photo[1:, :, :50, :33], hole[1:, :, :50, :33]).pasted
    assert torch.equal(together[1:, :, :50, :33], alone) and not together[1, :, 50:].any()


@torch.no_grad()
def test_a_prompt_says_what_is_pasted():
    model, (photo, hole) = attentive(), photo_and_hole()
    told = [model(photo, hole, torch.where(hole[:, 0] > 0, name, -1)).pasted for name in (1, 2)]
    assert not torch.allclose(*told)


@pytest.mark.parametrize(("height", "width", "box"), [(64, 64, (21, 43)), (70, 72, (40, 72))])
@torch.no_grad()
def test_where_a_prompt_speaks_nothing_that_was_pasted_is_shown(height, width, box):
    """Also in cells that the hole shares with the known part, and in the padding of a hole at the photo's edge."""
    model, plain = attentive(pasted_share=0.5), tiny()
    plain.load_state_dict(model.state_dict(), strict=False)
    photo, hole = photo_and_hole(height, width, batch_size=1)
    hole[..., slice(*box), slice(*box)] = 1
    everywhere = torch.where(hole[:, 0] > 0, 3, -1)
    left = everywhere.clone()
    left[..., width // 2 :] = -1
    for prompt, same in ((everywhere, True), (left, False)):
        ours, theirs = (network(photo, hole, prompt).composite for network in (model, plain))
        assert torch.allclose(ours, theirs, atol=1e-6) == same


@torch.no_grad()
def test_contextual_attention_shows_at_the_scales_below_it():
    model, (photo, hole) = attentive(), photo_and_hole()
    plain = tiny()
    plain.load_state_dict(model.state_dict(), strict=False)
    for scale, changed in ((4, False), (3, False), (2, True), (1, True), (0, True)):
        images = [network(photo, hole).at_scale(scale).image for network in (model, plain)]
        assert torch.equal(*images) != changed
    for gate in model.contextual_attention.gates:
        gate.zero_()
    torch.testing.assert_close(model(photo, hole).composite, plain(photo, hole).composite)


@pytest.mark.parametrize("holed", [0, 1])
@torch.no_grad()
def test_nothing_to_paste_from_or_into_is_no_trouble(holed):
    photo, hole = torch.rand(2, 3, 64, 64), torch.full((2, 1, 64, 64), float(holed))
    model, plain = attentive(pasted_share=0.5), tiny()
    plain.load_state_dict(model.state_dict(), strict=False)
    output = model(photo, hole)
    assert torch.equal(output.pasted, photo * (1 - holed))
    torch.testing.assert_close(output.composite, plain(photo, hole).composite)


@torch.no_grad()
def test_a_share_of_what_was_pasted_joins_the_finest_image_without_its_grain():
    photo, hole = photo_and_hole(128, 128)
    drawn, mixed = (attentive(pasted_share=share)(photo, hole) for share in (0, 0.5))
    for scale in range(5):
        assert torch.equal(drawn.at_scale(scale).image, mixed.at_scale(scale).image) != (scale == 0)
    expected = drawn.images[-1] + 0.5 * hole * smooth(drawn.pasted - drawn.images[-1], 3)
    torch.testing.assert_close(mixed.images[-1], expected)
    assert torch.equal(mixed.composite[hole.expand_as(photo) == 0], photo[hole.expand_as(photo) == 0])
    prompt = torch.full((2, 128, 128), -1)
    prompt[:, :, :64] = 1
    drawn, mixed = (attentive(pasted_share=share)(photo, hole, prompt).images[-1] for share in (0, 0.5))
    assert torch.equal(drawn[..., :64], mixed[..., :64]) and not torch.equal(drawn, mixed)


def colours_of(photo, hole, drawn, prompt=None):
    """Scale 2's image enlarged, the mean of those of the photo and of the mirrored one."""
    height, width = photo.shape[-2:]
    photo, hole = pad_by_repeating(torch.cat([photo * (1 - hole), hole], dim=1)).flip(-1).split([3, 1], dim=1)
    if prompt is not None:
        prompt = pad_by_repeating(prompt[:, None].float())[:, 0].flip(-1).long()
    mirrored = tiny()(photo, hole, prompt).at_scale(2).image.flip(-1)
    plain = drawn.at_scale(2).image
    mean = (plain + mirrored[..., : plain.shape[-2], : plain.shape[-1]]) / 2
    return torch.nn.functional.interpolate(mean, scale_factor=4, mode="bicubic")[..., :height, :width]


@torch.no_grad()
def test_the_finest_image_is_redrawn_with_the_photos_patches():
    photo, hole = photo_and_hole(128, 128)
    photo[1] = 0.3 * photo[1] - 0.5
    hole[1] = 0
    hole[1, :, 70:100, 20:90] = 1
    drawn, half, whole = (tiny(redrawn_share=share)(photo, hole) for share in (0, 0.5, 1))
    for scale in range(5):
        assert torch.equal(drawn.at_scale(scale).image, whole.at_scale(scale).image) != (scale == 0)
    known = (hole == 0).expand_as(photo)
    assert torch.equal(whole.composite[known], photo[known]) and torch.equal(
        whole.images[-1][known], drawn.images[-1][known]
    )
    torch.testing.assert_close(half.composite, (drawn.composite + whole.composite) / 2)
    assert torch.equal(tiny()(photo, hole, redrawn_share=0.5).images[-1], half.images[-1])
    for wrong in (-1, 1.5, torch.tensor([0, 2.0]), torch.tensor([torch.nan, 1]), torch.ones(3)):
        with pytest.raises(ValueError, match="redrawn_share"):
            tiny()(photo, hole, redrawn_share=wrong)
    each = tiny(redrawn_share=0.3)(photo, hole, redrawn_share=torch.tensor([0.0, 1.0])).images[-1]
    assert torch.equal(each[0], drawn.images[-1][0])
    torch.testing.assert_close(each[1], whole.images[-1][1])
    colours = colours_of(photo, hole, drawn)
    for index in range(2):
        fill, probabilities = drawn.composite[index], drawn.logits[-1][index].softmax(dim=0)
        expected = redraw(fill, hole[index, 0], probabilities, colours[index])
        torch.testing.assert_close(whole.composite[index], expected)
        alone = tiny(redrawn_share=1)(photo[index : index + 1], hole[index : index + 1]).composite[0]
        assert (alone - whole.composite[index]).abs().mean() < 0.01  # what is most alike may turn on a last digit


@pytest.mark.parametrize("width", [64, 66, 70, 79])
def test_what_the_mirrored_photo_gives_lies_on_the_plain_one(width, monkeypatch):
    def show(model, photo, mask, *_, **__):
        """The photo itself at every scale, a cell the mean of what it stands for."""
        images = [photo]
        while len(images) < 5:
            images.append(torch.nn.functional.avg_pool2d(images[-1], 2, ceil_mode=True, count_include_pad=False))
        return SimpleNamespace(at_scale=lambda scale: SimpleNamespace(image=images[scale]))

    model = tiny()
    monkeypatch.setattr(SGENetModel, "__call__", show)
    photo = torch.rand(1, 3, 64, width)
    padded = pad_by_repeating(torch.cat([photo, torch.zeros(1, 1, 64, width)], dim=1))
    seen = model.mirrored_image(2, padded, None, {})[..., : width // 4]
    torch.testing.assert_close(seen, torch.nn.functional.avg_pool2d(photo, 4))


@torch.no_grad()
def test_only_photos_that_are_redrawn_are_looked_at_mirrored(monkeypatch):
    model, (photo, hole), seen = tiny(), photo_and_hole(128, 128, 3), []
    look = SGENetModel.mirrored_image

    def watched(self, scale, photo_and_mask, prompt, factors):
        seen.append((len(photo_and_mask), factors["noise_strength"].tolist()))
        return look(self, scale, photo_and_mask, prompt, factors)

    monkeypatch.setattr(SGENetModel, "mirrored_image", watched)
    prompt = torch.full((3, 128, 128), -1)
    prompt[2] = 1
    factors = {"noise_strength": torch.tensor([0.1, 0.2, 0.3]), "redrawn_share": torch.tensor([0, 1, 1])}
    model(photo, hole, prompt, **factors)
    assert seen == [(1, [pytest.approx(0.2)])]


@torch.no_grad()
def test_where_no_whole_patch_is_known_the_drawing_stays():
    photo, hole = photo_and_hole(72, 70)
    hole[:, :, ::6], hole[..., ::6] = 1, 1
    hole[1] = 1
    drawn, asked = tiny()(photo, hole), tiny(redrawn_share=1)(photo, hole)
    assert torch.equal(asked.images[-1], drawn.images[-1])


@torch.no_grad()
def test_where_a_prompt_speaks_and_in_training_nothing_is_redrawn():
    photo, hole = photo_and_hole(70, 72)
    plain, ours = tiny(), tiny(redrawn_share=1)
    prompt = torch.where(hole[:, 0] > 0, 3, -1)
    assert torch.equal(ours(photo, hole, prompt).composite, plain(photo, hole, prompt).composite)
    prompt[:, :, :36] = -1
    mine, drawn = ours(photo, hole, prompt).composite, plain(photo, hole, prompt)
    other = drawn.composite
    colours = colours_of(photo, hole, drawn, prompt)
    for index in range(len(photo)):
        left_open = hole[index, 0] * (prompt[index] < 0)
        probabilities = drawn.logits[-1][index].softmax(dim=0)
        expected = redraw(other[index], hole[index, 0], probabilities, colours[index], left_open)
        torch.testing.assert_close(mine[index], expected)
    assert torch.equal(mine[..., 36:], other[..., 36:]) and not torch.equal(mine, other)
    assert torch.equal(ours.train()(photo, hole).composite, plain.train()(photo, hole).composite)


@torch.no_grad()
def test_photos_of_several_sizes_are_redrawn_as_if_alone():
    model, (photo, hole) = tiny(redrawn_share=1), photo_and_hole(80, 100)
    pixel_mask = torch.zeros(2, 80, 100, dtype=torch.long)
    pixel_mask[0], pixel_mask[1, :50, :33] = 1, 1
    together = model(photo, hole, pixel_mask=pixel_mask).composite
    assert torch.equal(together[1, :, :50, :33], model(photo[1:, :, :50, :33], hole[1:, :, :50, :33]).composite[0])
    poisoned = photo.masked_fill(hole.expand_as(photo) > 0, torch.nan)
    assert torch.equal(model(poisoned, hole).composite, model(photo, hole).composite)


def test_contextual_attention_learns_from_the_fill():
    model, (photo, hole) = attentive().train(), photo_and_hole(batch_size=3)
    hole[2] = 1  # nothing to learn from here, and nothing to break
    hole[0] = torch.nn.functional.interpolate((torch.rand(1, 1, 8, 8) > 0.8).float(), size=(64, 64))[0].roll(3, 2)
    (model(photo, hole).composite - photo).abs().mean().backward()
    for name, parameter in model.contextual_attention.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
