// Creates elements with fixed names and attributes.

/** @param {string} name @param {string} [className] */
export function createElement(name, className) {
  const element = document.createElement(name);
  if (className) element.className = className;
  return element;
}

/** @param {string} className @param {string} label */
export function createButton(className, label) {
  const button = /** @type {HTMLButtonElement} */ (createElement("button", className));
  button.type = "button";
  button.textContent = label;
  return button;
}
