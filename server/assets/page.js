// The operators' page: reads the live stream and draws it. It asks this server only, keeps nothing,
// and changes nothing in the world. Everything from the stream is set as text, never as markup.

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const LINES_MAX = 200; // what the server keeps
const SILENT_MS = 3000; // twelve pictures late: the world stands still
const SHOW_LATE_MS = 300; // dots move between two known pictures, a picture and a bit behind

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let colours = {};
function readColours() {
  for (const name of ["client", "npc", "thing", "void", "grid", "edge", "text", "muted", "bars", "warn", "bad", "panel"]) {
    colours[name] = css("--" + name);
  }
}

let status = null; // the newest picture
let heardAt = 0; // when it came
let connected = false;

// ---- Figures ----

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return `${n >= 100 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

function duration(s) {
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min ${s % 60} s` : `${s} s`;
}

const ms = (n) => `${n < 9.95 ? n.toFixed(1) : Math.round(n)} ms`;
const text = (id, value) => { const e = $(id); if (e.textContent !== value) e.textContent = value; };

function showFigures(s) {
  text("world", s.world || "Ecumene");
  document.title = `${number.format(s.clients)} in ${s.world || "Ecumene"}`;
  text("clients", number.format(s.clients));
  text("clients-of", `of ${number.format(s.clients_max)}`);
  const clientsBar = $("clients-bar");
  clientsBar.max = Math.max(1, s.clients_max);
  clientsBar.high = 0.9 * clientsBar.max;
  clientsBar.optimum = 0;
  clientsBar.value = s.clients;
  text("pace", `${Math.round(s.pace_permille / 10)} %`);
  $("pace-bar").value = s.pace_permille / 1000;
  text("entities", number.format(s.entities));
  text("shard-count", s.shards.length === 1 ? "in 1 shard" : `in ${s.shards.length} shards`);
  text("store-bytes", bytes(s.store.bytes));
  text("store-pending", s.store.pending ? `${number.format(s.store.pending)} not yet durable` : "all durable");
  text("p50", ms(s.tick_ms.p50));
  text("p99", ms(s.tick_ms.p99));
  text("max", ms(s.tick_ms.max));
  text("meta", `tick ${number.format(s.tick)} · up ${duration(s.uptime_s)}${s.version ? ` · ${s.version}` : ""}`);
}

function showShards(s) {
  const body = $("shards");
  while (body.rows.length > s.shards.length) body.deleteRow(-1);
  s.shards.forEach((shard, index) => {
    let row = body.rows[index];
    if (!row) {
      row = body.insertRow();
      for (let i = 0; i < 8; i += 1) row.insertCell().className = i > 2 ? "n" : "";
    }
    const cells = [shard.id, shard.region, shard.place, number.format(shard.entities),
      number.format(shard.clients), number.format(shard.ghosts), ms(shard.step_ms), String(shard.epoch)];
    cells.forEach((value, i) => { if (row.cells[i].textContent !== value) row.cells[i].textContent = value; });
    row.cells[6].classList.toggle("over", shard.step_ms > budget(s));
  });
}

const budget = (s) => 1000 / Math.max(1, s.hz);

// ---- State and notices ----

function showState() {
  const silent = status && performance.now() - heardAt > SILENT_MS;
  const pill = $("state");
  const notice = $("notice");
  let [kind, word, what] = ["ready", "ready", ""];
  if (!connected) {
    [kind, word, what] = ["lost", "no connection", "The connection to the server is lost. Trying again; what you see is old."];
    if (!status) [kind, word, what] = ["", "connecting", ""];
  } else if (!status) {
    [kind, word] = ["", "connecting"];
  } else if (!status.ready) {
    [kind, word, what] = ["wait", "not ready", `Newcomers cannot come in: ${status.why_not_ready}`];
  } else if (silent) {
    [kind, word, what] = ["lost", "standing still", "The server answers, but the world has not moved for some seconds."];
  } else if (status.pace_permille < 900) {
    [kind, word] = ["wait", "slow"];
  }
  if (pill.textContent !== word) pill.textContent = word;
  pill.className = `pill ${kind}`;
  if (notice.textContent !== what) notice.textContent = what;
  notice.hidden = !what;
  notice.classList.toggle("wait", kind === "wait");
}

// ---- Canvases ----

function fit(canvas) {
  const scale = Math.min(3, devicePixelRatio || 1);
  const [w, h] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  return [pen, canvas.clientWidth, canvas.clientHeight];
}

