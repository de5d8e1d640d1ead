"""The page of a user study: one photo with its hole, its fills side by side without names, a rank for each.

Pictures travel inside the page, as data: no address, file name or order tells which system made one, and the server
offers no file of the study. What a participant sees is decided by `eval/votes.py`.
"""

import base64
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from eval.provenance import now
from eval.votes import (
    VOTES_FILE,
    Vote,
    append_vote,
    fill_order,
    participant_name,
    photo_order,
    rank,
    read_votes,
)
from sgenet_hf.page import user_error


# Without hidden progress a message would lie over the boxes until it is closed, and block them.
PAGE_ONLY: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
WELCOME = """
# Which fill looks best?
A part of each photo was removed and filled in several ways. Rank the fills from best to worst by how natural the
whole picture looks. There is no right answer, and every fill needs a rank of its own. You can stop at any time: the
same name or code takes you back to where you were.
"""
THANKS = "## Thank you. You have ranked every photo; you can close the page."
CSS = """
.gradio-container { max-width: 1320px !important; margin: 0 auto !important; }
.picture { margin: 0; text-align: center; }
.picture img { width: min(100%, 320px); margin: 0 auto; border-radius: 2px; }
#hole .picture img { width: min(100%, 256px); }
"""


class StudyPage:
    """What happens when a participant starts or ranks.

    Args:
        folder: Of the study, with the pictures; votes are added to its `votes.jsonl`.
        study: What its `study.json` holds.

    Attributes:
        remarks: What of earlier votes was passed over.

    Raises:
        ValueError: If the votes there are of another study.
    """

    def __init__(self, folder: Path, study: Mapping):
        self.folder, self.study = folder, study
        self.photos = {photo["name"]: photo for photo in study["photos"]}
        self.count = len(study["systems"])
        ballot = read_votes(folder / VOTES_FILE, study)
        self.remarks = ballot.remarks
        self._voted = set(ballot.votes)
        self._lock = threading.Lock()  # one vote at a time: Gradio runs events in threads

    def start(self, given: str | None) -> tuple[Any, ...]:
        """Takes a participant to their next photo; see `show`."""
        try:
            participant = participant_name(given)
        except ValueError as error:
            raise user_error(str(error)) from error
        return self.show(participant)

    def submit(self, participant: str | None, photo: str | None, *ranks: int | None) -> tuple[Any, ...]:
        """Saves a ranking and goes on to the next photo; see `show`.

        Args:
            participant: As `start` made it.
            photo: Name of the photo that is shown.
            ranks: Of the fills from left to right, 1 = best.
        """
        if participant is None or photo not in self.photos:
            raise user_error("The page was asleep. Give your name or code again to go on where you were.")
        shown = fill_order(self.study, participant, self.photos[photo])
        try:
            vote = Vote(participant, photo, shown, rank(shown, ranks), now())
        except ValueError as error:
            raise user_error(str(error)) from error
        with self._lock:
            # A second click, or the same name in another window: the first answer stands.
            if (participant, photo) not in self._voted:
                try:
                    append_vote(self.folder / VOTES_FILE, vote)
                except OSError as error:
                    raise user_error(
                        f"This vote could not be saved ({error.strerror}). Tell who runs the study, then try again."
                    ) from error
                self._voted.add((participant, photo))
        return self.show(participant)

    def next_photo(self, participant: str) -> str | None:
        """The first photo in a participant's order that they have not ranked, None after the last."""
        order = photo_order(self.study, participant)
        return next((photo for photo in order if (participant, photo) not in self._voted), None)

    def show(self, participant: str) -> tuple[Any, ...]:
        """Fills `participant, photo, welcome box, ranking box, progress, hole`, the fills, their ranks."""
        photo = self.next_photo(participant)
        done = sum(name == participant for name, _ in self._voted)
        if photo is None:
            nothing = [gr.update()] * (2 * self.count + 1)
            return participant, None, gr.update(visible=False), gr.update(visible=False), THANKS, *nothing
        files = fill_order(self.study, participant, self.photos[photo])
        return (
            participant,
            photo,
            gr.update(visible=False),
            gr.update(visible=True),
            f"### Photo {done + 1} of {len(self.photos)}",
            self._picture(self.photos[photo]["hole"], "the photo with its hole"),
            *(self._picture(file, f"fill {number}") for number, file in enumerate(files, start=1)),
            *(gr.update(value=None) for _ in files),
        )

    def _picture(self, file: str, description: str) -> str:
        data = base64.b64encode((self.folder / file).read_bytes()).decode()
        return f'<p class="picture"><img alt="{description}" src="data:image/png;base64,{data}"></p>'


def build_page(page: StudyPage) -> gr.Blocks:
    """Lays the page out and ties its events."""
    with gr.Blocks(title="Which fill looks best?", analytics_enabled=False) as blocks:
        participant, photo = gr.State(), gr.State()
        with gr.Column(elem_id="welcome") as welcome:
            gr.Markdown(WELCOME)
            name = gr.Textbox(label="Your name, or a code that you will remember", max_lines=1, elem_id="name")
            start = gr.Button("Start, or go on where I was", variant="primary", elem_id="start")
        progress = gr.Markdown(elem_id="progress")
        with gr.Column(visible=False, elem_id="ranking") as ranking:
            hole = gr.HTML(elem_id="hole")
            pictures, ranks = [], []
            with gr.Row():
                for number in range(1, page.count + 1):
                    with gr.Column(min_width=220):
                        pictures.append(gr.HTML(elem_id=f"fill-{number}"))
                        label, elem_id = f"Fill {number} (1 = best, {page.count} = worst)", f"rank-{number}"
                        ranks.append(gr.Radio(list(range(1, page.count + 1)), label=label, elem_id=elem_id))
            save = gr.Button("Save and go on", variant="primary", elem_id="save")
        shown = [participant, photo, welcome, ranking, progress, hole, *pictures, *ranks]
        gr.on([start.click, name.submit], page.start, name, shown, **PAGE_ONLY)
        save.click(page.submit, [participant, photo, *ranks], shown, **PAGE_ONLY)
    return blocks


def serve(page: StudyPage, port: int) -> None:
    """Serves the page until it is stopped."""
    # Fonts that every system has: nothing is fetched.
    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    build_page(page).launch(server_port=port, theme=theme, css=CSS, footer_links=[])
