// The forms of a noun for a number, in any language (CLDR).

/**
 * Return a function that chooses the form for a number. A form that a language does not use need not be given.
 * @param {string} language
 */
export function createPlural(language) {
  const rules = new Intl.PluralRules(language);
  return (/** @type {number} */ count, /** @type {Partial<Record<Intl.LDMLPluralRule, string>> & {other: string}} */ forms) =>
    forms[rules.select(count)] ?? forms.other;
}
