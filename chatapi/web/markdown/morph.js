// Updates inline content in place.
import { formulaKey } from "./math.js";

/**
 * Give `old` the content of `fresh`, and keep every node that need not change.
 * @param {Node} old
 * @param {Node} fresh a container, or one text node
 */
export function morph(old, fresh) {
  let current = old.firstChild;
  let next = fresh instanceof Text ? fresh : fresh.firstChild;
  while (next !== null) {
    const following = next.nextSibling;
    if (current === null) old.appendChild(next);
    else {
      const after = current.nextSibling;
      if (!update(current, next)) old.replaceChild(next, current);
      current = after;
    }
    next = following;
  }
  while (current !== null) {
    const after = current.nextSibling;
    current.remove();
    current = after;
  }
}

/**
 * Turn a node into the fresh one. Returns false if it must be replaced instead.
 * @param {ChildNode} current
 * @param {ChildNode} fresh
 */
function update(current, fresh) {
  const [currentFormula, freshFormula] = [formulaKey(current), formulaKey(fresh)];
  if (currentFormula !== undefined || freshFormula !== undefined) return currentFormula === freshFormula;
  if (current instanceof Text && fresh instanceof Text) {
    if (fresh.data.startsWith(current.data)) current.appendData(fresh.data.slice(current.data.length));
    else current.data = fresh.data;
    return true;
  }
  if (!(current instanceof Element) || !(fresh instanceof Element) || current.nodeName !== fresh.nodeName) return false;
  for (const { name } of [...current.attributes]) if (!fresh.hasAttribute(name)) current.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (current.getAttribute(name) !== value) current.setAttribute(name, value);
  morph(current, fresh);
  return true;
}
