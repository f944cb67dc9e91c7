// Find every element, attribute and address in an answer that the page does not create itself.
(root) => {
  const tags = new Set(('a abbr b bdi bdo blockquote br button cite code dd del dfn div dl dt em h3 h4 h5 h6 hr i img ins kbd '
    + 'details li mark ol p pre q rp rt ruby s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul var wbr').split(' '));
  const attributes = new Set('align alt aria-label class colspan data-number dir href open rel rowspan scope src start tabindex target title type'.split(' '));
  const faults = [];
  const look = (node) => {
    if (node.matches('.katex, .katex-display')) return lookInMath(node);
    if (!tags.has(node.localName) || node.namespaceURI !== 'http://www.w3.org/1999/xhtml') faults.push(node.outerHTML);
    for (const {name, value} of node.attributes) {
      if (!attributes.has(name)) faults.push(`${name}: ${node.outerHTML}`);
      if (name === 'class' && !/^(code-block|code-head|language|preview|wrap|download|copy|copy-table|alert (note|tip|important|warning|caution)|alert-title|aligned (left|right|center)|reference|back|footnote|(footnote-text)( caret)?|table-block|table-scroll|((left|right|center|alert-title|(plain|html|math)-block|math) )?caret|math|math display|(math )?(display )?broken|math broken|math display broken|tight|loose|left|right|center|hljs-[\w- ]+|(plain|html|math)-block|)$/.test(value))
        faults.push(`class: ${node.outerHTML}`);
      if (name === 'href' && (node.localName !== 'a' || !['http:', 'https:', 'mailto:'].includes(node.protocol)
        || node.target !== '_blank' || node.rel !== 'noopener noreferrer nofollow')) faults.push(node.outerHTML);
      if (name === 'src' && (node.localName !== 'img' || !/^data:image\/(png|jpeg|gif|webp);base64,/.test(value)))
        faults.push(node.outerHTML);
    }
    for (const child of node.children) look(child);
  };
  const lookInMath = (node) => {
    for (const one of [node, ...node.querySelectorAll('*')])
      if (/^(a|img|script|iframe|object|form)$/.test(one.localName) || one.id || one.hasAttribute('href') || one.hasAttribute('src')
        || [...one.attributes].some(({name}) => name.startsWith('on')) || /url|expression/.test(one.getAttribute('style') ?? ''))
        faults.push(one.outerHTML);
  };
  for (const child of root.children) look(child);
  return faults;
}
