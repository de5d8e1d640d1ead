"""The networks that look at fills: feature networks, LPIPS, a segmenter. All optional, all named by their owner."""

from dataclasses import dataclass, field

from eval.metrics.feature_distance.feature_distance import FeatureNetwork
from eval.metrics.fid.fid import InceptionNetwork
from eval.metrics.lpips.lpips import Lpips
from eval.provenance import weights_sha256
from eval.segmenter import SegmenterJudge


@dataclass(frozen=True)
class Judges:
    """What looks at every fill.

    Attributes:
        networks: Networks of features, the first of which also gives the distance of single photos.
        lpips: None without its weights.
        segmenter: None if nothing is segmented after inpainting.
    """

    networks: tuple[FeatureNetwork | InceptionNetwork, ...] = ()
    lpips: Lpips | None = None
    segmenter: SegmenterJudge | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def photo_distance(self) -> str | None:
        """Name of the distance of a single fill from its photo."""
        if self.lpips is not None:
            return "lpips"
        return f"cosine-{self.networks[0].name}" if self.networks else None


def load_judges(features: list[str], fid: str | None, lpips: str | None, segmenter: str | None, device: str) -> Judges:
    """Loads what the command line names.

    Args:
        features: Hub ids or folders; `NAME=ID` says what the distances are named after.
        fid: File of Inception weights, empty to have them downloaded, None for no FID.
        lpips: File or Hub id of LPIPS weights.
        segmenter: Hub id or folder; `NAME=ID` names it.
        device: Where they run.

    Raises:
        ImportError: If a package is missing, with its name.
        FileNotFoundError: If weights are missing.
        ValueError: If two networks would have one name.
    """
    networks: list[FeatureNetwork | InceptionNetwork] = []
    for specification in features:
        name, equals, source = specification.partition("=")
        networks.append(FeatureNetwork(source if equals else specification, device, name if equals else None))
    if fid is not None:
        networks.append(InceptionNetwork(fid or None, device))
    names = [network.name for network in networks]
    if len(set(names)) < len(names):
        raise ValueError(f"Two feature networks would have one name in {names}: name them, e.g. small=ID base=ID.")
    judges = Judges(
        tuple(networks),
        Lpips(lpips).to(device) if lpips else None,
        SegmenterJudge(segmenter, device) if segmenter else None,
    )
    for network in networks:
        judges.hashes[f"features:{network.name}"] = weights_sha256(network.model)
    if judges.lpips is not None:
        judges.hashes["lpips"] = weights_sha256(judges.lpips)
    if judges.segmenter is not None:
        judges.hashes[f"segmenter:{judges.segmenter.name}"] = weights_sha256(judges.segmenter.model)
    return judges
