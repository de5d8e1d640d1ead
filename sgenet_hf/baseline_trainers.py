"""How the systems that the paper compares with are trained: what each does otherwise than SGE-Net.

Data, their order, schedules, averaged weights, checkpoints and resuming are those of [`Trainer`]. A sample is one
image through one update of the generator, all stages of it: systems of two stages train both on every batch.
"""

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from . import losses
from .baseline_discriminators import EdgeConnectDiscriminator, GatedConvDiscriminator
from .baseline_edgeconnect import EdgeConnectModel, canny_edges, luminance
from .baseline_gatedconv import GatedConvModel
from .baseline_spgnet import SPGNetModel
from .data import dataset_spec
from .trainer import Trainer, classes_of, start_from


SMALLEST_HOLE = 0.01  # share of the photo: EdgeConnect divides by it, and a speck must not outweigh a batch


class BaselineTrainer(Trainer):
    """What the three have in common."""

    generator_kind: type[PreTrainedModel]

    def make_generator(self) -> PreTrainedModel:
        """The network of the recipe, or the one to start from."""
        options = self.arguments.model
        given = self.configuration() | ({} if options.width is None else {"width": options.width})
        if options.initialize_from is not None:
            return start_from(options.initialize_from, self.generator_kind, given)
        return self.generator_kind(getattr(self.generator_kind.config_class, options.preset)(**given))

    def configuration(self) -> dict:
        """What the data say about the network."""
        return {"image_size": self.arguments.data.crop_size}

    def watch(self):
        """There is nothing to watch but the losses."""
        return dict

    def second_stage_sees_truth(self) -> bool:
        """The schedule of the two-stage systems: first both stages learn apart, the second from true edges or labels;
        then the second sees in the hole what the first says, as it will when it is used.

        The papers train the stages one after the other, each to its end. In one run of a given length, half and half
        is our choice (`truth_share`).
        """
        return self.progress.samples < self.arguments.loss.truth_share * self.arguments.run.total_samples


class GatedConvTrainer(BaselineTrainer):
    """L1 of both stages' images, and SN-PatchGAN on the composite (section 3.3), one to one as published."""

    generator_kind = GatedConvModel
    discriminator_kind = GatedConvDiscriminator

    def run_generator(self, batch: dict[str, torch.Tensor]) -> ModelOutput:
        """Coarse and fine image."""
        return self.generator(batch["pixel_values"], batch["mask"])

    def loss_terms(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """L1 over the whole photo, summed over the stages; texture terms only if a recipe asks for them."""
        target = batch["pixel_values"]
        pixels = sum(losses.mean_per_sample((image.float() - target).abs()) for image in output.images)
        return {"reconstruction": pixels} | self.texture_terms(output, batch)


class EdgeConnectTrainer(BaselineTrainer):
    """Section 3: G1 learns edges against D1, with feature matching; G2 learns photos with L1, perceptual, style and
    adversarial terms against D2. In the second half gradients pass from G2 to G1 as well.

    The paper's last step leaves D1 out, at a hundredth of the learning rate. We keep D1's terms: at one learning rate
    they are what keeps the edges edges.
    """

    generator_kind = EdgeConnectModel
    discriminator_kind = EdgeConnectDiscriminator

    def prepare(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """With the edges of the whole photo."""
        sigma = self.bare(self.generator).config.sigma
        edges = canny_edges(batch["pixel_values"], torch.ones_like(batch["mask"]), sigma)
        return super().prepare(batch) | {"edges": edges}

    def run_generator(self, batch: dict[str, torch.Tensor]) -> ModelOutput:
        """Edges and image."""
        truth = torch.where(batch["mask"] > 0.5, batch["edges"], -1.0)
        prompt = truth if self.second_stage_sees_truth() else None
        return self.generator(batch["pixel_values"], batch["mask"], edge_prompt=prompt)

    def adversarial_is_on(self) -> bool:
        """From the start: G1 has no other teacher."""
        return True

    def loss_terms(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """L1 of the whole photo over the hole's share of it, and the texture terms."""
        difference = losses.mean_per_sample((output.images[-1].float() - batch["pixel_values"]).abs())
        share = losses.mean_per_sample(batch["mask"]).clamp(min=SMALLEST_HOLE)
        return {"reconstruction": difference / share} | self.texture_terms(output, batch)

    def judged(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Truth and fill as D1 and D2 see them: edges under their grey photo (Eq. 2), photos under their edges."""
        grey, edges = luminance(batch["pixel_values"]), output.edges.detach().float()
        real = torch.cat([grey, batch["edges"], batch["pixel_values"], edges], dim=1)
        fake = torch.cat([grey, output.predicted_edges.float(), self.fill(output, batch), edges], dim=1)
        return self.texture_windows(batch, real, fake, batch["mask"])

    def adversarial_terms(self, output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """D1 and D2 from the generators' side, and feature matching in D1, summed over its layers (Eq. 4)."""
        kind = self.arguments.loss.adversarial_kind
        (edge_logits, photo_logits), fake_features, real_features = self.look(*self.judged(output, batch))
        fake_edges, real_edges = fake_features[:1], real_features[:1]
        return {
            "edge_adversarial": losses.adversarial_loss((edge_logits,), kind),
            "feature_matching": len(fake_edges[0]) * losses.feature_matching_loss(fake_edges, real_edges),
            "adversarial": losses.adversarial_loss((photo_logits,), kind),
        }


class SPGNetTrainer(BaselineTrainer):
    """SP-Net learns labels with cross-entropy, SG-Net photos with SGE-Net's terms at one scale: L1, perceptual, style,
    multi-scale PatchGAN with feature matching.

    The paper teaches SP-Net with a discriminator; cross-entropy is what its labels are scored by, and what SGE-Net's
    heads learn from (Eq. 9). No gradient passes from SG-Net to SP-Net, as in the paper, which trains them apart.
    """

    generator_kind = SPGNetModel

    def configuration(self) -> dict:
        """Size and classes."""
        return super().configuration() | classes_of(dataset_spec(self.arguments.data.dataset))

    def run_generator(self, batch: dict[str, torch.Tensor]) -> ModelOutput:
        """Labels and image; where nobody labelled, SG-Net always sees what SP-Net says."""
        labels = batch["labels"]
        prompt = labels.masked_fill(labels == 255, -1) if self.second_stage_sees_truth() else None
        return self.generator(batch["pixel_values"], batch["mask"], semantic_prompt=prompt)


TRAINERS: dict[str, type[Trainer]] = {
    "sgenet": Trainer,
    "gatedconv": GatedConvTrainer,
    "edgeconnect": EdgeConnectTrainer,
    "spgnet": SPGNetTrainer,
}
