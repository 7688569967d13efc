// The Ask page: the same form, answered as it comes. Without this script the form posts and the server answers whole.

import { events } from "./stream.js";
import { close } from "./source.js";

const form = document.getElementById("ask");
const result = document.getElementById("result");
const progress = document.getElementById("progress");

if (form) {
  const go = form.querySelector("[data-go]");
  const stop = form.querySelector("[data-stop]");
  const question = form.elements.question;
  let running = null;

  function say(text) {
    progress.textContent = text;
  }

  // What is wrong with a value for the prompt is said at its field, not only in the answer's place.
  function mark(name, message) {
    for (const each of form.querySelectorAll("[name^='var.']")) {
      const wrong = each.name === `var.${name}`;
      const said = document.getElementById(`${each.id}-error`);
      said.textContent = wrong ? message : "";
      said.hidden = !wrong;
      if (wrong) {
        each.setAttribute("aria-invalid", "true");
        each.focus();
      } else {
        each.removeAttribute("aria-invalid");
      }
    }
  }

  // Another app's prompt asks for other values; those it has in common stay.
  async function changeFields() {
    const place = document.getElementById("variables");
    const query = new URLSearchParams({ app: form.elements.app.value });
    const response = await fetch(`/ask/variables?${query}`, { headers: { "x-interlock-fragment": "1" } });
    if (!response.ok) return;
    const typed = new Map([...place.querySelectorAll("[name]")].map((each) => [each.name, each.value]));
    place.innerHTML = await response.text();
    for (const each of place.querySelectorAll("[name]")) {
      if (typed.has(each.name)) each.value = typed.get(each.name);
    }
  }

  function start() {
    close();
    mark("", "");
    const view = document.getElementById("running").content.cloneNode(true).firstElementChild;
    view.querySelector("[data-asked]").textContent = question.value.trim();
    result.replaceChildren(view);
    go.disabled = true;
    stop.hidden = false;
    say("Searching the documents");
    const began = performance.now();
    const clock = view.querySelector("[data-clock]");
    const timer = setInterval(() => {
      clock.textContent = `${((performance.now() - began) / 1000).toFixed(0)} s`;
    }, 1000);
    return { view, timer };
  }

  function finish({ timer }) {
    clearInterval(timer);
    go.disabled = false;
    stop.hidden = true;
    running = null;
  }

  function state(view, word, kind) {
    const sig = view.querySelector("[data-state]");
    sig.textContent = word;
    sig.className = `sig ${kind}`;
  }

  function show(view, event) {
    const text = view.querySelector("[data-text]");
    if (event.event === "quote") {
      view.querySelector("[data-quote]").innerHTML = event.html;
      state(view, "writing and checking", "idle working");
      say("Found the best passage; writing the answer");
    } else if (event.event === "sentence") {
      text.insertAdjacentHTML("beforeend", event.html + " ");
    } else if (event.event === "text") {
      state(view, "writing", "idle working");
      text.classList.add("plain");
      text.append(event.text);
    } else if (event.event === "done") {
      result.innerHTML = event.html;
      const verdict = result.querySelector(".panel-head .sig");
      say(`Done: ${verdict ? verdict.textContent : ""}`);
      if (event.variable) mark(event.variable, event.message);
    }
  }

  function failed(view, error) {
    const stopped = error.name === "AbortError";
    state(view, stopped ? "stopped by you" : "connection lost", stopped ? "idle" : "danger");
    say(stopped ? "Stopped" : "The connection was lost");
    if (!stopped) {
      const note = document.createElement("p");
      note.className = "notice danger-edge";
      note.setAttribute("role", "alert");
      note.textContent = "The server did not finish the answer. Is it still running? Ask again when it is.";
      view.append(note);
    }
    view.classList.remove("running");
  }

  async function ask() {
    if (running || !question.value.trim()) return;
    const at = start();
    running = new AbortController();
    try {
      const response = await fetch(form.dataset.stream, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        headers: { "x-interlock-fragment": "1" },
        signal: running.signal,
      });
      if (!response.ok || !response.headers.get("content-type").startsWith("text/event-stream")) {
        result.innerHTML = await response.text();
        say("The question was refused");
        return;
      }
      let done = false;
      for await (const event of events(response)) {
        show(at.view, event);
        done ||= event.event === "done";
      }
      if (!done) throw new Error("incomplete");
    } catch (error) {
      failed(at.view, error);
    } finally {
      finish(at);
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  stop.addEventListener("click", () => {
    running?.abort();
    question.focus();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  // Another app has other samples; a question already written stays where it is.
  form.elements.app.addEventListener("change", () => {
    if (!question.value.trim() && !running) window.location.search = new URLSearchParams({ app: form.elements.app.value });
    else changeFields();
  });
  for (const sample of document.querySelectorAll("[data-sample]")) {
    sample.addEventListener("submit", (event) => {
      event.preventDefault();
      if (running) return;
      question.value = sample.elements.question.value;
      if (form.elements.as) form.elements.as.value = sample.elements.as?.value ?? "";
      for (const each of form.querySelectorAll("[name^='var.']")) {
        if (sample.elements[each.name]) each.value = sample.elements[each.name].value;
      }
      form.requestSubmit();
    });
  }
}
