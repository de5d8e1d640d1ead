"""The two training steps of SGE-Net (section 3.3) and what they need; `train_accelerate.py` is the run around them.

`baseline_trainers.py` says what the systems that the paper compares with do otherwise.
"""

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from . import losses
from .configuration_sgenet import SGENetConfig
from .data import DatasetSpec, InpaintingDataset, class_counts, class_textures, dataset_spec
from .discriminator import SGENetDiscriminator
from .image_processing_sgenet import SGENetImageProcessor
from .modeling_sgenet import ATTENTION_SCALE, COARSEST, SGENetModel
from .perceptual import PerceptualFeatures, mean_activations
from .pipeline import BUNDLED
from .segmenters import Segmenter
from .training_arguments import MEASURED, Arguments, LossArguments, RunArguments


logger = logging.getLogger("train")

# Settings of SGE-Net that add parts to a trained network without changing the others.
ADDED_PARTS = ("noise_channels", "error_estimation", "contextual_attention")


class Progress:
    """Where a run stands; part of every checkpoint."""

    def __init__(self):
        self.samples, self.epoch, self.batch, self.step = 0, 0, 0, 0

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)


class Trainer:
    """Both networks, their optimisers, the averaged weights and the two training steps."""

    discriminator_kind: type[PreTrainedModel] = SGENetDiscriminator

    def __init__(self, arguments: Arguments, accelerator: Accelerator):
        self.arguments, self.accelerator, self.progress = arguments, accelerator, Progress()
        self.class_weights = None
        self.textures: dict[int, torch.Tensor] = {}
        self.generator = self.make_generator()
        if arguments.run.channels_last:
            self.generator.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False).eval().to(accelerator.device)
        self.refuse_idle_prompts()
        self.refuse_idle_pasted_weight()
        self.refuse_unsound_gradients()
        self.refuse_gathering_in_float16()
        self.features = load_perceptual(arguments.loss, accelerator.device)
        self.reader = load_reader(arguments, accelerator.device)
        self.labeller = load_labeller(
            arguments.data.label_model, dataset_spec(arguments.data.dataset), accelerator.device
        )
        if arguments.run.activation_checkpointing:
            # The name of transformers 5.17 as a second choice.
            enable = getattr(self.generator, "activation_checkpointing_enable", None)
            (enable or self.generator.gradient_checkpointing_enable)()
        run = arguments.run
        betas = (run.adam_beta1, run.adam_beta2)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), run.learning_rate, betas)
        self.discriminator, self.discriminator_optimizer = None, None
        if arguments.loss.adversarial_weight > 0:
            self.discriminator = build_discriminator(arguments, self.discriminator_kind)
            if run.channels_last:
                self.discriminator.to(memory_format=torch.channels_last)
            self.discriminator_optimizer = torch.optim.Adam(
                self.discriminator.parameters(), run.discriminator_learning_rate, betas
            )
            self.discriminator, self.discriminator_optimizer = accelerator.prepare(
                self.discriminator, self.discriminator_optimizer
            )
        self.generator, self.optimizer = accelerator.prepare(self.generator, self.optimizer)
        accelerator.register_for_checkpointing(self.progress)
        accelerator.register_save_state_pre_hook(self._save_networks)
        accelerator.register_load_state_pre_hook(self._load_networks)

    def takes_prompts(self) -> bool:
        """Whether prompts guide the network: Base-Net and the systems that the paper compares with know none."""
        return getattr(self.bare(self.generator).config, "semantic_guidance", False)

    def refuse_idle_prompts(self) -> None:
        """Prompts need a network that they guide.

        Raises:
            ValueError: If the network has no guidance and the data come with prompts of other classes.
        """
        if self.arguments.data.counterfactual_share and not self.takes_prompts():
            raise ValueError("Prompts do not guide this network (Base-Net): leave out counterfactual_share.")

    def refuse_idle_pasted_weight(self) -> None:
        """What judges the pasted photo needs one.

        Raises:
            ValueError: If the network pastes nothing.
        """
        if self.arguments.loss.pasted_weight and not getattr(self.generator.config, "contextual_attention", False):
            raise ValueError(
                "pasted_weight judges what contextual_attention pastes: give --contextual_attention true."
            )

    def refuse_gathering_in_float16(self) -> None:
        """Under float16 one scale serves both networks, and the discriminator's step may change it: gradients that the
        generator has gathered before would be of another.

        Raises:
            ValueError: If gradients are gathered over several batches under float16, beside a discriminator.
        """
        gathers = self.accelerator.gradient_accumulation_steps > 1
        if gathers and self.accelerator.mixed_precision == "fp16" and self.arguments.loss.adversarial_weight > 0:
            raise ValueError(
                "Adversarial terms under fp16 cannot gather gradients over several batches: give --mixed_precision "
                "bf16 or gradient_accumulation_steps 1."
            )

    def refuse_unsound_gradients(self) -> None:
        """Some convolutions must not learn in bfloat16 on a CPU.

        Of torch's channels-last kernel (seen in 2.13 with AVX-512): where the dilation is above 1 and the input
        channels are no multiple of 16, the gradient of the weights holds memory that was never written, often finite.

        Raises:
            ValueError: If the network has such a convolution and would learn so.
        """
        accelerator = self.accelerator
        on_cpu, in_bfloat16 = accelerator.device.type == "cpu", accelerator.mixed_precision == "bf16"
        if not (on_cpu and in_bfloat16 and self.arguments.run.channels_last):
            return
        for name, layer in self.generator.named_modules():
            if isinstance(layer, torch.nn.Conv2d) and max(layer.dilation) > 1 and layer.in_channels % 16:
                raise ValueError(
                    f"On a CPU under bf16 {name} would learn from gradients that are not its own (a fault of torch's "
                    "channels-last kernel): give --channels_last false, or --mixed_precision no."
                )

    def make_generator(self) -> PreTrainedModel:
        """The network to train."""
        return build_generator(self.arguments)

    def watch(self) -> Callable[[], dict[str, float]]:
        """Begins to watch the generator; what is returned gives numbers for the log."""
        return BiasRatio(self.bare(self.generator)).read

    def balance_classes(self, train_set: InpaintingDataset) -> None:
        """Weighs rare classes up in Eq. 9, by the labels that the photos have or will be given."""
        labeller = None
        if self.labeller is not None:
            labeller = lambda photos: self.labeller(photos.to(self.accelerator.device))  # noqa: E731
        counts = class_counts(train_set, labeller=labeller, labeller_only=self.arguments.data.machine_labels_only)
        weights = losses.balanced_class_weights(counts, self.arguments.loss.class_balance)
        self.class_weights = weights.to(self.accelerator.device)

    def scale_features(self, train_set: InpaintingDataset) -> None:
        """Divides each layer of the VGG by its mean over up to 64 training photos, evenly spread."""
        if self.features is None:
            return
        places = np.linspace(0, len(train_set) - 1, min(64, len(train_set))).round().astype(int).tolist()
        photos = (train_set.sample(place, epoch=0)["pixel_values"][None] for place in places)
        means = mean_activations(self.features, (photo.to(self.accelerator.device) for photo in photos))
        self.features.divisors = [means[layer] for layer in self.features.layers]
        logger.info("Mean activations: %s", ", ".join(f"{layer} {mean:.4g}" for layer, mean in means.items()))

    def collect_textures(self, train_set: InpaintingDataset) -> None:
        """Cuts windows of each class that a counterfactual prompt may name out of the training photos.

        Raises:
            ValueError: If there is none of a class that was named, or of any.
        """
        spec, data = dataset_spec(self.arguments.data.dataset), self.arguments.data
        classes = spec.ids_of(data.counterfactual_classes) or range(spec.num_labels)
        textures = class_textures(train_set, classes, self.arguments.loss.texture_window or data.crop_size)
        self.textures = {index: windows.to(self.accelerator.device) for index, windows in textures.items()}
        counts = {spec.classes[index]: len(self.textures.get(index, ())) for index in classes}
        logger.info("Windows that show a class: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))
        missing = [name for name, count in counts.items() if not count]
        if missing and (data.counterfactual_classes or not self.textures):
            raise ValueError(
                f"No training photo shows {', '.join(missing)} in a whole window: set texture_window to less than it "
                "is (0 is the whole crop), or name other counterfactual_classes."
            )

    # Checkpoints hold `save_pretrained` folders instead of accelerate's numbered files.

    def networks(self) -> dict[str, torch.nn.Module]:
        """Name of its folder in a checkpoint -> network."""
        found = {"generator": self.generator, "averaged": self.averaged, "discriminator": self.discriminator}
        return {name: self.bare(net) for name, net in found.items() if net is not None}

    def bare(self, network: torch.nn.Module) -> torch.nn.Module:
        """A network without what was put around it for several processes or by `torch.compile`."""
        return self.accelerator.unwrap_model(network, keep_torch_compile=False)

    def _save_networks(self, models: list, weights: list, folder: str) -> None:
        if self.accelerator.is_main_process:
            for name, network in self.networks().items():
                network.save_pretrained(Path(folder) / name)
            SGENetImageProcessor().save_pretrained(Path(folder) / "averaged")
        weights.clear()

    def _load_networks(self, models: list, folder: str) -> None:
        for name, network in self.networks().items():
            network.load_state_dict(load_whole(type(network), Path(folder) / name).state_dict())
        models.clear()

    # One batch.

    def train_step(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One batch through both networks; returns the mean of each loss term."""
        run, accelerator = self.arguments.run, self.accelerator
        rate = learning_rate_factor(self.progress.samples, run)
        set_learning_rate(self.optimizer, run.learning_rate * rate)
        networks = [self.generator] if self.discriminator is None else [self.generator, self.discriminator]
        with accelerator.accumulate(*networks):
            batch = self.prepare(batch)
            with accelerator.autocast():
                output = self.run_generator(batch)
            terms = {}
            if self.adversarial_is_on():
                set_learning_rate(self.discriminator_optimizer, run.discriminator_learning_rate * rate)
                terms |= self.discriminator_step(output, batch)
            return self.generator_step(output, batch, terms)

    def prepare(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch with all that the losses need to know of the truth.

        `rewritten` (B, 1, H, W) is 1 where a prompt names another class than the label, or one where nobody labelled:
        there the photo is no target.

        The rest says what to look at. It is asked for here, together, because a GPU has to finish what it has whenever
        the CPU asks for a value: `prompted` (N,), indices of the samples with a prompt; with a `texture_window` the
        top left corners (B, 2) of windows at a hole pixel (`window_corners`); and once textures are collected what
        `asked_textures` gives.
        """
        if not self.takes_prompts():
            batch = batch | {"semantic_prompt": torch.full_like(batch["labels"], -1)}
        batch = self.with_machine_labels(batch)
        prompt, side = batch["semantic_prompt"], self.arguments.loss.texture_window
        rewritten = ((prompt >= 0) & (prompt != batch["labels"]))[:, None]
        batch = batch | {
            "rewritten": rewritten.float(),
            "prompted": (prompt >= 0).flatten(1).any(dim=1).nonzero()[:, 0],
        }
        if side > 0:
            batch["window_corners"] = hole_windows(batch["mask"], side, self.uniforms())
        return batch | self.asked_textures(batch) if self.textures else batch

    def asked_textures(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Whose texture a batch's counterfactual prompts ask for.

        `textured` (N,), indices of the samples of which most rewritten pixels are to be of a class that has textures;
        `textures` (N, 3, side, side), a window of each such class, absent where N is 0; with a `texture_window` the
        top left corners (B, 2) of windows at a rewritten pixel (`rewritten_corners`).
        """
        side, rewritten = self.arguments.loss.texture_window, batch["rewritten"]
        asked = commonest_id(batch["semantic_prompt"].masked_fill(rewritten[:, 0] == 0, -1)).tolist()
        rows = [row for row, index in enumerate(asked) if index in self.textures]
        found = {"textured": torch.tensor(rows, dtype=torch.int64, device=rewritten.device)}
        if rows:
            choices, sources = self.uniforms(stream=2).tolist(), [self.textures[asked[row]] for row in rows]
            windows = [source[int(choices[row] * len(source))] for row, source in zip(rows, sources, strict=True)]
            found["textures"] = torch.stack(windows)
        if side > 0:
            found["rewritten_corners"] = hole_windows(rewritten, side, self.uniforms(stream=1))
        return found

    def run_generator(self, batch: dict[str, torch.Tensor]) -> ModelOutput:
        """The generator's answer to a batch, under autocast."""
        return self.generator(
            batch["pixel_values"],
            batch["mask"],
            semantic_prompt=batch["semantic_prompt"] if len(batch["prompted"]) else None,
            labelled=batch["has_labels"] > 0,
        )

    def adversarial_is_on(self) -> bool:
        """Eq. 8 begins once there is something to judge."""
        start = self.arguments.loss.adversarial_start * self.arguments.run.total_samples
        return self.discriminator is not None and self.progress.samples >= start

    def discriminator_step(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eq. 8 from the discriminator's side."""
        real, fake, mask = self.judged(output, batch)
        fake = fake.detach()
        with self.accelerator.autocast():
            # Real and fake in one pass: half the kernel launches, and one power iteration of the spectral norm.
            logits, _ = self.discriminator(torch.cat([real, fake]), torch.cat([mask, mask]))
        real_logits, fake_logits = split_in_two(logits)
        loss = losses.discriminator_loss(real_logits, fake_logits, self.arguments.loss.adversarial_kind).mean()
        self.accelerator.backward(loss)
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        return {"discriminator": loss.detach()}

    def generator_step(
        self, output: ModelOutput, batch: dict[str, torch.Tensor], terms_before: dict[str, torch.Tensor]
    ) -> dict[str, float]:
        """Eq. 10. `terms_before` are told with its own terms."""
        run = self.arguments.run
        terms = self.loss_terms(output, batch)
        if self.adversarial_is_on():
            terms |= self.adversarial_terms(output, batch)
        loss = losses.final_loss(terms, term_weights(self.arguments.loss))
        self.accelerator.backward(loss)
        told = terms_before | {name: term.mean() for name, term in terms.items()} | {"loss": loss}
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(self.generator.parameters(), run.clip_gradient_norm)
            if self.accelerator.scaler is None:  # float16's scaler skips such steps itself
                told["gradient"] = norm
        values = self.read_finite(told)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return values

    def loss_terms(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All terms but those of the discriminator, by name, each with one value per sample."""
        return (
            self.reconstruction_term(output, batch)
            | self.texture_terms(output, batch)
            | self.segmentation_term(output, batch)
            | self.read_back_term(output, batch)
            | self.prompt_style_term(output, batch)
            | self.error_term(output, batch)
            | self.pasted_term(output, batch)
        )

    def fill(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """What is judged, (B, 3, H, W): the composite without its clamp, which would stop gradients, or the image."""
        image = output.images[-1].float()
        if self.arguments.loss.adversarial_on == "raw":
            return image
        return torch.where(batch["mask"] > 0.5, image, batch["pixel_values"])

    def judged(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """What the discriminator compares: truth, fill and mask, whole or in windows at the hole."""
        return self.texture_windows(batch, batch["pixel_values"], self.fill(output, batch), batch["mask"])

    def reconstruction_term(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """First term of Eq. 7, summed over the scales."""
        options, target, mask = self.arguments.loss, batch["pixel_values"], batch["mask"]
        terms = []
        for scale, image in with_scales(output.images):
            if options.reconstruction == "literal":
                terms.append(losses.reconstruction_loss_literal(image.float(), target))
                continue
            image = image.float()
            if scale < COARSEST:  # which is computed before any prompt enters
                rewritten = losses.shrink_mask(batch["rewritten"], scale)
                image = torch.where(rewritten > 0, losses.shrink_image(target, scale), image)
            terms.append(losses.reconstruction_loss(image, target, mask, scale, options.hole_weight))
        return {"reconstruction": sum(terms)}

    def texture_terms(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Second term of Eq. 7, and the style term."""
        if self.features is None:
            return {}
        options, target = self.arguments.loss, batch["pixel_values"]
        literal = options.reconstruction == "literal"
        images = [losses.enlarge_to(image.float(), target) for image in output.images] if literal else None
        # Where a prompt asks for something else, the truth is no target: it stands in for the fill.
        fill = torch.where(batch["rewritten"] > 0, target, self.fill(output, batch))
        target, *judged = self.texture_windows(batch, target, *(images or [fill]))
        with torch.no_grad():
            target_features = self.perceive(target)
        features = [self.perceive(image) for image in judged]
        terms = {"perceptual": sum(losses.perceptual_loss(ours, target_features) for ours in features)}
        if options.style_weight > 0:
            terms["style"] = sum(losses.style_loss(ours, target_features) for ours in features)
        return terms

    def perceive(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The VGG's features in float32. It runs in bfloat16 where the run does; float16 would overflow in it."""
        in_bfloat16 = self.accelerator.mixed_precision == "bf16"
        with torch.autocast(image.device.type, torch.bfloat16, enabled=in_bfloat16):
            features = self.features(image)
        return tuple(layer.float() for layer in features)

    def segmentation_term(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eq. 9 summed over the scales; 0 for samples without labels, whose heads still take part (DDP needs that)."""
        options, labels = self.arguments.loss, batch["labels"]
        unprompted = losses.without_prompted(labels, batch["semantic_prompt"])
        terms = []
        for scale, logits in with_scales(output.logits):
            # The coarsest scale is computed before any prompt enters, so it may learn from all pixels.
            wanted = labels if scale == COARSEST else unprompted
            if options.segmentation == "literal":
                terms.append(losses.cross_entropy_loss_literal(logits, wanted))
                continue
            hole = losses.shrink_mask(batch["mask"], scale)
            pixel_weights = 1 + (options.segmentation_hole_weight - 1) * hole
            terms.append(
                losses.cross_entropy_loss(
                    logits, wanted, scale, class_weights=self.class_weights, pixel_weights=pixel_weights
                )
            )
        return {"segmentation": sum(terms)}

    def read_back_term(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a prompt names must be there: the reader, given the fill as a photo without a hole, has to find the
        prompted classes at every prompted pixel (cross-entropy, mean over the scales). Not in the paper."""
        if self.reader is None:
            return {}
        fill, prompted = self.fill(output, batch), batch["prompted"]
        terms = fill.new_zeros(len(fill))
        if not len(prompted):
            return {"read_back": terms}
        fill, prompt = fill[prompted], batch["semantic_prompt"][prompted]
        with self.accelerator.autocast():
            reading = self.reader(fill, torch.zeros_like(fill[:, :1])).logits
        wanted, scales = prompt.masked_fill(prompt < 0, 255), with_scales(reading)
        read = sum(losses.cross_entropy_loss(logits, wanted, scale) for scale, logits in scales) / len(scales)
        return {"read_back": terms.index_copy(0, prompted, read)}

    def prompt_style_term(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What a counterfactual prompt names must look like it: style term between the prompted region and a window of
        a photo that shows the class. Where the truth is of the class, the other terms ask for it."""
        if not self.textures or self.features is None:
            return {}
        fill, side, rows = self.fill(output, batch), self.arguments.loss.texture_window, batch["textured"]
        terms = fill.new_zeros(len(fill))
        if not len(rows):
            return {"prompt_style": terms}
        fill, where = fill[rows], batch["rewritten"][rows]
        if side > 0:
            corners = batch["rewritten_corners"][rows]
            fill, where = cut_windows(fill, corners, side), cut_windows(where, corners, side)
        with torch.no_grad():
            wanted = self.perceive(batch["textures"])
        return {"prompt_style": terms.index_copy(0, rows, losses.class_style_loss(self.perceive(fill), wanted, where))}

    def error_term(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Squared difference between expected and true absolute error in the hole's cells; not where the fill was
        asked to be something else."""
        if output.get("expected_error") is None:
            return {}
        error = (output.composite.detach().float() - batch["pixel_values"]).abs().mean(dim=1, keepdim=True)
        judged = batch["mask"] * (1 - batch["rewritten"])
        return {"error": losses.error_estimation_loss(output.expected_error, error, judged)}

    def pasted_term(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What contextual attention pastes should be near the truth in each of its cells; beyond the paper."""
        if output.get("pasted") is None or self.arguments.loss.pasted_weight == 0:
            return {}
        target, scale = batch["pixel_values"], ATTENTION_SCALE - 1  # the cells that are pasted
        pasted = losses.shrink_image(torch.where(batch["rewritten"] > 0, target, output.pasted.float()), scale)
        hole_weight = self.arguments.loss.hole_weight
        return {"pasted": losses.reconstruction_loss(pasted, target, batch["mask"], scale, hole_weight)}

    def adversarial_terms(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Eq. 8 from the generator's side, and feature matching."""
        options = self.arguments.loss
        fake_logits, fake_features, real_features = self.look(*self.judged(output, batch))
        terms = {"adversarial": losses.adversarial_loss(fake_logits, options.adversarial_kind)}
        if options.feature_matching_weight > 0:
            matching = losses.feature_matching_loss(fake_features, real_features)
            # Nothing to match where a prompt asks for something else.
            terms["feature_matching"] = matching * (1 - batch["rewritten"].flatten(1).amax(dim=1))
        return terms

    def look(self, real: torch.Tensor, fake: torch.Tensor, mask: torch.Tensor) -> tuple[tuple, list, list]:
        """The frozen discriminator's logits and features of the fill, and its features of the truth."""
        discriminator = self.accelerator.unwrap_model(self.discriminator)
        discriminator.requires_grad_(False)
        with self.accelerator.autocast():
            fake_logits, fake_features = discriminator(fake, mask)
            with torch.no_grad():
                _, real_features = discriminator(real, mask)
        discriminator.requires_grad_(True)
        return fake_logits, fake_features, real_features

    def with_machine_labels(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Labels photos that nobody labelled, or all, if a segmenter was given."""
        missing = (batch["has_labels"] == 0) | self.arguments.data.machine_labels_only
        if self.labeller is None or not missing.any():
            return batch
        machine = self.labeller(batch["pixel_values"][missing])
        labels = batch["labels"].clone()
        labels[missing] = machine
        return batch | {"labels": labels, "has_labels": torch.ones_like(batch["has_labels"])}

    def texture_windows(self, batch: dict[str, torch.Tensor], *planes: torch.Tensor) -> list[torch.Tensor]:
        """The same window at the hole of each of the planes: elsewhere the composite equals the photo anyway."""
        side = self.arguments.loss.texture_window
        if side == 0:
            return list(planes)
        return [cut_windows(plane, batch["window_corners"], side) for plane in planes]

    def uniforms(self, stream: int = 0) -> torch.Tensor:
        """A random number in [0, 1) per sample and stream, the same for any number of processes and after a resume."""
        size, rank = self.arguments.run.batch_size, self.accelerator.process_index
        seeds = (self.arguments.run.seed, self.progress.samples, *([stream] if stream else []))
        generator = torch.Generator().manual_seed(hash(seeds))
        numbers = torch.rand(self.accelerator.num_processes * size, generator=generator)
        return numbers[rank * size : (rank + 1) * size]

    def read_finite(self, terms: dict[str, torch.Tensor]) -> dict[str, float]:
        """The terms as numbers, means over all ranks, on all ranks or on none: one that stopped alone would leave the
        others waiting for ever.

        Raises:
            FloatingPointError: If one of them is no number, on any rank.
        """
        values = torch.stack([term.detach().float() for term in terms.values()])  # a GPU is asked once
        told = torch.stack([values, (~torch.isfinite(values)).float()])
        numbers, counts = self.accelerator.reduce(told, reduction="mean").tolist()
        if any(counts):
            names = ", ".join(name for name, count in zip(terms, counts, strict=True) if count)
            raise FloatingPointError(
                f"Not finite after {self.progress.samples} samples: {names}. Resume from the last checkpoint with a "
                "lower learning rate, or without mixed precision."
            )
        return dict(zip(terms, numbers, strict=True))

    @torch.no_grad()
    def average_weights(self, samples: int) -> None:
        """Moves the averaged weights by `samples` along their half-life."""
        decay = 0.5 ** (samples / self.arguments.run.ema_half_life_samples)
        ours = self.bare(self.generator)
        get_ema_multi_avg_fn(decay)(list(self.averaged.parameters()), list(ours.parameters()), None)
        for averaged, buffer in zip(self.averaged.buffers(), ours.buffers(), strict=True):
            averaged.copy_(buffer)  # a mean of unit vectors, such as spectral norm's, is none


def build_generator(arguments: Arguments) -> SGENetModel:
    """The network of the recipe, or the one to start from; its classes are those of the data."""
    spec = dataset_spec(arguments.data.dataset)
    given = {name: value for name, value in vars(arguments.model).items() if value is not None and name != "system"}
    preset, start = given.pop("preset"), given.pop("initialize_from", None)
    given |= classes_of(spec) | {"image_size": arguments.data.crop_size}
    if start is None:
        return SGENetModel({"small": SGENetConfig.small, "full": SGENetConfig.full}[preset](**given))
    return start_from(start, SGENetModel, given)


def classes_of(spec: DatasetSpec) -> dict:
    """A data set's classes as a configuration names them."""
    label2id = {name: index for index, name in spec.id2label.items()}
    return {"id2label": spec.id2label, "label2id": label2id, "label_colors": [list(color) for color in spec.colors]}


def weights_folder(start: str) -> Path:
    """The model folder itself, that of bundled weights, or the averaged weights of a run's checkpoint."""
    folder = Path(BUNDLED.get(start, start))
    return folder / "averaged" if (folder / "averaged").is_dir() else folder


def start_from(start: str, network: type[PreTrainedModel], given: dict) -> PreTrainedModel:
    """The network of a model folder or of another run's checkpoint, with the values of its configuration that are
    `given` and possibly other classes. Parts that it did not have start from nothing.

    Raises:
        ValueError: If it has another number of noise planes, or other widths.
    """
    folder = weights_folder(start)
    before = network.config_class.from_pretrained(folder)
    for name in ("widths", "width"):
        had = getattr(before, name, None)
        if name in given and had is not None and not np.array_equal(given[name], had):
            raise ValueError(f"{start} has {name} {had}, not {given[name]}: leave {name} out.")
    if given.get("contextual_attention") is False:
        given = {"pasted_share": 0} | given
    config = network.config_class(**{**before.to_dict(), **given})
    options = {"dtype": torch.float32, "ignore_mismatched_sizes": before.num_labels != config.num_labels}
    before_parts = {name: getattr(before, name) for name in ADDED_PARTS if hasattr(before, name)}
    if all(getattr(config, name) == value for name, value in before_parts.items()):
        return network.from_pretrained(folder, config=config, **options)
    if 0 < before_parts.get("noise_channels", 0) != config.noise_channels > 0:
        raise ValueError(f"{start} has {before.noise_channels} noise_channels: keep them, or leave them out with 0.")
    trained = network.from_pretrained(
        folder, config=network.config_class(**{**config.to_dict(), **before_parts}), **options
    ).state_dict()
    model = network(config)
    new = model.state_dict()
    model.load_state_dict(new | {name: value for name, value in trained.items() if name in new})
    return model


def build_discriminator(arguments: Arguments, kind: type[PreTrainedModel]) -> PreTrainedModel:
    """A new discriminator, or the one of the checkpoint to start from."""
    start = arguments.model.initialize_from
    if start is not None:
        folder = Path(BUNDLED.get(start, start)) / "discriminator"
        if folder.is_dir():
            return load_whole(kind, folder)
    options = {"width": arguments.loss.discriminator_width}
    if kind is SGENetDiscriminator:  # the other systems' papers say what theirs see
        options["see_mask"] = arguments.loss.discriminator_sees_mask
    return kind(kind.config_class(**options))


def load_whole(network: type[PreTrainedModel], folder: Path) -> PreTrainedModel:
    """Loads a network in float32; `transformers` alone would fill what is missing with defaults and random weights.

    Raises:
        FileNotFoundError: If config.json is missing.
        ValueError: If weights are.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: the checkpoint is damaged, resume an older one.")
    model, loading = network.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    if loading["missing_keys"]:
        raise ValueError(f"{folder} lacks {', '.join(sorted(loading['missing_keys']))}: resume an older checkpoint.")
    return model


def load_perceptual(options: LossArguments, device: torch.device) -> PerceptualFeatures | None:
    """The VGG of Eq. 7, or None if no weight asks for it.

    Raises:
        ValueError: If a weight asks for it and no weights are named.
    """
    if options.perceptual_weight == options.style_weight == options.prompt_style_weight == 0:
        return None
    if not options.perceptual_weights:
        raise ValueError(
            "Perceptual and style terms, also of prompts, need --perceptual_weights: a VGG file or Hub id."
        )
    scales = None
    if options.perceptual_scales not in (None, MEASURED):
        scales = read_mean_activations(json.loads(Path(options.perceptual_scales).read_text()))
    layers = tuple(options.perceptual_layers)
    architecture = options.perceptual_architecture
    network = PerceptualFeatures.from_weights(options.perceptual_weights, layers, architecture, scales)
    return network.to(device, memory_format=torch.channels_last)


def read_mean_activations(description: dict) -> dict[str, float]:
    """The table of mean activations per layer in a description of VGG weights.

    Raises:
        ValueError: If there is none.
    """
    for name, value in description.items():
        if name.startswith("mean_activation") and isinstance(value, dict):
            return value
    raise ValueError("The JSON file has no `mean_activation...` table of layer -> number.")


def load_reader(arguments: Arguments, device: torch.device) -> SGENetModel | None:
    """The frozen SGE-Net that reads prompts back, or None if no weight asks for it.

    Raises:
        ValueError: If its classes are not those of the data.
    """
    if arguments.loss.read_back_weight == 0:
        return None
    name = arguments.loss.reader or arguments.model.initialize_from
    reader = SGENetModel.from_pretrained(weights_folder(name), dtype=torch.float32)
    if reader.config.id2label != (known := dataset_spec(arguments.data.dataset).id2label):
        raise ValueError(
            f"The reader {name} knows other classes than the data: give a --reader that was trained on "
            f"{', '.join(known.values())}."
        )
    return reader.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)


def load_labeller(name_or_path: str | None, spec: DatasetSpec, device: torch.device):
    """A function from photos (B, 3, H, W) in [-1, 1] to class ids (B, H, W), or None.

    The segmenter's classes are matched by name; what the data set does not know is void.

    Raises:
        ValueError: If they have no class in common.
    """
    if name_or_path is None:
        return None
    segmenter = Segmenter(name_or_path, device)
    ids = [255 if index < 0 else index for index in segmenter.ids_among(spec.classes)]
    matched = torch.tensor(ids, device=device)
    return lambda photos: matched[segmenter(photos)]


def term_weights(options: LossArguments) -> dict[str, float]:
    """Eq. 10's coefficients by the names of the terms."""
    names = "reconstruction segmentation perceptual style adversarial feature_matching edge_adversarial"
    names += " read_back prompt_style error pasted"
    return {name: getattr(options, f"{name}_weight") for name in names.split()}


def learning_rate_factor(samples: int, run: RunArguments) -> float:
    """Linear rise, constant, linear fall; a function of the samples seen and nothing else."""
    rise = min(1.0, (samples + 1) / max(1, run.warmup_samples))
    left = 1 - samples / run.total_samples
    return rise * min(1.0, max(0.0, left) / run.decay_share if run.decay_share else 1.0)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def with_scales(planes: tuple[torch.Tensor, ...]) -> list[tuple[int, torch.Tensor]]:
    """Pairs of scale and plane; outputs run from the coarsest scale to 0."""
    return list(zip(range(len(planes) - 1, -1, -1), planes, strict=True))


def split_in_two(maps: tuple[torch.Tensor, ...]) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Halves of the batch: what came of the real and of the fake photos."""
    halves = [plane.float().chunk(2) for plane in maps]
    return tuple(real for real, _ in halves), tuple(fake for _, fake in halves)


def hole_windows(mask: torch.Tensor, side: int, uniforms: torch.Tensor) -> torch.Tensor:
    """Top left corner, (B, 2), of a window of `side` pixels around a random hole pixel of each mask (B, 1, H, W), or
    in the middle."""
    corners = []
    for hole, number in zip((mask[:, 0] > 0.5).cpu().numpy(), uniforms.tolist(), strict=True):
        height, width = hole.shape
        places = np.flatnonzero(hole)
        middle = (height // 2) * width + width // 2
        row, column = divmod(int(places[int(number * len(places))]) if len(places) else middle, width)
        corners.append((min(max(0, row - side // 2), height - side), min(max(0, column - side // 2), width - side)))
    return torch.tensor(corners, device=mask.device)


def cut_windows(images: torch.Tensor, corners: torch.Tensor, side: int) -> torch.Tensor:
    """The windows of (B, C, H, W) as a batch, (B, C, side, side)."""
    places = corners[:, :, None] + torch.arange(side, device=corners.device)  # (B, 2, side)
    rows, columns = places[:, 0, None, :, None], places[:, 1, None, None, :]
    channels, width = images.shape[1], images.shape[3]
    return images.gather(2, rows.expand(-1, channels, -1, width)).gather(3, columns.expand(-1, channels, side, -1))


def commonest_id(ids: torch.Tensor) -> torch.Tensor:
    """The class id that most pixels of (B, H, W) have, (B,), the smaller of two; -1 pixels do not count, and -1 is the
    answer where there are no others."""
    counts = torch.zeros(len(ids), 257, device=ids.device)
    flat = ids.flatten(1)
    counts.scatter_add_(1, flat + 1, torch.ones_like(flat, dtype=counts.dtype))
    counts[:, 0] = 0.5  # more than none
    return counts.argmax(dim=1) - 1


class BiasRatio:
    """Watches how much SGIM+ corrects: mean |F_bi| / mean |F_ba| of Eq. 6 at each step, from the last forward pass."""

    def __init__(self, model: SGENetModel):
        self.sizes: dict[tuple[str, int], float] = {}
        for index, step in enumerate(model.steps):
            for name in ("base_net", "bias_net"):
                if getattr(step, name) is not None:
                    getattr(step, name).register_forward_hook(self._hook(name, 3 - index))

    def _hook(self, name: str, level: int):
        def remember(module, inputs, output):
            self.sizes[name, level] = output.detach().float().abs().mean()

        return remember

    def read(self) -> dict[str, float]:
        """`bias_ratio_3` is the step into level 3, and so on; empty without a bias net."""
        return {
            f"bias_ratio_{level}": (size / self.sizes["base_net", level].clamp(min=1e-8)).item()
            for (name, level), size in self.sizes.items()
            if name == "bias_net"
        }
