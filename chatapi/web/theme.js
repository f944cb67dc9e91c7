// Runs before anything is drawn, as a script of the old kind: a page that is to be dark must not begin white.
try {
  document.documentElement.dataset.theme = localStorage.getItem("chatapi.theme") ?? "system";
} catch {
  // A browser that keeps nothing: as the system has it.
}
