// Light, dark, or as the system says. Runs before the first paint, so that nothing flashes.
(() => {
  const CHOICES = ["system", "light", "dark"];
  const NAMES = { system: "as the system", light: "light", dark: "dark" };
  const read = () => {
    try {
      const kept = localStorage.getItem("nerite.theme");
      return CHOICES.includes(kept) ? kept : "system";
    } catch {
      return "system"; // storage is forbidden
    }
  };
  let chosen = read();
  const apply = () => {
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
  };
  apply();
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => {
      button.setAttribute("aria-label", `Colours: ${NAMES[chosen]}`);
      button.title = `Colours: ${NAMES[chosen]}`;
    };
    label();
    button.addEventListener("click", () => {
      chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
      try {
        localStorage.setItem("nerite.theme", chosen);
      } catch {
        // it lasts until the page is left
      }
      apply();
      label();
    });
  });
})();
