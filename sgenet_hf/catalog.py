"""The table of data sets: what each one is called, names, looks like, allows, and how it is published.

Facts only. `data.py` loads, `layouts.py` reads the published folders, `prepare.py` writes parquet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .toy import TOY_CLASSES


# Labels of pixels that nobody named; every loss and metric skips them.
IGNORE_INDEX = 255


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """What a data set is: enough to prepare it, train on it, draw its labels and cite it.

    Attributes:
        name: The key in `DATASETS`.
        classes: Class names; the position is the class id.
        colors: RGB of each class in drawings, 0 to 255.
        splits: Names of its splits, training first.
        layout: The published folders, as `sgenet prepare` expects them.
        license_note: Who may use the photos for what.
        resize_shorter: Shorter side after preparation, in pixels.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    splits: tuple[str, ...]
    layout: str
    license_note: str
    homepage: str
    citation: str
    resize_shorter: int = 256
    ignore_index: int = IGNORE_INDEX

    @property
    def num_labels(self) -> int:
        return len(self.classes)

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.classes))

    def ids_of(self, names: Sequence[str] | None) -> list[int] | None:
        """Class ids of the names; None stays None.

        Raises:
            ValueError: If a name is none of the classes.
        """
        if names is None:
            return None
        if unknown := [name for name in names if name not in self.classes]:
            raise ValueError(f"{self.name} has no class {', '.join(unknown)}; it has {', '.join(self.classes)}.")
        return [self.classes.index(name) for name in names]


_OUTDOOR_CLASSES = {
    "background": (153, 153, 153),
    "sky": (0, 255, 255),
    "water": (109, 158, 235),
    "grass": (183, 225, 205),
    "mountain": (153, 0, 255),
    "building": (17, 85, 204),
    "plant": (106, 168, 79),
    "animal": (224, 102, 102),
}

# The 19 classes of the benchmark in the order of its train ids, and one for everything else that was labelled: the
# paper counts 20 and does not say which is the twentieth.
_CITYSCAPES_CLASSES = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
    "other": (81, 0, 81),
}

_CAMVID_CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}

_LABELMEFACADE_CLASSES = {
    "building": (128, 0, 0),
    "car": (128, 0, 128),
    "door": (128, 128, 0),
    "pavement": (128, 128, 128),
    "road": (128, 64, 0),
    "sky": (0, 128, 128),
    "vegetation": (0, 128, 0),
    "window": (0, 0, 128),
}

_SPECS = (
    DatasetSpec(
        name="outdoor_scenes",
        title="Outdoor Scenes",
        classes=tuple(_OUTDOOR_CLASSES),
        colors=tuple(_OUTDOOR_CLASSES.values()),
        splits=("train", "test"),
        layout="{train,test}/images/*.{png,jpg} with {train,test}/labels/*.png of the same stem: class ids in the "
        "order background, sky, water, grass, mountain, building, plant, animal; 8 or 255 = void. The authors' "
        "archives have no documented layout; bring their files into this one. Photos without a label train "
        "reconstruction only.",
        license_note="Photos collected from the web by the authors for research; no licence is stated.",
        homepage="https://github.com/xinntao/SFTGAN",
        citation="Wang et al., Recovering realistic texture in image super-resolution by deep spatial feature "
        "transform, CVPR 2018",
    ),
    DatasetSpec(
        name="cityscapes",
        title="Cityscapes",
        classes=tuple(_CITYSCAPES_CLASSES),
        colors=tuple(_CITYSCAPES_CLASSES.values()),
        splits=("train", "val"),
        layout="leftImg8bit/{train,val,test}/CITY/*_leftImg8bit.png and "
        "gtFine/{train,val}/CITY/*_gtFine_labelIds.png. As in the paper, the test photos join the training split; "
        "they have no public labels.",
        license_note="Free for non-commercial research after registration; must not be redistributed.",
        homepage="https://www.cityscapes-dataset.com",
        citation="Cordts et al., The Cityscapes dataset for semantic urban scene understanding, CVPR 2016",
        resize_shorter=512,
    ),
    DatasetSpec(
        name="camvid",
        title="CamVid",
        classes=tuple(_CAMVID_CLASSES),
        colors=tuple(_CAMVID_CLASSES.values()),
        splits=("train", "val", "test"),
        layout="{train,val,test}/*.{png,jpg} with {train,val,test}annot/*.png of class numbers, 11 = void",
        license_note="For research only; must not be redistributed.",
        homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        citation="Brostow et al., Semantic object classes in video: a high-definition ground truth database, 2009",
    ),
    DatasetSpec(
        name="labelmefacade",
        title="LabelMeFacade",
        classes=tuple(_LABELMEFACADE_CLASSES),
        colors=tuple(_LABELMEFACADE_CLASSES.values()),
        splits=("train", "test"),
        layout="images/*.jpg, labels/*.png in colour, and train.txt and test.txt with lines images/NAME.jpg",
        license_note="For non-commercial research only.",
        homepage="https://github.com/cvjena/labelmefacade",
        citation="Froehlich, Rodner, Denzler, A fast approach for pixelwise labeling of facade images, ICPR 2010",
    ),
    DatasetSpec(
        name="street",
        title="Street: CamVid and LabelMeFacade under CamVid's classes",
        classes=tuple(_CAMVID_CLASSES),
        colors=tuple(_CAMVID_CLASSES.values()),
        splits=("train", "dev", "report"),
        layout="camvid/{train,val}/ with camvid/{train,val}annot/, and labelmefacade/{images,labels}/",
        license_note="Both sources are for non-commercial research only and must not be redistributed.",
        homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/ and "
        "https://github.com/cvjena/labelmefacade",
        citation="Brostow et al., 2009; Froehlich, Rodner, Denzler, ICPR 2010",
    ),
    # Without labels of its own, under the classes of Outdoor Scenes: the paper applies that model to Places2.
    DatasetSpec(
        name="places2",
        title="Places2 (Places365)",
        classes=tuple(_OUTDOOR_CLASSES),
        colors=tuple(_OUTDOOR_CLASSES.values()),
        splits=("train", "val"),
        layout="{train,val}/ as in places365_standard, or data_256/ and val_256/, or data_large/ and val_large/: "
        "photos in folders of any depth, no labels",
        license_note="For non-commercial research and education; the photos' copyrights stay with their owners.",
        homepage="http://places2.csail.mit.edu",
        citation="Zhou et al., Places: a 10 million image database for scene recognition, TPAMI 2017",
    ),
    DatasetSpec(
        name="toy",
        title="Toy street scenes",
        classes=tuple(TOY_CLASSES),
        colors=tuple(TOY_CLASSES.values()),
        splits=("train", "dev", "report"),
        layout="none: drawn when it is loaded, as `toy` or `toy:COUNT`",
        license_note="Drawn by this project; Apache-2.0 like its code.",
        homepage="sgenet_hf.toy",
        citation="this project",
    ),
    # Classes are the user's own; `data.dataset_spec` and `prepare` read them from classes.txt.
    DatasetSpec(
        name="folders",
        title="Photos and labels in folders",
        classes=(),
        colors=(),
        splits=("train",),
        layout="images/ and labels/ with PNGs of class ids of the same stem (255 = ignore), or "
        "{train,val,...}/images/ and {train,val,...}/labels/; and classes.txt with one class name a line, optionally "
        "followed by R:G:B",
        license_note="The terms of your photos.",
        homepage="your folders",
        citation="your photos",
    ),
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _SPECS}