function drawPlot() {
  const [pen, width, height] = fit($("plot"));
  pen.clearRect(0, 0, width, height);
  if (!status) return;
  const ticks = status.tick_history;
  const limit = budget(status);
  const top = Math.max(limit * 1.25, Math.min(status.tick_ms.max * 1.1, limit * 4));
  const [left, right, above, below] = [12, 12, 10, 20];
  const y = (value) => above + (height - above - below) * (1 - Math.min(1, value / top));
  const step = (width - left - right) / 240;
  ticks.forEach((value, index) => {
    const x = width - right - (ticks.length - index) * step;
    pen.fillStyle = value > limit ? colours.bad : colours.bars;
    pen.fillRect(x, y(value), Math.max(1, step - 0.6), Math.max(1, y(0) - y(value)));
  });
  const rule = (value, colour, dash, label, side) => {
    pen.strokeStyle = pen.fillStyle = colour;
    pen.setLineDash(dash);
    pen.beginPath(); pen.moveTo(left, y(value)); pen.lineTo(width - right, y(value)); pen.stroke();
    pen.setLineDash([]);
    pen.font = "600 11px system-ui, sans-serif";
    pen.textAlign = side;
    const x = side === "left" ? left + 2 : width - right - 2;
    pen.lineWidth = 3; pen.strokeStyle = colours.panel;
    pen.strokeText(label, x, y(value) - 5); pen.fillText(label, x, y(value) - 5);
    pen.lineWidth = 1.25;
  };
  pen.lineWidth = 1.25;
  rule(limit, colours.bad, [], `budget ${ms(limit)}`, "left");
  if (ticks.length) rule(status.tick_ms.p99, colours.text, [5, 4], `p99 ${ms(status.tick_ms.p99)}`, "right");
  pen.fillStyle = colours.muted; pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "left"; pen.fillText(`${Math.round(240 / Math.max(1, status.hz))} s ago`, left, height - 6);
  pen.textAlign = "right"; pen.fillText("now", width - right, height - 6);
  $("plot").setAttribute("aria-label", `Time per tick: half below ${ms(status.tick_ms.p50)}, ` +
    `99 of 100 below ${ms(status.tick_ms.p99)}, longest ${ms(status.tick_ms.max)}, budget ${ms(limit)}`);
}

// ---- Map ----

const view = { x: 0.5, y: 0.5, zoom: 1 }; // the middle, in parts of the map, and how near
let ground = null;
let pictures = []; // the last few: [{at, dots: Map(key -> row)}]

function loadGround() {
  const image = new Image();
  image.onload = () => { ground = image; };
  image.onerror = () => setTimeout(loadGround, 10000);
  image.src = "/api/map.png";
}

function keepPicture(s, at) {
  pictures.push({ at, dots: new Map(s.dots.map((row) => [row[0], row])) });
  pictures = pictures.slice(-4);
  const counts = { client: 0, npc: 0, thing: 0 };
  for (const [, kind] of s.dots) counts[kind] = (counts[kind] || 0) + 1;
  for (const kind of Object.keys(counts)) if ($(`count-${kind}`)) text(`count-${kind}`, number.format(counts[kind]));
  const shown = s.dots.length < s.entities ? ` ${s.dots.length} of ${s.entities} are shown.` : "";
  $("map").setAttribute("aria-label", `Map of the world with ${counts.client} clients, ` +
    `${counts.npc} characters and ${counts.thing} things.${shown}`);
}

/// Where each dot is at `now`: between the two pictures around it.
function dotsAt(now) {
  const last = pictures[pictures.length - 1];
  if (!last) return [];
  if (still.matches || pictures.length < 2) return [...last.dots.values()];
  const moment = now - SHOW_LATE_MS;
  let after = pictures.findIndex((picture) => picture.at >= moment);
  if (after < 0) return [...last.dots.values()];
  if (after === 0) after = 1;
  const [from, to] = [pictures[after - 1], pictures[after]];
  const part = Math.max(0, Math.min(1, (moment - from.at) / Math.max(1, to.at - from.at)));
  return [...to.dots.values()].map((row) => {
    const old = from.dots.get(row[0]);
    // A jump of more than 60 m is a new place, not a walk.
    if (!old || Math.hypot(row[2] - old[2], row[3] - old[3]) > 60) return row;
    const turn = ((row[4] - old[4] + 540) % 360) - 180;
    return [row[0], row[1], old[2] + (row[2] - old[2]) * part, old[3] + (row[3] - old[3]) * part, old[4] + turn * part];
  });
}

