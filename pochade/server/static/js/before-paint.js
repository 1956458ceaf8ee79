// Runs before anything is shown, so that a chosen theme does not flash in the other one first.
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem("pochade.theme"));
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden or hold something else; the system's theme then holds.
  }
})();
