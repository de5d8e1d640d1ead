"""Training losses of SGE-Net, one pure function per equation of the paper's section 3.3.

Every loss has one value per sample, shape (B,), each a mean over that sample's own pixels. Averaging those
over the batch makes two processes with half the batch equal to one process with the whole batch.

The paper's text slips in places; the defaults are our reading of what was meant, and `*_literal` is the text. Images
are RGB in [-1, 1], masks are 1 = hole, features are tuples of (B, C, h, w).
"""

from typing import Literal

import torch
from torch.nn import functional as F


AdversarialKind = Literal["hinge", "vanilla", "lsgan", "literal"]
Features = tuple[torch.Tensor, ...]


def mean_per_sample(values: torch.Tensor) -> torch.Tensor:
    """Mean over everything but the batch, shape (B,)."""
    return values.flatten(1).mean(dim=1)


def masked_mean_per_sample(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean over everything but the batch, shape (B,); 0 for a sample whose weights are all 0."""
    weights = weights.expand_as(values)
    return (values * weights).flatten(1).sum(1) / weights.flatten(1).sum(1).clamp(min=1e-6)


def shrink_image(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Mean colour of each 2^scale x 2^scale cell, shape (B, 3, ceil(H / 2^scale), ceil(W / 2^scale))."""
    return F.avg_pool2d(image, 2**scale, ceil_mode=True, count_include_pad=False)


def shrink_mask(mask: torch.Tensor, scale: int) -> torch.Tensor:
    """1 where any pixel of the cell is a hole, same size as [`shrink_image`]."""
    return F.max_pool2d(mask, 2**scale, ceil_mode=True)


def shrink_labels(labels: torch.Tensor, scale: int) -> torch.Tensor:
    """Label at the centre of each cell (nearest), same size as [`shrink_image`], from (B, H, W)."""
    size = [-(-side // 2**scale) for side in labels.shape[-2:]]
    return F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def enlarge_to(planes: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """up(.) of Eq. 7 and 9: bilinear enlargement to the reference's height and width."""
    return F.interpolate(planes, size=reference.shape[-2:], mode="bilinear", align_corners=False)


# Eq. 7: reconstruction ----------------------------------------------------------------------------------------------


def reconstruction_loss(
    image: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, scale: int, hole_weight: float = 6.0
) -> torch.Tensor:
    """First term of Eq. 7 at the scale's own size: L1 to the shrunk target, hole and known part averaged apart.

    The paper weighs all pixels alike and enlarges every scale. We compare each scale with what it can know, and count
    the hole `hole_weight` times the known part (6 as in partial convolutions), whatever its area.
    """
    difference = (image - shrink_image(target, scale)).abs()
    hole = shrink_mask(mask, scale)
    known_share, hole_share = (part.flatten(1).amax(dim=1) for part in (1 - hole, hole * hole_weight))  # 0 if absent
    known = known_share * masked_mean_per_sample(difference, 1 - hole)
    return (known + hole_share * masked_mean_per_sample(difference, hole)) / (known_share + hole_share)


def reconstruction_loss_literal(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """First term of Eq. 7 as printed, but for X where the target Y must be meant: the enlarged scale against Y."""
    return mean_per_sample((target - enlarge_to(image, target)).abs())


def perceptual_loss(features: Features, target_features: Features) -> torch.Tensor:
    """Second term of Eq. 7: L1 between feature maps, summed over the layers."""
    pairs = zip(features, target_features, strict=True)
    return sum((mean_per_sample((ours - theirs).abs()) for ours, theirs in pairs), start=features[0].new_zeros(()))


def style_loss(features: Features, target_features: Features) -> torch.Tensor:
    """L1 between Gram matrices, summed over the layers. Not in the paper; it is what gives small budgets texture."""
    pairs = zip(features, target_features, strict=True)
    return sum(
        (mean_per_sample((gram_matrix(ours) - gram_matrix(theirs)).abs()) for ours, theirs in pairs),
        start=features[0].new_zeros(()),
    )


def class_style_loss(features: Features, class_features: Features, where: torch.Tensor) -> torch.Tensor:
    """[`style_loss`] of a region against a texture of which the region is to be: `where` (B, 1, H, W) is 1 in it."""
    terms = []
    for ours, theirs in zip(features, class_features, strict=True):
        weights = F.adaptive_avg_pool2d(where, (ours.shape[-2], ours.shape[-1]))
        terms.append(mean_per_sample((gram_matrix(ours, weights) - gram_matrix(theirs)).abs()))
    return torch.stack(terms).sum(dim=0)


def gram_matrix(features: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Correlations between channels, (B, C, C), averaged over the pixels, by `weights` (B, 1, h, w) if there are any;
    in float32 whatever comes in."""
    flat = features.float().flatten(2)  # (B, C, h w)
    if weights is None:
        return flat @ flat.transpose(1, 2) / flat.shape[2]
    weights = weights.flatten(2)
    return (flat * weights) @ flat.transpose(1, 2) / weights.sum(dim=2, keepdim=True).clamp(min=1e-6)


# Eq. 8: adversarial -------------------------------------------------------------------------------------------------


def discriminator_loss(real_logits: Features, fake_logits: Features, kind: AdversarialKind = "hinge") -> torch.Tensor:
    """Eq. 8 from the discriminator's side, averaged over its scales; `*_logits` hold one patch map per scale.

    `"vanilla"` is Eq. 8 with its slip 1 - log D read as log(1 - D); `"literal"` also sums over the scales, as printed.
    """
    terms = []
    for real, fake in zip(real_logits, fake_logits, strict=True):
        if kind == "hinge":
            terms.append(mean_per_sample(F.relu(1 - real)) + mean_per_sample(F.relu(1 + fake)))
        elif kind in ("vanilla", "literal"):
            terms.append(mean_per_sample(F.softplus(-real)) + mean_per_sample(F.softplus(fake)))
        else:  # lsgan
            terms.append(mean_per_sample((real - 1) ** 2) + mean_per_sample(fake**2))
    return torch.stack(terms).sum(dim=0) if kind == "literal" else torch.stack(terms).mean(dim=0)


def adversarial_loss(fake_logits: Features, kind: AdversarialKind = "hinge") -> torch.Tensor:
    """Eq. 8 from the generator's side (non-saturating), averaged over the discriminator's scales.

    `"literal"` is the other half of the printed game, min log(1 - D) summed over the scales; its gradient fades where
    the discriminator is sure.
    """
    terms = []
    for fake in fake_logits:
        if kind == "hinge":
            terms.append(-mean_per_sample(fake))
        elif kind == "vanilla":
            terms.append(mean_per_sample(F.softplus(-fake)))
        elif kind == "literal":
            terms.append(-mean_per_sample(F.softplus(fake)))
        else:  # lsgan
            terms.append(mean_per_sample((fake - 1) ** 2))
    return torch.stack(terms).sum(dim=0) if kind == "literal" else torch.stack(terms).mean(dim=0)


def feature_matching_loss(fake_features: list[Features], real_features: list[Features]) -> torch.Tensor:
    """L1 between the discriminator's features of fill and truth, mean over layers and scales. Not in the paper; it
    steadies small adversarial runs (pix2pixHD)."""
    terms = [
        mean_per_sample((fake - real.detach()).abs())
        for fakes, reals in zip(fake_features, real_features, strict=True)
        for fake, real in zip(fakes, reals, strict=True)
    ]
    return torch.stack(terms).mean(dim=0)


# Eq. 9: segmentation ------------------------------------------------------------------------------------------------


def cross_entropy_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    scale: int,
    ignore_index: int = 255,
    class_weights: torch.Tensor | None = None,
    pixel_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Eq. 9 at the scale's own size against shrunk labels (B, H, W). Void is ignored; an all-void sample gives 0.

    The paper counts all pixels alike. `class_weights` (K,), see [`balanced_class_weights`], lets rare classes count
    more; `pixel_weights` (B, 1, h, w) at the scale's own size weighs the mean, such as the hole against the rest.
    """
    labels = shrink_labels(labels, scale)
    losses = F.cross_entropy(logits.float(), labels, weight=class_weights, ignore_index=ignore_index, reduction="none")
    weights = (labels != ignore_index).float()
    return masked_mean_per_sample(losses, weights if pixel_weights is None else weights * pixel_weights[:, 0])


def balanced_class_weights(counts: torch.Tensor, exponent: float) -> torch.Tensor:
    """(share of pixels)^-exponent for each class, scaled to a mean of 1 over pixels; at most 20; 0 for absent classes.

    Args:
        counts: (K,) pixels of each class in the training set.
        exponent: 0 weighs all pixels alike, 1 all classes.
    """
    shares = counts.float() / counts.sum()
    weights = torch.where(counts > 0, shares.clamp(min=1e-12) ** -exponent, 0.0)
    return (weights / (weights * shares).sum()).clamp(max=20)


def cross_entropy_loss_literal(logits: torch.Tensor, labels: torch.Tensor, ignore_index: int = 255) -> torch.Tensor:
    """Eq. 9 as printed, up to the mean over pixels: the logarithm of the enlarged probabilities."""
    probabilities = enlarge_to(logits.float().softmax(dim=1), labels)
    losses = F.nll_loss(probabilities.clamp(min=1e-8).log(), labels, ignore_index=ignore_index, reduction="none")
    return masked_mean_per_sample(losses, (labels != ignore_index).float())


def without_prompted(labels: torch.Tensor, semantic_prompt: torch.Tensor, ignore_index: int = 255) -> torch.Tensor:
    """Labels with the prompted pixels voided: below the first prompted scale the answer stands in the guidance, and a
    head trained there would learn to copy it."""
    return labels.masked_fill(semantic_prompt >= 0, ignore_index)


# Expected error -----------------------------------------------------------------------------------------------------


def error_estimation_loss(expected: torch.Tensor, error: torch.Tensor, judged: torch.Tensor) -> torch.Tensor:
    """Squared difference of the expected and the true mean error of the judged cells, (B,); 0 without such a cell.

    Args:
        expected: (B, 1, ceil(H / 4), ceil(W / 4)).
        error: (B, 1, H, W), absolute error of each pixel.
        judged: (B, 1, H, W), 1 where the error counts.
    """
    share = shrink_image(judged, 2)
    cells = shrink_image(error * judged, 2) / share.clamp(min=1e-6)
    return masked_mean_per_sample((expected - cells).square(), share)


# Eq. 10: the sum ----------------------------------------------------------------------------------------------------


def final_loss(terms: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    """Eq. 10: weighted sum of the named terms (B,), then the mean over samples.

    Raises:
        KeyError: If a term has no weight.
    """
    return torch.stack([weights[name] * term.mean() for name, term in terms.items()]).sum()
