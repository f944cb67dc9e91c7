// What the page knows about models by their names: context size, reasoning, input, retirement. The API lists names only.

/**
 * `context` is in tokens, null if unknown. `efforts` are the accepted values of `reasoning_effort`, none if the model does
 * not reason.
 * @typedef {{context: number | null, efforts: string[], images: boolean, isRetired: boolean}} ModelFacts
 */

const CLASSIC = ["low", "medium", "high"];
const WITH_MINIMAL = ["minimal", ...CLASSIC];
const WITH_NONE = ["none", ...CLASSIC];
const WITH_HIGHEST = [...WITH_NONE, "xhigh"];

/** Of OpenAI's models, by the start of the name; the first match counts. @type {[RegExp, number | null, string[], boolean][]} */
const FAMILIES = [
  [/^gpt-5\.4-(mini|nano)/, 400_000, WITH_HIGHEST, true],
  [/^gpt-5\.4/, 1_050_000, WITH_HIGHEST, true],
  [/^gpt-5\.[23]/, 400_000, WITH_HIGHEST, true],
  [/^gpt-5\.1/, 400_000, WITH_NONE, true],
  [/^gpt-5\.\d/, null, WITH_HIGHEST, true],
  [/^gpt-5-chat/, 128_000, [], true],
  [/^gpt-5/, 400_000, WITH_MINIMAL, true],
  [/^gpt-4\.1/, 1_047_576, [], true],
  [/^gpt-4\.5/, 128_000, [], true],
  [/^(gpt-4o|chatgpt-4o)/, 128_000, [], true],
  [/^gpt-4-(turbo|1106|0125|vision)/, 128_000, [], true],
  [/^gpt-4-32k/, 32_768, [], false],
  [/^gpt-4/, 8192, [], false],
  [/^gpt-3\.5/, 16_385, [], false],
  [/^o1-(preview|mini)/, 128_000, [], false],
  [/^o3-mini/, 200_000, CLASSIC, false],
  [/^o[134]/, 200_000, CLASSIC, true],
  [/^gpt-oss/, 131_072, CLASSIC, false],
];
const RETIRED = [
  /^gpt-4\.5-preview/,
  /^o1-(preview|mini)/,
  /^gpt-4-(32k|vision|1106-vision)/,
  /^gpt-3\.5-turbo-(0301|0613|16k)/,
  /^text-davinci/,
];
/** Models that do not answer messages. */
const OTHER_PURPOSE = /embed|whisper|tts|transcribe|dall-e|image|moderation|realtime|audio|sora|davinci-002|babbage-002|instruct/;

/** @param {string} model @returns {ModelFacts} */
export function factsOf(model) {
  const name = model.replace(/^.*\//, ""); // routers put the provider in front
  const isRetired = RETIRED.some((pattern) => pattern.test(name));
  const family = FAMILIES.find(([pattern]) => pattern.test(name));
  if (family === undefined) return { context: null, efforts: CLASSIC, images: false, isRetired };
  const [, context, efforts, images] = family;
  return { context, efforts, images, isRetired };
}

/** A model with a date is a snapshot of the one without. @param {string} model */
export function isSnapshot(model) {
  return /-\d{4}(-\d{2}-\d{2})?$/.test(model);
}

/**
 * Sort: current models first, the newest family first, then by name.
 * @param {string[]} models
 */
export function sortModels(models) {
  const rank = (/** @type {string} */ model) => {
    const family = FAMILIES.findIndex(([pattern]) => pattern.test(model));
    return (factsOf(model).isRetired ? 100 : 0) + (family < 0 ? 50 : family);
  };
  return [...models].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, "en", { numeric: true }));
}

/** Whether a model can hold a conversation, as far as its name says. @param {string} model */
export function isForChat(model) {
  return !OTHER_PURPOSE.test(model);
}
