// Boots the page: theme, the line's state by server-sent events, and which view is shown.
import { feed } from "./feed.js";
import { cameraView } from "./camera.js";
import { galleryView } from "./gallery.js";
import { gridView } from "./grid.js";
import { incidentList } from "./incidents.js";
import { incidentView } from "./incident.js";
import { paintScale } from "./scale.js";
import { badge, text } from "./dom.js";
import { logout, showLogin, whoAmI } from "./login.js";
import { teachView } from "./teach.js";

const main = document.getElementById("main");
const LOOK_MS = 60000;
let view = null, place = "", here = null, inside = false, looking = false, files = null;

const PLACES = { camera: "Camera", teach: "Teach", incident: "Kept picture of", incidents: "Kept pictures" };

function route() {
  const from = here;
  here = location.hash;
  view?.close();
  const [, room, name, stem] = here.split("/").map(readable);
  if (room === "camera") view = cameraView(main, name);
  else if (room === "teach") view = teachView(main, name);
  else if (room === "incident") view = incidentView(main, name, stem, from === "#/incidents" ? goBack : null);
  else if (room === "incidents") view = galleryPage();
  else view = gridView(main);
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.getAttribute("href") === `#/${room ?? ""}`;
    if (isHere) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  place = [PLACES[room] ?? "Cameras", PLACES[room] && name].filter(Boolean).join(" ");
  main.setAttribute("aria-label", place);
  title();
  if (feed.line) view.update(feed.line);
  if (from === null) return;
  // What had the focus is gone; a keyboard goes on from here, and a screen reader says where that is.
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

// Tabs, bookmarks and the browser's history tell places, and lines, apart by it.
function title() {
  document.title = [feed.line?.line, place, "Linewatch"].filter(Boolean).join(" – ");
}

function goBack(event) {
  event.preventDefault();
  history.back();
}

// An address that was garbled on its way leads to a page that says that there is no such thing.
function readable(part) {
  try { return decodeURIComponent(part); } catch { return part; }
}

function galleryPage() {
  const card = document.createElement("section");
  card.className = "card";
  main.replaceChildren(card);
  return galleryView(card);
}

function header(line) {
  document.getElementById("line").textContent = `${line.site} · ${line.line}`;
  title();
  const idle = line.cameras.filter((camera) => camera.state !== "live" || camera.not_inspected).length;
  const ready = idle ? `ready, ${idle} of ${line.cameras.length} cameras not inspected` : "ready";
  badge(document.getElementById("ready"), line.ready ? ready : "not ready", line.ready && !idle ? "ok" : "warn");
  const reasons = document.getElementById("reasons");
  reasons.hidden = line.ready;
  text(reasons, line.reasons.join(" ")); // set anew each second, it would be read out each second
}

function theme() {
  const root = document.documentElement;
  const light = matchMedia("(prefers-color-scheme: light)").matches;
  root.dataset.theme = kept("getItem") ?? (light ? "light" : "dark");
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    kept("setItem", root.dataset.theme);
  });
}

// A browser that may keep nothing refuses even the question.
function kept(verb, ...value) {
  try { return localStorage[verb]("theme", ...value); } catch { return null; }
}

async function start() {
  const me = await whoAmI().catch(() => null);
  connection(me !== null);
  if (me === null) return setTimeout(start, 3000);
  named(me);
  document.body.toggleAttribute("data-outside", !me.user);
  if (!me.user) return showLogin(main, start);
  inside = true;
  paintScale().catch(() => {}); // the colours of a legend are not worth a word
  feed.listen((line) => { newest(line); header(line); list.update(line.incidents, line.now); view?.update(line); }, connection);
  // Told of a change that the first route has already followed, it would open the same view a second time.
  addEventListener("hashchange", () => { if (location.hash !== here) route(); });
  route();
}

// A line that came back with another program has another page too, and this one may be open for weeks.
function newest(line) {
  if (files !== null && line.page !== files) location.reload();
  files = line.page;
}

function connection(connected, why = "") {
  badge(document.getElementById("link"), connected ? "" : why || "connection lost, trying again", "ng");
  document.body.toggleAttribute("data-lost", !connected);
  if (!connected) look();
}

// Who is logged in no more needs the form, and may not notice at once: streams end some seconds later.
async function look() {
  if (!inside || looking) return;
  looking = true;
  const me = await whoAmI().catch(() => null);
  looking = false;
  if (me && !me.user) location.reload();
  else if (me) named(me);
}

// In another window somebody else may have logged in, for all windows.
function named(me) {
  const user = document.getElementById("user");
  user.hidden = !me.login || !me.user;
  user.textContent = `Log out ${me.user}`;
}

// Whoever goes away from a shared tablet has to know.
async function leave() {
  try { await logout(); } catch (error) { text(document.getElementById("user"), `Not logged out: ${error.message}`); }
}

theme();
const list = incidentList(document.getElementById("incidents"), document.getElementById("no-incidents"));
document.getElementById("user").addEventListener("click", leave);
// Its address would be another page's.
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("loggedout", look);
setInterval(() => { if (!document.hidden) look(); }, LOOK_MS);
start();
