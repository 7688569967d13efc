// Questions one after the other with the keyboard. Without this script every button still works.

const place = document.querySelector("[data-questions]");
const said = document.querySelector("[data-said]");
const cards = () => [...document.querySelectorAll("[data-question]")];

function writes(target) {
  return target.closest("input, textarea, select, [contenteditable]") !== null;
}

function current() {
  return document.activeElement?.closest("[data-question]") ?? null;
}

function move(step) {
  const all = cards();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + step));
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

function count(state, by) {
  const told = document.querySelector(`[data-count="${state}"]`);
  // Large numbers are written in groups.
  if (told) told.textContent = (Number(told.textContent.replace(/\D/g, "")) + by).toLocaleString("en");
}

async function decide(card, form, verdict) {
  const body = new URLSearchParams(new FormData(form));
  body.set("verdict", verdict);
  const response = await fetch(form.action, { method: "POST", body });
  if (!response.ok) {
    said.textContent = "It was refused.";
    // The page of the refusal says why.
    form.requestSubmit(form.querySelector(`button[value="${verdict}"]`));
    return;
  }
  const all = cards();
  const at = all.indexOf(card);
  const next = all[at + 1] ?? all[at - 1];
  card.remove();
  // Words that were changed are accepted with that.
  count(body.get("state"), -1);
  count(verdict === "edited" ? "accepted" : verdict, 1);
  said.textContent = verdict;
  if (next) next.focus();
  else location.reload();
}

if (place) {
  let busy = false;
  async function once(card, form, verdict) {
    if (busy) return;
    busy = true;
    try {
      await decide(card, form, verdict);
    } finally {
      busy = false;
    }
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const card = current();
    if (writes(event.target)) {
      if (event.key === "Escape" && card) card.focus();
      return;
    }
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (card && event.key === "e") {
      event.preventDefault();
      card.querySelector("[name=text]").focus();
    } else if (card && (event.key === "a" || event.key === "r")) {
      const verdict = event.key === "a" ? "accepted" : "rejected";
      if (card.querySelector(`button[value="${verdict}"]`)) once(card, card.querySelector("form"), verdict);
    }
  });
  // Enter in the words saves them, and does not press the first button.
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.name !== "text") return;
    event.preventDefault();
    const form = event.target.form;
    if (form.querySelector('button[value="edited"]')) once(form.closest("[data-question]"), form, "edited");
  });
}
