// Functions for the tests of Markdown. `write` shows a text in steps of `size` characters, without pauses.
async () => {
  const {StreamingMarkdown} = await import(new URL('markdown/streaming.js', document.querySelector('script[type=module]').src));
  document.body.replaceChildren();
  window.fresh = () => {
    const place = document.createElement('div');
    place.className = 'markdown';
    document.body.append(place);
    return new StreamingMarkdown(place);
  };
  window.write = (text, size, look = () => {}) => {
    const shown = fresh();
    for (let at = size; at < text.length; at += size) {
      shown.restUntil = 0;
      shown.set(text.slice(0, at), false);
      look(shown.element);
    }
    shown.set(text, true);
    return shown;
  };
  window.whole = (text) => write(text, text.length).element;
  // Highlighting and formulas depend on when their libraries load, so their sources are compared.
  window.normal = (element) => {
    const copy = element.cloneNode(true);
    for (const math of copy.querySelectorAll('.math')) {
      math.textContent = math.querySelector('annotation')?.textContent ?? math.textContent;
      math.classList.remove('broken');
    }
    for (const code of copy.querySelectorAll('.code-block code')) code.textContent = code.textContent;
    copy.normalize();
    for (const node of copy.querySelectorAll('*')) {
      const attributes = [...node.attributes].sort((a, b) => (a.name < b.name ? -1 : 1));
      for (const {name} of attributes) node.removeAttribute(name);
      for (const {name, value} of attributes) node.setAttribute(name, value);
    }
    return copy.innerHTML;
  };
  window.settled = () => [...document.querySelectorAll('.math')]
    .every((math) => math.matches('.broken') || math.querySelector('.katex'));
  window.runs = 0;
  window.ran = () => { window.runs += 1; };
}
