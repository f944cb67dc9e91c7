// Links into the page: `/?q=TEXT&model=NAME` begins a new chat.

const MAX_TEXT_CHARACTERS = 10_000;
const MODEL = /^[\w.:/@-]{1,128}$/;

/**
 * Read the link and remove it from the address, so that a reload does not repeat it. The text is not sent: any site can
 * link here, and an answer costs.
 * @returns {{text: string, model: string}} "" for what the link does not name
 */
export function takeLink() {
  const named = new URLSearchParams(location.search);
  const model = named.get("model") ?? "";
  if (location.search !== "") history.replaceState(null, "", location.pathname + location.hash);
  return {
    text: (named.get("q") ?? "").slice(0, MAX_TEXT_CHARACTERS),
    model: MODEL.test(model) ? model : "",
  };
}
