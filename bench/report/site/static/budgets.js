// The part of each board on the page of an attack, a task or a model: one budget of labels at a time.
(function () {
  "use strict";
  const { address } = window.doorbench;

  for (const section of document.querySelectorAll(".budgeted")) {
    const choice = section.querySelector("select[name=labels]");
    if (!choice) continue;
    const show = () => {
      for (const part of section.querySelectorAll(".budget")) part.hidden = part.dataset.labels !== choice.value;
    };
    const stated = address.read().get("labels");
    if ([...choice.options].some((option) => option.value === stated)) choice.value = stated;
    section.querySelector(".choose").hidden = false;
    choice.addEventListener("change", () => {
      history.replaceState(null, "", `#labels=${choice.value}`);
      show();
    });
    show();
  }
})();
