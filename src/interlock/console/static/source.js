// The source of a citation beside the answer on wide screens; a page of its own on narrow ones.

const panel = document.getElementById("source");
const wide = window.matchMedia("(min-width: 1100px)");
let opener = null;

export function close() {
  if (!panel || panel.hidden) return;
  panel.hidden = true;
  panel.replaceChildren();
  document.body.classList.remove("with-source");
  opener?.focus();
}

async function open(link) {
  opener = link;
  for (const other of document.querySelectorAll("[data-cite][aria-current]")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  panel.hidden = false;
  panel.setAttribute("aria-busy", "true");
  document.body.classList.add("with-source");
  if (!panel.firstElementChild) panel.innerHTML = '<p class="faint loading">Opening the source…</p>';
  let html;
  try {
    const response = await fetch(link.href, { headers: { "x-interlock-fragment": "1" } });
    html = await response.text();
  } catch {
    html = '<p class="notice danger-edge" role="alert">The source could not be loaded. Is the server still running?</p>';
  }
  if (opener !== link) return;
  panel.innerHTML = html;
  panel.removeAttribute("aria-busy");
  panel.querySelector("[data-close]")?.addEventListener("click", close);
  const mark = panel.querySelector("#cited");
  const body = panel.querySelector(".document");
  if (mark && body) body.scrollTop = mark.offsetTop - body.clientHeight / 3;
  panel.focus({ preventScroll: true });
}

if (panel) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-cite]");
    if (!link || !wide.matches || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    open(link);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
}
