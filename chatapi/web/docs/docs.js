// The HTTP reference: copy buttons, and forms that send a request to this server. The key stays in its input field.

(() => {
  // Before the page is painted, so that a dark page does not begin white.
  try {
    const theme = localStorage.getItem("chatapi.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // A browser without storage: the system's theme.
  }

  /** Ids of earlier responses, by the name of the parameter that takes them. @type {Map<string, string>} */
  const ids = new Map();
  const PARAMETERS = { resp: "response_id", conv: "conversation_id", chatcmpl: "completion_id", ses: "session_id" };

  /** @param {string} name @param {unknown} value */
  function remember(name, value) {
    if (typeof value === "string" && value) ids.set(name, value);
  }

  /** Remember the ids in a JSON response. @param {string} text */
  function rememberJson(text) {
    /** @type {any} */
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      return;
    }
    for (const one of [value, ...(Array.isArray(value?.data) ? value.data : [])]) {
      if (!one || typeof one !== "object") continue;
      for (const name of ["session_id", "generation_id", "message_id"]) remember(name, one[name]);
      const prefix = String(one.id ?? "").split(/[_-]/)[0];
      const name = Object.entries(PARAMETERS).find(([key]) => key === prefix)?.[1];
      if (name) remember(name, one.id);
      else if (/^(msg|rs|fc|fco)_/.test(one.id)) remember("item_id", one.id);
    }
  }

  /** Fill the empty fields for ids. */
  function fillIds() {
    for (const [name, value] of ids) {
      for (const input of document.querySelectorAll(`form input[data-in="path"][name="${name}"]`)) {
        if (input instanceof HTMLInputElement && !input.value) input.value = value;
      }
    }
  }

  /** Replace `$SESSION_ID` and similar names in an example body. @param {string} body @param {string} key */
  function withIds(body, key) {
    return body.replace(/\$([A-Z]+(?:_[A-Z]+)*)/g, (all, name) =>
      name === "KEY" ? key : (ids.get(name.toLowerCase()) ?? all),
    );
  }

  /** @param {HTMLFormElement} form */
  function requestOf(form) {
    let path = form.dataset.path ?? "";
    const query = new URLSearchParams();
    /** @type {Record<string, string>} */
    const headers = {};
    /** @type {string | undefined} */
    let body;
    for (const input of form.elements) {
      if (!("value" in input) || !(input instanceof HTMLElement)) continue;
      const value = String(input.value);
      const name = input.getAttribute("name") ?? "";
      if (input.dataset.in === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
      else if (input.dataset.in === "query" && value) query.set(name, value);
      else if (input.dataset.in === "header" && value) headers[name] = value;
      else if (input.dataset.in === "body" && value.trim()) body = value;
    }
    const field = document.querySelector("#key");
    const key = field instanceof HTMLInputElement ? field.value.trim() : "";
    if (key) headers["Authorization"] = `Bearer ${key}`;
    if (body !== undefined) {
      headers["Content-Type"] = "application/json";
      body = withIds(body, key);
    }
    return { url: path + (query.size ? `?${query}` : ""), init: { method: form.dataset.method, headers, body } };
  }

  /** @param {HTMLFormElement} form @param {AbortSignal} signal */
  async function send(form, signal) {
    const output = form.nextElementSibling;
    if (!(output instanceof HTMLElement)) return;
    output.hidden = false;
    output.classList.remove("failed");
    output.textContent = "…";
    try {
      const { url, init } = requestOf(form);
      const response = await fetch(url, { ...init, signal, cache: "no-store", credentials: "omit" });
      output.classList.toggle("failed", !response.ok);
      const shown = ["content-type", "x-session-id", "x-generation-id", "x-request-id", "retry-after"];
      const lines = shown.flatMap((name) => {
        const value = response.headers.get(name);
        return value === null ? [] : [`${name}: ${value}`];
      });
      output.textContent = `${response.status} ${response.statusText}\n${lines.join("\n")}\n\n`;
      remember("session_id", response.headers.get("x-session-id"));
      remember("generation_id", response.headers.get("x-generation-id"));
      await show(response, output);
    } catch (error) {
      output.classList.add("failed");
      output.append(signal.aborted ? "\nStopped reading." : `\nThe request failed: ${String(error)}`);
    }
    fillIds();
  }

  /** @param {Response} response @param {HTMLElement} output */
  async function show(response, output) {
    if ((response.headers.get("content-type") ?? "").includes("json")) {
      const text = await response.text();
      rememberJson(text);
      try {
        output.append(JSON.stringify(JSON.parse(text), null, 2));
      } catch {
        output.append(text);
      }
      return;
    }
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    while (reader) {
      const { done, value } = await reader.read();
      if (done) return;
      output.append(value);
      output.scrollTop = output.scrollHeight;
    }
  }

  /** @param {HTMLFormElement} form */
  async function submit(form) {
    const controller = new AbortController();
    const [button, stop] = form.querySelectorAll("button");
    if (!button || !stop) return;
    button.disabled = true;
    stop.disabled = false;
    stop.onclick = () => controller.abort();
    await send(form, controller.signal);
    button.disabled = false;
    stop.disabled = true;
  }

  addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.target instanceof HTMLFormElement) void submit(event.target);
  });

  addEventListener("click", (event) => {
    const button = event.target;
    if (!(button instanceof HTMLButtonElement) || !button.classList.contains("copy")) return;
    const text = button.parentElement?.querySelector("pre")?.textContent ?? "";
    navigator.clipboard.writeText(text).then(
      () => (button.textContent = "Copied"),
      () => (button.textContent = "Copy failed"),
    );
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
})();
