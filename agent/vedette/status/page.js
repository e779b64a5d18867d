// Keeps the page up to date with server-sent events. Foreign text only ever arrives as text, or as HTML that the
// agent has escaped; the content security policy allows no script but this file.
"use strict";

const live = document.getElementById("live");
let main = document.getElementById("main");
let stamp = main.dataset.stamp;
let source = null;
let retry = 0;
let fetching = false;
let again = false;

function say(text, on) {
  live.textContent = text;
  live.classList.toggle("on", on);
}

function connect() {
  clearTimeout(retry);
  if (source) source.close();
  source = new EventSource("/events?since=" + encodeURIComponent(stamp));
  source.onopen = () => say("live", true);
  source.onmessage = (event) => apply(JSON.parse(event.data), event.lastEventId);
  source.onerror = () => {
    say("not live: no connection to the agent", false);
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(connect, 5000);
  };
}

function apply(news, id) {
  stamp = id;
  if (news.layout) return refetch();
  if (main.dataset.at) {
    if (news.rows.some(([at]) => at === Number(main.dataset.at))) refetch();
    return;
  }
  const rows = document.getElementById("rows");
  if (!rows) return;
  for (const [at, state, cells] of news.rows) update(rows.rows[at], state, cells);
  for (const [name, html] of Object.entries(news.parts)) replace(document.getElementById(name), html);
  filter();
}

function update(row, state, cells) {
  if (row.className !== state) {
    row.className = state;
    row.cells[1].firstChild.className = "state " + state;
  }
  cells.forEach((text, number) => {
    const cell = number ? row.cells[number + 1] : row.cells[1].firstChild;
    if (cell.textContent !== text) cell.textContent = text;
  });
}

function replace(element, html) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus();
}

async function refetch() {
  again = fetching;
  if (fetching) return;
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("main");
    const word = document.getElementById("filter")?.value;
    const focused = main.contains(document.activeElement) ? document.activeElement.getAttribute("href") : "";
    main.replaceWith(fresh);
    main = fresh;
    stamp = main.dataset.stamp;
    document.title = page.title;
    if (word) document.getElementById("filter").value = word;
    if (focused) main.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    filter();
  } catch {
    say("not live: no connection to the agent", false);
  } finally {
    fetching = false;
    if (again) refetch();
  }
}

function filter() {
  const words = (document.getElementById("filter")?.value ?? "").toLowerCase().split(/\s+/);
  for (const row of document.getElementById("rows")?.rows ?? []) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
}

document.addEventListener("input", (event) => {
  if (event.target.id === "filter") filter();
});

document.addEventListener("keydown", (event) => {
  const box = document.getElementById("filter");
  if (!box) return;
  if (event.key === "/" && document.activeElement !== box && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    box.focus();
  } else if (event.key === "Escape" && document.activeElement === box) {
    box.value = "";
    filter();
  }
});

// A page that nobody sees costs the agent nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source.close();
    clearTimeout(retry);
    say("paused", false);
  } else connect();
});

connect();
