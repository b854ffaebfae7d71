"use strict";
// One state (episode, shown frame, divider) and one function that draws it. A moment has an address:
// report.html#episode=0&step=12&split=40&outlines=1   (split: share of the width that shows the edit)
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const PLAY = "M4 2.5v11l9-5.5z", PAUSE = "M3.5 2.5h3v11h-3zM9.5 2.5h3v11h-3z";
  const VERDICTS = {
    edited: "edit kept", rejected: "edit rejected, raw frame used", failed: "editor failed, raw frame used",
    unjudged: "edited, not judged", raw: "not edited",
  };
  const TAGS = { edited: "Edited", unjudged: "Edited", rejected: "Raw frame", failed: "Raw frame", raw: "Simulator" };
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const OPEN = 75;  // three quarters of a picture show the edit, and so do objects in the middle
  const state = { episode: 0, shown: 0, split: OPEN, outlines: false };
  let views = [], timer = null, chart = null;

  const element = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  const shape = (tag, attributes, text) => {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const episode = () => data.episodes[state.episode];
  const step = () => episode().shown[state.shown];
  const colour = (index) => `var(--camera-${index % 4})`;
  const nearestShown = (wanted) => episode().shown.reduce(
    (best, value, index, all) => (Math.abs(value - wanted) < Math.abs(all[best] - wanted) ? index : best), 0);

  // How much of its budget a measurement uses: 1 is the limit, for upper and lower limits alike.
  const share = (budget, value) => {
    if (value === null || budget.limit === null) return null;
    if (budget.at_most) return budget.limit > 0 ? value / budget.limit : Number(value > 0) * 2;
    return budget.limit < 1 ? (1 - value) / (1 - budget.limit) : Number(value < 1) * 2;
  };
  const worst = (camera, at) => data.budgets.reduce((most, budget) => {
    const used = share(budget, (camera.measurements[budget.name] || [])[at] ?? null);
    return used === null ? most : Math.max(most ?? 0, used);
  }, null);

  function buildCamera(camera, index) {
    const edited = element("img", { class: "edited", alt: `Edited frame of camera ${camera.name}`, draggable: "false" });
    const raw = element("img", { class: "raw", alt: `Simulator's frame of camera ${camera.name}`, draggable: "false" });
    const outline = shape("svg", { class: "outline", viewBox: `0 0 ${camera.width} ${camera.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const path = shape("path", {});
    outline.append(path);
    const slider = element("input", { type: "range", min: "0", max: "100", step: "1", "aria-label": `${camera.name}: share of the edited frame in percent` });
    slider.addEventListener("input", () => { state.split = Number(slider.value); draw(); });
    // A double click moves the divider twice before it is one: go by where it was before the first.
    let before = state.split, last = -Infinity;
    slider.addEventListener("pointerdown", (event) => {
      if (event.timeStamp - last > 500) before = state.split;
      last = event.timeStamp;
    });
    slider.addEventListener("dblclick", () => { state.split = 100 - before; last = -Infinity; draw(); });
    const tag = element("span", { class: "tag left" });
    const compare = element("div", { class: "compare" }, edited, raw, outline,
      element("span", { class: "tag right" }, "Simulator"), tag, element("span", { class: "divider" }), slider);
    if (camera.verdicts.every((verdict) => verdict === "raw")) compare.dataset.plain = "";
    const badge = element("span", { class: "badge" });
    const bars = element("div", { class: "bars" });
    const name = element("span", {}, camera.name);
    name.style.color = colour(index);
    const picture = element("img", { alt: "Reference photo that the edit follows", draggable: "false" });
    const caption = element("figcaption");
    const photo = element("figure", { class: "photo" }, picture, caption);
    const followed = (camera.photos || []).some((index) => index !== null);
    const stage = element("div", { class: followed ? "stage beside" : "stage" }, compare, ...(followed ? [photo] : []));
    const figure = element("figure", { class: "camera" }, element("div", { class: "camera-head" }, name, badge), stage, bars);
    return { camera, figure, edited, raw, outline, path, tag, slider, compare, badge, bars, photo, picture, caption };
  }

  function drawCamera(view) {
    const { camera } = view, at = step(), verdict = camera.verdicts[at];
    view.raw.src = camera.raw[state.shown];
    view.edited.src = camera.edited[state.shown];
    view.path.setAttribute("d", state.outlines ? camera.outlines[state.shown] || "" : "");
    view.compare.style.setProperty("--split", `${state.split}%`);
    view.slider.value = state.split;
    view.tag.textContent = TAGS[verdict];
    const index = (camera.photos || [])[state.shown] ?? null;
    view.photo.hidden = index === null;
    if (index !== null) {
      view.picture.src = data.photos[index];
      view.caption.textContent = data.photos.length > 1 ? `Reference photo, ${index + 1} of the ${data.photos.length} that these episodes follow` : "Reference photo";
    }
    view.badge.dataset.verdict = verdict;
    view.badge.textContent = VERDICTS[verdict];
    view.bars.replaceChildren();
    for (const budget of data.budgets) {
      const value = (camera.measurements[budget.name] || [])[at] ?? null;
      const used = share(budget, value);
      if (used === null) continue;
      const fill = element("div", { class: "fill" });
      fill.style.width = `${Math.min(100, Math.max(0, used * 100))}%`;
      view.bars.append(element("span", {}, budget.label),
        element("div", { class: used > 1 ? "track over" : "track" }, fill),
        element("span", { class: "value" }, `${inWords(value, budget.unit)}, ${budget.limit_words} accepted`));
    }
  }

  const inWords = (value, unit) => {
    const number = unit === "%" ? 100 * value : value;
    return `${Number(number.toPrecision(2))}${unit ? ` ${unit}` : ""}`;
  };

  // One small picture an episode: the frame that the policy saw in its middle.
  function buildStrip() {
    const strip = byId("strip");
    strip.hidden = data.episodes.length < 2;
    strip.replaceChildren(...data.episodes.map((item, index) => {
      const camera = item.cameras[0], middle = Math.floor(item.shown.length / 2);
      const button = element("button", { type: "button", "aria-label": `Episode ${item.label}: ${item.note}`, title: item.note },
        element("img", { src: camera.edited[middle], alt: "" }), element("span", {}, String(index + 1)));
      button.addEventListener("click", () => choose(index));
      return button;
    }));
  }

  function choose(index) {
    state.episode = index;
    state.shown = 0;
    byId("episode").value = index;
    buildEpisode();
    draw();
  }

  function buildChart() {
    const svg = byId("chart"), cameras = episode().cameras, length = episode().length;
    const width = Math.max(320, svg.parentElement.clientWidth || 1032), left = 44, right = 8, top = 10, plot = 150, row = 16;
    const height = top + plot + 14 + row * cameras.length + 22;
    const x = (at) => left + ((at + 0.5) / length) * (width - left - right);
    const highest = Math.max(1, ...cameras.flatMap((c) => c.verdicts.map((_, at) => worst(c, at) ?? 0)));
    const ceiling = Math.min(2, Math.ceil(highest * 1.1 * 4) / 4);
    const y = (used) => top + plot * (1 - Math.min(used, ceiling) / ceiling);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    for (let mark = 0; mark <= ceiling + 1e-9; mark += 0.5) {
      svg.append(shape("line", { class: mark === 1 ? "budget" : "grid", x1: left, x2: width - right, y1: y(mark), y2: y(mark) }),
        shape("text", { x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, `${mark * 100} %`));
    }
    cameras.forEach((camera, index) => {
      let d = "", pen = "M";
      camera.verdicts.forEach((_, at) => {
        const used = worst(camera, at);
        if (used === null) { pen = "M"; return; }
        d += `${pen}${x(at).toFixed(1)},${y(used).toFixed(1)}`;
        pen = "L";
      });
      const line = shape("path", { class: "line", d });
      line.style.stroke = colour(index);
      svg.append(line);
      const yRow = top + plot + 14 + row * index, cell = (width - left - right) / length;
      const mark = shape("rect", { x: left - 20, y: yRow + 1, width: 12, height: row - 6, rx: 2 });
      mark.style.fill = colour(index);
      svg.append(mark);
      camera.verdicts.forEach((verdict, at) => svg.append(
        shape("rect", { class: verdict, x: (left + at * cell).toFixed(2), y: yRow, width: Math.max(0.5, cell - (cell > 4 ? 1 : 0)).toFixed(2), height: row - 4 })));
    });
    const every = Math.max(1, Math.ceil(length / (width / 100)));
    for (let at = 0; at < length; at += every) svg.append(shape("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, at));
    const cursor = shape("line", { class: "cursor", y1: top, y2: height - 22 });
    svg.append(cursor);
    svg.onpointerdown = (event) => {
      const box = svg.getBoundingClientRect();
      const at = (((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * length - 0.5;
      state.shown = nearestShown(at);
      draw();
    };
    chart = { cursor, x };
    const names = cameras.map((camera, index) => {
      const entry = element("span", {}, element("i"), camera.name);
      entry.style.color = colour(index);
      return entry;
    });
    const present = new Set(cameras.flatMap((c) => c.verdicts));
    const kinds = Object.keys(VERDICTS).filter((kind) => present.has(kind)).map(
      (kind) => element("span", { class: "badge", "data-verdict": kind }, VERDICTS[kind]));
    byId("legend").replaceChildren(...names, ...kinds);
  }

  function buildEpisode() {
    const { cameras, note, shown } = episode();
    views = cameras.map(buildCamera);
    byId("cameras").replaceChildren(...views.map((view) => view.figure));
    byId("episode-note").textContent = note;
    byId("outline-field").hidden = !cameras.some((camera) => camera.outlines.length);
    byId("time").max = shown.length - 1;
    state.shown = Math.min(state.shown, shown.length - 1);
    buildChart();
  }

  function draw() {
    views.forEach(drawCamera);
    [...byId("strip").children].forEach((button, index) => button.setAttribute("aria-pressed", String(index === state.episode)));
    byId("time").value = state.shown;
    byId("clock").textContent = `step ${step()} / ${episode().length - 1}`;
    const at = chart.x(step());
    chart.cursor.setAttribute("x1", at);
    chart.cursor.setAttribute("x2", at);
    Object.assign(document.documentElement.dataset, {
      state: "ready", episode: state.episode, step: step(), split: state.split, outlines: Number(state.outlines) });
  }

  function play(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => { state.shown = (state.shown + 1) % episode().shown.length; draw(); }, 125) : null;
    byId("play-icon").setAttribute("d", on ? PAUSE : PLAY);
    byId("play").setAttribute("aria-label", on ? "Pause" : "Play");
  }

  function readAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const number = (key, fallback, most) => {
      const value = Number(wanted.get(key) ?? NaN);
      return Number.isFinite(value) ? Math.min(most, Math.max(0, Math.round(value))) : fallback;
    };
    state.episode = number("episode", 0, data.episodes.length - 1);
    state.shown = nearestShown(number("step", 0, episode().length - 1));
    state.split = number("split", OPEN, 100);
    state.outlines = wanted.get("outlines") === "1";
    byId("episode").value = state.episode;
    byId("outlines").checked = state.outlines;
    buildEpisode();
    draw();
  }

  data.episodes.forEach((item, index) => byId("episode").append(element("option", { value: index }, item.label)));
  byId("episode").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("outlines").addEventListener("change", (event) => { state.outlines = event.target.checked; draw(); });
  byId("time").addEventListener("input", (event) => { state.shown = Number(event.target.value); draw(); });
  byId("play").addEventListener("click", () => play(timer === null));
  window.addEventListener("hashchange", readAddress);
  window.addEventListener("resize", () => { buildChart(); draw(); });
  buildStrip();
  readAddress();
})();