function layout(width, height, area) {
  const pixelsPerMetre = Math.min(width / area.width_m, height / area.depth_m) * view.zoom;
  const [middleX, middleZ] = [area.x_m + view.x * area.width_m, area.z_m + view.y * area.depth_m];
  return {
    pixelsPerMetre,
    x: (x) => width / 2 + (x - middleX) * pixelsPerMetre,
    y: (z) => height / 2 + (z - middleZ) * pixelsPerMetre,
  };
}

function drawMap(now) {
  const [pen, width, height] = fit($("map"));
  pen.fillStyle = colours.void;
  pen.fillRect(0, 0, width, height);
  if (!status) return;
  const area = status.map;
  const at = layout(width, height, area);
  const [w, h] = [area.width_m * at.pixelsPerMetre, area.depth_m * at.pixelsPerMetre];
  if (ground) {
    pen.imageSmoothingEnabled = true;
    pen.drawImage(ground, at.x(area.x_m), at.y(area.z_m), w, h);
  } else {
    drawGrid(pen, area, at);
  }
  const size = Math.max(2.6, Math.min(6, 3 * Math.sqrt(view.zoom)));
  const order = { thing: 0, npc: 1, client: 2 };
  const dots = dotsAt(now).sort((a, b) => (order[a[1]] ?? 0) - (order[b[1]] ?? 0));
  for (const [, kind, xM, zM, yaw] of dots) {
    const [x, y] = [at.x(xM), at.y(zM)];
    if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
    drawDot(pen, kind, x, y, yaw, size);
  }
  showScale(at.pixelsPerMetre);
}

function drawGrid(pen, area, at) {
  pen.strokeStyle = colours.grid;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let i = 0; i <= 8; i += 1) {
    const [x, z] = [area.x_m + (area.width_m * i) / 8, area.z_m + (area.depth_m * i) / 8];
    pen.moveTo(at.x(x), at.y(area.z_m)); pen.lineTo(at.x(x), at.y(area.z_m + area.depth_m));
    pen.moveTo(at.x(area.x_m), at.y(z)); pen.lineTo(at.x(area.x_m + area.width_m), at.y(z));
  }
  pen.stroke();
}

// On the map's own colours dots need a light fill and a dark rim, in either theme.
const FILL = { client: "#4ff0cd", npc: "#ffc04a", thing: "#e6ecee" };
function drawDot(pen, kind, x, y, yaw, size) {
  pen.fillStyle = FILL[kind] || FILL.thing;
  pen.strokeStyle = "rgba(5, 20, 24, .85)";
  pen.lineWidth = 1.3;
  pen.beginPath();
  if (kind === "thing") {
    pen.rect(x - size * 0.6, y - size * 0.6, size * 1.2, size * 1.2);
  } else if (view.zoom < 2.5) {
    pen.arc(x, y, size, 0, 7);
  } else {
    // Near enough to see where somebody looks: a drop that points there.
    const angle = (yaw * Math.PI) / 180;
    const [east, south] = [Math.sin(angle), -Math.cos(angle)];
    pen.arc(x, y, size, angle, angle + Math.PI);
    pen.lineTo(x + east * size * 2.1, y + south * size * 2.1);
    pen.closePath();
  }
  pen.fill();
  pen.stroke();
}

function showScale(pixelsPerMetre) {
  const wanted = 90 / pixelsPerMetre;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const metres = [5, 2, 1].map((n) => n * power).find((n) => n <= wanted) || power;
  $("scale-bar").style.width = `${metres * pixelsPerMetre}px`;
  text("scale-text", metres >= 1000 ? `${metres / 1000} km` : `${metres} m`);
}

