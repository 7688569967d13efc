// Ingest jobs on the Documents page: start, follow and cancel without leaving it.

const place = document.querySelector("[data-jobs]");
const headers = { "x-interlock-fragment": "1" };

function put(html) {
  const holder = document.createElement("div");
  holder.innerHTML = html;
  const fresh = holder.firstElementChild;
  const known = fresh.dataset.job && place.querySelector(`[data-job="${CSS.escape(fresh.dataset.job)}"]`);
  if (known) known.replaceWith(fresh);
  else place.prepend(fresh);
  if (fresh.dataset.live === "yes") setTimeout(() => follow(fresh.dataset.job), 700);
  else if (fresh.dataset.job) place.dataset.changed = "yes";
}

async function follow(id) {
  if (!place.querySelector(`[data-job="${CSS.escape(id)}"]`)) return;
  try {
    const response = await fetch(`/documents/jobs/${encodeURIComponent(id)}`, { headers });
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
