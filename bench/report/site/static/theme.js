// The theme, before anything is drawn: what was chosen here before, else what the system says.
(function () {
  "use strict";
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  var chosen = "system";
  var printing = false;
  try {
    chosen = localStorage.getItem("doorbench-theme") || "system";
  } catch (error) {
    // a browser may forbid storage to pages from disk; the choice then lasts for one page
  }
  function paint(dark) {
    document.documentElement.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = dark ? "dark" : "light";
  }
  function apply() {
    if (printing) return; // the system is light on paper, and charts need longer to be drawn than a page to be printed
    paint(chosen === "dark" || (chosen === "system" && system.matches));
    document.dispatchEvent(new CustomEvent("doorbench:theme"));
  }
  window.doorbenchTheme = {
    get: function () {
      return chosen;
    },
    set: function (value) {
      chosen = value;
      try {
        localStorage.setItem("doorbench-theme", value);
      } catch (error) {
        // see above
      }
      apply();
    },
    dark: function () {
      return document.documentElement.classList.contains("dark");
    },
  };
  system.addEventListener("change", apply);
  window.addEventListener("beforeprint", function () {
    printing = true;
    paint(false);
  });
  window.addEventListener("afterprint", function () {
    printing = false;
    apply();
  });
  apply();
})();
