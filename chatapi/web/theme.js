// A classic script that blocks rendering, so that a dark page does not flash white and no text changes its size.
try {
  document.documentElement.dataset.theme = localStorage.getItem("chatapi.theme") ?? "system";
  for (const name of ["accent", "text", "lines"]) {
    const chosen = localStorage.getItem(`chatapi.${name}`);
    if (chosen !== null) document.documentElement.dataset[name] = chosen;
  }
} catch {
  // Storage is disabled: follow the system's setting.
}
