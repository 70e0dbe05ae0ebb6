// What scripts add to a page that is whole without them: plots that answer the mouse, figures that
// stay current, and lists that follow what is typed. No dependency but uPlot, which draws.
"use strict";
(() => {
  const UNITS = {
    W: [[1e6, "MW"], [1e3, "kW"], [1, "W"]],
    kWh: [[1e3, "MWh"], [1, "kWh"], [1e-3, "Wh"]],
  };
  const charts = new Map();

  const css = (name, from = document.documentElement) =>
    getComputedStyle(from).getPropertyValue(name).trim();

  function say(unit, value) {
    if (value == null) return "–";
    const [size, name] = UNITS[unit].find(([size]) => Math.abs(value) >= size) ?? UNITS[unit].at(-1);
    return `${Number((value / size).toPrecision(3))} ${name}`;
  }

  function ticks(unit, values) {
    const most = Math.max(...values.map(Math.abs));
    const [size, name] = UNITS[unit].find(([size]) => most >= size) ?? UNITS[unit].at(-1);
    return values.map((value) => `${Number((value / size).toPrecision(6))} ${name}`);
  }

  // The day stands where one begins, and at the left edge.
  function clock(u, splits) {
    return splits.map((at, number) => {
      const [day, time] = new Date(at * 1000).toISOString().split("T");
      if (time.startsWith("00:00:00")) return day.slice(5);
      return number ? time.slice(0, 5) : `${day.slice(5)} ${time.slice(0, 5)}`;
    });
  }

  // Layers lie on those below them, so the uppermost is drawn first, as the sum of all.
  function columns(data) {
    const times = [...data.starts];
    const floor = new Array(times.length).fill(0);
    const layers = data.series.map(({ values }) =>
      values.map((value, at) => (value == null ? null : (floor[at] += value))));
    if (data.kind === "area") {
      times.push(data.until);
      layers.forEach((layer) => layer.push(layer.at(-1)));
    }
    return [times, ...layers.reverse()];
  }

  function tooltip(figure, data) {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    function show(u) {
      const { idx, left, top } = u.cursor;
      tip.hidden = idx == null || left < 0;
      if (tip.hidden) return;
      const at = Math.min(idx, data.starts.length - 1);
      const rows = data.series.map((one) => [one.name, one.values[at]]).reverse();
      if (rows.length > 1) rows.push(["all", rows.reduce((sum, [, value]) => sum + (value ?? 0), 0)]);
      const when = new Date(data.starts[at] * 1000).toISOString();
      const table = document.createElement("table");
      const caption = table.createCaption();
      caption.textContent = `${when.slice(0, 10)} ${when.slice(11, 16)}Z`;
      for (const [name, value] of rows) {
        const row = table.insertRow();
        row.insertCell().textContent = name;
        const cell = row.insertCell();
        cell.className = "figure";
        cell.textContent = say(data.unit, value);
      }
      tip.replaceChildren(table);
      const right = left > u.over.clientWidth / 2;
      tip.style.left = `${u.over.offsetLeft + left + (right ? -12 - tip.offsetWidth : 12)}px`;
      tip.style.top = `${Math.max(0, u.over.offsetTop + top - tip.offsetHeight / 2)}px`;
    }
    return { hooks: { init: (u) => u.root.append(tip), setCursor: show } };
  }

  function options(figure, data) {
    const canvas = figure.querySelector(".canvas");
    const axis = { stroke: () => css("--muted"), grid: { stroke: () => css("--rule"), width: 1 }, ticks: { show: false }, font: "11.5px system-ui, sans-serif" };
    const paths = data.kind === "bars"
      ? uPlot.paths.bars({ size: [0.86, 80], align: 1 })
      : uPlot.paths.stepped({ align: 1 });
    const look = (one) => () => css(`--s${one.look}`);
    return {
      width: canvas.clientWidth,
      height: 220,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, drag: { x: true, y: false }, points: { show: false } },
      scales: { x: { time: true, range: (u, low, high) => (low === data.starts[0] ? [low, Math.max(high, data.until)] : [low, high]) }, y: { range: (u, low, high) => [0, high > 0 ? high * 1.06 : 1] } },
      axes: [{ ...axis, size: 26, space: 74, values: clock }, { ...axis, size: 72, values: (u, values) => ticks(data.unit, values) }],
      series: [{}, ...data.series.map((one) => ({ label: one.name, width: 0, fill: look(one), stroke: look(one), paths, points: { show: false } })).reverse()],
      plugins: [tooltip(figure, data)],
    };
  }

  function draw(figure) {
    const text = figure.querySelector("script[type='application/json']")?.textContent;
    const known = charts.get(figure);
    if (!text || known?.text === text) return;
    const canvas = figure.querySelector(".canvas");
    const data = JSON.parse(text);
    known?.plot.destroy();
    canvas.classList.add("drawn");
    const plot = new uPlot(options(figure, data), columns(data), canvas);
    if (!known) new ResizeObserver(() => charts.get(figure).plot.setSize({ width: canvas.clientWidth, height: 220 })).observe(canvas);
    charts.set(figure, { text, plot });
  }

  function drawAll() {
    for (const figure of charts.keys()) {
      if (figure.isConnected) continue;
      charts.get(figure).plot.destroy();
      charts.delete(figure);
    }
    document.querySelectorAll("figure.plot:not(.none)").forEach(draw);
  }

  // Bring what is shown up to date in place, so that focus, selection and tooltips stay.
  function patch(old, fresh) {
    if (old.nodeName !== fresh.nodeName || old.id !== fresh.id) return old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.classList.contains("canvas")) return;
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    if (old.nodeName === "INPUT" && old !== document.activeElement) old.value = fresh.getAttribute("value") ?? "";
    const was = [...old.childNodes];
    const now = [...fresh.childNodes];
    now.forEach((child, at) => (at < was.length ? patch(was[at], child) : old.append(child)));
    was.slice(now.length).forEach((child) => child.remove());
  }

  let asked = 0;
  let shown = "";
  let answered = new Date();

  async function refresh() {
    const mine = ++asked;
    const trouble = document.getElementById("trouble");
    try {
      const answer = await fetch(location.href, { cache: "no-cache", signal: AbortSignal.timeout(30000) });
      const text = await answer.text();
      if (mine !== asked) return;
      if (!answer.headers.get("content-type")?.startsWith("text/html")) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(text, "text/html");
      answered = new Date();
      // What is being typed is kept until it means something.
      trouble.textContent = answer.ok ? "" : page.querySelector("#main p").textContent;
      if (!answer.ok || text === shown) return;
      shown = text;
      document.title = page.title;
      for (const id of ["asof", "main"]) patch(document.getElementById(id), page.getElementById(id));
      drawAll();
    } catch {
      if (mine === asked) trouble.textContent = `No answer since ${answered.toISOString().slice(11, 19)}Z. Trying again.`;
    }
  }

  function keepCurrent() {
    const seconds = Number(document.body.dataset.live);
    if (!seconds) return;
    setInterval(() => document.hidden || refresh(), seconds * 1000);
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
  }

  function go(url) {
    history.pushState(null, "", url);
    refresh();
  }

  function followForms() {
    let waiting = 0;
    document.addEventListener("input", (event) => {
      const form = event.target.closest("form[data-at-once]");
      if (!form) return;
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        const given = [...new FormData(form)].filter(([, value]) => value);
        history.replaceState(null, "", `${form.action}?${new URLSearchParams(given)}`);
        refresh();
      }, event.target.matches("select") ? 0 : 300);
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest(".list thead a, .switch a, .pages a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      go(link.href);
    });
    addEventListener("popstate", refresh);
  }

  function followKeys() {
    document.addEventListener("keydown", (event) => {
      const search = document.querySelector("[data-slash]");
      if (event.key !== "/" || !search || event.target.matches("input, select, textarea")) return;
      event.preventDefault();
      search.focus();
      search.select();
    });
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    charts.forEach(({ plot }) => plot.redraw()));
  drawAll();
  if (location.protocol === "file:" || document.body.classList.contains("file")) return;
  keepCurrent();
  followForms();
  followKeys();
})();
