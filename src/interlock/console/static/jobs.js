// Jobs of a page: start, follow and cancel without leaving it.

const place = document.querySelector("[data-jobs]");
const headers = { "x-interlock-fragment": "1" };

function put(html) {
  const holder = document.createElement("div");
  holder.innerHTML = html;
  const fresh = holder.firstElementChild;
  // One job is shown for each collection: the newest.
  const same = fresh.dataset.collection;
  const known = same && place.querySelector(`[data-collection="${CSS.escape(same)}"]`);
  if (known) known.replaceWith(fresh);
  else place.prepend(fresh);
  if (fresh.dataset.live === "yes") setTimeout(() => follow(fresh.dataset.job), 700);
  // What a page says beside its job is another thing when that has ended.
  else if ("again" in place.dataset) location.reload();
}

async function follow(id) {
  if (!place.querySelector(`[data-job="${CSS.escape(id)}"]`)) return;
  try {
    const response = await fetch(`${place.dataset.jobs || "/documents/jobs"}/${encodeURIComponent(id)}`, { headers });
    put(await response.text());
  } catch {
    setTimeout(() => follow(id), 3000);
  }
}

if (place) {
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!("jobForm" in form.dataset)) return;
    event.preventDefault();
    const response = await fetch(form.action, { method: "POST", headers, body: new URLSearchParams(new FormData(form)) });
    put(await response.text());
  });
  for (const job of place.querySelectorAll('[data-live="yes"]')) follow(job.dataset.job);
}
