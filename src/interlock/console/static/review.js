// One item after the other with the keyboard. Without this script every button still works.

const form = document.querySelector("[data-review]");
const began = performance.now();

function writes(target) {
  return target.closest("input, textarea, select, [contenteditable]") !== null;
}

if (form) {
  form.addEventListener("submit", () => {
    form.elements.seconds.value = ((performance.now() - began) / 1000).toFixed(1);
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (writes(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "b") document.querySelector("[data-back]")?.click();
  else if (form && event.key === "n") {
    event.preventDefault();
    form.elements.note.focus();
  } else if (form && /^[1-9]$/.test(event.key)) form.querySelector(`[data-key="${event.key}"]`)?.click();
});
