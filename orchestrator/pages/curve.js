// The curve: what belongs to one trial lights up together (line, legend, table row), and the axis can be switched.
"use strict";

(() => {
  const light = (name, on) => {
    for (const part of document.querySelectorAll("[data-trial]")) {
      if (part.dataset.trial === name) part.classList.toggle("lit", on);
    }
    for (const curve of document.querySelectorAll("svg.curve")) curve.classList.toggle("choosing", on);
  };
  for (const part of document.querySelectorAll("[data-trial]")) {
    part.addEventListener("pointerenter", () => light(part.dataset.trial, true));
    part.addEventListener("pointerleave", () => light(part.dataset.trial, false));
  }

  for (const figure of document.querySelectorAll("[data-curves]")) {
    const choices = figure.querySelector(".switch");
    const show = (axis) => {
      for (const plot of figure.querySelectorAll("[data-axis]")) plot.hidden = plot.dataset.axis !== axis;
    };
    choices.hidden = false;
    choices.addEventListener("change", (event) => show(event.target.value));
    show(choices.querySelector("input:checked").value); // a reload keeps the choice in some browsers
  }
})();
