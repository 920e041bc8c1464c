// One page, one video. State comes from the server; an edit counts as saved when the server has said so.

const at = (id) => document.getElementById(id);
const view = at("view"), strip = at("strip");
const paint = view.getContext("2d"), bar = strip.getContext("2d");
const CHUNK = 400;
let meta = null;          // what api/state tells
let revision = 0;
let frame = 0;
let playing = null;
let chosen = null;        // {p, j}
let drag = null;          // {p, j, x, y}
let pictures = new Map(); // frame -> image
let parts = new Map();    // start -> poses
let queue = Promise.resolve();  // edits go out one after the other
let waiting = 0;
let jumped = -1;          // where `n` went last
let adding = null;        // {x, y, u, v} of the box that is being drawn; {} before its first corner
let zoom = { scale: 1, x: 0, y: 0 };

async function ask(path, body) {
  const answer = await fetch(path, body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const told = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw Object.assign(new Error(told.error), { conflict: told.conflict });
  return told;
}

function say(text, kind = "") { at("saved").textContent = text; at("saved").className = kind; }

function trouble(error) {
  const lost = error instanceof TypeError;
  say(lost ? "NOT SAVED: vidpose does not answer" : `NOT SAVED: ${error.message}`, "failed");
  const box = at("trouble");
  box.querySelector("p").textContent = lost
    ? "vidpose does not answer. Start `vidpose review` again: what was called saved is on disk."
    : error.message;
  if (!box.open) box.showModal();
}

// --- poses and pictures

async function part(number) {
  const start = Math.floor(number / CHUNK) * CHUNK;
  if (!parts.has(start)) parts.set(start, ask(`api/poses?start=${start}`));
  return parts.get(start);
}

async function poses(number) {
  const found = await part(number), k = number - found.start;
  return { points: found.points[k], confidence: found.confidence[k], state: found.state[k], human: found.human[k] };
}

function picture(number) {
  if (!pictures.has(number)) {
    const image = new Image();
    image.src = `frame/${number}.jpg`;
    pictures.set(number, image.decode().then(() => image));
    if (pictures.size > 60) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(number);
}

async function forget() { parts.clear(); await Promise.all([show(frame), timeline()]); }

// --- drawing

const colour = (confidence, human) => human ? "#5db7ff" : `hsl(${Math.round(120 * confidence)} 85% 50%)`;

function place() {
  const box = view.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  view.width = Math.max(1, Math.round(box.width * ratio));
  view.height = Math.max(1, Math.round(box.height * ratio));
  const scale = Math.min(view.width / meta.width, view.height / meta.height);
  zoom = { scale, x: (view.width - scale * meta.width) / 2, y: (view.height - scale * meta.height) / 2, ratio };
}

const toView = (x, y) => [(x + 0.5) * zoom.scale + zoom.x, (y + 0.5) * zoom.scale + zoom.y];
const toVideo = (x, y) => [(x - zoom.x) / zoom.scale - 0.5, (y - zoom.y) / zoom.scale - 0.5];

let drawn = 0;
async function show(number) {
  frame = Math.max(0, Math.min(meta.frames - 1, number));
  const mine = ++drawn;
  const [image, now] = await Promise.all([picture(frame), poses(frame)]);
  if (mine !== drawn) return;  // another frame has been asked for since
  place();
  paint.clearRect(0, 0, view.width, view.height);
  paint.drawImage(image, zoom.x, zoom.y, meta.width * zoom.scale, meta.height * zoom.scale);
  now.points.forEach((points, p) => person(points, now, p));
  at("where").textContent = `frame ${frame} of ${meta.frames - 1}${meta.labelled.includes(frame) ? " · labelled" : ""}`;
  if (adding && adding.v !== undefined) {
    const [a, b] = toView(adding.x, adding.y), [c, d] = toView(adding.u, adding.v);
    paint.strokeStyle = "#fff"; paint.lineWidth = zoom.ratio;
    paint.strokeRect(a, b, c - a, d - b);
  }
  if (chosen && !now.state[chosen.p]) chosen = null;  // of another window's labels
  const name = chosen && now.state[chosen.p][chosen.j]
    ? `${meta.joints[chosen.j]} of person ${meta.tracks[chosen.p]}: ${meta.states[now.state[chosen.p][chosen.j]]}, `
      + (now.human[chosen.p][chosen.j] ? "set by hand" : `certainty ${now.confidence[chosen.p][chosen.j].toFixed(2)}`)
    : chosen ? `${meta.joints[chosen.j]} of person ${meta.tracks[chosen.p]}: no label` : "";
  at("chosen").textContent = name;
  document.body.dataset.frame = frame;
  mark();
}

function person(points, now, p) {
  const there = (j) => now.state[p][j] === 1 || now.state[p][j] === 2;
  const spot = (j) => drag && drag.p === p && drag.j === j ? toView(drag.x, drag.y) : toView(...points[j]);
  paint.lineWidth = 2 * zoom.ratio;
  for (const [a, b] of meta.limbs) {
    if (!there(a) || !there(b)) continue;
    paint.strokeStyle = colour(Math.min(now.confidence[p][a], now.confidence[p][b]), now.human[p][a] && now.human[p][b]);
    paint.globalAlpha = 0.7;
    paint.beginPath(); paint.moveTo(...spot(a)); paint.lineTo(...spot(b)); paint.stroke();
  }
  paint.globalAlpha = 1;
  points.forEach((_, j) => {
    if (!there(j)) return;
    const [x, y] = spot(j), hidden = now.state[p][j] === 2;
    const picked = chosen && chosen.p === p && chosen.j === j;
    paint.beginPath(); paint.arc(x, y, (picked ? 7 : 4.5) * zoom.ratio, 0, 7);
    paint.fillStyle = paint.strokeStyle = colour(now.confidence[p][j], now.human[p][j]);
    if (hidden) paint.stroke(); else paint.fill();
    if (picked) { paint.strokeStyle = "#fff"; paint.stroke(); }
  });
}

let worst = [];
async function timeline() {
  worst = new Array(meta.frames).fill(null);
  for (let start = 0; start < meta.frames; start += CHUNK) {
    const found = await part(start);
    found.state.forEach((people, k) => {
      let least = null;
      people.forEach((joints, p) => joints.forEach((state, j) => {
        if (state !== 1 && state !== 2) return;
        const sure = found.human[k][p][j] ? 1.01 : found.confidence[k][p][j];
        least = least === null ? sure : Math.min(least, sure);
      }));
      worst[found.start + k] = least;
    });
  }
  mark();
}

function mark() {
  const width = strip.clientWidth || 1;
  strip.width = width;
  for (let x = 0; x < width; x++) {
    const from = Math.floor(x * meta.frames / width), to = Math.max(from + 1, Math.floor((x + 1) * meta.frames / width));
    const known = worst.slice(from, to).filter((v) => v !== null && v !== undefined);
    const least = known.length ? Math.min(...known) : null;
    bar.fillStyle = least === null ? "#333" : colour(Math.min(least, 1), least > 1);
    bar.fillRect(x, 4, 1, 20);
  }
  bar.fillStyle = "#fff";
  bar.fillRect(Math.round((frame + 0.5) * width / meta.frames) - 1, 0, 2, 28);
}

// --- edits

function send(verb, body, done) {
  waiting += 1;
  say("saving…", "busy");
  queue = queue.then(async () => {
    try {
      const told = await ask(`api/${verb}`, { revision, ...body });
      revision = told.revision;
      Object.assign(meta, { tracks: told.tracks, next: told.next });
      if (done) await done(told);
      if (waiting === 1) say(verb === "save" ? `written to ${told.output}` : "saved");
    } catch (error) {
      if (error.conflict) {
        const state = await ask("api/state");
        revision = state.revision;
        Object.assign(meta, { tracks: state.tracks, next: state.next });
        await forget();
        say("NOT SAVED: another window had changed the labels; they are shown now", "failed");
      } else {
        trouble(error);
        await forget().catch(() => {});
      }
    } finally { waiting -= 1; }
  });
  return queue;
}

async function set(p, j, state, x, y) {
  const now = await poses(frame);
  now.points[p][j] = [x, y];
  now.state[p][j] = meta.states.indexOf(state);
  now.human[p][j] = 1;
  now.confidence[p][j] = 1;
  const entry = { frame, track: meta.tracks[p], joint: j, state, x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 };
  const sent = send("edit", { set: [entry] });
  await show(frame);
  return sent;
}

async function change(state) {
  if (!chosen) return;
  const now = await poses(frame), { p, j } = chosen;
  const is = meta.states[now.state[p][j]];
  if (is === "none" || is === "absent") return;
  await set(p, j, state === "occluded" && is === "occluded" ? "visible" : state, ...now.points[p][j]);
}

async function gone(state) {
  if (!chosen) return;
  const track = meta.tracks[chosen.p];
  await send("edit", { set: [{ frame, track, joint: -1, state, x: 0, y: 0 }] }, forget);
}

async function add(box) {
  const [left, right] = [box.x, box.u].sort((a, b) => a - b), [top, bottom] = [box.y, box.v].sort((a, b) => a - b);
  if (right - left < 4 || bottom - top < 4) { say("too small a box: nobody was added", "failed"); return; }
  const set = [], track = meta.next;
  meta.standing.forEach((at, j) => {
    if (!at) return;
    const x = left + at[0] * (right - left), y = top + at[1] * (bottom - top);
    set.push({ frame, track, joint: j, state: "visible", x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 });
  });
  await send("edit", { set }, async () => { chosen = { p: meta.tracks.indexOf(track), j: set[0].joint }; await forget(); });
}

async function nearest(x, y) {
  const now = await poses(frame);
  let best = null, least = (14 * zoom.ratio) ** 2;
  now.points.forEach((points, p) => points.forEach((point, j) => {
    if (now.state[p][j] !== 1 && now.state[p][j] !== 2) return;
    const [u, v] = toView(...point), far = (u - x) ** 2 + (v - y) ** 2;
    if (far < least) { least = far; best = { p, j }; }
  }));
  return best;
}

const pointer = (event) => {
  const box = view.getBoundingClientRect();
  return [(event.clientX - box.left) * zoom.ratio, (event.clientY - box.top) * zoom.ratio];
};

view.addEventListener("pointerdown", async (event) => {
  view.setPointerCapture(event.pointerId);
  const [x, y] = pointer(event);
  if (adding) { const [u, v] = toVideo(x, y); adding = { x: u, y: v, u, v }; return; }
  const found = await nearest(x, y);
  if (found) { chosen = found; const [u, v] = toVideo(x, y); drag = { ...found, x: u, y: v, moved: false }; }
  else if (chosen && event.shiftKey) {  // a joint that has no label yet
    await set(chosen.p, chosen.j, "visible", ...toVideo(x, y));
    return;
  } else chosen = null;
  await show(frame);
});
view.addEventListener("pointermove", (event) => {
  if (adding && adding.v !== undefined && event.buttons) {
    const [u, v] = toVideo(...pointer(event));
    Object.assign(adding, { u, v });
    show(frame);
    return;
  }
  if (!drag || !event.buttons) return;
  const [u, v] = toVideo(...pointer(event));
  if (!drag.moved && Math.hypot(u - drag.x, v - drag.y) * zoom.scale < 2) return;
  Object.assign(drag, { x: u, y: v, moved: true });
  show(frame);
});
view.addEventListener("pointerup", async () => {
  if (adding && adding.v !== undefined) {
    const box = adding;
    adding = null;
    await add(box);
    return;
  }
  const done = drag;
  drag = null;
  if (done && done.moved) {
    const now = await poses(frame);
    const was = meta.states[now.state[done.p][done.j]];
    await set(done.p, done.j, was === "occluded" ? "occluded" : "visible", done.x, done.y);
  } else await show(frame);
});

strip.addEventListener("pointerdown", (event) => {
  const box = strip.getBoundingClientRect();
  show(Math.floor((event.clientX - box.left) / box.width * meta.frames));
});

// --- verbs

function play() {
  if (playing) { clearInterval(playing); playing = null; }
  else playing = setInterval(() => frame + 1 < meta.frames ? show(frame + 1) : play(), 1000 / meta.fps);
  at("play").textContent = playing ? "Pause" : "Play";
}

async function uncertain() {
  const { frames: order } = await ask("api/uncertain");
  if (!order.length) { say("every joint was set by hand"); return; }
  const found = order[frame === jumped ? (order.indexOf(frame) + 1) % order.length : 0];
  jumped = found;
  const now = await poses(found);
  let least = 2;
  now.confidence.forEach((joints, p) => joints.forEach((sure, j) => {
    const there = now.state[p][j] === 1 || now.state[p][j] === 2;
    if (there && !now.human[p][j] && sure < least) { least = sure; chosen = { p, j }; }
  }));
  await show(found);
}

async function cycle(step) {
  const now = await poses(frame), all = [];
  now.state.forEach((joints, p) => joints.forEach((state, j) => { if (state) all.push({ p, j }); }));
  if (!all.length) return;
  const k = all.findIndex((one) => chosen && one.p === chosen.p && one.j === chosen.j);
  chosen = all[(k + step + all.length) % all.length];
  await show(frame);
}

async function nudge(dx, dy) {
  if (!chosen) return false;
  const now = await poses(frame), { p, j } = chosen, is = meta.states[now.state[p][j]];
  if (is !== "visible" && is !== "occluded") return false;
  const [x, y] = now.points[p][j];
  await set(p, j, is, x + dx, y + dy);
  return true;
}

const verbs = {
  back: () => show(frame - 1),
  forth: () => show(frame + 1),
  play,
  uncertain,
  occlude: () => change("occluded"),
  remove: () => change("absent"),
  add: () => { adding = adding ? null : {}; say(adding ? "draw a box around the new person" : "", "busy"); },
  gone: () => gone("gone"),
  everywhere: () => gone("removed"),
  undo: () => send("undo", {}, forget),
  redo: () => send("redo", {}, forget),
  propagate: () => { say("propagating…", "busy"); return send("propagate", {}, forget); },
  save: () => send("save", {}, forget),
};
for (const [id, run] of Object.entries(verbs)) {
  at(id).addEventListener("click", (event) => { event.currentTarget.blur(); Promise.resolve(run()).catch(trouble); });
}

const keys = { " ": "play", n: "uncertain", o: "occlude", Delete: "remove", Backspace: "remove", a: "add", x: "gone", X: "everywhere", z: "undo", y: "redo", p: "propagate", s: "save" };
window.addEventListener("keydown", (event) => {
  if (at("trouble").open) return;
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
  const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  let run = null;
  if (event.altKey && move) run = () => nudge(...move);
  else if (step) run = () => show(frame + (event.shiftKey ? 10 * Math.sign(step) : step));
  else if (event.key === "Escape" && adding) run = verbs.add;
  else if (event.key === "Home") run = () => show(0);
  else if (event.key === "End") run = () => show(meta.frames - 1);
  else if (event.key === "Tab" && document.activeElement.tagName !== "BUTTON") run = () => cycle(event.shiftKey ? -1 : 1);
  else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") run = verbs[event.shiftKey ? "redo" : "undo"];
  else if (!event.ctrlKey && !event.metaKey && keys[event.key]) run = verbs[keys[event.key]];
  if (!run) return;
  event.preventDefault();
  Promise.resolve(run()).catch(trouble);
});
window.addEventListener("resize", () => show(frame));
window.addEventListener("beforeunload", (event) => { if (waiting) event.preventDefault(); });

meta = await ask("api/state");
revision = meta.revision;
at("name").textContent = meta.name;
document.title = `${meta.name} · vidpose review`;
say(revision ? "saved" : "");
await forget();
view.focus();
document.body.dataset.ready = "yes";
