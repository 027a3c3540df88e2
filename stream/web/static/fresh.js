// Whether what is on the screen is what its camera sees now, and the words where it isn't.
import { clock, el, lineTime, text } from "./dom.js";

const LATE_MS = 3000; // so long a picture that should be there may be on its way
const OLD_MS = 15000; // a slow camera's picture, or the last part's, says from then on of when it is
const TRANSIT_MS = 500; // so much longer than a picture may the line's state be on its way

// Decides only. `now` is performance.now(), which nobody sets; `wall` is the line's time, for the words. The server
// sends a live camera's picture once, when it is new, and anything else each second: so a picture is missing when the
// line has a newer one than the screen, or says nothing either.
export function freshness(start) {
  let shownAt = start, toldAt = start, missedAt = null, limit = LATE_MS, picture = null, since = null, first = false;
  return {
    // The same picture again, after a new connection, is no newer.
    shown(now, wall, which) {
      if (which === picture) return;
      first = picture === null;
      [picture, shownAt, since, missedAt] = [which, now, wall, null];
    },
    told(now, wall, camera) {
      const age = camera.state === "live" && camera.frame_age_s != null ? 1000 * camera.frame_age_s : 0;
      const missing = now - age > shownAt + TRANSIT_MS;
      const wasSilent = now - toldAt > LATE_MS;
      missedAt = missing ? missedAt ?? (wasSilent ? shownAt : now) : null;
      // The first one was there before this page was.
      if (first && !missing) since = Math.min(since, wall - age);
      limit = LATE_MS + (camera.fps > 0 ? 1000 / camera.fps : 0);
      toldAt = now;
    },
    late(now) {
      const isSilent = now - toldAt > LATE_MS && now - shownAt > LATE_MS;
      return isSilent || (missedAt !== null && now - missedAt > limit);
    },
    words(now) {
      if (this.late(now)) return since === null ? "No picture yet" : `No picture since ${clock(since)}`;
      return since !== null && now - shownAt > OLD_MS ? `Picture of ${clock(since)}` : "";
    },
  };
}

// The words over a picture. `which` is anything that differs from picture to picture.
export function freshLabel() {
  const fresh = freshness(performance.now());
  const node = el("p", { class: "held", role: "status", hidden: "" });
  let trouble = "";
  return {
    node,
    shown: (which) => fresh.shown(performance.now(), lineTime(), which),
    told: (camera) => fresh.told(performance.now(), lineTime(), camera),
    trouble: (words) => { trouble = words; },
    // To be called some times a second; says whether pictures are missing.
    look(quiet = false) {
      const now = performance.now();
      const isLate = fresh.late(now);
      const words = quiet ? "" : fresh.words(now);
      text(node, isLate && words && trouble ? `${words}. ${trouble}` : words);
      node.hidden = !words;
      return isLate;
    },
  };
}
