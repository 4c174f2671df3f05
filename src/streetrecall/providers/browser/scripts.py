"""JavaScript that runs in the viewer page. Each script ends with a result, or with ``{error}`` or ``{denied}``."""

from __future__ import annotations

# Waits for the page, then for the promise that ``begin`` returns, until ``end`` returns a result.
_WAIT = """
const frame = () => new Promise(requestAnimationFrame);
async function until(limit, begin, end) {
  const last = performance.now() + limit;
  let over = null;
  for (let begun = false; ; await frame()) {
    const viewer = window.viewer, state = viewer && viewer.state;
    if (state && state.denied) return {denied: String(state.denied)};
    if (viewer && !begun) {
      begun = true;
      begin(viewer).then(value => { over = {value}; }, e => {
        over = {error: String(e && e.message || e), status: e && e.status, retryAfter: e && e.retryAfter};
      });
    }
    const result = over && over.error !== undefined ? over : viewer && end(state, over);
    if (result) return result;
    if (performance.now() > last) {
      return {error: !viewer ? "the viewer page did not start" :
        "there was no answer in time" + (state.lacks ? ": " + state.lacks + " did not come" : "")};
    }
  }
}
"""

# Arguments: panorama, heading, again, time limit (ms). Result: {frame, still} once exactly this view is on the screen.
# ``again`` is false where the view was requested before and only its picture is not yet at rest.
SHOW = (
    _WAIT
    + """
const [pano, heading, again, limit, done] = arguments;
const shows = s => s.pano === pano && Math.abs(((s.heading - heading) % 360 + 540) % 360 - 180) < 1e-6;
until(limit, viewer => again ? viewer.show({pano, heading}) : Promise.resolve(), s => {
  if (!shows(s)) return null;
  if (s.error) return {error: String(s.error), status: s.status, retryAfter: s.retryAfter};
  return s.ready ? {frame: s.frame, still: s.still || 0} : null;
}).then(done);
"""
)

# Arguments: panorama, time limit (ms). Result: {dates}, what the page's ``dates(pano)`` resolved to.
DATES = (
    _WAIT
    + """
const [pano, limit, done] = arguments;
until(limit, viewer => viewer.dates(pano), (s, over) => over && {dates: over.value}).then(done);
"""
)

# Arguments: panorama, heading. Result: the number of the frame on the screen, null if it is not of this view.
STATE = """
const [pano, heading] = arguments, s = window.viewer && window.viewer.state;
return !!s && s.ready && !s.error && s.pano === pano &&
  Math.abs(((s.heading - heading) % 360 + 540) % 360 - 180) < 1e-6 ? s.frame : null;
"""