function look(dx, dy, factor, anchor) {
  const canvas = $("map");
  const area = status ? status.map : { width_m: 1, depth_m: 1 };
  const base = Math.min(canvas.clientWidth / area.width_m, canvas.clientHeight / area.depth_m);
  const parts = (zoom) => [1 / (area.width_m * base * zoom), 1 / (area.depth_m * base * zoom)];
  const old = view.zoom;
  view.zoom = Math.max(1, Math.min(64, old * factor));
  const [ax, ay] = anchor || [canvas.clientWidth / 2, canvas.clientHeight / 2];
  const [ox, oy] = [ax - canvas.clientWidth / 2, ay - canvas.clientHeight / 2];
  const [[px, py], [qx, qy]] = [parts(old), parts(view.zoom)];
  view.x += ox * (px - qx) - dx * qx;
  view.y += oy * (py - qy) - dy * qy;
  const reach = 0.5 - 0.5 / view.zoom;
  view.x = Math.max(0.5 - reach, Math.min(0.5 + reach, view.x));
  view.y = Math.max(0.5 - reach, Math.min(0.5 + reach, view.y));
  canvas.classList.toggle("near", view.zoom > 1);
}

function handle() {
  const canvas = $("map");
  const held = new Map();
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    look(0, 0, Math.exp(-event.deltaY * 0.002), [event.offsetX, event.offsetY]);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.offsetX, event.offsetY]);
    canvas.classList.add("held");
  });
  canvas.addEventListener("pointermove", (event) => {
    const from = held.get(event.pointerId);
    if (!from) return;
    const to = [event.offsetX, event.offsetY];
    const other = [...held].find(([id]) => id !== event.pointerId);
    held.set(event.pointerId, to);
    if (!other) { look(to[0] - from[0], to[1] - from[1], 1); return; }
    const [, fixed] = other;
    const gap = (point) => Math.max(1, Math.hypot(point[0] - fixed[0], point[1] - fixed[1]));
    look(0, 0, gap(to) / gap(from), fixed);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      held.delete(event.pointerId);
      if (!held.size) canvas.classList.remove("held");
    });
  }
  canvas.addEventListener("dblclick", (event) => look(0, 0, 2, [event.offsetX, event.offsetY]));
  const keys = {
    ArrowLeft: [60, 0, 1], ArrowRight: [-60, 0, 1], ArrowUp: [0, 60, 1], ArrowDown: [0, -60, 1],
    "+": [0, 0, 1.5], "=": [0, 0, 1.5], "-": [0, 0, 1 / 1.5], 0: [0, 0, 0],
  };
  canvas.addEventListener("keydown", (event) => {
    const move = keys[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    look(...move);
  });
  $("zoom-in").addEventListener("click", () => look(0, 0, 1.6));
  $("zoom-out").addEventListener("click", () => look(0, 0, 1 / 1.6));
  $("zoom-all").addEventListener("click", () => look(0, 0, 0));
  $("warnings-only").addEventListener("change", (event) => $("log").classList.toggle("warnings", event.target.checked));
}

// ---- Log ----

let nextLine = 0;
function showLines(lines) {
  const list = $("log");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  for (const line of lines) {
    if (line.number < nextLine) continue;
    nextLine = line.number + 1;
    const row = document.createElement("li");
    row.className = line.level;
    const time = document.createElement("time");
    time.dateTime = new Date(line.at_ms).toISOString();
    time.textContent = new Date(line.at_ms).toTimeString().slice(0, 8);
    const part = (kind, content) => {
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = content;
      return span;
    };
    row.append(time, part("level", line.level.toUpperCase()), part("target", line.target), part("", line.text));
    list.append(row);
  }
  while (list.children.length > LINES_MAX) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

// ---- The stream ----

function connect() {
  const stream = new EventSource("/api/stream");
  stream.onopen = () => {
    connected = true;
    heardAt = performance.now();
    nextLine = 0;
    $("log").replaceChildren();
  };
  stream.addEventListener("status", (event) => {
    const first = !status;
    status = JSON.parse(event.data);
    heardAt = performance.now();
    keepPicture(status, heardAt);
    showFigures(status);
    showShards(status);
    drawPlot();
    if (first) loadGround();
    showState();
  });
  stream.addEventListener("log", (event) => showLines(JSON.parse(event.data)));
  stream.onerror = async () => {
    connected = false;
    showState();
    // The browser tries again by itself unless it was refused; then ask why.
    if (stream.readyState !== EventSource.CLOSED) return;
    const answer = await fetch("/api/log?since=0", { cache: "no-store" }).catch(() => null);
    if (answer && answer.status === 401) location.assign("/login");
    else setTimeout(connect, 3000);
  };
}

function frame(now) {
  drawMap(now);
  requestAnimationFrame(frame);
}

readColours();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); drawPlot(); });
addEventListener("resize", drawPlot);
handle();
connect();
setInterval(showState, 500);
requestAnimationFrame(frame);
