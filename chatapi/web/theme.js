// A classic script that blocks rendering, so that a dark page does not flash white.
try {
  document.documentElement.dataset.theme = localStorage.getItem("chatapi.theme") ?? "system";
} catch {
  // Storage is disabled: follow the system's setting.
}
