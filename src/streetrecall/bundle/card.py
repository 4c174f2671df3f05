"""The model card of a bundle, Markdown: what it was made from, how good it is, what it is for and what not."""

from __future__ import annotations

from typing import Any

from streetrecall.bundle import layout
from streetrecall.params.schema import Params

ROWS = (
    ("photos", "one photo as a person takes it"),
    ("photos_three", "three photos of one spot together"),
    ("newest_vs_older", "the newest picture of the camera car against the older ones of its split"),
    ("city", "the same, against the older pictures of the whole city"),
    ("perturbed", "the same, changed: zoomed, cut to the right 65%, rolled, darkened, blurred or partly covered"),
)


# By kind of gallery.
NEWEST = {
    layout.VIEWS: "All views of the evaluation's gallery may answer, whatever their month.",
    layout.PICTURES: "All pictures may answer; the newest ones of each place, which ask in the evaluation, too.",
}
CALIBRATED_ON = {
    layout.VIEWS: "photos that have a place of the gallery within 25 m",
    layout.PICTURES: "pictures of the camera car, from the pose of the gallery's; other photos err by more",
}


def text(manifest: dict[str, Any], metrics: dict[str, Any], params: Params) -> str:
    """The card, from the manifest and the metrics of the evaluation (the model's, by split and protocol)."""
    gallery = manifest["gallery"]
    south, west, north, east = gallery["bounds"]
    views = manifest["kind"] == layout.VIEWS
    kind = "views of any direction, cut from panoramas" if views else "pictures, each of one direction"
    shown = (
        f"{gallery['thumbnails']:,} small pictures of the gallery are in it; their licences let them be shared."
        if gallery["thumbnails"]
        else "No picture is in it: the licences of the pictures do not let them be passed on."
    )
    return f"""# Where was this photo taken? A model of {manifest["city"]["name"]}

The answer to a photo is a position in this city, from the pictures of a gallery that look most alike:
`streetrecall locate PHOTO --bundle FOLDER`.

## What is in it
- An embedder ({manifest["backbone"]}, {gallery["dimensions"]} numbers for a picture) as a LiteRT file.
- A gallery of {gallery["pictures"]:,} {kind}, of {gallery["places"]:,} places and {gallery["panoramas"]:,} panoramas.
- Taken: {" to ".join(gallery["months"]) or "at unknown dates"}. Provider: {", ".join(gallery["providers"])}.
- Where: latitudes {south} to {north}, longitudes {west} to {east}.
- Licences: {", ".join(gallery["licences"]) or "none stated"}.
- Attribution: {"; ".join(gallery["attributions"]) or "none stated"}.
- {shown}
- {NEWEST[manifest["kind"]]}

## How good it is
{_table(metrics)}
Share of queries in percent; in brackets the 95% interval over places. All come from the evaluation on the split test,
which training did not see. metrics.json has every number. {_calibrated(manifest)}

## Limits
- It knows the places of its gallery and nothing else. A photo from elsewhere has no right answer; most such answers are
  withheld, not all (see above).
- A radius holds for queries like those that it was calibrated on: {CALIBRATED_ON[manifest["kind"]]}.
- Bare walls, vegetation, interiors, night and close-ups are rarely recognised. Streets change; old pictures know old
  facades.{_simulated(gallery["providers"])}

## What it is for, and what not
For finding where one's own or public street photos were taken: archives, surveys, research on place recognition.

**A position is personal data if a person can be linked to it.** Do not use this to find out where somebody lives, stays
or goes without that person's consent, to follow people, or to decide about them. Photos that one did not take, of
people who did not agree, need a reason that the law accepts. An answer can be wrong even if it is confident: do not
accuse anyone because of it. The descriptors and points of the gallery are made from its pictures, and parts of a
picture can be guessed from them; treat them under the pictures' licence. Photos are read on the machine where the
program runs; it sends them nowhere and keeps none.
"""


def _table(metrics: dict[str, Any]) -> str:
    tested = metrics.get("model", {}).get("test", {})
    lines = ["| test | right within 25 m | queries |", "| --- | --- | --- |"]
    for name, label in ROWS:
        found = tested.get(name, {})
        if "recall_at_1_25m" in found:
            low, high = found.get("recall_at_1_25m_ci_low"), found.get("recall_at_1_25m_ci_high")
            interval = f" ({100 * low:.1f}-{100 * high:.1f})" if low is not None and high is not None else ""
            lines.append(f"| {label} | {100 * found['recall_at_1_25m']:.1f}{interval} | {found['queries']:,} |")
    photos = tested.get("photos", {})
    for name, label in (
        ("far_withheld", "one photo without a place nearby: withheld"),
        ("near_answered", "one photo with a place nearby: answered"),
        ("coverage", "the radius of one photo contains the true position"),
    ):
        if name in photos:
            low, high = photos.get(f"{name}_ci_low"), photos.get(f"{name}_ci_high")
            interval = f" ({100 * low:.1f}-{100 * high:.1f})" if low is not None and high is not None else ""
            lines.append(f"| {label} | {100 * photos[name]:.1f}{interval} | |")
    return "\n".join(lines) + "\n"


def _calibrated(manifest: dict[str, Any]) -> str:
    one = manifest["calibration"][layout.FULL][layout.SINGLE]
    if one["factor"] is None:
        return "There were too few queries to calibrate a radius, so none is given."
    share = f"{one['coverage']:.0%}"
    return f"A radius is made to contain the true position in {share} of the answers ({one['queries']} queries)."


def _simulated(providers: list[str]) -> str:
    """A limit of a model whose pictures are not real.

    >>> _simulated(["archive"])
    ''
    """
    if providers != ["simulated"]:
        return ""
    return "\n- It was trained on simulated pictures, so it does not recognise real ones."
